from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given, strategies as st

from duologue.conversation import (
    Conversation,
    Ending,
    Goal,
    Message,
    Reaction,
    Request,
    Turn,
    goal_row,
    message_rows,
    parse_goal,
    parse_messages,
)
from duologue.errors import DataError

REACTION = Reaction(satisfied=False, annoyance=1.0, limit=4.0, leaving=False)


def test_continuing_a_conversation_leaves_it_as_it_was() -> None:
    conversation = Conversation().said("hello")
    left, right = conversation.replied("one"), conversation.replied("two")
    assert conversation.replies == ()
    assert (left.replies, right.replies) == (("one",), ("two",))


@pytest.mark.parametrize("value", [Message("user", "hi"), Conversation(), Request("r"), Goal("g", Request("r"))])
def test_values_cannot_be_changed(value: Any) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(value, dataclasses.fields(value)[0].name, "other")


def test_a_turn_is_a_user_message_with_its_reply() -> None:
    conversation = Conversation().said("a").replied("b").said("c")
    assert conversation.turns == (Turn("a", "b"), Turn("c", None))


def test_an_empty_reply_answers_its_turn() -> None:
    assert Conversation().said("a").replied("").turns == (Turn("a", ""),)


def test_a_cut_reply_is_known_by_its_index() -> None:
    conversation = Conversation().said("a").replied("b").said("c").replied("d", cut=True)
    assert conversation.cut == (3,)


def test_a_user_who_ends_it_has_the_last_word() -> None:
    conversation = Conversation().said("a").replied("b").said("thanks", ending=Ending.SATISFIED)
    assert conversation.ending is Ending.SATISFIED
    assert conversation.turns[-1].reply is None


def test_a_reaction_is_to_the_last_message_alone() -> None:
    conversation = dataclasses.replace(Conversation().said("a").replied("b"), reaction=REACTION)
    assert conversation.said("c").reaction is None
    assert conversation.replied("c").reaction is None


MESSAGES = st.lists(st.builds(Message, st.sampled_from(["user", "assistant"]), st.text()), max_size=3).map(tuple)


@given(MESSAGES, MESSAGES)
def test_a_digest_stands_for_the_messages(one: tuple[Message, ...], other: tuple[Message, ...]) -> None:
    assert (Conversation(one).digest == Conversation(other).digest) == (one == other)


def test_a_digest_leaves_out_how_the_conversation_ended() -> None:
    conversation = Conversation().said("a")
    assert conversation.ended(Ending.FAILED, "no answer").digest == conversation.digest


@pytest.mark.parametrize("text", ["", "  \n"])
def test_a_goal_without_a_request_is_refused_by_name(text: str) -> None:
    with pytest.raises(DataError, match="goal 'g7' has no request"):
        Goal("g7", Request(text))


def test_messages_are_read_from_rows() -> None:
    rows = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": ""}]
    assert parse_messages(rows, "line 1") == (Message("user", "hi"), Message("assistant", ""))


@pytest.mark.parametrize(
    "row", [{"role": "robot", "content": "x"}, {"role": "user"}, {"role": "user", "content": 3}, "hello", None]
)
def test_a_row_that_is_no_message_is_named_by_its_place(row: Any) -> None:
    with pytest.raises(DataError, match="line 4: message 2 must have a role among system, user, assistant"):
        parse_messages([{"role": "user", "content": "hi"}, row], "line 4")


@pytest.mark.parametrize("rows", ["hello", {"role": "user", "content": "hi"}, None, 3])
def test_messages_that_are_no_list_are_refused(rows: Any) -> None:
    with pytest.raises(DataError, match="line 4: messages must be a list"):
        parse_messages(rows, "line 4")


def test_rows_are_read_back_as_the_messages_they_were() -> None:
    said = Conversation().said("hello").replied("how many ?").said("two .")

    assert parse_messages(message_rows(said.messages), "here") == said.messages
    assert said.replied_at == (1,)


def test_satisfaction_falls_to_nought_at_the_limit_and_stays_there() -> None:
    felt = [Reaction(False, annoyance, limit=4.0, leaving=False).satisfaction for annoyance in (0.0, 1.0, 4.0, 9.0)]

    assert felt == [1.0, 0.75, 0.0, 0.0]


WORDS = st.text(min_size=1).filter(str.strip)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(WORDS, WORDS, st.dictionaries(st.text(), JSON, max_size=3), st.lists(WORDS, max_size=3), JSON)
def test_a_goal_in_its_ready_form_is_that_goal(
    name: str, text: str, facts: dict[str, Any], pieces: list[str], reference: Any
) -> None:
    goal = Goal(name, Request(text, facts, tuple(pieces)), reference)
    assert parse_goal(goal_row(goal), "here") == goal


def test_facts_and_pieces_may_stand_beside_a_request_that_is_a_text() -> None:
    flat = {"id": 3, "request": "tea", "facts": {"kind": "green"}, "pieces": ["tea", "green"]}
    assert parse_goal(flat, "here") == Goal("3", Request("tea", {"kind": "green"}, ("tea", "green")))


def test_a_goal_without_an_id_is_named_by_its_content_and_not_by_its_split() -> None:
    first, again, other = (
        parse_goal(row, "here").id
        for row in ({"request": "tea"}, {"request": "tea", "split": "test"}, {"request": "tea", "reference": 1})
    )
    assert first == again != other


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ({}, "here: the goal has no request"),
        ({"request": {"facts": {}}}, "here: the goal has no request"),
        ({"request": "tea", "facts": ["green"]}, "here: the goal's facts must be an object"),
        ({"request": "tea", "pieces": "green"}, "here: the goal's pieces must be a list of texts"),
        ({"request": "tea", "id": True}, "here: the goal's id must be a text or a number; it is True"),
        ({"request": "tea", "refrence": "green"}, 'here: a goal has no "refrence"; did you mean "reference"?'),
        ({"request": {"text": "tea", "fact": {}}}, 'here: a goal\'s request has no "fact"; did you mean "facts"?'),
        ({"request": {"text": "tea"}, "facts": {}}, 'whose request is an object has no "facts"; known: id, reference'),
    ],
)
def test_what_is_no_goal_is_named_with_its_place(row: dict[str, Any], sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        parse_goal(row, "here")


def test_a_key_without_a_value_says_nothing() -> None:
    assert parse_goal({"request": "tea", "id": "a", "note": None}, "here") == Goal("a", Request("tea"))
