"""A model behind an address: what it is asked, what its answers mean, and all that can go wrong on the way."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from duologue.conversation import Message
from duologue.errors import (
    AccessDenied,
    BudgetSpent,
    DuologueError,
    EndpointUnusable,
    ModelError,
    NoSuchModel,
    RequestRefused,
)
from duologue.models.base import Reply, Sampling, Usage
from duologue.models.budget import Price
from duologue.models.calls import Calls
from duologue.models.endpoint import Endpoint
from endpoint_calls import FORM, SAMPLING, ask, ask_all, model_of
from endpoint_server import (
    Asked,
    Server,
    completion,
    failure,
    garbled,
    hang,
    in_turn,
    reset,
    serving,
)

KEY = "sk-secret-0123456789"
TENTH = Price(input=1000.0, output=1000.0)
"""0.001 a token."""


# What is asked ------------------------------------------------------------------------------------------------------


async def test_a_call_carries_all_that_determines_the_reply() -> None:
    async with serving(lambda asked: "hi") as server, Endpoint(server.url + "/?version=2", key=KEY) as endpoint:
        model = endpoint.model("large", stop=["user:"])
        messages = [Message("system", "be brief"), Message("user", "héllo")]
        reply = await model.reply(messages, seed=7, sampling=Sampling(0.5, 0.9, 100, FORM))
    assert reply == Reply("hi", usage=Usage(8, 4))
    asked = server.asked[0]
    assert asked.path == "/v1/chat/completions?version=2"
    assert asked.headers["Authorization"] == f"Bearer {KEY}"
    schema = {"type": "object", "properties": {"grade": {"type": "number"}}}
    assert asked.body == {
        "model": "large",
        "messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "héllo"}],
        "temperature": 0.5,
        "top_p": 0.9,
        "max_tokens": 100,
        "seed": 7,
        "stop": ["user:"],
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "grade", "strict": True, "schema": schema},
        },
    }


async def test_what_is_not_asked_for_is_not_sent() -> None:
    async with model_of(lambda asked: "hi") as (model, server):
        await ask(model, seed=2**62 + 5)
    assert server.asked[0].body.keys() == {"model", "messages", "temperature", "top_p", "max_tokens", "seed"}
    assert server.asked[0].body["seed"] < 2**31
    assert "Authorization" not in server.asked[0].headers


async def test_connections_are_kept_and_no_more_than_the_limit() -> None:
    ports = set[Any]()

    async def script(asked: Asked) -> str:
        assert asked.request.transport is not None
        ports.add(asked.request.transport.get_extra_info("peername"))
        await asyncio.sleep(0.001)
        return "fine"

    async with model_of(script, in_flight=4) as (model, server):
        await ask_all(model, 100)
    assert server.most_at_once == 4
    assert len(ports) == 4


async def test_all_models_of_an_endpoint_share_its_limit() -> None:
    async def script(asked: Asked) -> str:
        await asyncio.sleep(0.001)
        return "fine"

    async with model_of(script, in_flight=3) as (model, server):
        judge = model.endpoint.model("large", role="judge")
        await asyncio.gather(*(ask(either, str(i)) for i in range(20) for either in (model, judge)))
    assert server.most_at_once == 3
    assert Counter(asked.body["model"] for asked in server.asked) == {"small": 20, "large": 20}


async def test_the_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(lambda asked: "by proxy") as proxy:
        monkeypatch.setenv("http_proxy", proxy.url.removesuffix("/v1"))
        monkeypatch.setenv("no_proxy", "")
        async with Endpoint("http://models.example/v1") as endpoint:
            assert (await ask(endpoint.model("small"))).text == "by proxy"
        assert proxy.asked[0].headers["Host"] == "models.example"
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        async with model_of(lambda asked: "directly") as (model, _):
            assert (await ask(model)).text == "directly"


# What an answer means -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "text", "finish"),
    [
        (completion("so", finish="length"), "so", "length"),
        (completion("so", finish="content_filter"), "so", "stop"),
        (completion(None, finish="content_filter"), "", "stop"),
        (completion(""), "", "stop"),
        (completion(None, refusal="i will not"), "i will not", "stop"),
        (completion(None, finish="length"), "", "length"),
        (completion(None, finish="length", reasoning_content="hm, well"), "", "length"),
        (completion("which city ?", reasoning="hm"), "which city ?", "stop"),
        (completion("<think>a city\nis missing</think>\n\nwhich city ?"), "which city ?", "stop"),
        (completion("a city is missing</think>which city ?"), "which city ?", "stop"),
        (completion("<think>so much to", finish="length"), "", "length"),
        (completion("sure ! <think>a city\nis missing</think> which city ?"), "sure ! which city ?", "stop"),
        (completion("which city ? <think>so much to", finish="length"), "which city ?", "length"),
    ],
)
async def test_an_answer_is_read(answer: dict[str, Any], text: str, finish: str) -> None:
    async with model_of(lambda asked: answer) as (model, _):
        reply = await ask(model)
    assert (reply.text, reply.finish) == (text, finish)


async def test_text_parts_are_joined() -> None:
    answer = completion(None)
    answer["choices"][0]["message"]["content"] = [{"type": "text", "text": "which "}, {"type": "text", "text": "city"}]
    async with model_of(lambda asked: answer) as (model, _):
        assert (await ask(model)).text == "which city"


@pytest.mark.parametrize("wrong", [None, True, -1, 1.5, "8"])
async def test_tokens_the_server_does_not_count_are_counted_here(wrong: Any) -> None:
    answer = completion("one two three") | {"usage": {"prompt_tokens": wrong, "completion_tokens": 3}}
    async with model_of(lambda asked: answer) as (model, _):
        words = model.endpoint.model("small", counter=lambda text: len(text.split()))
        assert (await ask(words, "a b")).usage == Usage(2, 3)
        assert words.count_tokens("a b c") == 3


async def test_no_usage_at_all_is_counted_here() -> None:
    async with model_of(lambda asked: completion("four", prompt=None)) as (model, _):
        assert (await ask(model, "eight by")).usage == Usage(2, 1)


# What does not pass -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "error", "what_to_do"),
    [
        (401, AccessDenied, "api_key_env"),
        (403, AccessDenied, "api_key_env"),
        (404, NoSuchModel, "check the name of the model, and `url`"),
        (402, EndpointUnusable, "top it up"),
        (308, EndpointUnusable, "where it has moved"),
        (201, NoSuchModel, "check that `url`"),
        (202, NoSuchModel, "check that `url`"),
        (400, RequestRefused, "refused"),
        (422, RequestRefused, "refused"),
    ],
)
async def test_what_would_be_refused_again_is_not_tried_again(
    status: int, error: type[DuologueError], what_to_do: str
) -> None:
    async with model_of(lambda asked: failure(status, "no, you may not")) as (model, server):
        with pytest.raises(error, match="no, you may not") as raised:
            await ask(model)
        assert what_to_do in str(raised.value)
        assert server.url in str(raised.value)
        assert "small" in str(raised.value)
    assert len(server.asked) == 1


async def test_an_account_with_nothing_left_is_not_tried_again() -> None:
    body = b'{"error": {"message": "You exceeded your current quota", "code": "insufficient_quota"}}'
    async with model_of(lambda asked: web.Response(status=429, body=body)) as (model, server):
        with pytest.raises(EndpointUnusable, match="top it up"):
            await ask(model)
    assert len(server.asked) == 1


async def test_a_message_that_is_no_text_is_refused_before_it_is_sent() -> None:
    async with model_of(lambda asked: "hi") as (model, server):
        with pytest.raises(RequestRefused, match="surrogates"):
            await ask(model, "half a \ud83d")
    assert not server.asked


async def test_retries_used_up_say_what_was_wrong_and_what_to_do() -> None:
    async with model_of(lambda asked: failure(500, "out of memory"), retries=3) as (model, server):
        with pytest.raises(ModelError, match=r"4 attempts.*500: out of memory.*log") as raised:
            await ask(model)
        assert not isinstance(raised.value, RequestRefused)
        assert server.url in str(raised.value)
    assert len(server.asked) == 4


async def test_the_key_is_in_no_error() -> None:
    def script(asked: Asked) -> Any:
        return failure(401, f"Incorrect API key provided: {KEY}")

    async with serving(script) as server:
        address = server.url.replace("http://", "http://user:hunter2@") + f"?key={KEY}"
        async with Endpoint(server.url + f"?key={KEY}", key=KEY, name="lab") as endpoint:
            with pytest.raises(AccessDenied, match='endpoint "lab"') as raised:
                await ask(endpoint.model("small"))
        async with Endpoint(address, retries=0) as endpoint:
            with pytest.raises(AccessDenied) as other:
                await ask(endpoint.model("small"))
    for error in (raised.value, other.value):
        assert error.__cause__ is None
        assert "hunter2" not in str(error)
    assert KEY not in str(raised.value)


def test_a_key_beside_the_one_in_the_address_is_refused() -> None:
    with pytest.raises(EndpointUnusable, match=r"http://127\.0\.0\.1:8000/v1: .*leave one of them out") as raised:
        Endpoint("http://me:hunter2@127.0.0.1:8000/v1", key=KEY)
    assert "hunter2" not in str(raised.value) and KEY not in str(raised.value)


async def test_an_endpoint_that_was_closed_says_so() -> None:
    async with model_of(lambda asked: hang()) as (model, server):
        under_way = asyncio.create_task(ask(model))
        while not server.asked:
            await asyncio.sleep(0.001)
        await model.endpoint.close()
        for call in (under_way, ask(model)):
            with pytest.raises(EndpointUnusable, match="closed"):
                await call


# Calls on record ----------------------------------------------------------------------------------------------------


async def test_a_call_known_already_is_not_sent(tmp_path: Path) -> None:
    calls = Calls(tmp_path / "calls.sqlite")
    async with model_of(lambda asked: f"reply {asked.number}", calls=calls) as (model, server):
        assert (await ask(model, seed=1)).text == "reply 0"
        assert (await ask(model, seed=1)).text == "reply 0"
        for other in (
            ask(model, seed=2),
            ask(model, "bye", seed=1),
            ask(model, seed=1, sampling=Sampling(0.5, max_tokens=101)),
            ask(model, seed=1, sampling=Sampling(0.5, max_tokens=100, format=FORM)),
            ask(model.endpoint.model("large"), seed=1),
            ask(model.endpoint.model("small", stop=["."]), seed=1),
        ):
            assert (await other).text == f"reply {len(server.asked) - 1}"
        assert len(server.asked) == 7
    calls.close()


async def under_way(server: Server, count: int) -> None:
    """Wait until the server was asked so often."""
    while len(server.asked) < count:
        await asyncio.sleep(0.001)


async def test_equal_calls_at_the_same_time_are_sent_once_and_booked_once(tmp_path: Path) -> None:
    calls = Calls(tmp_path / "calls.sqlite", budget=0.8)  # two such calls at their worst would not fit
    async with model_of(lambda asked: "fine", calls=calls, price=TENTH) as (model, server):
        judge = model.endpoint.model("small", role="judge")
        replies = await asyncio.gather(ask(model), ask(judge), ask(model), ask(model))
    assert {reply.text for reply in replies} == {"fine"} and len(server.asked) == 1
    assistant, judged = calls.totals()
    assert (assistant.calls, assistant.cached, assistant.prompt, assistant.completion) == (1, 2, 8, 4)
    assert assistant.cost == pytest.approx(0.012)
    assert (judged.role, judged.calls, judged.cached, judged.cost) == ("judge", 0, 1, 0.0)
    calls.close()


async def test_another_seed_is_another_call(tmp_path: Path) -> None:
    calls = Calls(tmp_path / "calls.sqlite")
    async with model_of(lambda asked: f"reply {asked.body['seed']}", calls=calls) as (model, server):
        replies = await asyncio.gather(*(ask(model, seed=seed) for seed in (1, 2, 1)))
    assert [reply.text for reply in replies] == ["reply 1", "reply 2", "reply 1"]
    assert len(server.asked) == 2
    calls.close()


@pytest.mark.parametrize("kept", ["no calls", "in memory", "not cached"])
async def test_where_nothing_is_cached_equal_calls_are_each_sent(kept: str, tmp_path: Path) -> None:
    calls = {
        "no calls": lambda: None,
        "in memory": lambda: Calls(None),
        "not cached": lambda: Calls(tmp_path / "calls.sqlite", cached=False),
    }[kept]()
    async with model_of(lambda asked: "fine", calls=calls) as (model, server):
        await asyncio.gather(*(ask(model) for _ in range(3)))
    assert len(server.asked) == 3
    if calls is not None:
        assert calls.totals()[0].calls == 3
        calls.close()


async def test_who_gives_up_a_shared_call_leaves_the_others_theirs(tmp_path: Path) -> None:
    calls, go_on = Calls(tmp_path / "calls.sqlite"), asyncio.Event()

    async def script(asked: Asked) -> str:
        await go_on.wait()
        return "fine"

    async with model_of(script, calls=calls) as (model, server):
        first, second = (asyncio.create_task(ask(model)) for _ in range(2))
        await under_way(server, 1)
        first.cancel()
        await asyncio.wait([first])
        go_on.set()
        assert (await second).text == "fine"
    assert first.cancelled() and len(server.asked) == 1
    assert (calls.totals()[0].calls, calls.totals()[0].cached, calls.totals()[0].unanswered) == (1, 1, 0)
    calls.close()


async def test_a_shared_call_ends_with_the_last_who_waits_and_is_booked_by_then(tmp_path: Path) -> None:
    calls = Calls(tmp_path / "calls.sqlite", budget=0.8)  # three such calls at their worst would not fit
    async with model_of(in_turn(lambda asked: hang()), calls=calls, price=TENTH, in_flight=1) as (model, server):
        asking = [asyncio.create_task(ask(model)) for _ in range(2)]
        await under_way(server, 1)
        for each in asking:
            each.cancel()
        await asyncio.wait(asking)
        total = calls.totals()[0]
        assert (total.calls, total.cached, total.unanswered) == (0, 0, 1) and total.cost > 0
        async with asyncio.timeout(5):  # it holds neither its slot nor its reservation
            assert (await ask(model)).text == "fine"
    calls.close()


async def test_the_failure_of_a_shared_call_is_everybodys_and_is_not_kept(tmp_path: Path) -> None:
    calls = Calls(tmp_path / "calls.sqlite")
    async with model_of(in_turn(failure(400, "not that")), calls=calls) as (model, server):
        ends = await asyncio.gather(*(ask(model) for _ in range(3)), return_exceptions=True)
        assert all(isinstance(end, RequestRefused) and "not that" in str(end) for end in ends)
        assert len(server.asked) == 1
        assert (await ask(model)).text == "fine"
    total = calls.totals()[0]
    assert (total.calls, total.cached, total.unanswered) == (1, 0, 1)
    calls.close()


async def test_calls_are_booked_by_role_and_model_with_their_cost() -> None:
    calls = Calls(None)
    async with model_of(in_turn(failure(500)), calls=calls, price=TENTH) as (model, _):
        await ask(model)
        await ask(model.endpoint.model("large", role="judge"))
    assistant, judge = calls.totals()
    assert (assistant.role, assistant.calls, assistant.unanswered) == ("assistant", 1, 1)
    assert (assistant.prompt, assistant.completion) == (8, 4)
    assert assistant.cost == pytest.approx(0.012)
    assert (judge.role, judge.model, judge.calls, judge.unanswered) == ("judge", "large", 1, 0)
    calls.close()


@pytest.mark.parametrize(
    ("fault", "billed"),
    [(failure(500), False), (failure(429), False), (garbled(), True), (reset, True), (lambda asked: hang(), True)],
    ids=["500", "429", "garbled", "reset", "hang"],
)
async def test_what_may_have_been_billed_is_booked_at_its_worst(fault: Any, billed: bool) -> None:
    calls = Calls(None)
    async with model_of(in_turn(fault), calls=calls, price=TENTH, timeout=0.3) as (model, server):
        await ask(model)
    body = server.asked[0].request.content_length or 0
    worst = (body + SAMPLING.max_tokens) * 0.001 if billed else 0.0
    assert calls.totals()[0].cost == pytest.approx(0.012 + worst)
    calls.close()


async def test_the_budget_is_not_passed() -> None:
    calls = Calls(None, budget=1.0)
    async with model_of(lambda asked: completion("hi", prompt=50, completion=50), calls=calls, price=TENTH) as (
        model,
        server,
    ):
        ends = await ask_all(model, 30)
    assert 5 <= len(server.asked) <= 10
    assert sum(isinstance(end, BudgetSpent) for end in ends) == 30 - len(server.asked)
    assert sum(total.cost for total in calls.totals()) <= 1.0
    calls.close()


async def test_who_once_used_more_tokens_than_it_was_given_is_not_underestimated_again() -> None:
    calls = Calls(None, budget=0.85)  # the third of such calls passes it, and would fit by its `max_tokens`
    async with model_of(lambda asked: completion("hi", completion=300), calls=calls, price=TENTH) as (model, server):
        for number in range(2):
            await ask(model, str(number))
        with pytest.raises(BudgetSpent):
            await ask(model, "2")
    assert SAMPLING.max_tokens == 100 and len(server.asked) == 2
    calls.close()


async def test_a_cancelled_call_frees_its_slot_and_its_reservation() -> None:
    calls = Calls(None, budget=0.8)  # two such calls at their worst do not fit side by side

    def script(asked: Asked) -> Any:
        return hang() if asked.number == 0 else "fine"

    async with model_of(script, calls=calls, price=TENTH, in_flight=1) as (model, server):
        stuck, waiting = asyncio.create_task(ask(model)), asyncio.create_task(ask(model))
        while not server.asked:
            await asyncio.sleep(0.001)
        waiting.cancel()
        stuck.cancel()
        await asyncio.wait([stuck, waiting])
        async with asyncio.timeout(5):
            assert (await ask(model)).text == "fine"
    calls.close()
