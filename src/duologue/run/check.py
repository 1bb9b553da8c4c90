"""What can be known to be wrong before anything starts: every name that an arm's work will look up later."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from duologue.errors import RecipeError, nearest
from duologue.metrics.base import Supplies
from duologue.recipe import ARMS, Recipe
from duologue.reward import Scorer
from duologue.run.wiring import NEW, is_scripted, script
from duologue.tasks import Task

GENERAL_FIGURES = ("turns", "tokens", "satisfaction", "left", "reward")
"""What an evaluation has in every task."""


def check(recipe: Recipe, arms: Iterable[str]) -> None:
    """Look up what the arms need: tasks, goals, users, system prompts, scripts, metrics.

    Raises:
        RecipeError: something the recipe names is not there; with the nearest name that is.
        DataError: a task has no goals.
    """
    for name in arms:
        arm = recipe.arm(name)
        _check_model(arm, name)
        for task in arm.tasks():
            _check_task(arm, task)
    _check_evaluation(recipe, recipe.tasks())


def _check_model(arm: Recipe, name: str) -> None:
    source = arm.assistant.model
    if arm.stages and is_scripted(source):
        raise RecipeError(f'arm "{name}": a script ("{source}") cannot be trained; give assistant.model a model')
    if source == NEW and not arm.stages:
        raise RecipeError(
            f'arm "{name}" would play a model that knows nothing: assistant.model = "{NEW}" is for arms with [[train]]'
        )


def _check_task(arm: Recipe, task: Task) -> None:
    if arm.stages:
        task.goals("train")
    arm.assistant.system_prompt(task)
    script(task, arm.assistant.model)
    Scorer(arm.reward.of(task), Supplies())


def _check_evaluation(recipe: Recipe, tasks: Sequence[Task]) -> None:
    for task in tasks:
        task.goals("test")
        for settings in recipe.evaluate.users.values():
            task.with_profile(settings.profiles)
    family = recipe.evaluate.family
    if family.arm not in (known := {**ARMS, **recipe.arms}):
        raise RecipeError(f'evaluate.family.arm: there is no arm "{family.arm}"{nearest(family.arm, known)}')
    figures = {*GENERAL_FIGURES, *(name for task in tasks for name in task.figures)}
    for metric in family.metrics:
        if metric not in figures:
            raise RecipeError(f'evaluate.family.metrics: there is no figure "{metric}"{nearest(metric, figures)}')
