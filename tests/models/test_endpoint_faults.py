"""All that can go wrong on the way to a model, and what does not come of it."""

from __future__ import annotations

import asyncio
import gc
import random
import threading
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from duologue.errors import (
    DuologueError,
    EndpointUnusable,
    ModelError,
)
from duologue.models import standing
from duologue.models.base import Reply
from duologue.models.calls import Calls
from duologue.models.endpoint import LONGEST_WAIT, Endpoint, EndpointModel
from endpoint_calls import ask, ask_all, model_of
from endpoint_server import (
    Asked,
    ServerThread,
    completion,
    drip,
    failure,
    garbled,
    hang,
    in_turn,
    reset,
    serving,
)

# What passes --------------------------------------------------------------------------------------------------------

WRONG_KEYS: list[dict[str, Any]] = [
    {"text": "hi"},
    {"choices": []},
    {"choices": "hi"},
    {"choices": [{"text": "hi"}]},
    {"choices": [{"message": {"content": 42}}]},
    {"choices": [{"message": None}]},
    {"choices": [{"message": {"content": [{"type": "text"}]}}]},
    {"error": {"message": "overloaded", "code": 502}},
    completion(None),
    completion("half of", finish="error"),
]
FAULTS: dict[str, Any] = {
    **{str(status): failure(status) for status in (408, 429, 500, 502, 503, 504, 529)},
    **{f"wrong keys {i}": answer for i, answer in enumerate(WRONG_KEYS)},
    "garbled": garbled(),
    "reset": reset,
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
async def test_what_may_pass_is_tried_again(fault: Any) -> None:
    async with model_of(in_turn(fault, fault)) as (model, server):
        assert (await ask(model)).text == "fine"
    assert len(server.asked) == 3


@pytest.mark.parametrize("slow", [lambda asked: hang(), drip], ids=["hang", "drip"])
async def test_an_attempt_that_does_not_end_is_cut_off_and_tried_again(slow: Any) -> None:
    async with model_of(in_turn(slow), timeout=0.3) as (model, server):
        assert (await ask(model)).text == "fine"
    assert len(server.asked) == 2


async def test_a_call_that_hangs_delays_no_other() -> None:
    def script(asked: Asked) -> Any:
        return hang() if asked.last == "0" else "fine"

    async with model_of(script, timeout=30.0, in_flight=2) as (model, _):
        stuck = asyncio.create_task(ask(model, "0"))
        async with asyncio.timeout(10):
            await asyncio.gather(*(ask(model, str(i)) for i in range(1, 50)))
        assert not stuck.done()
        stuck.cancel()
        await asyncio.wait([stuck])


def answered_after(seconds: float) -> Iterable[str]:
    """The two ways to ask for a pause."""
    yield str(seconds)
    yield format_datetime(datetime.now(UTC) + timedelta(seconds=seconds + 1), usegmt=True)  # dates have whole seconds


async def test_who_is_told_when_to_come_back_comes_no_sooner() -> None:
    loop = asyncio.get_running_loop()
    for when in answered_after(0.5):
        start = loop.time()
        async with model_of(in_turn(failure(429, Retry_After=when))) as (model, _):
            assert (await ask(model)).text == "fine"
        assert 0.5 <= loop.time() - start < 5.0


async def test_a_server_that_wants_to_be_left_alone_for_an_hour_fails_the_call_at_once() -> None:
    async with model_of(in_turn(failure(429, "quota used up", Retry_After="3600"))) as (model, _):
        with pytest.raises(ModelError, match=r"quota used up.*left alone for 3600 s.*requests_per_minute"):
            await ask(model)
        assert (await ask(model)).text == "fine"


async def test_a_call_that_waits_for_its_retry_holds_no_slot() -> None:
    def script(asked: Asked) -> Any:
        return failure(503, Retry_After="5") if asked.last == "0" else "fine"

    async with model_of(script, in_flight=1) as (model, _):
        waiting = asyncio.create_task(ask(model, "0"))
        async with asyncio.timeout(4):
            while not (await ask(model, "1")).text:
                pass
        waiting.cancel()
        await asyncio.wait([waiting])


async def test_who_has_waited_for_an_answer_in_vain_waits_so_much_less_to_ask_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(random, "random", lambda: 1.0)  # the longest wait, 1 s: as long as the attempt took
    loop, at = asyncio.get_running_loop(), list[float]()

    def script(asked: Asked) -> Any:
        at.append(loop.time())
        return hang() if asked.number == 0 else "fine"

    async with model_of(script, timeout=1.0, backoff=1.0) as (model, _):
        await ask(model)
    assert 0.9 < at[1] - at[0] < 1.9


@pytest.mark.parametrize("recorded", [False, True])
async def test_a_conversation_that_lost_time_does_not_wait_behind_all_others_with_its_next_call(
    recorded: bool, tmp_path: Path
) -> None:
    async def script(asked: Asked) -> Any:
        await asyncio.sleep(0.01)
        return failure(500) if asked.number == 0 else "fine"

    calls = Calls(tmp_path / "calls.sqlite") if recorded else None
    async with model_of(script, in_flight=1, backoff=0.6, calls=calls) as (model, server):

        async def converse(name: str) -> None:
            await ask(model, f"{name} begins")
            await ask(model, f"{name} goes on")

        await asyncio.gather(*(converse(str(number)) for number in range(80)))
    if calls is not None:
        calls.close()
    order = [asked.last for asked in server.asked]
    tried_again = order.index("0 begins", 1)
    assert tried_again > 5  # meanwhile others began, and their next calls wait
    meanwhile = order[tried_again : order.index("0 goes on")]
    assert sum("goes on" in what for what in meanwhile) < 5  # it waits for the begins, not for what comes after them


async def test_a_server_away_for_a_moment_is_survived_by_every_call() -> None:
    async with serving(lambda asked: "before") as server:
        endpoint = Endpoint(server.url, backoff=0.05)
        assert (await ask(endpoint.model("small"))).text == "before"
    calls = asyncio.create_task(ask_all(endpoint.model("small"), 50))
    await asyncio.sleep(0.3)
    async with serving(lambda asked: "after", port=server.port), endpoint:
        assert {reply.text for reply in await calls if isinstance(reply, Reply)} == {"after"}


def test_the_waits_of_all_retries_span_an_outage_of_ten_seconds_by_far() -> None:
    retries, backoff = 8, 0.5
    shortest = sum(min(LONGEST_WAIT, backoff * 2**i) * 0.5 for i in range(retries))
    assert shortest > 30


@pytest.mark.parametrize("seed", [0, 1])
async def test_five_in_a_hundred_of_everything_at_once_and_every_call_is_answered(seed: int) -> None:
    chance = random.Random(seed)
    faults = [
        lambda asked: failure(500),
        lambda asked: failure(429),
        lambda asked: failure(429, Retry_After="0.05"),
        lambda asked: garbled(),
        lambda asked: {"answer": "hi"},
        lambda asked: completion(None),
        reset,
        drip,
        lambda asked: hang(),
    ]

    async def script(asked: Asked) -> Any:
        which = int(chance.random() * 20)
        answer = faults[which](asked) if which < len(faults) else f"echo {asked.last}"
        return await answer if asyncio.iscoroutine(answer) else answer

    async with model_of(script, timeout=0.5, in_flight=64, retries=16) as (model, _):  # nearly every other one fails
        replies = await ask_all(model, 400)
    assert [reply.text for reply in replies if isinstance(reply, Reply)] == [f"echo {i}" for i in range(400)]


# Limits -------------------------------------------------------------------------------------------------------------


async def test_a_server_that_refuses_all_above_eight_is_soon_asked_about_eight_at_a_time() -> None:
    at_once, refused = 0, list[int]()

    async def script(asked: Asked) -> Any:
        nonlocal at_once
        if at_once >= 8:
            refused.append(asked.number)
            return failure(429, "too many at once")
        at_once += 1
        await asyncio.sleep(0.01)
        at_once -= 1
        return "fine"

    async with model_of(script, in_flight=64) as (model, server):
        replies = await ask_all(model, 600)
    assert all(isinstance(reply, Reply) for reply in replies)
    late = [number for number in refused if number > len(server.asked) / 2]
    assert len(late) < 0.2 * len(server.asked) / 2


async def test_a_server_that_takes_few_a_second_answers_them_all() -> None:
    loop, tokens, seen = asyncio.get_running_loop(), 1.0, asyncio.get_running_loop().time()

    def script(asked: Asked) -> Any:
        nonlocal tokens, seen
        now = loop.time()
        tokens, seen = min(1.0, tokens + (now - seen) * 40), now
        if tokens < 1:
            return failure(429, "slow down")
        tokens -= 1
        return "fine"

    async with model_of(script, in_flight=64, backoff=0.01) as (model, _):
        replies = await ask_all(model, 80)
    assert all(isinstance(reply, Reply) for reply in replies)


async def test_requests_and_tokens_a_minute_are_kept_to() -> None:
    loop = asyncio.get_running_loop()
    for limit in ({"requests_per_minute": 3000}, {"tokens_per_minute": 3000 * 12}):
        async with model_of(lambda asked: completion("hi", prompt=8, completion=4), **limit) as (model, _):
            start = loop.time()
            await ask_all(model, 330)  # 300 go at once, and 50 more each second
            assert 0.4 <= loop.time() - start < 10.0


# Servers that only ever fail ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [failure(500, "broken"), failure(400, "broken")])
async def test_twenty_failures_in_a_row_end_the_run(fault: web.Response) -> None:
    async with model_of(lambda asked: failure(fault.status, "broken"), retries=1) as (model, _):
        ends = [await _end(model) for _ in range(20)]
    assert not any(isinstance(error, EndpointUnusable) for error in ends[:19])
    assert isinstance(ends[19], EndpointUnusable)
    assert "20 calls in a row" in str(ends[19])
    assert "broken" in str(ends[19])


async def test_one_success_in_between_and_the_run_goes_on() -> None:
    def script(asked: Asked) -> Any:
        return "fine" if asked.number % 15 == 14 else failure(400, "broken")

    async with model_of(script) as (model, _):
        ends = [await _end(model) for _ in range(60)]
    assert not any(isinstance(error, EndpointUnusable) for error in ends)


async def test_a_server_never_reached_for_a_minute_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standing, "UNREACHED_LIMIT", 0.2)
    async with serving(lambda asked: "hi") as server:
        pass
    async with Endpoint(server.url, backoff=0.1) as endpoint:
        with pytest.raises(EndpointUnusable, match=r"never reached.*check that a server runs there"):
            await ask(endpoint.model("small"))


async def test_a_server_that_fails_slowly_ends_the_run_after_fewer_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standing, "FAILED_SOONER", (3, 0.1))
    async with model_of(lambda asked: hang(), retries=0, timeout=0.1) as (model, _):
        ends = [await _end(model) for _ in range(3)]
    assert [isinstance(error, EndpointUnusable) for error in ends] == [False, False, True]


async def _end(model: EndpointModel) -> BaseException | None:
    try:
        await ask(model)
    except DuologueError as error:
        return error
    return None


# Nothing left behind ------------------------------------------------------------------------------------------------


def sockets() -> set[str]:
    """This process's open sockets."""
    found = set[str]()
    for entry in Path("/proc/self/fd").iterdir():
        try:
            target = str(entry.readlink())
        except FileNotFoundError:
            continue
        if target.startswith("socket:"):
            found.add(target)
    return found


async def test_no_task_socket_or_thread_is_left_behind() -> None:
    def script(asked: Asked) -> Any:
        turns = [failure(500), garbled(), reset(asked), hang(), "fine", "fine"]
        chosen = turns[asked.number % len(turns)]
        for other in turns:
            if asyncio.iscoroutine(other) and other is not chosen:
                other.close()
        return chosen

    with ServerThread(script) as server:
        tasks, threads, before = asyncio.all_tasks(), set(threading.enumerate()), sockets()
        async with Endpoint(server.url, backoff=0.002, timeout=0.2, retries=3) as endpoint:
            calls = [asyncio.create_task(ask(endpoint.model("small"), str(i))) for i in range(60)]
            await asyncio.wait(calls[:40])
            for call in calls:
                call.cancel()
            await asyncio.wait(calls)
        del calls
        gc.collect()
        await asyncio.sleep(0.2)  # the server lets go of its ends
        assert asyncio.all_tasks() == tasks
        assert set(threading.enumerate()) == threads
        assert sockets() <= before
