"""What `benchmarks/endpoint.py` compares with: the same graph of calls on asyncio, aiohttp and orjson alone.

Nothing of Duologue is in its path. The bodies are those that ours sent, as objects; each is made into JSON
when it is sent, and its reply is read, as any client must.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import aiohttp
import orjson

HEADERS = {"Content-Type": "application/json"}
Body = dict[str, Any]


@dataclass
class Branch:
    """Calls that wait for one another, and the branches that begin after the last of them."""

    layers: list[list[Body]] = field(default_factory=list)
    """One after another; the calls of one at once."""
    then: list[Branch] = field(default_factory=list)
    """Side by side."""


class Client:
    """A pool of connections to one address: `async with Client(url, in_flight=64) as client: …`."""

    def __init__(self, url: str, in_flight: int) -> None:
        self._url = f"{url}/chat/completions"
        self._in_flight = in_flight

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(limit=self._in_flight)
        self._session = aiohttp.ClientSession(connector=connector, headers=HEADERS)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def ask(self, body: Body) -> Any:
        """The reply's text, or the object in it where one was asked for."""
        async with self._session.post(self._url, data=orjson.dumps(body)) as response:
            reply = orjson.loads(await response.read())
        text = reply["choices"][0]["message"]["content"]
        return orjson.loads(text) if "response_format" in body else text


async def play(client: Client, branches: Sequence[Branch]) -> None:
    """All of it, as soon as what comes before allows."""
    await asyncio.gather(*(_play(client, branch) for branch in branches))


async def _play(client: Client, branch: Branch) -> None:
    for layer in branch.layers:
        if len(layer) == 1:
            await client.ask(layer[0])
        else:
            await asyncio.gather(*(client.ask(body) for body in layer))
    if branch.then:
        await play(client, branch.then)
