"""Metrics: a number for a conversation, or `None` with a reason.

A metric is an async function of a conversation and its goal. It is made by a factory whose parameters
name what it needs: `counter` (tokens of a text) and `judge` (a model) are supplied by whoever builds it,
everything else is an option in the recipe:

    def politeness() -> Metric:
        async def score(conversation: Conversation, goal: Goal) -> Score:
            return Score(float(any("please" in reply for reply in conversation.replies)))
        return score
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, get_type_hints

from duologue.conversation import Conversation, Goal
from duologue.errors import RecipeError, nearest
from duologue.models.base import ChatModel, count_bytes

Counter = Callable[[str], int]
"""Tokens in a text. One counter serves all arms of a comparison."""


@dataclass(frozen=True, slots=True)
class Score:
    """What a metric says of one conversation."""

    value: float | None
    why: str | None = None
    """The reason, where `value` is None."""


Metric = Callable[[Conversation, Goal], Awaitable[Score]]
MetricFactory = Callable[..., Metric]


@dataclass(frozen=True, slots=True)
class Supplies:
    """What a metric may ask for by the name of a parameter."""

    counter: Counter = count_bytes
    judge: ChatModel | None = None


SUPPLIED = ("counter", "judge")


@dataclass(frozen=True, slots=True)
class Weighted:
    """A metric to be built, its options and its weight in the reward."""

    factory: MetricFactory
    weight: float = 1.0
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def changed(self, weight: float | None, options: Mapping[str, Any], name: str) -> Weighted:
        """With another weight (None keeps it) and further options.

        Raises:
            RecipeError: an option the factory does not have, or of the wrong kind.
        """
        known = [p for p in inspect.signature(self.factory).parameters if p not in SUPPLIED]
        for option in options:
            if option not in known:
                raise RecipeError(f'metric "{name}" has no option "{option}"{nearest(option, ["weight", *known])}')
        weight = self.weight if weight is None else weight
        checked = {option: _checked(self.factory, option, value, name) for option, value in options.items()}
        return replace(self, weight=weight, options={**self.options, **checked})

    def build(self, supplies: Supplies, name: str) -> Metric:
        """The metric itself.

        Raises:
            RecipeError: it needs a judge and there is none, or an option is of the wrong kind.
        """
        wanted = inspect.signature(self.factory).parameters
        given: dict[str, Any] = dict(self.options)
        if "counter" in wanted:
            given["counter"] = supplies.counter
        if "judge" in wanted:
            if supplies.judge is None:
                raise RecipeError(
                    f'metric "{name}" needs a judge, which a recipe cannot name: leave it out, or give one '
                    "to MultiturnReward(…, supplies=Supplies(judge=…))"
                )
            given["judge"] = supplies.judge
        try:
            return self.factory(**given)
        except (TypeError, ValueError) as error:
            raise RecipeError(f'metric "{name}": {error}') from error


def _checked(factory: MetricFactory, option: str, value: Any, name: str) -> Any:
    """An option's value as the kind that the factory's parameter declares."""
    from pydantic import TypeAdapter, ValidationError

    kind = get_type_hints(factory).get(option, Any)
    try:
        return TypeAdapter[Any](kind).validate_python(value)
    except ValidationError as error:
        raise RecipeError(f'metric "{name}", option "{option}": {error.errors()[0]["msg"]}; it is {value!r}') from error
