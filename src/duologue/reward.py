"""The multiturn-aware reward of a reply: the mean score of the conversations it leads to.

    MR(m) = mean over s = 1..k of R(look-ahead s of w turns after m),   R(c) = Σ wᵢ · metricᵢ(c, goal)

(CollabLLM, arXiv 2502.00640, section 3.) A failure never becomes a number: a look-ahead that failed, or
that any metric could not judge, is left out whole and counted.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import Any

from duologue.conversation import Conversation, Ending, Goal
from duologue.errors import DataError, RecipeError
from duologue.metrics.base import Metric, Supplies, Weighted, measured
from duologue.models.base import Reply
from duologue.seeding import derive
from duologue.simulation import TURN_LIMIT, Assistant, Window, look_ahead
from duologue.users.base import User, UserMaker
from duologue.users.behaviours import Behaviours

LOST_LIMIT = 1 / 3
"""Share of a reply's look-aheads that may be lost before its reward is None."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One scored look-ahead: its value with the metrics' unweighted scores, or why there is none."""

    future: Conversation
    value: float | None
    parts: Mapping[str, float] = field(default_factory=dict[str, float])
    why: str | None = None
    grades: Mapping[str, tuple[float, ...]] = field(default_factory=dict[str, tuple[float, ...]])
    """What each judge said, of the metrics that judges were asked about."""


@dataclass(frozen=True, slots=True)
class Reward:
    """What a reply is worth."""

    value: float | None
    """The mean over the look-aheads that counted; None where more than a third were lost."""
    stderr: float | None
    """Its standard error; None below two look-aheads."""
    values: tuple[float | None, ...]
    """One a look-ahead, None where it was lost."""
    parts: Mapping[str, float]
    """The metrics' unweighted means."""
    failures: tuple[str, ...]
    """Why look-aheads were lost."""
    futures: tuple[Conversation, ...]
    """The look-aheads themselves."""

    @property
    def counted(self) -> int:
        """How many look-aheads counted."""
        return sum(value is not None for value in self.values)


class Scorer:
    """R(c | g): the weighted sum of a conversation's metrics."""

    def __init__(self, metrics: Mapping[str, Weighted], supplies: Supplies) -> None:
        self._metrics: dict[str, Metric] = {name: m.build(supplies, name) for name, m in metrics.items()}
        self._weights = {name: m.weight for name, m in metrics.items()}

    async def __call__(self, conversation: Conversation, goal: Goal) -> Outcome:
        """Score an ended conversation; all metrics side by side, and all or none of them count.

        Raises:
            DataError: a metric is not an async function that returns a Score.
        """
        if conversation.ending is Ending.FAILED:
            return Outcome(conversation, None, why=conversation.reason or "the conversation failed")
        scores = await asyncio.gather(*(measured(name, m, conversation, goal) for name, m in self._metrics.items()))
        parts: dict[str, float] = {}
        for name, score in zip(self._metrics, scores, strict=True):
            if score.value is None:
                return Outcome(conversation, None, why=f"{name}: {score.why}")
            parts[name] = score.value
        value = math.fsum(self._weights[name] * part for name, part in parts.items())
        grades = {name: score.grades for name, score in zip(self._metrics, scores, strict=True) if score.grades}
        return Outcome(conversation, value, parts, grades=grades)


def check_look_aheads(samples: Any, window: Any) -> None:
    """Refuse numbers of look-aheads and turns that are none.

    Raises:
        RecipeError: less than one sample, or a window that is neither turns nor "full".
    """
    if samples == "adaptive":
        raise RecipeError(
            "adaptive look-aheads compare a state's replies, and value none: give samples a number, or compare with "
            "duologue.adaptive.AdaptiveReward"
        )
    if not _is_whole(samples) or samples < 1:
        raise RecipeError(f"a reward needs at least one look-ahead; samples is {samples}")
    if window != "full" and (not _is_whole(window) or window < 0):
        raise RecipeError(f'window counts turns: 0 or more, or "full"; it is {window}')


def _is_whole(number: Any) -> bool:
    return isinstance(number, int) and not isinstance(number, bool)


class MultiturnReward:
    """Looks ahead from a reply and scores what follows.

    Args:
        assistant: who continues the conversations: the current policy.
        users: (request, seed) → user; `task.user`.
        metrics: the reward's parts; `task.metrics`.
        samples: look-aheads a reply (k).
        window: turns a look-ahead (w), or "full".
        reacts: whether a scripted user's reaction to the last reply of a cut conversation counts.
        supplies: what the metrics may ask for: token counter, judge, goals; left out, the assistant's own counter.
        behaviours: how users may behave in what follows the reply; each look-ahead draws anew, the same for all
            candidates. Left out, they behave as `users` has them.

    Raises:
        RecipeError: less than one sample, a negative window, or a metric that cannot be built.

    >>> from duologue.tasks import load_task
    >>> task = load_task("groceries")
    >>> goal, conversation = task.goals("test")[0], Conversation().said("i want seven coffee tonight .")
    >>> reward = MultiturnReward(Assistant(task.scripted["oracle"]), task.user, task.metrics, samples=2)
    >>> asks = asyncio.run(reward(goal, conversation, "which city and which payment ?", seed=0))
    >>> chats = asyncio.run(reward(goal, conversation, "great , that is a lovely choice .", seed=0))
    >>> asks.value > chats.value, asks.counted, asks.failures
    (True, 2, ())
    """

    def __init__(
        self,
        assistant: Assistant,
        users: UserMaker,
        metrics: Mapping[str, Weighted],
        samples: int = 3,
        window: Window = 2,
        *,
        turn_limit: int = TURN_LIMIT,
        reacts: bool = True,
        supplies: Supplies | None = None,
        behaviours: Behaviours | None = None,
    ) -> None:
        check_look_aheads(samples, window)
        self.assistant = assistant
        self.users = users
        self.samples = samples
        self.window: Window = window
        self.turn_limit = turn_limit
        self.reacts = reacts
        self.behaviours = behaviours
        self.scorer = Scorer(metrics, supplies or Supplies(assistant.model.count_tokens))

    def of(self, assistant: Assistant) -> MultiturnReward:
        """The same reward for the replies of another assistant, with the metrics as they are built."""
        other = copy(self)
        other.assistant = assistant
        return other

    def behaving(self, behaviours: Behaviours | None) -> MultiturnReward:
        """The same reward among users who behave so; None for those who just answer."""
        other = copy(self)
        other.behaviours = behaviours
        return other

    async def __call__(self, goal: Goal, conversation: Conversation, reply: str | Reply, *, seed: int) -> Reward:
        """The reward of `reply` to a conversation that ends in a user message.

        The seed stands for this visit to the goal: it fixes the user's profile and every draw.

        Raises:
            DataError: the conversation does not end in a user message.
        """
        outcomes = await asyncio.gather(
            *(self.outcome(goal, conversation, reply, seed=seed, sample=sample) for sample in range(self.samples))
        )
        return summarise(outcomes)

    async def outcome(
        self, goal: Goal, conversation: Conversation, reply: str | Reply, *, seed: int, sample: int
    ) -> Outcome:
        """One look-ahead of `reply`, scored: `sample` is its number, from 0; any number may be asked for.

        Raises:
            DataError: the conversation does not end in a user message.
        """
        if not conversation.messages or conversation.messages[-1].role != "user":
            raise DataError(f"goal {goal.id!r}: a reply is scored after a user message: end the conversation in one")
        text, cut = (reply, False) if isinstance(reply, str) else (reply.text, reply.finish == "length")
        future = await look_ahead(
            self.assistant,
            self._user(goal, conversation, seed, sample),
            conversation,
            text,
            window=self.window,
            seed=seed,
            sample=sample,
            cut=cut,
            turn_limit=self.turn_limit,
            reacts=self.reacts,
        )
        return await self.scorer(future, goal)

    def _user(self, goal: Goal, conversation: Conversation, seed: int, sample: int) -> User:
        user = self.users(goal.request, seed)
        if self.behaviours is None:
            return user
        replies = len(conversation.replies) + 1
        return self.behaviours.ahead(user, replies, derive(seed, "behaviour", conversation.digest, sample))


def summarise(outcomes: Sequence[Outcome]) -> Reward:
    """The reward that scored look-aheads make; their order does not matter."""
    counted = [o for o in outcomes if o.value is not None]
    values = [o.value for o in counted if o.value is not None]
    failures = tuple(o.why or "unknown" for o in outcomes if o.value is None)
    enough = bool(values) and len(failures) <= LOST_LIMIT * len(outcomes)
    names: Mapping[str, float] = counted[0].parts if counted else {}
    return Reward(
        value=math.fsum(values) / len(values) if enough else None,
        stderr=standard_error(values) if enough else None,
        values=tuple(o.value for o in outcomes),
        parts={name: math.fsum(o.parts[name] for o in counted) / len(counted) for name in names},
        failures=failures,
        futures=tuple(o.future for o in outcomes),
    )


def standard_error(values: Sequence[float]) -> float | None:
    """The standard error of the values' mean; None below two."""
    if len(values) < 2:
        return None
    mean = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (len(values) - 1) / len(values))
