"""A recipe's tables as objects."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from duologue import models
from duologue.errors import RecipeError, nearest
from duologue.metrics.base import Counter, Supplies
from duologue.models.base import ChatModel, count_bytes
from duologue.models.scripted import ScriptedModel
from duologue.recipe import Recipe
from duologue.reward import MultiturnReward, Scorer
from duologue.simulation import Assistant
from duologue.tasks import Task

if TYPE_CHECKING:
    from duologue.models.local import LocalModel

SCRIPTED = "scripted:"
NEW = "new"
"""The model of an assistant that starts from nothing."""


def is_scripted(source: str) -> bool:
    """Whether an assistant's model is one of its task's own."""
    return source.startswith(SCRIPTED)


def load_local(source: str | Path) -> LocalModel:
    """A model in this process.

    Raises:
        ModelError: no model there.
        MissingDependency: torch and transformers are not installed.
    """
    quieten_transformers()
    return models.load_local(source)


def quieten_transformers() -> None:
    """Keep its bars and warnings out of our own progress.

    Raises:
        MissingDependency: torch and transformers are not installed.
    """
    with models.local_models():
        import torch  # noqa: F401  # pyright: ignore[reportUnusedImport]
        from transformers.utils import logging
    logging.disable_progress_bar()
    logging.set_verbosity_error()


def script(task: Task, source: str) -> ScriptedModel | None:
    """A task's own script, where `source` names one; None where it names a model.

    Raises:
        RecipeError: the task has no such script.
    """
    if not is_scripted(source):
        return None
    name = source.removeprefix(SCRIPTED)
    if name not in task.scripted:
        raise RecipeError(f'task "{task.name}" has no scripted assistant "{name}"{nearest(name, task.scripted)}')
    return task.scripted[name]


@dataclass(frozen=True)
class Wiring:
    """An arm of a recipe with its models at hand."""

    recipe: Recipe
    tasks: Sequence[Task]
    model: ChatModel | None
    """What replies; None where each task's own script does."""
    counter: Counter

    def assistant(self, task: Task) -> Assistant:
        """The arm's assistant in a task.

        Raises:
            RecipeError: the task has no such script or system prompt.
        """
        settings = self.recipe.assistant
        return Assistant(self._model(task), settings.system_prompt(task), settings.sampling(task))

    def _model(self, task: Task) -> ChatModel:
        model = self.model or script(task, self.recipe.assistant.model)
        assert model is not None, "a recipe whose model is not a script has one loaded"
        return model

    @property
    def supplies(self) -> Supplies:
        """What metrics may ask for."""
        return Supplies(self.counter)

    def reward(self, task: Task, assistant: Assistant | None = None) -> MultiturnReward:
        """The multiturn-aware reward in a task."""
        settings = self.recipe.reward
        return MultiturnReward(
            assistant or self.assistant(task),
            task.user,
            settings.of(task),
            settings.samples,
            settings.window,
            turn_limit=task.turn_limit,
            reacts=settings.reacts,
            supplies=self.supplies,
        )

    def scorer(self, task: Task) -> Scorer:
        """R of whole conversations in a task."""
        return Scorer(self.recipe.reward.of(task), self.supplies)

    def partners(self, task: Task) -> tuple[Assistant, MultiturnReward]:
        """Who replies in a task, and how replies are rewarded."""
        assistant = self.assistant(task)
        return assistant, self.reward(task, assistant)


def wire(recipe: Recipe, load: Callable[[str], ChatModel] = load_local, *, counter: Counter | None = None) -> Wiring:
    """A recipe's objects; loads its model, unless the task's own script replies.

    Args:
        counter: tokens in a text, where another model's is to serve (one for all arms of a comparison).

    Raises:
        RecipeError, ModelError, MissingDependency: what the recipe names cannot be had.
    """
    source = recipe.assistant.model
    model = None if is_scripted(source) else load(source)
    count = counter or (model.count_tokens if model else count_bytes)
    return Wiring(recipe, recipe.tasks(), model, count)
