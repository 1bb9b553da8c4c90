"""A small world for the tests of the core: users and models that draw words from their seeds.

They answer after a given number of steps of the event loop, fail where a test says so, and keep what they
were given, so that a test can look at it.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from duologue.conversation import Conversation, Ending, Goal, Message, Reaction, Request
from duologue.errors import ModelError
from duologue.metrics import Metric, Score
from duologue.models.base import Finish, Reply, Sampling, count_bytes
from duologue.seeding import digest, generator
from duologue.simulation import Assistant
from duologue.users.base import Utterance

WORDS = ("apple", "bread", "cheese", "dates", "eggs", "figs", "grapes", "honey")
GOAL = Goal("g", Request("buy apples"), reference="apples")
OPENING = Conversation().said("I need apples")
"""The shortest prefix that asks for a reply."""

Pauses = Callable[[], int]
"""How many steps of the event loop the next answer takes."""


def at_once() -> int:
    return 0


def shuffled(seed: int) -> Pauses:
    """Pauses of 0 to 5 steps, in an order that the seed fixes."""
    draws = random.Random(seed)
    return lambda: draws.randrange(6)


async def pause(pauses: Pauses) -> None:
    for _ in range(pauses()):
        await asyncio.sleep(0)


@dataclass
class Chatterer:
    """A user who says a word drawn from the seed, and ends the conversation at turn `last`."""

    last: int | None = None
    ending: Ending = Ending.SATISFIED
    pauses: Pauses = at_once
    fails: Callable[[int], bool] = lambda seed: False
    heard: list[Conversation] = field(default_factory=list[Conversation])
    seeds: list[int] = field(default_factory=list[int])

    async def speak(self, conversation: Conversation, *, seed: int) -> Utterance:
        self.heard.append(conversation)
        self.seeds.append(seed)
        await pause(self.pauses)
        if self.fails(seed):
            raise ModelError("no answer from the user's server")
        turn = len(conversation.turns)
        text = f"{generator(seed, digest(conversation.replies)).choice(WORDS)} {turn}"
        return Utterance(text, self.ending if turn == self.last else Ending.OPEN)


@dataclass
class Grumbler(Chatterer):
    """A chatterer who is as annoyed as there are replies."""

    def react(self, conversation: Conversation) -> Reaction:
        return Reaction(False, float(len(conversation.replies)), limit=4.0, leaving=False)


@dataclass
class Babbler:
    """A model that replies with words drawn from seed and messages, or with a fixed text."""

    text: str | None = None
    finish: Finish = "stop"
    pauses: Pauses = at_once
    error: Exception | None = None
    fails: Callable[[int], bool] = lambda seed: True
    """Which seeds meet `error`, where there is one."""
    read: list[tuple[Message, ...]] = field(default_factory=list[tuple[Message, ...]])
    seeds: list[int] = field(default_factory=list[int])

    async def reply(self, messages: Sequence[Message], *, seed: int, sampling: Sampling) -> Reply:
        self.read.append(tuple(messages))
        self.seeds.append(seed)
        await pause(self.pauses)
        if self.error is not None and self.fails(seed):
            raise self.error
        said = digest(m.content for m in messages if m.role != "system")
        text = generator(seed, said).choice(WORDS) if self.text is None else self.text
        return Reply(text, finish=self.finish)

    def count_tokens(self, text: str) -> int:
        return count_bytes(text)


def babbling(model: Babbler | None = None) -> Assistant:
    return Assistant(model or Babbler())


def prefix(turns: int) -> Conversation:
    """A conversation of some turns that asks for a reply."""
    conversation = Conversation()
    for turn in range(turns):
        conversation = conversation.said(f"question {turn}").replied(f"answer {turn}")
    return conversation.said("and now?")


def length() -> Metric:
    """The number of messages."""

    async def score(conversation: Conversation, goal: Goal) -> Score:
        return Score(float(len(conversation.messages)))

    return score


def luck() -> Metric:
    """A number in [0, 1) that stands for the words of the conversation."""

    async def score(conversation: Conversation, goal: Goal) -> Score:
        return Score(int(conversation.digest, 16) / 2**64)

    return score
