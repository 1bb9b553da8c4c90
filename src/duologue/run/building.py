"""`duologue build`: conversations made turn by turn, journalled as they are made, and written as a data set.

runs/NAME/dataset/      README.md (the card); sft/, preference/, prompt/ and published layouts, with train.* and test.*
runs/NAME/dataset.json  the counts, and the conversations that were lost
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from duologue.adaptive import FRESH
from duologue.background import BackgroundLoop
from duologue.dataset import hub
from duologue.dataset.choosing import best, softmax
from duologue.dataset.conversations import Builder, Built, Lost, built, make_all
from duologue.dataset.plan import planned
from duologue.dataset.sets import Rules
from duologue.dataset.writing import LAYOUTS, Summary, Writing, write_sets
from duologue.errors import NothingMeasured, RecipeError, nearest
from duologue.journal import Journal, write_atomically
from duologue.recipe import Recipe, Table
from duologue.run.bill import all_calls
from duologue.run.card import accompanied
from duologue.run.check import check_model, check_task
from duologue.run.endpoints import Endpoints, opened
from duologue.run.evaluating import arm_wiring, as_played, counted_by, counter_of, started_from
from duologue.run.folder import RunFolder, fingerprint, revision, stage_settings
from duologue.run.wiring import with_users
from duologue.tasks import Task

Watch = Callable[[str, int, int, str], None]
"""(job, done, total, what)"""


@dataclass(frozen=True)
class Product:
    """What `duologue build` made."""

    folder: Path
    summary: Summary
    planned: int
    lost: Sequence[Lost]
    calls: Sequence[dict[str, Any]]
    """What calls to endpoints amount to, by role and model."""
    commit: str | None = None
    """Where it is on the hub."""

    def to_json(self) -> dict[str, Any]:
        """What `dataset.json` says, which is written before anything goes to the hub."""
        made = {"folder": str(self.folder), "commit": self.commit, "planned": self.planned}
        counts = {"finished": self.summary.finished, **asdict(self.summary)}
        return {**made, **counts, "lost": [asdict(each) for each in self.lost], "calls": list(self.calls)}


def build(
    recipe: Recipe,
    folder: Path,
    *,
    layouts: Collection[str] = (),
    repository: str | None = None,
    cached: bool = True,
    watch: Watch,
) -> Product:
    """Make the conversations that the journal lacks, and write all of them as a data set.

    Killed at any point, the same call goes on; conversations that were lost are tried again.

    Args:
        layouts: published layouts to write, too: some of `LAYOUTS`.
        repository: "owner/name" on the hub, where it is to go; None keeps it here.
        cached: whether a call to an endpoint that was answered before is answered from what is kept.

    Raises:
        RecipeError: the recipe could not build, or not be published as it is.
        RunError: another process works there; an arm is to be trained first; the hub refuses.
        NothingMeasured: not one turn could be made.
        DuologueError: what no conversation can get past.
    """
    check_build(recipe, layouts, repository)
    run = RunFolder(folder)
    with run.opened(recipe, restart=False):
        journal = Journal(run.journal)
        with opened(recipe, run.calls, cached=cached) as (loop, endpoints):
            lost = _make(recipe, run, journal, loop, endpoints, watch)
        if lost and not any(each.turns for each in _built(recipe, journal)):
            raise NothingMeasured(f"none of {recipe.build.conversations} conversations could be made: {lost[0].why}")
        writing = _writing(recipe, folder / "dataset", layouts)
        summary = write_sets(partial(_built, recipe, journal), writing, partial(accompanied, recipe))
        product = Product(writing.target, summary, recipe.build.conversations, lost, all_calls(run))
        write_atomically(folder / "dataset.json", json.dumps(product.to_json(), indent=1))
        if repository is not None:
            product = replace(product, commit=hub.push(product.folder, repository, f"{recipe.name}, by {revision()}"))
    return product


# ---- what can be known to be wrong ----------------------------------------------------------------------------------


def check_build(recipe: Recipe, layouts: Collection[str], repository: str | None) -> None:
    """Look up what building needs.

    Raises:
        RecipeError: something that is named is not there; or the recipe could not build as it is set.
        DataError: a task has no goals to train on.
    """
    for layout in layouts:
        if layout not in LAYOUTS:
            raise RecipeError(f'--export: there is no layout "{layout}"{nearest(layout, LAYOUTS)}')
    if repository is not None:
        hub.check_name(repository)
        if recipe.build.license is None:
            raise RecipeError('build.license: say under which licence it is published, like license = "cc-by-4.0"')
        hub.check_online()
    for fault in _faults(recipe):
        raise RecipeError(f"build: {fault}")
    for name in recipe.build.assistants:
        check_model(recipe.arm(name), name)
    for task in recipe.tasks():
        task.goals("train")
        for arm in (recipe, *map(recipe.arm, recipe.build.assistants)):
            check_task(arm, task)


def _faults(recipe: Recipe) -> Iterator[str]:
    settings, samples = recipe.build, recipe.reward.samples
    if samples == 1:
        yield "one half of a candidate's look-aheads chooses, the other measures: set reward.samples to 2 or more"
    if samples == "adaptive" and settings.choose == "softmax":
        yield (
            "adaptive look-aheads choose, they do not value, and a softmax is over values: set reward.samples to a "
            'number, or choose = "best"'
        )
    if settings.candidates > 1 and all(recipe.arm(name).assistant.temperature == 0 for name in settings.assistants):
        yield "assistant.temperature = 0 draws equal candidates: set it above 0, or candidates to 1"


# ---- making ---------------------------------------------------------------------------------------------------------


def build_key(recipe: Recipe) -> str:
    """What the journal's keys of a recipe's conversations begin with: it stands for all that they depend on."""
    settings = recipe.build
    depends: Table = {
        "seed": recipe.seed,
        "assistants": [[name, _depends(recipe.arm(name))] for name in settings.assistants],
        "counter": counted_by(recipe),
        "users": as_played(recipe.user),
        "judge": [as_played(judge) for judge in recipe.judge],
        "reward": recipe.reward.model_dump(mode="json"),
        "goals": recipe.contents,
        "candidates": settings.candidates,
        "choose": [settings.choose, settings.temperature if settings.choose == "softmax" else None],
    }
    return f"build/{fingerprint(depends)}"


def _depends(arm: Recipe) -> Table:
    start = started_from(arm.assistant)
    return {"stages": stage_settings(arm), "assistant": as_played(arm.assistant), "start": start}


def _make(
    recipe: Recipe, run: RunFolder, journal: Journal, loop: BackgroundLoop, endpoints: Endpoints, watch: Watch
) -> list[Lost]:
    tasks = [with_users(task, recipe, recipe.user, endpoints) for task in recipe.tasks()]
    builders = _builders(recipe, tasks, run, endpoints)
    total, done = recipe.build.conversations, 0

    def count() -> None:
        nonlocal done
        done += 1
        watch("build", done, total, "conversations")

    making = make_all(
        planned(tasks, total, seed=recipe.seed),
        lambda task: builders[task.name],
        journal,
        build_key(recipe),
        concurrency=recipe.build.concurrency,
        on_done=count,
    )
    return loop.run(making)


def _builders(recipe: Recipe, tasks: Sequence[Task], run: RunFolder, endpoints: Endpoints) -> dict[str, Builder]:
    """By task. Metrics and look-aheads are the recipe's; an arm says who replies, and how."""
    settings, made = recipe.build, revision()
    arms = {name: arm_wiring(recipe, name, run, endpoints) for name in settings.assistants}
    shared = replace(arms[settings.assistants[0]], recipe=recipe, counter=counter_of(recipe))
    choose = best if settings.choose == "best" else softmax(settings.temperature)
    builders: dict[str, Builder] = {}
    for task in tasks:
        assistants = {name: arm.assistant(task) for name, arm in arms.items()}
        _, reward = shared.partners(task, assistants[settings.assistants[0]], fresh=FRESH)
        scorer = shared.scorer(task) if settings.retrospective else None
        builders[task.name] = Builder(assistants, reward, settings.candidates, choose, scorer, made)
    return builders


# ---- writing --------------------------------------------------------------------------------------------------------


def _built(recipe: Recipe, journal: Journal) -> Iterator[Built]:
    plan = planned(recipe.tasks(), recipe.build.conversations, seed=recipe.seed)
    return built(plan, journal, build_key(recipe))


def _writing(recipe: Recipe, target: Path, layouts: Collection[str]) -> Writing:
    settings, tasks = recipe.build, recipe.tasks()
    first = recipe.arm(settings.assistants[0]).assistant
    systems = {task.name: first.system_prompt(task) for task in tasks}
    rules = Rules(systems, settings.min_gap, settings.noise, settings.pairs_per_turn)
    parts = dict.fromkeys(name for task in tasks for name in recipe.reward.of(task))
    return Writing(target, settings, rules, tuple(parts), layouts)
