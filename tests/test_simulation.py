from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given, strategies as st

from duologue.conversation import Conversation, Ending, Message
from duologue.errors import ContextOverflow, DataError, ModelError
from duologue.simulation import Assistant, Window, converse, look_ahead, reach
from duologue.users.base import Utterance
from scripted_world import OPENING, Babbler, Chatterer, Grumbler, babbling, prefix, shuffled

SEEDS = st.integers(0, 2**63 - 1)
TURNS = st.integers(0, 5)
ENDS = st.one_of(st.none(), TURNS)
"""The turn at which a user ends the conversation."""


def roles(conversation: Conversation) -> list[str]:
    return [m.role for m in conversation.messages]


# A conversation


@pytest.mark.parametrize("ending", [Ending.SATISFIED, Ending.LEFT])
async def test_a_conversation_ends_when_the_user_ends_it(ending: Ending) -> None:
    conversation = await converse(babbling(), Chatterer(last=2, ending=ending), seed=0)
    assert conversation.ending is ending
    assert roles(conversation) == ["user", "assistant"] * 2 + ["user"]


async def test_a_conversation_that_nobody_ends_is_cut_after_its_turns() -> None:
    conversation = await converse(babbling(), Chatterer(), seed=0, turns=3)
    assert conversation.ending is Ending.WINDOW
    assert roles(conversation) == ["user", "assistant"] * 3


@given(SEEDS, ENDS, TURNS)
def test_no_user_message_stays_unanswered_but_that_of_a_user_who_ends(seed: int, last: int | None, turns: int) -> None:
    conversation = asyncio.run(converse(babbling(), Chatterer(last), seed=seed, turns=turns))
    answered = all(turn.reply is not None for turn in conversation.turns)
    assert answered == (conversation.ending is Ending.WINDOW)
    assert all(turn.reply is not None for turn in conversation.turns[:-1])


async def test_a_conversation_goes_on_from_where_it_stands() -> None:
    begun = OPENING.replied("how many?")
    conversation = await converse(babbling(), Chatterer(), begun, seed=0, turns=2)
    assert conversation.messages[:2] == begun.messages
    assert len(conversation.turns) == 3


async def test_a_cut_reply_is_marked() -> None:
    conversation = await converse(babbling(Babbler(finish="length")), Chatterer(), seed=0, turns=2)
    assert conversation.cut == (1, 3)


@given(SEEDS, st.integers(0, 2**32))
def test_any_order_of_completion_gives_the_same_conversations(seed: int, order: int) -> None:
    async def play(user: Chatterer, assistant: Assistant) -> list[Conversation]:
        visits = [converse(assistant, user, seed=seed + visit, turns=3) for visit in range(4)]
        branches = [look_ahead(assistant, user, OPENING, "yes", window=2, seed=seed, sample=s) for s in range(4)]
        return await asyncio.gather(*visits, *branches)

    slow = shuffled(order)
    calm = asyncio.run(play(Chatterer(last=2), babbling()))
    hurried = asyncio.run(play(Chatterer(last=2, pauses=slow), babbling(Babbler(pauses=slow))))
    assert hurried == calm


@given(st.text(), SEEDS)
def test_a_system_prompt_never_changes_what_users_see(system: str, seed: int) -> None:
    told, untold, model = Chatterer(), Chatterer(), Babbler()
    asyncio.run(converse(Assistant(model, system=system), told, seed=seed, turns=3))
    asyncio.run(converse(babbling(), untold, seed=seed, turns=3))
    assert told.heard == untold.heard
    assert all(messages[0] == Message("system", system) for messages in model.read)


async def test_without_a_system_prompt_the_model_reads_the_conversation_alone() -> None:
    model = Babbler()
    await babbling(model).reply(OPENING, seed=0)
    assert model.read == [OPENING.messages]


class Mute:
    """A user as somebody may write one at first."""

    def __init__(self, says: Any) -> None:
        self._says = says

    async def speak(self, conversation: Conversation, *, seed: int) -> Any:
        return self._says


class Hasty(Mute):
    def speak(self, conversation: Conversation, *, seed: int) -> Any:
        return self._says


@pytest.mark.parametrize(
    ("user", "fault"),
    [
        (Mute("hello"), "user Mute: `speak` gave 'hello', which is no Utterance: return Utterance('hello'), say"),
        (Mute(None), "user Mute: `speak` gave None, which is no Utterance"),
        (Hasty(Utterance("hello")), "user Hasty: `speak` is not an async function: write `async def`"),
    ],
)
async def test_a_user_that_says_no_utterance_is_named(user: Any, fault: str) -> None:
    with pytest.raises(DataError) as named:
        await converse(babbling(), user, seed=0)
    assert str(named.value).startswith(fault)


async def test_a_user_whose_model_fails_makes_a_failed_conversation() -> None:
    conversation = await converse(babbling(), Chatterer(fails=lambda seed: True), seed=0)
    assert conversation.ending is Ending.FAILED
    assert conversation.reason == "the user's model: no answer from the user's server"


async def test_an_assistant_whose_model_fails_makes_a_failed_conversation() -> None:
    conversation = await converse(babbling(Babbler(error=ModelError("refused"))), Chatterer(), seed=0)
    assert (conversation.ending, conversation.reason) == (Ending.FAILED, "the assistant's model: refused")


async def test_an_overflowed_context_is_an_ending_of_its_own() -> None:
    conversation = await converse(babbling(Babbler(error=ContextOverflow("4,096 tokens"))), Chatterer(), seed=0)
    assert (conversation.ending, conversation.reason) == (Ending.OVERFLOW, "4,096 tokens")


async def test_an_error_that_is_no_models_is_raised() -> None:
    class Broken(Babbler):
        async def reply(self, *args: object, **kwargs: object) -> None:  # type: ignore[override]
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await converse(babbling(Broken()), Chatterer(), seed=0)


# The user's reaction


async def test_a_reaction_is_to_the_last_reply() -> None:
    conversation = await converse(babbling(), Grumbler(), seed=0, turns=3)
    assert conversation.reaction is not None
    assert conversation.reaction.annoyance == 3.0


async def test_a_user_who_shows_no_reaction_leaves_none() -> None:
    assert (await converse(babbling(), Chatterer(), seed=0, turns=3)).reaction is None


@pytest.mark.parametrize("window", [0, 2])
async def test_a_reaction_may_leave_out_the_last_reply_of_a_cut_look_ahead(window: int) -> None:
    seen = await look_ahead(babbling(), Grumbler(), OPENING, "yes", window=window, seed=0)
    blind = await look_ahead(babbling(), Grumbler(), OPENING, "yes", window=window, seed=0, reacts=False)
    assert seen.reaction is not None and blind.reaction is not None
    assert seen.messages == blind.messages
    assert seen.reaction.annoyance - blind.reaction.annoyance == 1.0


async def test_a_user_who_ended_it_has_reacted_to_every_reply() -> None:
    ended = await look_ahead(babbling(), Grumbler(last=2), OPENING, "yes", window=5, seed=0, reacts=False)
    assert ended.reaction is not None
    assert ended.reaction.annoyance == 2.0


# Prefixes


@given(SEEDS, TURNS)
def test_a_prefix_has_its_turns_and_asks_for_a_reply(seed: int, depth: int) -> None:
    reached = asyncio.run(reach(babbling(), Grumbler(), depth=depth, seed=seed))
    assert roles(reached) == ["user", "assistant"] * depth + ["user"]
    assert reached.ending is Ending.OPEN
    assert reached.reaction is None


@given(SEEDS, TURNS, TURNS)
def test_a_shallow_prefix_is_the_beginning_of_a_deep_one(seed: int, one: int, other: int) -> None:
    shallow, deep = (asyncio.run(reach(babbling(), Chatterer(), depth=d, seed=seed)) for d in sorted((one, other)))
    assert deep.messages[: len(shallow.messages)] == shallow.messages


@pytest.mark.parametrize("depth", [2, 3, 7])
async def test_a_user_who_ends_earlier_leaves_their_last_question(depth: int) -> None:
    reached = await reach(babbling(), Chatterer(last=2), depth=depth, seed=0)
    assert roles(reached) == ["user", "assistant", "user"]
    assert reached.ending is Ending.OPEN


async def test_a_prefix_that_failed_says_so() -> None:
    reached = await reach(babbling(Babbler(error=ModelError("refused"))), Chatterer(), depth=2, seed=0)
    assert reached.ending is Ending.FAILED


@pytest.mark.parametrize(
    ("user", "model", "why"),
    [
        (Chatterer(last=0), Babbler(), "the user ended it before any reply"),
        (Chatterer(), Babbler(error=ContextOverflow("too long")), "too long"),
    ],
)
async def test_a_conversation_without_a_reply_is_no_prefix(user: Chatterer, model: Babbler, why: str) -> None:
    reached = await reach(babbling(model), user, depth=2, seed=0)
    assert (reached.ending, reached.reason) == (Ending.FAILED, why)


def test_a_truncated_conversation_is_open_and_keeps_what_was_cut_in_it() -> None:
    conversation = OPENING.replied("a", cut=True).said("b").replied("c", cut=True).ended(Ending.WINDOW)
    assert conversation.truncated(3) == Conversation(conversation.messages[:3], cut=(1,))


# Looking ahead


@given(SEEDS, TURNS, st.integers(0, 4))
def test_a_window_counts_turns_not_messages(seed: int, turns: int, window: int) -> None:
    begun = prefix(turns)
    future = asyncio.run(look_ahead(babbling(), Chatterer(), begun, "yes", window=window, seed=seed))
    assert future.messages[: len(begun.messages)] == begun.messages
    assert future.messages[len(begun.messages)] == Message("assistant", "yes")
    assert roles(future)[len(begun.messages) + 1 :] == ["user", "assistant"] * window
    assert future.ending is Ending.WINDOW


async def test_a_window_of_0_judges_the_reply_and_buys_nothing() -> None:
    user, model = Chatterer(), Babbler()
    future = await look_ahead(babbling(model), user, OPENING, "yes", window=0, seed=0)
    assert future.messages == OPENING.replied("yes").messages
    assert not user.heard and not model.read


async def test_a_full_window_plays_to_the_users_end() -> None:
    future = await look_ahead(babbling(), Chatterer(last=6), OPENING, "yes", window="full", seed=0)
    assert future.ending is Ending.SATISFIED
    assert len(future.turns) == 7


@pytest.mark.parametrize("limit", [1, 4])
async def test_a_full_window_ends_at_the_limit_on_turns_in_all(limit: int) -> None:
    future = await look_ahead(babbling(), Chatterer(), OPENING, "yes", window="full", seed=0, turn_limit=limit)
    assert future.ending is Ending.WINDOW
    assert len(future.turns) == limit


async def test_a_look_ahead_knows_what_it_shares_with_its_siblings() -> None:
    begun = prefix(2)
    future = await look_ahead(babbling(), Chatterer(), begun, "yes", window=2, seed=0, cut=True)
    assert future.shared == len(begun.messages)
    assert future.cut == (len(begun.messages),)


async def seeds_of(reply: str, *, seed: int = 0, sample: int = 0, window: Window = 3) -> tuple[set[int], set[int]]:
    """The seeds of the user's draws and of the assistant's, in one look-ahead."""
    user, model = Chatterer(), Babbler()
    await look_ahead(babbling(model), user, OPENING, reply, window=window, seed=seed, sample=sample)
    return set(user.seeds), set(model.seeds)


@given(SEEDS, st.text(), st.text())
def test_candidates_meet_the_same_user_and_different_assistants(seed: int, one: str, other: str) -> None:
    user, assistant = asyncio.run(seeds_of(one, seed=seed))
    again, rival = asyncio.run(seeds_of(other, seed=seed))
    assert user == again
    assert (assistant == rival) == (one == other)
    assert one == other or not assistant & rival


async def test_every_turn_and_sample_is_a_draw_of_its_own() -> None:
    users, assistants = zip(*[await seeds_of("yes", sample=sample) for sample in range(4)], strict=True)
    assert len(set().union(*users, *assistants)) == 4 * (3 + 3)


@given(SEEDS, TURNS)
def test_what_happens_next_is_never_a_draw_that_scored_a_candidate(seed: int, turns: int) -> None:
    begun = prefix(turns)
    scoring, going_on = (Chatterer(), Babbler()), (Chatterer(), Babbler())

    async def play() -> None:
        for sample in range(3):
            await look_ahead(babbling(scoring[1]), scoring[0], begun, "yes", window=3, seed=seed, sample=sample)
        for purpose in ("conversation", "continuation", "evaluation"):
            await converse(
                babbling(going_on[1]), going_on[0], begun.replied("yes"), seed=seed, turns=3, purpose=purpose
            )
        await reach(babbling(going_on[1]), going_on[0], depth=turns + 3, seed=seed)

    asyncio.run(play())
    scored = {*scoring[0].seeds, *scoring[1].seeds}
    assert scored.isdisjoint(going_on[0].seeds) and scored.isdisjoint(going_on[1].seeds)
    assert len(scored) == 3 * (3 + 3)
