"""What a worker does: train an arm's stages, or play an arm's evaluation. Both go on from what is recorded."""

from __future__ import annotations

import shutil
from collections.abc import Container, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from duologue.adaptive import FRESH
from duologue.background import BackgroundLoop
from duologue.errors import DuologueError, ModelError
from duologue.journal import Journal
from duologue.recipe import Recipe, Table, parse
from duologue.run.check import check_templates
from duologue.run.endpoints import Endpoints, opened, spending
from duologue.run.engines import played
from duologue.run.evaluating import evaluate_arms
from duologue.run.folder import RunFolder, stage_names, stage_settings
from duologue.run.wiring import NEW, from_nothing, quieten_transformers, wire
from duologue.run.workers import Job, Progress
from duologue.seeding import derive
from duologue.training.settings import (
    DpoSettings,
    GrpoSettings,
    OnlineDpoSettings,
    PpoSettings,
    RlooSettings,
    SftSettings,
    TrainSettings,
)

if TYPE_CHECKING:
    from duologue.models.local import LocalModel
    from duologue.training.stage import Stage


def perform(job: Job, progress: Progress) -> None:
    """Do a job in this process."""
    recipe = parse(job.recipe, "recipe")
    folder = RunFolder(Path(job.folder))
    check_templates(recipe, _to_be_told(recipe, job))
    if job.kind == "train":
        (arm,) = job.arms
        train_arm(recipe, arm, folder, progress, cached=job.cached)
    else:
        evaluate_arms(recipe, job.arms, folder, progress, cached=job.cached)


def _to_be_told(recipe: Recipe, job: Job) -> Sequence[str]:
    """Arms whose templates must take their system prompts: before one is trained, all those that will be compared."""
    if job.kind == "train":
        return recipe.evaluate.arms
    return [arm for arm in job.arms if not recipe.arm(arm).stages]


def train_arm(recipe: Recipe, name: str, folder: RunFolder, progress: Progress, *, cached: bool) -> None:
    """Run an arm's stages, each from the last one's model, and put the model where it belongs.

    Several processes do so together; the first of them writes into the folder.
    """
    from duologue.training import ranks

    if ranks.agreed(folder.model(name).exists()):
        return
    arm = recipe.arm(name)
    source: str | Path = arm.assistant.model
    _check(arm, [stage for stage in stage_settings(arm) if not (folder.stage(name, stage) / "model").exists()])
    ledger, processes = folder.calls_of(ranks.rank()), ranks.processes()
    with opened(recipe, ledger, cached=cached, processes=processes) as (loop, endpoints):
        for stage_name, settings in zip(stage_settings(arm).items(), arm.stages, strict=True):
            source = _stage(arm, name, stage_name, settings, source, folder, progress, loop, endpoints)
    ranks.meet()
    if ranks.is_first():
        folder.finish_model(name, Path(source))
    ranks.meet()


def _check(arm: Recipe, lacking: Container[str]) -> None:
    """Refuse what a stage will not be able to do, before the first of them is trained.

    Args:
        lacking: the stages that have no model yet.
    """
    quieten_transformers()
    from duologue.training.lora import check_stages, check_start

    check_stages(arm.stages, from_nothing=arm.assistant.model == NEW)
    if arm.assistant.model != NEW:
        for stage, settings in zip(stage_names(arm.stages), arm.stages, strict=True):
            if stage in lacking:
                check_start(arm.assistant.model, settings.lora)


def _policy(arm: Recipe, source: str | Path, settings: TrainSettings, seed: int) -> LocalModel:
    """The model that a stage starts from, as it trains it."""
    if source == NEW:
        return from_nothing(arm)
    from duologue.training.lora import open_policy

    template = arm.assistant.template if source == arm.assistant.model else None
    return open_policy(source, settings.lora, seed=seed, template=template)


def _stage(
    arm: Recipe,
    name: str,
    stage: tuple[str, Table],
    settings: TrainSettings,
    source: str | Path,
    folder: RunFolder,
    progress: Progress,
    loop: BackgroundLoop,
    endpoints: Endpoints,
) -> Path:
    """One stage; where its model is."""
    from duologue.training import ranks
    from duologue.training.stage import Stage
    from duologue.training.tracking import tracked

    stage_name, table = stage
    work = folder.stage(name, stage_name)
    made = work / "model"
    if ranks.agreed(made.exists()):
        if ranks.is_first():
            _drop_checkpoints(work)
        return made
    seed = derive(arm.seed, "train", stage_name)
    policy = _policy(arm, source, settings, derive(seed, "adapter"))
    names = arm.run.report_to if ranks.is_first() else ()
    with (
        played(arm, policy, work, loop, endpoints) as engine,
        tracked(names, work, project=arm.name, run=f"{name}/{stage_name}", settings=table, model=policy.model) as sent,
    ):
        wiring = wire(arm, lambda _model, _template: engine or policy, endpoints=endpoints)
        given = Stage(
            arm=name,
            name=stage_name,
            folder=work,
            seed=seed,
            tasks=wiring.tasks,
            policy=policy,
            partners=partial(wiring.partners, fresh=FRESH if isinstance(settings, DpoSettings) else 0),
            loop=loop,
            journal=Journal(folder.journal),
            progress=progress,
            engine=engine,
            spent=spending(endpoints),
            tracking=sent,
        )
        if ranks.is_first():
            folder.record_stage(name, stage_name, table)  # all could be had, and from here on its settings are fixed
        ranks.meet()
        try:
            run_stage(settings, given)
        except DuologueError:
            if ranks.is_first() and not given.has_begun:
                folder.forget_stage(name, stage_name)
            raise
    if ranks.is_first():
        _save(policy, made)
    ranks.meet()
    return made


def run_stage(settings: TrainSettings, stage: Stage) -> None:
    """Train a stage's policy in place by the algorithm of its settings."""
    if isinstance(settings, GrpoSettings) and settings.unit == "conversation":
        from duologue.training.trajectory import train_trajectories

        train_trajectories(settings, stage)
    elif isinstance(settings, GrpoSettings):
        from duologue.training.grpo import train_grpo

        train_grpo(settings, stage)
    elif isinstance(settings, PpoSettings):
        from duologue.training.ppo import train_ppo

        train_ppo(settings, stage)
    elif isinstance(settings, RlooSettings):
        from duologue.training.rloo import train_rloo

        train_rloo(settings, stage)
    elif isinstance(settings, OnlineDpoSettings):
        from duologue.training.online_dpo import train_online_dpo

        train_online_dpo(settings, stage)
    elif isinstance(settings, DpoSettings):
        from duologue.training.dpo import train_dpo

        train_dpo(settings, stage)
    else:
        _train_sft(settings, stage)


def _train_sft(settings: SftSettings, stage: Stage) -> None:
    if settings.data == "best":
        from duologue.training.best import train_on_best

        train_on_best(settings, stage)
    else:
        from duologue.training.demonstrations import train_on_demonstrations

        train_on_demonstrations(settings, stage)


def _save(policy: LocalModel, target: Path) -> None:
    """A whole model folder, or none; the checkpoints are not needed any more.

    Raises:
        ModelError: a weight is not finite, so that it would say nothing.
    """
    if not all(weight.isfinite().all() for weight in policy.model.parameters()):
        raise ModelError(
            f"{target.parent}: the trained weights are not finite: lower learning_rate, or raise warmup, and train "
            "anew with --restart"
        )
    part = target.with_name("model.part")
    shutil.rmtree(part, ignore_errors=True)
    policy.save(part)
    part.rename(target)
    _drop_checkpoints(target.parent)


def _drop_checkpoints(work: Path) -> None:
    for checkpoint in work.glob("checkpoint-*"):
        shutil.rmtree(checkpoint, ignore_errors=True)
