"""Metrics: a number for a conversation, or `None` with a reason.

A metric is an async function of a conversation and its goal. It is made by a factory whose parameters
name what it needs: `counter` (tokens of a text), `judge` (a model), `extract` (takes artefacts out of
conversations), `goals` (all of the task's) and `sandbox` (runs programs) are supplied by whoever builds it,
everything else is an option in the recipe:

    def politeness() -> Metric:
        async def score(conversation: Conversation, goal: Goal) -> Score:
            return Score(float(any("please" in reply for reply in conversation.replies)))
        return score
"""

from __future__ import annotations

import asyncio
import inspect
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, get_type_hints

from duologue.conversation import Conversation, Goal, Message
from duologue.errors import DataError, RecipeError, nearest
from duologue.metrics.extraction import Extractor
from duologue.models.base import ChatModel, Reply, Sampling, count_bytes, rate
from duologue.sandbox import Sandbox

Counter = Callable[[str], int]
"""Tokens in a text. One counter serves all arms of a comparison."""


@dataclass(frozen=True, slots=True)
class Score:
    """What a metric says of one conversation."""

    value: float | None
    why: str | None = None
    """The reason, where `value` is None."""
    grades: tuple[float, ...] = ()
    """What judges said, one a judge; empty where none was asked."""


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

    def rate(self, fault: str | None) -> None:
        """Tell the model what came of a question; see `Rated.rate`."""
        rate(self.model, fault)

    def count_tokens(self, text: str) -> int:
        """Tokens in a text, by the model's own measure."""
        return self.model.count_tokens(text)


@dataclass(frozen=True, slots=True)
class Panel:
    """Several judges: a metric that asks for one is built once with each, and its score is the mean of theirs."""

    members: tuple[ChatModel, ...]
    """One or more; the first extracts."""


@dataclass(frozen=True, slots=True)
class Supplies:
    """What a metric may ask for by the name of a parameter."""

    counter: Counter = count_bytes
    judge: ChatModel | Panel | None = None
    goals: Sequence[Goal] = ()
    """All goals of the task: what else the same text is measured against."""
    sandbox: Sandbox | None = None
    """Where programs run that nobody trusts."""
    extract: Extractor | None = None
    """Left out, the judge's model extracts. One for all metrics and tasks: what several ask for is extracted once."""

    def __post_init__(self) -> None:
        if self.extract is None and self.judge is not None:
            object.__setattr__(self, "extract", Extractor(self.judges[0]))

    @property
    def judges(self) -> tuple[ChatModel, ...]:
        """One or several; none where there is no judge."""
        if isinstance(self.judge, Panel):
            return self.judge.members
        return () if self.judge is None else (self.judge,)


SUPPLIED = ("counter", "judge", "extract", "goals", "sandbox")


@dataclass(frozen=True, slots=True)
class Weighted:
    """A metric to be built, its options and its weight in the reward."""

    factory: MetricFactory
    weight: float = 1.0
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @property
    def is_judged(self) -> bool:
        """Whether it may ask a judge."""
        return "judge" in inspect.signature(self.factory).parameters

    @property
    def needs_judge(self) -> bool:
        """Whether it cannot be built without one."""
        wanted = inspect.signature(self.factory).parameters.values()
        return any(each.name in ("judge", "extract") and each.default is each.empty for each in wanted)

    @property
    def in_force(self) -> dict[str, Any]:
        """Every option with the value that it has, given or by default."""
        known = (p for p in inspect.signature(self.factory).parameters.values() if p.name not in SUPPLIED)
        return {p.name: self.options.get(p.name, p.default) for p in known}

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
        """The metric itself; the mean over the judges where there are several and it asks for one.

        Raises:
            RecipeError: it needs a judge and there is none, or an option is of the wrong kind.
        """
        judges = supplies.judges if self.is_judged and supplies.judges else (None,)
        return mean([self._built(replace(supplies, judge=judge), name) for judge in judges], name)

    def _built(self, supplies: Supplies, name: str) -> Metric:
        given = {**self.options, **_supplied(self.factory, supplies, name)}
        try:
            return self.factory(**given)
        except (TypeError, ValueError) as error:
            raise RecipeError(f'metric "{name}": {error}') from error


def mean(metrics: Sequence[Metric], name: str) -> Metric:
    """The mean of one metric under several judges; None where one of them fails, for fewer use another scale."""
    if len(metrics) == 1:
        return metrics[0]

    async def score(conversation: Conversation, goal: Goal) -> Score:
        scores = await asyncio.gather(*(measured(name, metric, conversation, goal) for metric in metrics))
        values = [score.value for score in scores if score.value is not None]
        grades = tuple(grade for score in scores for grade in score.grades)
        if len(values) < len(scores):
            why = next(score.why for score in scores if score.value is None)
            return Score(None, f"{len(scores) - len(values)} of {len(scores)} judges: {why}", grades)
        return Score(math.fsum(values) / len(values), grades=grades)

    return score


async def measured(name: str, metric: Metric, conversation: Conversation, goal: Goal) -> Score:
    """What a metric says of a conversation; a value that is no finite number is None with a reason.

    Raises:
        DataError: it is not an async function that returns a Score.
    """
    found: Any = metric(conversation, goal)
    if not inspect.isawaitable(found):
        raise DataError(f'metric "{name}" is not an async function: write `async def`')
    score: Any = await found
    if not isinstance(score, Score):
        raise DataError(f'metric "{name}" gave {score!r}, which is no Score: return Score({score!r}), say')
    if score.value is None or not math.isfinite(score.value):
        return Score(None, score.why or "gave no finite number", score.grades)
    return score


MISSING = {
    "judge": "a judge, so name one under [judge] in the recipe, or give one to "
    "MultiturnReward(…, supplies=Supplies(judge=…)); or leave the metric out",
    "sandbox": "a sandbox, so give one to MultiturnReward(…, supplies=Supplies(sandbox=duologue.sandbox.Sandbox())); "
    "or leave the metric out",
}
"""What a metric asks for and does not get, and where it comes from."""


def _supplied(factory: MetricFactory, supplies: Supplies, name: str) -> dict[str, Any]:
    """What a factory asks for by name; a parameter with a default does without."""
    there: dict[str, Any] = {"counter": supplies.counter, "judge": supplies.judge, "extract": supplies.extract}
    there |= {"goals": supplies.goals, "sandbox": supplies.sandbox}
    given: dict[str, Any] = {}
    for wanted in inspect.signature(factory).parameters.values():
        if there.get(wanted.name) is not None:
            given[wanted.name] = there[wanted.name]
        elif wanted.name in there and wanted.default is wanted.empty:
            raise RecipeError(f'metric "{name}" needs {MISSING.get(wanted.name, MISSING["judge"])}')
    return given


def _checked(factory: MetricFactory, option: str, value: Any, name: str) -> Any:
    """An option's value as the kind that the factory's parameter declares."""
    from pydantic import TypeAdapter, ValidationError

    kind = get_type_hints(factory).get(option, Any)
    try:
        return TypeAdapter[Any](kind).validate_python(value)
    except ValidationError as error:
        raise RecipeError(f'metric "{name}", option "{option}": {error.errors()[0]["msg"]}; it is {value!r}') from error
