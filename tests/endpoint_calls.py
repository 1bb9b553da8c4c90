"""A model whose server answers by a script, and ways to ask it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from duologue.conversation import Message
from duologue.models.base import Format, Reply, Sampling
from duologue.models.endpoint import Endpoint, EndpointModel
from endpoint_server import Script, Server, serving

SAMPLING = Sampling(temperature=0.5, max_tokens=100)
FORM = Format("grade", '{"type": "object", "properties": {"grade": {"type": "number"}}}')


@asynccontextmanager
async def model_of(script: Script, **options: Any) -> AsyncGenerator[tuple[EndpointModel, Server]]:
    """A model whose server answers by a script; it waits but a moment between attempts."""
    options = {"backoff": 0.002, "timeout": 10.0} | options
    async with serving(script) as server, Endpoint(server.url, **options) as endpoint:
        yield endpoint.model("small"), server


async def ask(model: EndpointModel, text: str = "hello", *, seed: int = 0, sampling: Sampling = SAMPLING) -> Reply:
    """The reply to one message."""
    return await model.reply([Message("user", text)], seed=seed, sampling=sampling)


async def ask_all(model: EndpointModel, count: int) -> list[Reply | BaseException]:
    """The replies to "0", "1", "2"… asked at once, or what was raised instead."""
    return await asyncio.gather(*(ask(model, str(i), seed=i) for i in range(count)), return_exceptions=True)
