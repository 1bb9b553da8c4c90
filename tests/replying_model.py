"""A model that replies with given texts in order, the last one for ever, and keeps what it was asked."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from duologue.conversation import Message
from duologue.models.base import Finish, Reply, Sampling, count_bytes


@dataclass
class Asked:
    """One call."""

    messages: tuple[Message, ...]
    seed: int
    sampling: Sampling

    @property
    def text(self) -> str:
        return "\n".join(message.content for message in self.messages)


@dataclass
class Replying:
    """Each reply is a text, a text with how it finished, or an error."""

    replies: Sequence[str | tuple[str, Finish] | Exception]
    ready: asyncio.Event | None = None
    """Where given, replies wait for it."""
    asked: list[Asked] = field(default_factory=list[Asked])

    async def reply(self, messages: Sequence[Message], *, seed: int, sampling: Sampling) -> Reply:
        self.asked.append(Asked(tuple(messages), seed, sampling))
        if self.ready is not None:
            await self.ready.wait()
        given = self.replies[min(len(self.asked), len(self.replies)) - 1]
        if isinstance(given, Exception):
            raise given
        text, finish = (given, "stop") if isinstance(given, str) else given
        return Reply(text, finish)

    def count_tokens(self, text: str) -> int:
        return count_bytes(text)


def replying(*replies: str | tuple[str, Finish] | Exception) -> Replying:
    return Replying(replies)


def graded(grade: float, evidence: str = "it is so") -> str:
    """What a judge replies."""
    return json.dumps({"evidence": evidence, "grade": grade})


def copied(text: str | None) -> str:
    """What a model that extracts replies."""
    return json.dumps({"found": text is not None, "text": text or ""})


def thought(message: str, ends: str = "no") -> str:
    """What a user who thinks replies."""
    return json.dumps({"thought": "SECRET", "message": message, "ends": ends})
