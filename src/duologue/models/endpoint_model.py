"""A model behind an endpoint, in the role that it plays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from duologue.conversation import Message
from duologue.models.base import Reply, Sampling
from duologue.models.meter import book
from duologue.models.standing import RoleStanding
from duologue.models.wire import Query

if TYPE_CHECKING:
    from duologue.models.endpoint import Endpoint

Counter = Callable[[str], int]


class EndpointModel:
    """A model behind an address: a `ChatModel`."""

    def __init__(
        self,
        endpoint: Endpoint,
        name: str,
        role: str,
        stop: tuple[str, ...],
        counter: Counter,
        standing: RoleStanding,
    ) -> None:
        self.endpoint = endpoint
        self.name = name
        self._role, self._stop, self._counter = role, stop, counter
        self._standing = standing

    async def reply(self, messages: Sequence[Message], *, seed: int, sampling: Sampling) -> Reply:
        """One reply; see `Endpoint.answer` for what is raised."""
        return await self.ask(Query(self.name, messages, seed, sampling, self._stop))

    async def ask(self, query: Query) -> Reply:
        """The reply to a query to this model, of whatever kind."""
        with self._standing.call():
            reply = await self.endpoint.answer(query, self._role, self._counter)
        book(self._role, reply.usage)
        if query.sampling.format is None and reply.text.strip():  # a form is of use where whoever asked can read it
            self._standing.useful()
        return reply

    def rate(self, fault: str | None) -> None:
        """Take in what came of a question; see `Rated.rate`."""
        if fault is None:
            self._standing.useful()
        else:
            self._standing.useless(fault)

    def count_tokens(self, text: str) -> int:
        """Tokens of a text, by the counter given; without one, its bytes over 4."""
        return self._counter(text)
