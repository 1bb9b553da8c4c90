"""A model whose tokens are counted."""

from __future__ import annotations

from collections.abc import Sequence

from duologue.conversation import Message
from duologue.models.base import ChatModel, Reply, Sampling, Usage


class Metered:
    """Passes every call on to a model and adds up what it cost: one meter for one conversation, or one reward."""

    def __init__(self, model: ChatModel) -> None:
        self._model = model
        self.usage = Usage()

    async def reply(self, messages: Sequence[Message], *, seed: int, sampling: Sampling) -> Reply:
        """The model's reply."""
        reply = await self._model.reply(messages, seed=seed, sampling=sampling)
        self.usage = Usage(self.usage.prompt + reply.usage.prompt, self.usage.completion + reply.usage.completion)
        return reply

    def count_tokens(self, text: str) -> int:
        """Tokens in a text, by the model's own measure."""
        return self._model.count_tokens(text)
