from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator

import pytest

from duologue.background import BackgroundLoop


async def where() -> int:
    await asyncio.sleep(0)
    return threading.get_ident()


def test_coroutines_run_on_one_thread_that_is_not_the_callers() -> None:
    with BackgroundLoop() as loop:
        first, second = loop.run(where()), loop.run(where())
    assert first == second != threading.get_ident()


def test_an_exception_reaches_the_caller() -> None:
    async def fails() -> None:
        raise LookupError("nothing there")

    with BackgroundLoop() as loop, pytest.raises(LookupError, match="nothing there"):
        loop.run(fails())


def test_closing_cancels_what_still_runs_and_ends_the_thread() -> None:
    ended: list[str] = []

    async def waits() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("cancelled")

    async def start() -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(waits())
        await asyncio.sleep(0)
        return task

    before = threading.active_count()
    with BackgroundLoop() as loop:
        task = loop.run(start())
    assert ended == ["cancelled"] and task.cancelled()
    assert threading.active_count() == before


def test_closing_ends_generators_that_were_left_half_way() -> None:
    ended: list[str] = []

    async def counts() -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
        finally:
            ended.append("closed")

    generator = counts()
    with BackgroundLoop() as loop:

        async def first() -> int:
            return await anext(generator)

        assert loop.run(first()) == 1
    assert ended == ["closed"]


def test_closing_twice_is_closing_once() -> None:
    loop = BackgroundLoop()
    before = threading.active_count()
    loop.close()
    assert threading.active_count() == before - 1
    loop.close()
    assert threading.active_count() == before - 1


def test_a_coroutine_on_the_loop_cannot_wait_for_the_loop() -> None:
    with BackgroundLoop() as loop:

        async def nested() -> int:
            return loop.run(where())

        with pytest.raises(RuntimeError, match="awaits others"):
            loop.run(nested())
