"""The commands, without their terminal: each is a call that the command line makes, and tests can make."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from duologue.background import in_order
from duologue.conversation import Goal, message_rows
from duologue.errors import RecipeError, RunError
from duologue.evaluation import Family, conversations, summarise
from duologue.journal import Journal, write_atomically
from duologue.recipe import Recipe
from duologue.run.bill import all_calls, budgets
from duologue.run.cells import compared, placed
from duologue.run.check import check, known_figures, warnings
from duologue.run.endpoints import opened
from duologue.run.evaluating import arm_wiring, counterparts, prefixes, wanted
from duologue.run.folder import RunFolder
from duologue.run.jobs import perform
from duologue.run.measured import Outgrown, check_evaluation, check_rewards, checked, losses
from duologue.run.seeds import pairing
from duologue.run.shards import Shard, make_part
from duologue.run.together import check_together, train_together
from duologue.run.training_costs import training_costs, uneven
from duologue.run.wiring import Wiring
from duologue.run.workers import Job, Watch, run_jobs
from duologue.seeding import derive
from duologue.simulation import converse
from duologue.tasks import Task
from duologue.training.launch import launched


def train(recipe: Recipe, folder: Path, *, restart: bool = False, cached: bool = True, watch: Watch) -> dict[str, Any]:
    """Train every arm that has stages, evaluate all arms, and write the figures and the report.

    Killed at any point, the same call goes on. In processes that `accelerate launch` started, the first makes this
    call, and the others train along (`duologue.run.together`).

    Args:
        cached: whether a call to an endpoint that was answered before is answered from what is kept.

    Returns:
        The evaluation, as `evaluation.json` has it.

    Raises:
        RecipeError: no arm would be trained, though the recipe has stages.
        RunError: another process works there; the folder holds a run with other settings; a worker was killed.
        DuologueError: whatever an arm's work raised.
    """
    run, launch = RunFolder(folder), launched()
    check(recipe, recipe.evaluate.arms)
    if launch:
        check_together(recipe, launch.processes)
    if recipe.train and not _trained_arms(recipe):
        arms = ", ".join(recipe.evaluate.arms)
        raise RecipeError(
            f'the recipe has [[train]], and no arm to train among evaluate.arms ({arms}): add "trained", '
            "or evaluate alone, with `duologue evaluate`"
        )
    with run.opened(recipe, restart=restart):
        training = training_jobs(recipe, folder, cached=cached)
        if launch:
            train_together(training, recipe, run, watch)
        return _work(run, recipe, [] if launch else training, watch, cached)


def evaluate(
    recipe: Recipe, folder: Path, *, restart: bool = False, cached: bool = True, watch: Watch
) -> dict[str, Any]:
    """Evaluate the recipe's arms as they stand, without training any.

    Args:
        cached: whether a call to an endpoint that was answered before is answered from what is kept.

    Raises:
        RunError: an arm is to be trained first, or `restart` would move its model away.
    """
    run = RunFolder(folder)
    trained = _checked(recipe, run)
    if restart and any(run.model(arm).exists() for arm in trained):
        raise RunError(
            f"--restart would move {folder} aside with its trained models ({', '.join(trained)}): leave it out, or "
            "train anew with `duologue train --restart`"
        )
    with run.opened(recipe, restart=restart):
        return _work(run, recipe, [], watch, cached)


def evaluate_shard(recipe: Recipe, folder: Path, shard: Shard, *, cached: bool = True, watch: Watch) -> Path:
    """Play one shard of the conversations that `evaluate` would play; `merge_runs` makes figures of all shards.

    Args:
        folder: the whole run's, for its trained models.

    Returns:
        The shard's own folder, beside it.

    Raises:
        RunError: as `evaluate`; or that folder is of another shard.
    """
    run, part = RunFolder(folder), RunFolder(shard.folder(folder))
    _checked(recipe, run)
    make_part(part.path, run.path, shard)
    with part.opened(recipe, restart=False):
        _play(part, recipe, [], watch, cached)
    return part.path


def losses_of_shard(recipe: Recipe, part: Path) -> str | None:
    """How many conversations of a shard's folder were lost or could not be scored, and why; None where none was."""
    return losses(_conversations(RunFolder(part), recipe))


def _checked(recipe: Recipe, run: RunFolder) -> list[str]:
    """The trained arms of a recipe that can be evaluated as it stands."""
    check(recipe, recipe.evaluate.arms)
    trained = _trained_arms(recipe)
    untrained = [arm for arm in trained if not run.model(arm).exists()]
    if untrained:
        raise RunError(
            f"{', '.join(untrained)}: not trained yet in {run.path}: train first, with `duologue train`, "
            "or name other arms with --set evaluate.arms='[\"base\"]'"
        )
    return trained


def _work(run: RunFolder, recipe: Recipe, training: list[Job], watch: Watch, cached: bool) -> dict[str, Any]:
    if recipe.scale.engine == "here":
        _play(run, recipe, training, watch, cached)
        return finish(run, recipe, pairing(recipe, run.calls, Journal(run.journal)))
    from duologue.run.scale import play_on_ray

    run_jobs(training, perform, processes=processes(recipe), threads=recipe.run.threads, watch=watch)
    play_on_ray(recipe, run, cached=cached, watch=watch)
    return finish(run, recipe, pairing(recipe, run.calls, Journal(run.journal)))


def _play(run: RunFolder, recipe: Recipe, training: list[Job], watch: Watch, cached: bool) -> None:
    """Do the training, and play the conversations that the journal lacks, on this machine."""
    evaluating = [
        Job("evaluate", arms, _plain(recipe, run), str(run.path), needs=f"train {arms[0]}", cached=cached)
        for arms in _played_together(recipe)
    ]
    run_jobs([*training, *evaluating], perform, processes=processes(recipe), threads=recipe.run.threads, watch=watch)


def finish(run: RunFolder, recipe: Recipe, notes: Sequence[str], ledgers: Sequence[Path] = ()) -> dict[str, Any]:
    """Write the figures and the report of what the journal holds.

    Args:
        notes: on the servers that played, see `duologue.run.seeds`.
        ledgers: of the calls of the run's parts, where it was merged from some.

    Raises:
        NothingMeasured: every conversation was lost or could not be scored; or an arm never replied.
    """
    outgrown = Outgrown()
    evaluation = _summary(run, recipe, notes, ledgers, outgrown)
    report(run.path)
    outgrown.check()
    check_evaluation(evaluation, run.path)
    return evaluation


def training_jobs(recipe: Recipe, folder: Path, *, cached: bool) -> list[Job]:
    """The training of every arm that has stages."""
    plain = _plain(recipe, RunFolder(folder))
    return [Job("train", (arm,), plain, str(folder), cached=cached) for arm in _trained_arms(recipe)]


def _plain(recipe: Recipe, run: RunFolder) -> dict[str, Any]:
    """The recipe, its budget without what other processes than this one's have spent of it."""
    (budget,) = budgets(recipe, run, 1)
    return recipe.model_dump(mode="json", exclude_unset=True) | ({"budget": budget} if budget is not None else {})


def _trained_arms(recipe: Recipe) -> list[str]:
    """The arms that have stages, those that look ahead furthest first: they take longest."""
    trained = [arm for arm in recipe.evaluate.arms if recipe.arm(arm).stages]
    return sorted(trained, key=lambda arm: _window(recipe.arm(arm)), reverse=True)


def _played_together(recipe: Recipe) -> list[tuple[str, ...]]:
    """The arms of the evaluation, those that endpoints play all at once: nobody waits for the slowest."""
    remote = tuple(arm for arm in recipe.evaluate.arms if recipe.arm(arm).assistant.endpoint is not None)
    local = [(arm,) for arm in recipe.evaluate.arms if arm not in remote]
    return [remote, *local] if remote else local


def _window(arm: Recipe) -> float:
    return math.inf if arm.reward.window == "full" else arm.reward.window


def processes(recipe: Recipe) -> int:
    """Arms that are worked on side by side."""
    if recipe.uses_endpoints:
        return 1  # the limits of an endpoint, and the budget, hold for all work together
    if recipe.run.processes:
        return recipe.run.processes
    if Path("/proc/driver/nvidia/version").exists():
        return 1
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def _summary(
    run: RunFolder,
    recipe: Recipe,
    notes: Sequence[str],
    ledgers: Sequence[Path],
    outgrown: Outgrown,
) -> dict[str, Any]:
    settings, figures = recipe.evaluate.family, known_figures(recipe, recipe.tasks())
    metrics = tuple(metric for metric in settings.metrics if metric in figures)
    family = Family(settings.arm, metrics, tuple(recipe.kinds_of_users), pairs=compared(recipe))
    found = summarise(
        outgrown.counting(_conversations(run, recipe)),
        family=family,
        counterparts=counterparts(recipe),
        seed=recipe.seed,
    )
    keys = [prefix for _, prefix in prefixes(recipe)]
    training = training_costs(recipe, Journal(run.journal))
    found["notes"] += [*notes, *uneven(training), *(f"Warning: {warning}." for warning in warnings(recipe))]
    found |= {"training": training, "outgrown": outgrown.rows}
    evaluation = {**found, "calls": all_calls(run, ledgers), "keys": keys}
    if recipe.sweep is not None:
        evaluation["sweep"] = placed(recipe.sweep, recipe.seed)
    write_atomically(run.evaluation, json.dumps(evaluation, indent=1))
    return evaluation


def _conversations(run: RunFolder, recipe: Recipe) -> Iterator[dict[str, Any]]:
    """The conversations of this evaluation; the journal may hold others, of earlier settings."""
    keys = {key for _, key in wanted(recipe)}
    return (entry.value for entry in conversations(Journal(run.journal)) if entry.key in keys)


def report(folder: Path) -> Path:
    """Write `report.html` from what a run's folder holds.

    Raises:
        RunError: no run there.
    """
    from duologue.report import write_report

    if not (folder / "evaluation.json").exists():
        raise RunError(f"{folder} holds no finished run: there is no evaluation.json; `duologue train` makes one")
    return write_report(folder)


def simulate(
    recipe: Recipe, arm: str, folder: Path, *, count: int, split: str, cached: bool = True, watch: Watch
) -> Iterator[dict[str, Any]]:
    """Play conversations of one arm, and give each when it is whole, in the goals' order.

    Raises:
        RunError: the arm is to be trained first.
        NothingMeasured: after the last, where none could be scored.
    """
    check(recipe, [arm])
    run = RunFolder(folder)
    if recipe.uses_endpoints:
        folder.mkdir(parents=True, exist_ok=True)
    with opened(recipe, run.calls, cached=cached) as (loop, endpoints):
        wiring = arm_wiring(recipe, arm, run, endpoints)
        goals = [(task, goal, index) for task in wiring.tasks for goal, index in _cycled(task.goals(split), count)]
        work = (
            _simulated(wiring, task, goal, derive(recipe.seed, "simulate", index, goal.id))
            for task, goal, index in goals
        )
        side_by_side = in_order(work, at_once=recipe.evaluate.concurrency)
        for done, played in enumerate(checked(loop.each(side_by_side)), 1):
            yield played
            watch(f"simulate {arm}", done, len(goals), "conversations")


def _cycled(goals: Sequence[Goal], count: int) -> Iterator[tuple[Goal, int]]:
    return ((goals[index % len(goals)], index) for index in range(count))


async def _simulated(wiring: Wiring, task: Task, goal: Goal, seed: int) -> dict[str, Any]:
    user = task.user(goal.request, seed)
    conversation = await converse(wiring.assistant(task), user, seed=seed, turns=task.turn_limit)
    outcome = await wiring.scorer(task)(conversation, goal)
    return {
        "task": task.name,
        "goal": goal.id,
        "request": goal.request.text,
        "messages": message_rows(conversation.messages),
        "ending": conversation.ending.value,
        "reason": conversation.reason,
        "reward": outcome.value,
        "parts": dict(outcome.parts),
        "error": outcome.why,
    }


def reward(
    recipe: Recipe, source: Path, target: Path, *, shard: Shard | None = None, cached: bool = True, watch: Watch
) -> int:
    """The reward of every line of a file, or of those in a shard; the number of lines.

    Raises:
        NothingMeasured: the whole file is answered, and no line has a value.
    """
    from duologue.run.filter import score_file

    lines = score_file(
        recipe,
        source,
        target,
        shard=shard,
        cached=cached,
        watch=lambda done, total: watch("reward", done, total, "replies"),
    )
    if shard is None:
        check_rewards(target)
    return lines
