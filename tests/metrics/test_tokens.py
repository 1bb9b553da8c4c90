from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, strategies as st

from duologue.conversation import Conversation
from duologue.metrics.tokens import tokens
from scripted_world import GOAL, prefix

HISTORY = prefix(3)


def branched(reply: str) -> Conversation:
    """A look-ahead of one turn: 7 messages shared, then reply, user, reply."""
    future = HISTORY.replied(reply).said("12345").replied("123")
    return Conversation(future.messages, shared=len(HISTORY.messages))


async def cost(conversation: Conversation, **options: Any) -> float | None:
    return (await tokens(len, **options)(conversation, GOAL)).value


async def test_the_cost_is_the_rate_times_what_the_user_reads_and_writes() -> None:
    conversation = Conversation().said("1234").replied("123456")
    assert await cost(conversation, rate=0.01) == pytest.approx(0.10)


async def test_the_cost_never_exceeds_its_cap() -> None:
    assert await cost(branched("x" * 10_000)) == 1.0
    assert await cost(branched("x" * 10_000), cap=0.3) == 0.3


async def test_the_history_that_candidates_share_costs_nothing() -> None:
    assert await cost(branched("12"), rate=0.01) == pytest.approx(0.01 * (2 + 5 + 3))


async def test_the_whole_conversation_can_be_counted() -> None:
    shared = sum(len(m.content) for m in HISTORY.messages)
    assert await cost(branched("12"), rate=0.001, since="start") == pytest.approx(0.001 * (shared + 10))


async def test_both_readings_agree_on_a_conversation_that_shares_nothing() -> None:
    conversation = Conversation(branched("12").messages)
    assert await cost(conversation, since="start") == await cost(conversation, since="branch")


async def test_the_assistants_words_alone_can_be_counted() -> None:
    assert await cost(branched("12"), rate=0.01, of="assistant") == pytest.approx(0.01 * (2 + 3))


async def test_a_turn_can_have_a_price_of_its_own() -> None:
    assert await cost(branched("12"), rate=0.0, turn_rate=0.1) == pytest.approx(0.2)


@given(st.text(max_size=50), st.text(max_size=50))
async def test_a_longer_reply_never_costs_less(reply: str, more: str) -> None:
    short, long = await cost(branched(reply)), await cost(branched(reply + more))
    assert short is not None and long is not None
    assert short <= long


async def test_an_empty_conversation_costs_nothing() -> None:
    assert await cost(Conversation()) == 0.0


@pytest.mark.parametrize("wrong", [{"of": "user"}, {"since": "always"}])
def test_a_reading_it_does_not_have_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match='`of` is "both" or "assistant"'):
        tokens(len, **wrong)
