"""Reading a conversation: what each reply asks or guesses, and what the user has told so far.

Users, scripted assistants and figures all read it here, from the texts alone, so a conversation can be taken
up anywhere and may hold any text:

* A reply is its first `is it [a] WORD` with a known word; whatever else it says is ignored, so listing guesses
  gains nothing. A reply without one is nonsense. Case, spacing and missing marks do not matter.
* A user message tells every attribute it names ("big", "not big"). Where it follows a question and does not
  name that attribute, its first sentence answers: "no" or "not" for no; "yes", "right" or "it is" for yes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from duologue.conversation import Message
from duologue.tasks.twenty_questions.objects import ATTRIBUTE_INDEX, ATTRIBUTES, OBJECT_INDEX, objects_with

_IS_IT = re.compile(r"\bis\s+it\s+(?:an?\s+)?([a-z]+)")
_FACT = re.compile(rf"(\bnot\s+)?\b({'|'.join(ATTRIBUTES)})\b")
_NO = re.compile(r"\b(?:no|not)\b")
_YES = re.compile(r"\b(?:yes|right|it is)\b")
_END = re.compile(r"[.?!]")

READINGS = 1 << 16
"""Texts whose reading is remembered."""


class Move(NamedTuple):
    """What a reply does: it asks about an attribute, or guesses an object."""

    guess: bool
    target: int
    """Of the attribute, or of the object."""


class Known(NamedTuple):
    """What a conversation has told so far; all are sets."""

    said: int = 0
    """Attributes whose value was told."""
    values: int = 0
    """Those of them that are true."""
    asked: int = 0
    """Attributes asked about."""
    guessed: int = 0
    """Objects guessed."""

    @property
    def possible(self) -> int:
        """The objects that agree with all that was told and were not guessed."""
        return objects_with(self.said, self.values) & ~self.guessed


class Step(NamedTuple):
    """One reply, with what was known before it."""

    known: Known
    move: Move | None
    """None where the reply is nonsense."""

    @property
    def repeats(self) -> bool:
        """Whether it asks for what was told, or guesses what was guessed."""
        if self.move is None:
            return False
        return bool((self.known.guessed if self.move.guess else self.known.said) >> self.move.target & 1)


class Story(NamedTuple):
    """A conversation as read: its replies in order, and what is known at its end."""

    steps: tuple[Step, ...]
    known: Known


def follow(messages: Sequence[Message]) -> Story:
    """Read messages; a system prompt, and replies before the first user message, are passed over."""
    known, steps, asked = Known(), list[Step](), None
    begun = False
    for message in messages:
        if message.role == "user":
            known, asked, begun = _hear(known, asked, message.content), None, True
        elif message.role == "assistant" and begun:
            asked = read_reply(message.content)
            steps.append(Step(known, asked))
            known = _after(known, asked)
    return Story(tuple(steps), known)


@lru_cache(maxsize=READINGS)
def read_reply(text: str) -> Move | None:
    """The question or guess that a reply makes; None for nonsense."""
    for word in _IS_IT.findall(text.lower()):
        if word in ATTRIBUTE_INDEX:
            return Move(False, ATTRIBUTE_INDEX[word])
        if word in OBJECT_INDEX:
            return Move(True, OBJECT_INDEX[word])
    return None


@lru_cache(maxsize=READINGS)
def read_facts(text: str) -> tuple[int, int]:
    """The attributes that a user message names, and those of them it says are true."""
    said = values = 0
    for negation, name in _FACT.findall(text.lower()):
        bit = 1 << ATTRIBUTE_INDEX[name]
        said |= bit
        values = values & ~bit if negation else values | bit
    return said, values


@lru_cache(maxsize=READINGS)
def read_answer(text: str) -> bool | None:
    """Yes, no, or neither."""
    first = _END.split(text.lower(), maxsplit=1)[0]
    if _NO.search(first):
        return False
    return True if _YES.search(first) else None


def _after(known: Known, move: Move | None) -> Known:
    if move is None:
        return known
    said, values, asked, guessed = known
    if move.guess:
        return Known(said, values, asked, guessed | 1 << move.target)
    return Known(said, values, asked | 1 << move.target, guessed)


def _hear(known: Known, asked: Move | None, text: str) -> Known:
    said, values = read_facts(text)
    if asked is not None and not asked.guess and not said >> asked.target & 1:
        answer = read_answer(text)
        if answer is not None:
            said |= 1 << asked.target
            values |= int(answer) << asked.target
    if not said:
        return known
    return Known(known.said | said, known.values & ~said | values, known.asked, known.guessed)
