"""Models behind an OpenAI-compatible address.

    async with Endpoint("http://127.0.0.1:8000/v1", in_flight=256) as endpoint:
        judge = endpoint.model("Qwen2.5-14B-Instruct", role="judge")
        await judge.reply(messages, seed=0, sampling=Sampling())

An `Endpoint` is one address and key. It owns the connections, the limits that all its models share, the
deadline, and the retries. Survived: refusals for being too many, errors of the server, answers that hold no
reply, lost connections, a server that is away for a while, attempts that never end. Not retried: what would
be refused again. Parameters that a server does not know are left out, and listed in `unsupported`.

A server that only ever fails ends the run (`EndpointUnusable`), a single call that fails does not
(`ModelError`).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence, Set
from contextvars import ContextVar
from dataclasses import dataclass, replace
from hashlib import blake2b
from time import perf_counter
from typing import TYPE_CHECKING, Any
from urllib.parse import urlunsplit

import orjson

from duologue.background import Sharing
from duologue.errors import EndpointUnusable, ModelError, RequestRefused
from duologue.models.address import read_address, secrets_in, shown
from duologue.models.base import Reply, count_bytes
from duologue.models.budget import Price
from duologue.models.connections import Connections
from duologue.models.endpoint_model import Counter, EndpointModel
from duologue.models.limits import InFlight
from duologue.models.refusals import Place, Trouble, Unsupported, refusal
from duologue.models.spending import Share, Spending
from duologue.models.standing import Standing
from duologue.models.token_query import TokenQuery
from duologue.models.wire import NOTHING, Answer, Query, Unreadable, cut_at, read_models

if TYPE_CHECKING:
    from types import TracebackType

    from duologue.models.calls import Calls

LONGEST_WAIT = 20.0
"""Seconds between two attempts at most, unless the server names more."""
LONGEST_WAIT_WITH_OTHERS = 2.0
"""Likewise, where other calls got their replies meanwhile: the server is there, and the fault was this call's. While
none does, twice as much after each attempt."""
QUEUED = 0.1
"""What an attempt counts that was one too many while others got their replies: it waits for its turn."""

PATHS = (Query.path, TokenQuery.path, "models")

_LATE: ContextVar[float] = ContextVar("_LATE", default=0.0)
"""Seconds that the attempts without a reply cost this task and those it came from. Its calls queue as if made so much
earlier: a conversation that was held up does not wait behind all others, call after call, and end when they have."""


@dataclass(frozen=True, slots=True)
class _Call:
    """A query, its bytes as they are meant, and what it is booked under."""

    query: Query
    body: bytes
    role: str
    counter: Counter
    key: bytes = b""


_Answered = tuple[Reply, float]
"""A reply, and the seconds that attempts without one took before it, waits included."""


class Endpoint:
    """One address and key: connections, limits, deadline and retries, shared by all its models.

    For one event loop at a time, which closes the connections when it ends; `close` leaves no task, socket or thread.

    Args:
        url: where `/chat/completions` is found; its query is kept. No error repeats its credentials.
        name: what errors call it, and what its replies are remembered under, so that it may move to another
            address; left out, the address.
        key: sent as `Authorization: Bearer`; repeated in no error.
        in_flight: calls under way at a time; fewer where the server answers 429.
        timeout: seconds an attempt may take, from the connection to the last byte.
        retries: attempts after the first, for what may pass.
        requests_per_minute: what the provider allows; None: not counted.
        tokens_per_minute: likewise; prompts are estimated at 4 bytes a token until the server has counted.
        price: what the calls cost.
        calls: the replies known already, the ledger and the budget.
        backoff: seconds from the beginning of the first attempt to the second, at least; from there on twice as
            long each time, up to 20, and a random share of up to half of it is left off.
    """

    def __init__(
        self,
        url: str,
        *,
        name: str | None = None,
        key: str | None = None,
        in_flight: int = 64,
        timeout: float = 60.0,
        retries: int = 8,
        requests_per_minute: int | None = None,
        tokens_per_minute: int | None = None,
        price: Price = Price(),
        calls: Calls | None = None,
        backoff: float = 0.5,
    ) -> None:
        parts = read_address(url)
        if parts is None:
            raise EndpointUnusable(f"{shown(url)} is no address: it is like http://127.0.0.1:8000/v1")
        base, root = parts.path.rstrip("/"), parts.path.rstrip("/").removesuffix("/v1")
        self._urls = {last: urlunsplit(parts._replace(path=f"{base}/{last}", fragment="")) for last in PATHS}
        self._root = urlunsplit(parts._replace(path=root, query="", fragment=""))
        owner, _, host = parts.netloc.rpartition("@")
        address = urlunsplit((parts.scheme, host, parts.path, "", ""))
        if owner and key:
            raise EndpointUnusable(f"{address}: a key beside the one that `url` holds: leave one of them out")
        called = address if name in (None, url) else f'endpoint "{name}" ({address})'
        self.place = Place(called, key, secrets_in(parts))
        """As errors call it."""
        self._known_as = (name or self._urls[Query.path]).encode()
        self.unsupported: dict[str, set[str]] = {}
        """What a model's server was found not to take, by the model's name; the words are those of `Query.body`."""
        self._connections = Connections(self.place, url, most=in_flight, timeout=timeout)
        self._timeout, self._retries, self._backoff = timeout, retries, backoff
        self._calls = calls
        self._spending = Spending(price, calls, requests_per_minute, tokens_per_minute)
        self._under_way = Sharing[_Answered]()
        self._slots = InFlight(in_flight)
        self._standing = Standing(self.place, timeout)

    def model(
        self,
        name: str,
        *,
        role: str = "assistant",
        stop: Sequence[str] = (),
        counter: Counter = count_bytes,
    ) -> EndpointModel:
        """A model of this endpoint.

        Args:
            role: what its calls are booked under.
            stop: texts at which the server ends a reply.
            counter: tokens of a text, where the server does not count.
        """
        return EndpointModel(self, name, role, tuple(stop), counter, self._standing.role(name, role))

    async def answer(self, query: Query, role: str, counter: Counter) -> Reply:
        """The reply to a query: from the record where it is known, together with an equal call where one is under way.

        Raises:
            ContextOverflow: it does not fit into the model's context.
            RequestRefused: the server will not take it.
            ModelError: no reply, after all retries.
            EndpointUnusable: no call can succeed.
            BudgetSpent: it might cost more than is left.
        """
        self._connections.belong()
        reply, late = await self._found(query, role, counter)
        if late:
            _LATE.set(_LATE.get() + late)
        return reply

    async def listed(self) -> dict[str, dict[str, Any]]:
        """What the server says of its models, by name; nothing where it does not list them."""
        self._connections.belong()
        found = await self._connections.get(self._urls["models"])
        return {} if found is None else read_models(found)

    async def command(self, path: str, fields: Mapping[str, Any]) -> Answer:
        """What the server says to its owner, at a path from its root like "/v1/load_lora_adapter"; asked once.

        Raises:
            EndpointUnusable: nothing.
        """
        self._connections.belong()
        try:
            return await self._connections.post(self._root + path, orjson.dumps(fields))
        except Trouble as trouble:
            raise EndpointUnusable(f"{self.place}, {path}: {trouble.reason}; {trouble.advice}") from None

    async def close(self) -> None:
        """Close the connections for good; calls under way fail."""
        await self._connections.close()

    async def __aenter__(self) -> Endpoint:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _found(self, query: Query, role: str, counter: Counter) -> _Answered:
        """The reply, known, being waited for by an equal call, or asked for."""
        calls, body = self._calls, query.body()
        if calls is None or not calls.keeps or not query.kept:
            return await self._insist(_Call(query, body, role, counter))
        key = blake2b(b"%b\0%b" % (self._known_as, body), digest_size=16).digest()
        known = calls.find(key, role=role, model=query.model)
        if known is not None:
            return known, 0.0
        shared = key in self._under_way
        answered = await self._under_way.result(key, lambda: self._insist(_Call(query, body, role, counter, key)))
        if shared:
            calls.count_cached(role=role, model=query.model)
        return answered

    async def _insist(self, call: _Call) -> _Answered:
        """The reply of the first attempt that brings one."""
        model, tries, late, longest = call.query.model, 0.0, 0.0, LONGEST_WAIT_WITH_OTHERS
        loop, answered = asyncio.get_running_loop(), self._standing.answered
        since = loop.time() - _LATE.get()
        while True:
            try:
                reply = await self._attempt(call, since)
            except Unsupported as refused:
                self.unsupported.setdefault(model, set()).add(refused.word)
            except RequestRefused as error:
                raise self._standing.failed(error) from None
            except Trouble as trouble:
                others, answered = self._standing.answered > answered, self._standing.answered
                tries += QUEUED if trouble.limited and others else 1.0
                longest = LONGEST_WAIT_WITH_OTHERS if others else min(2 * longest, LONGEST_WAIT)
                wait = self._wait(trouble, tries, longest, call)
                await asyncio.sleep(wait)
                late += trouble.took + wait
                if trouble.limited:  # to the end of the queue: what the server refuses is shared out among all
                    since = loop.time()
            else:
                self._standing.succeeded(model, call.role)
                return reply, late

    def _wait(self, trouble: Trouble, tries: float, longest: float, call: _Call) -> float:
        """Seconds before the next attempt.

        Raises:
            ModelError: there is none.
            EndpointUnusable: nor will there be for others.
        """
        model = call.query.model
        self._standing.troubled(trouble, model, call.role)
        if trouble.wait > self._timeout:
            what = f"{trouble.reason}, and is to be left alone for {trouble.wait:.0f} s, which is over `timeout`"
            raise self._standing.failed(ModelError(f"{self.place}, model {model}: {what}; {trouble.advice}"))
        if tries >= self._retries + 1:
            what = f"no reply after {int(tries)} attempts, the last: {trouble.reason}"
            raise self._standing.failed(ModelError(f"{self.place}, model {model}: {what}; {trouble.advice}"))
        backoff = min(longest, self._backoff * 2 ** max(0.0, tries - 1.0))
        wait = max(trouble.wait, backoff * (0.5 + 0.5 * random.random()) - trouble.took, 0.0)
        if trouble.limited:
            self._slots.pause(wait)
        return wait

    async def _attempt(self, call: _Call, since: float) -> Reply:
        """One attempt, within every limit, and booked whatever comes of it."""
        await self._slots.enter(since=since)
        try:
            without = frozenset(self.unsupported.get(call.query.model, NOTHING))  # those before it may have found out
            body = call.query.body(without) if without else call.body
            share = await self._spending.reserve(call.query, body)
            return await self._booked(call, body, without, share)
        finally:
            self._slots.leave()

    async def _booked(self, call: _Call, body: bytes, without: Set[str], share: Share) -> Reply:
        started = perf_counter()
        try:
            reply = await self._exchange(call, body, without)
        except BaseException as error:
            if isinstance(error, Trouble):
                error.took = perf_counter() - started
            billed = error.billed if isinstance(error, Trouble) else isinstance(error, asyncio.CancelledError)
            self._spending.lose(share, call.query, call.role, billed=billed)
            raise
        self._spending.book(share, call.query, reply, call.key, call.role, perf_counter() - started)
        return reply

    async def _exchange(self, call: _Call, body: bytes, without: Set[str]) -> Reply:
        answer = await self._connections.post(self._urls[call.query.path], body)
        self._standing.reached()
        self._slots.answered(limited=answer.status == 429)
        if answer.status != 200:
            raise refusal(self.place, answer, call.query, without, call.role)
        try:
            reply = call.query.read(answer.body, call.counter)
        except Unreadable as error:
            advice = "check that `url` is that of an OpenAI-compatible server, and look into its log"
            raise Trouble(self.place.quote(str(error)), advice, billed=True) from None
        if "stop" in without:
            return replace(reply, text=cut_at(reply.text, call.query.stop))
        return reply
