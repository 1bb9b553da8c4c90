"""What a worker does: train an arm's stages, or play an arm's evaluation. Both go on from what is recorded."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from duologue.background import BackgroundLoop
from duologue.errors import RunError
from duologue.evaluation import Arm, Decoding, evaluate
from duologue.journal import Journal
from duologue.metrics.base import Counter, Supplies
from duologue.models.base import count_bytes
from duologue.recipe import Recipe, Table, UserSettings, parse
from duologue.reward import Scorer
from duologue.run.folder import RunFolder, fingerprint, stage_settings
from duologue.run.weights import weights_digest
from duologue.run.wiring import NEW, Wiring, is_scripted, load_local, quieten_transformers, wire
from duologue.run.workers import Job, Progress
from duologue.seeding import derive
from duologue.tasks import Task
from duologue.training.settings import DpoSettings, GrpoSettings, SftSettings, TrainSettings

if TYPE_CHECKING:
    from duologue.models.local import LocalModel
    from duologue.training.stage import Stage


def perform(job: Job, progress: Progress) -> None:
    """Do a job in this process."""
    recipe = parse(job.recipe, "recipe")
    folder = RunFolder(Path(job.folder))
    if job.kind == "train":
        train_arm(recipe, job.arm, folder, progress)
    else:
        evaluate_arm(recipe, job.arm, folder, progress)


def train_arm(recipe: Recipe, name: str, folder: RunFolder, progress: Progress) -> None:
    """Run an arm's stages, each from the last one's model, and put the model where it belongs."""
    if folder.model(name).exists():
        return
    arm = recipe.arm(name)
    source = arm.assistant.model
    policy = _from_nothing(arm) if source == NEW else load_local(source)
    for stage_name, settings in zip(stage_settings(arm).items(), arm.stages, strict=True):
        policy = _stage(arm, name, stage_name, settings, policy, folder, progress)
    last = folder.stage(name, list(stage_settings(arm))[-1]) / "model"
    folder.finish_model(name, last)


def _stage(
    arm: Recipe,
    name: str,
    stage: tuple[str, Table],
    settings: TrainSettings,
    policy: LocalModel,
    folder: RunFolder,
    progress: Progress,
) -> LocalModel:
    """One stage; its model, read back if it was done before."""
    from duologue.training.stage import Stage

    stage_name, table = stage
    work = folder.record_stage(name, stage_name, table)
    made = work / "model"
    if made.exists():
        _drop_checkpoints(work)
        return load_local(made)
    wiring = wire(arm, lambda _: policy)
    with BackgroundLoop() as loop:
        given = Stage(
            arm=name,
            name=stage_name,
            folder=work,
            seed=derive(arm.seed, "train", stage_name),
            tasks=wiring.tasks,
            policy=policy,
            partners=wiring.partners,
            loop=loop,
            journal=Journal(folder.journal),
            progress=progress,
        )
        _train(settings, given)
    _save(policy, made)
    return load_local(made)


def _train(settings: TrainSettings, stage: Stage) -> None:
    if isinstance(settings, GrpoSettings):
        from duologue.training.grpo import train_grpo

        train_grpo(settings, stage)
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


def _from_nothing(arm: Recipe) -> LocalModel:
    quieten_transformers()
    from duologue.training.scratch import new_model

    return new_model(arm.tasks(), arm.assistant.architecture, seed=arm.seed)


def _save(policy: LocalModel, target: Path) -> None:
    """A whole model folder, or none; the checkpoints are not needed any more."""
    part = target.with_name("model.part")
    shutil.rmtree(part, ignore_errors=True)
    policy.save(part)
    part.rename(target)
    _drop_checkpoints(target.parent)


def _drop_checkpoints(work: Path) -> None:
    for checkpoint in work.glob("checkpoint-*"):
        shutil.rmtree(checkpoint, ignore_errors=True)


@lru_cache(maxsize=2)
def _cached(source: str) -> LocalModel:
    return load_local(source)


def arm_wiring(recipe: Recipe, name: str, folder: RunFolder) -> Wiring:
    """An arm as it is after its training; tokens are counted alike in all arms.

    Raises:
        RunError: it was not trained yet.
    """
    arm = recipe.arm(name)
    if arm.stages and not folder.model(name).exists():
        raise RunError(f'arm "{name}" is not trained yet in {folder.path}: train first, with `duologue train`')
    trained = str(folder.model(name)) if arm.stages else None
    return wire(arm, lambda own: _cached(trained or own), counter=_counter(recipe))


def _counter(recipe: Recipe) -> Counter:
    """How the recipe's own assistant counts tokens. One from nothing has its tokenizer before any training."""
    source = recipe.assistant.model
    if is_scripted(source):
        return count_bytes
    return (_from_nothing(recipe) if source == NEW else _cached(source)).count_tokens


def kinds_of_users(recipe: Recipe) -> dict[str, UserSettings]:
    """The users that an evaluation meets, by name; `train` are those of the training."""
    return {"train": recipe.user, **recipe.evaluate.users}


def evaluation_prefix(recipe: Recipe, name: str, task: str, users: str) -> str:
    """What the journal keys of one arm, task and kind of users begin with: it stands for all they depend on."""
    arm, own = recipe.arm(name), recipe.assistant.model
    depends = {
        "stages": stage_settings(arm),
        "seed": arm.seed,
        "assistant": arm.assistant.model_dump(mode="json"),
        "start": weights_digest(arm.assistant.model),
        "counter": [weights_digest(own), *(task.name for task in recipe.task if own == NEW)],
        "users": kinds_of_users(recipe)[users].model_dump(mode="json"),
        "reward": recipe.reward.model_dump(mode="json", include={"metrics"}),
    }
    return f"evaluate/{fingerprint(depends)}/{name}/{task}/{users}/"


def evaluate_arm(recipe: Recipe, name: str, folder: RunFolder, progress: Progress) -> None:
    """Play an arm's conversations that the journal lacks."""
    wiring = arm_wiring(recipe, name, folder)
    cells = list(evaluation_cells(recipe, wiring))
    total = len(cells) * recipe.evaluate.conversations
    done = 0

    def count() -> None:
        nonlocal done
        done += 1
        if done % 20 == 0 or done == total:
            progress(done, total, "conversations")

    journal = Journal(folder.journal)
    arm = Arm(name, {task.name: wiring.assistant(task) for task in wiring.tasks})
    with BackgroundLoop() as loop:
        for task, users, profiles, decoding in cells:
            loop.run(
                evaluate(
                    arm,
                    task,
                    users,
                    profiles,
                    task.goals("test"),
                    seed=recipe.seed,
                    decoding=decoding,
                    scorer=Scorer(recipe.reward.of(task), Supplies(wiring.counter)),
                    journal=journal,
                    counter=wiring.counter,
                    on_done=count,
                    conversations=recipe.evaluate.conversations,
                    concurrency=recipe.evaluate.concurrency,
                    prefix=evaluation_prefix(recipe, name, task.name, users),
                )
            )


def evaluation_cells(recipe: Recipe, wiring: Wiring) -> Iterator[tuple[Task, str, str, Decoding]]:
    """(task, users, their profiles, decoding) for everything an arm plays."""
    for task, (users, settings) in product(wiring.tasks, kinds_of_users(recipe).items()):
        for decoding in recipe.evaluate.decoding:
            yield task, users, settings.profiles, decoding
