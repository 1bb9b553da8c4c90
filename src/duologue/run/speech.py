"""What stand-ins say (`duologue.run.stand_ins`): nothing of sense, at assumed lengths, in the form asked for."""

from __future__ import annotations

import asyncio
import json
import re
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from duologue.conversation import Message
from duologue.metrics.base import Counter
from duologue.models.base import Sampling, count_bytes
from duologue.models.prompt import prompt
from duologue.seeding import derive, digest, generator
from duologue.simulation import Assistant, converse
from duologue.tasks import Task

Speak = Callable[[Sequence[Message], int, Sampling], Awaitable[str]]
"""(messages, seed, sampling) → what is said."""
GOES = "[[SATISFIED]]"
"""What ends a conversation of a user who does not think: see `duologue.users.prompted`."""
TRIED = 16
"""Conversations by which a task's scripted assistants are told apart."""

_REPLY = re.compile(r"^\[([0-9a-f]{8}) assistant[^\]]*\]\n(.*?)\n(?=\[\1 )", re.MULTILINE | re.DOTALL)
"""A reply in a framed transcript."""
_ANSWER = re.compile(r"The answer is (\d+)\.")
_PROGRAM = re.compile(r"```python\n(.*?)\n```", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Lengths:
    """How long messages are, in tokens, and conversations with users whom a model plays, in turns."""

    reply: float
    """Of the assistant, as a share of `max_tokens`."""
    message: int
    """Of the user."""
    thought: int
    """What the user writes down before."""
    evidence: int
    """What a judge writes down before the grade."""
    turns: int | None
    """Replies after which the user goes; None where the task's limit ends it."""
    plain: bool
    """Whether a reply's result can be taken out of it, and compared, without asking a judge."""
    script: Literal["shortest", "mixture", "longest"]
    """Which of a task's scripted assistants replies, where it has some."""
    pairs: float
    """Share of the states whose pair of replies differs by more than the noise."""


SCENARIOS: Mapping[str, Lengths] = {
    "low": Lengths(0.2, 30, 50, 30, 3, plain=True, script="shortest", pairs=0.2),
    "expected": Lengths(0.4, 60, 200, 80, 5, plain=True, script="mixture", pairs=0.5),
    "high": Lengths(1.0, 150, 330, 300, None, plain=False, script="longest", pairs=1.0),
}
"""What is assumed. CollabLLM's data sets have 4.6 to 5.3 turns a conversation; with a window of 1 its policy writes 420
tokens a look-ahead, of 1,024, and its user 260 (arXiv 2502.00640, on data sets and on costs)."""


class Speech:
    """What is said at some lengths.

    Args:
        counter: tokens in a text.
    """

    def __init__(self, lengths: Lengths, counter: Counter) -> None:
        self._lengths = lengths
        self._unit = counter("word " * 64) / 64

    async def reply(self, messages: Sequence[Message], seed: int, sampling: Sampling) -> str:
        """What an assistant says: no two alike."""
        words = self._words(self._lengths.reply * sampling.max_tokens - 8)
        return f"{words}\nThe answer is {_number(messages, seed)}."

    async def program(self, messages: Sequence[Message], seed: int, sampling: Sampling) -> str:
        """What one says who writes programs; two of them where they are not plain to see."""
        words = self._words(self._lengths.reply * sampling.max_tokens - 16)
        beside = "" if self._lengths.plain else "\n```python\npass\n```"
        return f"Program {_number(messages, seed)}:\n```python\n{words}\n```{beside}"

    async def message(self, messages: Sequence[Message], seed: int, sampling: Sampling) -> str:
        """What a user says, who goes after as many turns as are assumed."""
        lengths, asked = self._lengths, messages[-1].content
        goes = lengths.turns is not None and len(_REPLY.findall(asked)) >= lengths.turns
        share = min(1.0, sampling.max_tokens / (lengths.message + lengths.thought + 30))
        said = self._words(lengths.message * share)
        if sampling.format is None:
            return f"{said}\n{GOES}" if goes else said
        thought = self._words(lengths.thought * share)
        return json.dumps({"thought": thought, "message": said, "ends": "satisfied" if goes else "no"})

    async def verdict(self, messages: Sequence[Message], seed: int, sampling: Sampling) -> str:
        """What a judge says: a copy of what was replied last, or whatever form is asked for, filled in by the seed."""
        assert sampling.format is not None, "judges are asked for forms"
        kinds: Mapping[str, Any] = json.loads(sampling.format.schema)["properties"]
        if set(kinds) == {"found", "text"}:
            return json.dumps({"found": True, "text": self._copy(messages[0].content)})
        draw = generator(seed, digest([messages[0].content]))
        return json.dumps({name: self._filled(kind, draw.random()) for name, kind in kinds.items()})

    def _words(self, count: float) -> str:
        return ("word " * max(1, round(count / self._unit))).strip()

    def _copy(self, asked: str) -> str:
        """The last reply; or its program, or its answer, where that is wanted."""
        last = _REPLY.findall(asked)[-1][1]
        programs, answer = _PROGRAM.findall(last), _ANSWER.search(last)
        if prompt("duologue.metrics", "copy-words").template in asked:
            return last
        if programs:
            return programs[-1]
        return answer[1] if answer and self._lengths.plain else last

    def _filled(self, kind: Mapping[str, Any], draw: float) -> Any:
        """A value of a kind, as JSON schemas have them."""
        match kind:
            case {"enum": [first, *_]} | {"const": first}:
                return first
            case {"type": "number"}:
                return round(kind.get("minimum", 0) + draw * (kind.get("maximum", 1) - kind.get("minimum", 0)), 3)
            case {"type": "integer"}:
                return round(kind.get("minimum", 0) + draw * (kind.get("maximum", 1) - kind.get("minimum", 0)))
            case {"type": "boolean"}:
                return True
            case {"type": "array"}:
                return [self._filled(cast("Mapping[str, Any]", kind.get("items", {})), draw)]
            case _:
                return self._words(self._lengths.evidence)


def _number(messages: Sequence[Message], seed: int) -> int:
    """What makes a reply differ from all others."""
    return int(digest((seed, *(message.content for message in messages))), 16) % 10**9


def scripted(task: Task, which: str | None, script: Literal["shortest", "mixture", "longest"]) -> Speak | None:
    """What a model says that a task's scripted assistants taught; None where the task has none.

    Args:
        which: the system prompt that it stands under, one of the task's by name.
    """
    under = [part for part in task.demonstrations if part.prompt == which] or list(task.demonstrations)
    if not under:
        return None
    weights: dict[str, float] = defaultdict(float)
    for part in under:
        weights[part.style] += part.weight
    if script != "mixture":
        lengths = sorted(weights, key=lambda style: _tokens(task, style))
        weights = {lengths[0 if script == "shortest" else -1]: 1.0}

    async def speak(messages: Sequence[Message], seed: int, sampling: Sampling) -> str:
        style = generator(seed, "style").choices(list(weights), list(weights.values()))[0]
        return (await task.scripted[style].reply(messages, seed=seed, sampling=sampling)).text

    return speak


def _tokens(task: Task, style: str) -> int:
    """What a scripted assistant writes in some conversations."""

    async def written() -> int:
        assistant, found = Assistant(task.scripted[style]), 0
        for index, goal in enumerate(task.goals("train")[:TRIED]):
            seed = derive(0, "cost", style, index)
            user = task.profiles["train"](goal.request, seed)
            played = await converse(assistant, user, seed=seed, turns=task.turn_limit)
            found += sum(map(count_bytes, played.replies))
        return found

    return asyncio.run(written())
