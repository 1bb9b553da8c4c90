"""An OpenAI-compatible server on loopback that answers by a script, for tests of whatever talks to an endpoint.

    async with serving(lambda asked: f"you said {asked.last}") as server:
        Endpoint(server.url)

A script sees each request and gives the reply's text, a whole body (a dict), or a response of its own; it
may be `async`, and so take its time. What goes wrong in the world is here as responses: `failure`,
`garbled`, `reset`, `drip`, `hang`.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson
from aiohttp import web

from duologue.background import BackgroundLoop

MODELS = ("small", "large")
"""What /v1/models lists, unless told otherwise."""


@dataclass(frozen=True)
class Asked:
    """One request to /chat/completions."""

    body: dict[str, Any]
    headers: Mapping[str, str]
    number: int
    """0, 1, 2… in the order of arrival."""
    path: str
    """With its query."""
    request: web.Request = field(repr=False)

    @property
    def last(self) -> str:
        """The content of the last message."""
        return self.body["messages"][-1]["content"]

    @property
    def form(self) -> str | None:
        """The name of the JSON schema that the reply is to follow."""
        return self.body.get("response_format", {}).get("json_schema", {}).get("name")


Answer = str | dict[str, Any] | web.StreamResponse
Script = Callable[[Asked], Answer | Awaitable[Answer]]


@dataclass
class Server:
    """A server that is up: where it is, and what it was asked so far."""

    port: int = 0
    asked: list[Asked] = field(default_factory=list[Asked])
    at_once: int = 0
    most_at_once: int = 0

    @property
    def url(self) -> str:
        """Its address, as a recipe names it."""
        return f"http://127.0.0.1:{self.port}/v1"


@asynccontextmanager
async def serving(script: Script, *, port: int = 0, models: tuple[str, ...] = MODELS) -> AsyncGenerator[Server]:
    """A server that answers by a script until the block ends; what hangs then is cut off.

    Args:
        port: a port to take, as when a server comes back; 0 for any that is free.
    """
    server = Server()
    application = web.Application(client_max_size=1 << 26)
    application.router.add_post("/v1/chat/completions", _answerer(server, script))
    application.router.add_get("/v1/models", _lister(models))
    runner = web.AppRunner(application, handler_cancellation=True, shutdown_timeout=0.05, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", port, backlog=4096)
        await site.start()
        server.port = runner.addresses[0][1]
        yield server
    finally:
        await runner.cleanup()


class ServerThread:
    """The same in a thread of its own, for commands and other loops: `with ServerThread(script) as server: …`."""

    def __init__(self, script: Script, *, port: int = 0, models: tuple[str, ...] = MODELS) -> None:
        self._up = serving(script, port=port, models=models)
        self._loop = BackgroundLoop()

    def __enter__(self) -> Server:
        return self._loop.run(self._up.__aenter__())

    def __exit__(self, *raised: object) -> None:
        self._loop.run(self._up.__aexit__(None, None, None))
        self._loop.close()


def completion(
    text: str | None,
    *,
    finish: str = "stop",
    prompt: int | None = 8,
    completion: int | None = 4,
    refusal: str | None = None,
    **message: Any,
) -> dict[str, Any]:
    """The body of an answer, with its usage unless `prompt` is None; `message`: more keys of the message."""
    said = {"role": "assistant", "content": text, "refusal": refusal, **message}
    body: dict[str, Any] = {
        "id": "chatcmpl-0",
        "object": "chat.completion",
        "choices": [{"index": 0, "message": said, "finish_reason": finish}],
    }
    if prompt is not None:
        body["usage"] = {"prompt_tokens": prompt, "completion_tokens": completion}
    return body


def failure(status: int, message: str = "", *, param: str | None = None, **headers: str) -> web.Response:
    """An error in OpenAI's words; header names with "_" for "-", as in `Retry_After="1"`."""
    body = {"error": {"message": message, "type": "error", "param": param, "code": None}}
    return _json(body, status, {name.replace("_", "-"): value for name, value in headers.items()})


def garbled() -> web.Response:
    """What is no JSON, with a status that says all is well."""
    return web.Response(body=b'{"choices": [{"mess', content_type="application/json")


async def reset(asked: Asked) -> web.StreamResponse:
    """Half a body, then the connection is gone."""
    response = await _begun(asked, 1000)
    await response.write(b'{"choices": [')
    if asked.request.transport is not None:
        asked.request.transport.abort()
    return response


async def drip(asked: Asked, seconds: float = 3600.0) -> web.StreamResponse:
    """A right body, a byte at a time, over so many seconds."""
    body = orjson.dumps(completion("slow"))
    response = await _begun(asked, len(body))
    for byte in body:
        await response.write(bytes([byte]))
        await asyncio.sleep(seconds / len(body))
    return response


async def hang() -> Answer:
    """No answer, ever."""
    await asyncio.Event().wait()
    raise AssertionError("nobody sets it")


def in_turn(*answers: Answer | Script, then: Answer | Script = "fine") -> Script:
    """A script that gives these answers (or plays these scripts) one after the other, then the last for ever."""
    left = iter(answers)

    def script(asked: Asked) -> Answer | Awaitable[Answer]:
        answer = next(left, then)
        return answer(asked) if callable(answer) else answer

    return script


async def _begun(asked: Asked, length: int) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    response.content_length = length
    await response.prepare(asked.request)
    return response


def _answerer(server: Server, script: Script) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def answer(request: web.Request) -> web.StreamResponse:
        body = orjson.loads(await request.read())
        asked = Asked(body, request.headers, len(server.asked), request.path_qs, request)
        server.asked.append(asked)
        server.at_once += 1
        server.most_at_once = max(server.most_at_once, server.at_once)
        try:
            answer = script(asked)
            return _response(await answer if inspect.isawaitable(answer) else answer)
        finally:
            server.at_once -= 1

    return answer


def _lister(models: tuple[str, ...]) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def listed(request: web.Request) -> web.StreamResponse:
        return _json({"object": "list", "data": [{"id": name, "object": "model"} for name in models]})

    return listed


def _response(answer: Answer) -> web.StreamResponse:
    if isinstance(answer, web.Response):
        return web.Response(body=answer.body, status=answer.status, headers=answer.headers)  # scripts may repeat one
    if isinstance(answer, web.StreamResponse):
        return answer
    return _json(completion(answer) if isinstance(answer, str) else answer)


def _json(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(body=orjson.dumps(body), status=status, headers=headers, content_type="application/json")
