"""Models that stand in for those of a recipe, and count what is asked of them.

The recipe's own code asks them: users, judges and whoever replies get the very prompts that the models would get, so
that the calls of a turn, and what stands around the messages, are not estimated. What is assumed is how long messages
are, and how long users stay whom a model plays (`duologue.run.speech`).
"""

from __future__ import annotations

import inspect
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from duologue.conversation import Message
from duologue.metrics.base import Counter
from duologue.models.base import Reply, Sampling, Usage
from duologue.recipe import Recipe, Role
from duologue.run.endpoints import Endpoints
from duologue.run.speech import Lengths, Speak, Speech
from duologue.sandbox import Sandbox, TestReport
from duologue.sandbox.settings import SandboxSettings
from duologue.seeding import digest
from duologue.tasks import Task

Who = tuple[str, str]
"""A role ("assistant", "user", "judge") and the model that plays it."""
FRAME = 4
"""Tokens that a chat template puts around a message."""


@dataclass(frozen=True, slots=True)
class Use:
    """What was asked of a model."""

    calls: float = 0.0
    read: float = 0.0
    """Tokens of prompts."""
    fresh: float = 0.0
    """Of these, those of messages that did not stand in an earlier prompt or reply like this."""
    written: float = 0.0

    def __add__(self, other: Use) -> Use:
        return Use(
            self.calls + other.calls, self.read + other.read, self.fresh + other.fresh, self.written + other.written
        )

    def times(self, factor: float) -> Use:
        """So often.

        >>> Use(calls=2, written=50).times(3)
        Use(calls=6, read=0.0, fresh=0.0, written=150)
        """
        return Use(self.calls * factor, self.read * factor, self.fresh * factor, self.written * factor)


class StandIns(Endpoints):
    """Stand-ins for all models of a recipe in one of its tasks, and what was asked of each.

    Args:
        counter: tokens in a text.
        own: what the assistant says; left out, nothing of sense.
    """

    def __init__(self, recipe: Recipe, task: Task, lengths: Lengths, counter: Counter, own: Speak | None) -> None:
        super().__init__()
        self.uses = defaultdict[Who, Use](Use)
        self.counter = counter
        speech = Speech(lengths, counter)
        replies = speech.program if _runs_programs(recipe, task) else speech.reply
        self._speaks = {"assistant": own or replies, "user": speech.message, "judge": speech.verdict}

    def model(self, recipe: Recipe, role: Role, name: str) -> StandIn:
        """Who plays a role of an endpoint, or replies in this process."""
        return StandIn(self, (name, role.model), self._speaks[name])

    def sandbox(self, settings: SandboxSettings) -> Sandbox:
        """A sandbox in which nothing runs."""
        return _Empty()


class StandIn:
    """A `ChatModel` that stands in for another, and books what it is asked."""

    def __init__(self, books: StandIns, who: Who, speak: Speak) -> None:
        self._books, self._who, self._speak = books, who, speak
        self._seen: set[str] = set()

    async def reply(self, messages: Sequence[Message], *, seed: int, sampling: Sampling) -> Reply:
        """A text of the assumed length."""
        text = await self._speak(messages, seed, sampling)
        lengths = [self._books.counter(message.content) + FRAME for message in messages]
        read, written = sum(lengths), self._books.counter(text)
        self._books.uses[self._who] += Use(1, read, sum(lengths[self._known(messages, text) :]), written)
        return Reply(text, usage=Usage(read, written))

    def count_tokens(self, text: str) -> int:
        """Tokens in a text."""
        return self._books.counter(text)

    def _known(self, messages: Sequence[Message], text: str) -> int:
        """How many of the first messages stood like this before; from now on all of them did, and the reply."""
        known, place = 0, ""
        for index, message in enumerate((*messages, Message("assistant", text)), start=1):
            place = digest([place, message.role, message.content])
            if place in self._seen and index <= len(messages):
                known = index
            self._seen.add(place)
        return known


class _Empty(Sandbox):
    """A sandbox in which nothing runs: every program fails its tests."""

    async def run_tests(self, code: str, tests: str, **_: Any) -> TestReport:
        return TestReport("failed", 0, 1, 0.0)


def _runs_programs(recipe: Recipe, task: Task) -> bool:
    """Whether what is replied is run in a sandbox: then it holds a program."""
    metrics = recipe.reward.of(task).values()
    return any("sandbox" in inspect.signature(metric.factory).parameters for metric in metrics)
