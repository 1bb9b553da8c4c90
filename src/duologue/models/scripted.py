"""A model whose replies are a function: oracles, demonstrations, tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from duologue.conversation import Message
from duologue.models.base import Reply, Sampling, Usage, count_bytes

Script = Callable[[Sequence[Message], int], str]
"""(messages, seed) → the reply's text; a pure function."""


class ScriptedModel:
    """Replies with what `script(messages, seed)` returns.

    >>> model = ScriptedModel(lambda messages, seed: messages[-1].content.upper())
    """

    def __init__(self, script: Script) -> None:
        self._script = script

    async def reply(self, messages: Sequence[Message], *, seed: int, sampling: Sampling) -> Reply:
        text = self._script(messages, seed)
        prompt = sum(count_bytes(m.content) for m in messages)
        return Reply(text, usage=Usage(prompt, count_bytes(text)))

    def count_tokens(self, text: str) -> int:
        return count_bytes(text)
