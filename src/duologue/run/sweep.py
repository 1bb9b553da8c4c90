"""`duologue sweep`: the cells of a recipe's `[sweep]`, trained side by side and evaluated together.

A sweep is a run as any other, its cells are arms of it: it goes on where it was killed, its report draws the grid.
What sets it apart from `duologue train` is that a cell that cannot be trained costs itself alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from duologue.errors import DuologueError, RecipeError
from duologue.recipe import FamilySettings, Recipe
from duologue.run.check import check
from duologue.run.commands import Watch, evaluate, processes, training_jobs
from duologue.run.folder import RunFolder
from duologue.run.jobs import perform
from duologue.run.workers import Job, run_jobs


@dataclass(frozen=True)
class Swept:
    """What a sweep came to."""

    evaluation: dict[str, Any]
    """As `evaluation.json` has it, without the arms that failed."""
    failures: Mapping[str, DuologueError]
    """Why an arm could not be trained, by its name."""


def sweep(recipe: Recipe, folder: Path, *, restart: bool = False, cached: bool = True, watch: Watch) -> Swept:
    """Train every cell of a sweep, and evaluate those whose training came to its end; the figures and the report.

    All cells are checked before anything starts. The same call tries again what failed, and goes on where it was
    killed.

    Args:
        cached: whether a call to an endpoint that was answered before is answered from what is kept.

    Raises:
        RecipeError: the recipe has no sweep; a cell could not work as it is set.
        RunError: another process works there; the folder holds a run with other settings.
        DuologueError: the first failure, where every cell failed.
    """
    if recipe.sweep is None:
        raise RecipeError(
            f'recipe "{recipe.name}" has no [sweep]: add [sweep.axes.NAME] tables, or train its arms with '
            "`duologue train`"
        )
    check(recipe, recipe.evaluate.arms)
    failures: dict[str, DuologueError] = {}

    def failed(job: Job, error: DuologueError) -> None:
        failures[job.arms[0]] = error

    with RunFolder(folder).opened(recipe, restart=restart):
        jobs = training_jobs(recipe, folder, cached=cached)
        run_jobs(jobs, perform, processes=processes(recipe), threads=recipe.run.threads, watch=watch, failed=failed)
    if failures and all(cell.arm in failures for cell in recipe.sweep.cells(recipe.seed)):
        raise next(iter(failures.values()))
    return Swept(evaluate(_without(recipe, failures), folder, cached=cached, watch=watch), failures)


def _without(recipe: Recipe, failures: Mapping[str, DuologueError]) -> Recipe:
    """The recipe with the arms that can be evaluated; no hypothesis is about one that failed."""
    arms = tuple(arm for arm in recipe.evaluate.arms if arm not in failures)
    family = FamilySettings(metrics=recipe.evaluate.family.metrics)
    changes = {"arms": arms, **({"family": family} if recipe.evaluate.family.arm in failures else {})}
    return recipe.model_copy(update={"evaluate": recipe.evaluate.model_copy(update=changes)})
