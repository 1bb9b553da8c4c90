"""The connections to one address: opened for the first request, kept alive, and closed for good."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from duologue.errors import EndpointUnusable
from duologue.models.refusals import Place, lost
from duologue.models.wire import Answer

if TYPE_CHECKING:
    from aiohttp import ClientSession


class Connections:
    """A pool for one event loop at a time: closed with the loop at the latest, and then opened anew in another.

    Args:
        place: whose they are, for errors; its key is sent with each request.
        url: the server's.
        most: connections at a time.
        timeout: seconds from a request to the last byte of its answer, the connecting included.
    """

    def __init__(self, place: Place, url: str, *, most: int, timeout: float) -> None:
        self._place, self._url, self._most, self._timeout = place, url, most, timeout
        self._held: AsyncGenerator[ClientSession] | None = None
        self._session: ClientSession | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._proxy: str | None = None
        self._closed = False

    def belong(self) -> None:
        """Belong to the event loop that runs; a loop that ended has closed what was opened in it.

        Raises:
            EndpointUnusable: they belong to another one, which has not ended.
        """
        loop = asyncio.get_running_loop()
        if self._loop is loop:
            return
        if self._loop is not None and not self._loop.is_closed():
            raise EndpointUnusable(
                f"{self._place} is used in a second event loop while the first goes on: make an `Endpoint` for each "
                "loop, or all calls in one"
            )
        self._loop, self._held, self._session = loop, None, None

    async def post(self, url: str, body: bytes) -> Answer:
        """The answer to a request to an address of the same server, whatever its status.

        Raises:
            Trouble: there was none.
            EndpointUnusable: nor can there be, or the connections were closed.
        """
        from aiohttp import ClientError

        session = await self._open()
        try:
            async with session.post(url, data=body, proxy=self._proxy, allow_redirects=False) as response:
                return Answer(response.status, response.headers.get("Retry-After"), await response.read())
        except (ClientError, OSError) as error:
            if self._closed:
                raise EndpointUnusable(f"{self._place} was closed while calls were under way") from None
            raise lost(self._place, error, self._timeout) from None

    async def get(self, url: str) -> bytes | None:
        """What lies at an address of the same server; None where nothing can be had."""
        from aiohttp import ClientError

        try:
            async with (await self._open()).get(url, proxy=self._proxy, allow_redirects=False) as response:
                return await response.read() if response.status == 200 else None
        except (ClientError, OSError):
            return None

    async def close(self) -> None:
        """Close them for good; requests under way fail."""
        self._closed = True
        held, self._held = self._held, None
        if held is not None and self._loop is asyncio.get_running_loop():
            await held.aclose()

    async def _open(self) -> ClientSession:
        if self._closed:
            raise EndpointUnusable(f"{self._place} is closed: calls belong inside `async with Endpoint(…)`")
        if self._session is None:
            self._held, self._proxy = self._opened(), _proxy(self._url)
            self._session = await anext(self._held)
        return self._session

    async def _opened(self) -> AsyncGenerator[ClientSession]:
        """The session. A generator, since an event loop that ends closes those begun in it."""
        import aiohttp

        headers = {"Content-Type": "application/json"}
        if self._place.key:
            headers["Authorization"] = f"Bearer {self._place.key}"
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._most, ttl_dns_cache=300),
            timeout=aiohttp.ClientTimeout(total=self._timeout),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=headers,
        )
        try:
            yield session
        finally:
            await session.close()
            await asyncio.sleep(0)  # sockets close in the loop's next round


def _proxy(url: str) -> str | None:
    """The environment's proxy for an address. (aiohttp's `trust_env` asks a thread for it at every call.)"""
    from urllib.request import getproxies, proxy_bypass

    parts = urlsplit(url)
    return None if proxy_bypass(parts.hostname or "") else getproxies().get(parts.scheme)
