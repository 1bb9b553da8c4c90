"""Metrics: a number for a conversation, or `None` with a reason.

A metric is an async function of a conversation and its goal. It is made by a factory whose parameters
name what it needs: `counter` (tokens of a text), `judge` (a model) and `extract` (takes artefacts out of
conversations) are supplied by whoever builds it, everything else is an option in the recipe:

    def politeness() -> Metric:
        async def score(conversation: Conversation, goal: Goal) -> Score:
            return Score(float(any("please" in reply for reply in conversation.replies)))
        return score
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, get_type_hints

from duologue.conversation import Conversation, Goal, Message
from duologue.errors import RecipeError, nearest
from duologue.metrics.extraction import Extractor
from duologue.models.base import ChatModel, Reply, Sampling, count_bytes

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
class Judge:
    """A model that judges as a recipe says: its own temperature for all metrics, and replies no shorter than asked."""

    model: ChatModel
    sampling: Sampling

    async def reply(self, messages: Sequence[Message], *, seed: int, sampling: Sampling) -> Reply:
        """The model's reply, of the form that a metric asks for."""
        longest = max(sampling.max_tokens, self.sampling.max_tokens)
        own = replace(self.sampling, max_tokens=longest, format=sampling.format)
        return await self.model.reply(messages, seed=seed, sampling=own)

    def count_tokens(self, text: str) -> int:
        """Tokens in a text, by the model's own measure."""
        return self.model.count_tokens(text)


@dataclass(frozen=True)
class Supplies:
    """What a metric may ask for by the name of a parameter."""

    counter: Counter = count_bytes
    judge: ChatModel | None = None

    @cached_property
    def extract(self) -> Extractor | None:
        """One for all metrics, with the judge's model: what several ask for is extracted once."""
        return None if self.judge is None else Extractor(self.judge)


SUPPLIED = ("counter", "judge", "extract")


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
        given = {**self.options, **_supplied(self.factory, supplies, name)}
        try:
            return self.factory(**given)
        except (TypeError, ValueError) as error:
            raise RecipeError(f'metric "{name}": {error}') from error


def _supplied(factory: MetricFactory, supplies: Supplies, name: str) -> dict[str, Any]:
    """What a factory asks for by name; a parameter with a default does without."""
    there = {"counter": supplies.counter, "judge": supplies.judge, "extract": supplies.extract}
    given: dict[str, Any] = {}
    for wanted in inspect.signature(factory).parameters.values():
        if there.get(wanted.name) is not None:
            given[wanted.name] = there[wanted.name]
        elif wanted.name in there and wanted.default is wanted.empty:
            raise RecipeError(
                f'metric "{name}" needs a judge, so name one under [judge] in the recipe, or give one to '
                "MultiturnReward(…, supplies=Supplies(judge=…)); or leave the metric out"
            )
    return given


def _checked(factory: MetricFactory, option: str, value: Any, name: str) -> Any:
    """An option's value as the kind that the factory's parameter declares."""
    from pydantic import TypeAdapter, ValidationError

    kind = get_type_hints(factory).get(option, Any)
    try:
        return TypeAdapter[Any](kind).validate_python(value)
    except ValidationError as error:
        raise RecipeError(f'metric "{name}", option "{option}": {error.errors()[0]["msg"]}; it is {value!r}') from error
