"""The user: they say part of what they want, answer what they are asked, and have little patience.

They hold no state: whatever they remember is read off the conversation. A reply is taken so:
- a right order satisfies; a wrong one is corrected, once or twice, in one slot (annoyance +0.5);
- a question is answered for the first three slots it names that were not talked about yet; naming a slot
  that was, or that was said not to matter, annoys (+1 a reply);
- anything else, the empty reply too, is met with "what ?" (+1);
- an order with questions beside it is an order.
They leave at the limit of annoyance, at one wrong order too many, or when it takes too many turns.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from duologue.conversation import Conversation, Ending, Reaction, Request
from duologue.errors import DataError, nearest
from duologue.seeding import generator
from duologue.tasks.groceries.behaviours import (
    PUSHED_BACK,
    WITHHELD,
    Deviation,
    change,
    deviation,
    is_right,
)
from duologue.tasks.groceries.language import (
    ANY,
    NAMES,
    SLOTS,
    VALUES,
    Heard,
    Reading,
    changes,
    listed,
    listen,
    matters,
    wrong_slots,
)
from duologue.tasks.groceries.wording import TRAIN, UNSEEN, Wording
from duologue.users.base import UserMaker, Utterance
from duologue.users.behaviours import Behaviour, Scheduled
from duologue.users.scripted import spaced


@dataclass(frozen=True, slots=True)
class Profile:
    """A user's habits, patience and wording."""

    wording: Wording = TRAIN
    corrections: int = 1
    """Wrong orders they forgive."""
    turns: int = 6
    """Replies after which they leave."""
    limit: float = 3.0
    """Annoyance at which they leave."""
    answers: int = 3
    """Slots they answer a question."""
    volunteers: int = 0
    """Slots they add to an answer unasked."""
    corrects: int = 1
    """Slots they correct at once."""


@dataclass(frozen=True, slots=True)
class State:
    """What a user makes of a conversation."""

    said: frozenset[str]
    """Slots they talked about before the last reply."""
    last: Reading | None
    """The last reply; None before the first."""
    annoyance: float
    satisfied: bool
    leaving: bool


def read(conversation: Conversation, request: Request, profile: Profile, other: Deviation | None = None) -> State:
    """The state of a user after a conversation: a pure function of it.

    Args:
        other: what their next message does otherwise.
    """
    heard = listen(conversation)
    if not heard:
        return State(frozenset(), None, 0.0, False, False)
    said, last = heard[-1].said, heard[-1].reading
    right = [is_right(h, request) for h in heard]
    wrong = sum(h.reading.order is not None for h in heard) - sum(right)
    annoyance = sum(map(_annoys, heard, right))
    wants_more = other is not None and other.behaviour in (Behaviour.PUSHES_BACK, Behaviour.CHANGES_GOAL)
    satisfied = right[-1] and not wants_more
    enough = annoyance >= profile.limit or wrong > profile.corrections or len(heard) >= profile.turns
    return State(said, last, annoyance, satisfied, enough and not satisfied and not wants_more)


def _annoys(heard: Heard, right: bool) -> float:
    if heard.reading.order is not None:
        return 0.0 if right else 0.5
    if not heard.reading.asked or not heard.said.isdisjoint(heard.reading.asked):
        return 1.0
    return 0.0


@dataclass(frozen=True, slots=True)
class GroceriesUser:
    """Someone who wants groceries, bound to a request and a profile."""

    request: Request
    profile: Profile = Profile()
    scheduled: Scheduled | None = None

    async def speak(self, conversation: Conversation, *, seed: int) -> Utterance:
        """The next message; SATISFIED after a right order, LEFT when they give up."""
        other = self._other(conversation)
        state = read(conversation, self.request, self.profile, other)
        voice = Voice(self.profile.wording, self._slots(conversation, other), random.Random(seed))
        if state.satisfied:
            return Utterance(voice.any_of(self.profile.wording.thanks), Ending.SATISFIED)
        if state.leaving:
            return Utterance(voice.any_of(self.profile.wording.farewells), Ending.LEFT)
        match other:
            case Deviation(behaviour=Behaviour.WITHHOLDS):
                return Utterance(WITHHELD)
            case Deviation(behaviour=Behaviour.PUSHES_BACK):
                return Utterance(PUSHED_BACK)
            case Deviation(behaviour=Behaviour.CONTRADICTS | Behaviour.CHANGES_GOAL):
                return Utterance(self._otherwise(conversation, other, voice))
            case _:
                return self._say(state, voice)

    def _say(self, state: State, voice: Voice) -> Utterance:
        """What they say to a reply that neither satisfies them nor makes them leave."""
        if state.last is None:
            return Utterance(voice.opening(self.request.facts["mentions"]))
        if state.last.order is not None:
            return Utterance(voice.correction(state.last.order, self.profile.corrects))
        if state.last.asked:
            return Utterance(self._answer(state.last.asked, state.said, voice))
        return Utterance(voice.any_of(self.profile.wording.puzzled))

    def react(self, conversation: Conversation) -> Reaction:
        """What they think of the last reply."""
        state = read(conversation, self.request, self.profile, self._other(conversation))
        return Reaction(state.satisfied, state.annoyance, self.profile.limit, state.leaving)

    def behaving(self, scheduled: Scheduled) -> GroceriesUser:
        """The same user, who from a message on behaves so."""
        match scheduled.behaviour:
            case Behaviour.IMPATIENT:
                profile = replace(self.profile, turns=min(self.profile.turns, scheduled.turn + 1))
            case Behaviour.LEAVES:
                profile = replace(self.profile, turns=min(self.profile.turns, max(scheduled.turn, 1)))
            case _:
                profile = self.profile
        return replace(self, profile=profile, scheduled=scheduled)

    def _other(self, conversation: Conversation) -> Deviation | None:
        if self.scheduled is None:
            return None
        return deviation(listen(conversation), self.request, self.scheduled)

    def _slots(self, conversation: Conversation, other: Deviation | None) -> Mapping[str, str]:
        """What this message says of each slot."""
        wanted = {**self.request.facts["slots"], **changes(conversation)}
        return {**wanted, other.slot: other.value} if other and other.behaviour is Behaviour.WRONG_FACT else wanted

    def _otherwise(self, conversation: Conversation, other: Deviation, voice: Voice) -> str:
        """A message that says another value of a slot: beside the answer to a question, or in place of one."""
        fix = voice.fix(other.slot, other.value)
        if other.behaviour is Behaviour.CHANGES_GOAL:
            return change(voice.slots[other.slot], fix)
        state = read(conversation, self.request, self.profile)
        return spaced(f"{self._say(state, voice).text} {fix} .")

    def _answer(self, asked: Sequence[str], said: frozenset[str], voice: Voice) -> str:
        fresh = [slot for slot in asked if slot not in said][: self.profile.answers]
        if fresh:
            unsaid = [slot for slot in SLOTS if slot not in said and slot not in fresh]
            fresh += voice.sample(unsaid, self.profile.volunteers)
        known = [slot for slot in asked if slot in said]
        return spaced(f"{voice.answer(fresh)} {voice.again(known[0]) if known else ''}")


@dataclass(frozen=True, slots=True)
class Voice:
    """One message's words: a wording, what they want, and this message's luck."""

    wording: Wording
    slots: Mapping[str, str]
    rng: random.Random

    def any_of(self, templates: Sequence[str]) -> str:
        """One of several templates."""
        return templates[int(self.rng.random() * len(templates))]

    def sample(self, slots: Sequence[str], count: int) -> list[str]:
        """Up to `count` of the slots."""
        return self.rng.sample(slots, min(count, len(slots)))

    def opening(self, mentions: Sequence[str]) -> str:
        """The first message: the item, and what else they mention."""
        given = [slot for slot in mentions if self.slots[slot] != ANY]
        noun = " ".join(self.slots[slot] for slot in ("qty", "kind", "item") if slot in given)
        rest = self.sample([slot for slot in given if slot not in ("qty", "kind", "item")], len(given))
        text = self.any_of(self.wording.openings).format(
            noun=noun, rest=" ".join(self._pieces(rest)), all=listed(self._pieces(self.sample(given, len(given))))
        )
        return spaced(f"{text} {self._indifferent(mentions)}")

    def answer(self, slots: Sequence[str]) -> str:
        """What they want of some slots; empty for none."""
        given = [slot for slot in slots if self.slots[slot] != ANY]
        values = self.any_of(self.wording.answers).format(all=listed(self._pieces(given))) if given else ""
        return f"{values} {self._indifferent(slots)}"

    def again(self, slot: str) -> str:
        """That they talked about a slot before."""
        value = self.slots[slot]
        return self.any_of(self.wording.again).format(value=f"any {NAMES[slot]}" if value == ANY else value)

    def correction(self, order: Mapping[str, str], count: int) -> str:
        """Up to `count` wrong slots of an order put right."""
        wrong = self.sample(wrong_slots(order, matters(self.slots)), count)
        fix = self.any_of(self.wording.fixes)
        fixes = listed([fix.format(name=NAMES[slot], value=self.slots[slot]) for slot in wrong])
        return self.any_of(self.wording.corrections).format(all=fixes)

    def fix(self, slot: str, value: str) -> str:
        """That a slot is to have a value."""
        return self.any_of(self.wording.fixes).format(name=NAMES[slot], value=value)

    def _pieces(self, slots: Iterable[str]) -> list[str]:
        return [self.any_of(self.wording.pieces[slot]).format(value=self.slots[slot]) for slot in slots]

    def _indifferent(self, slots: Iterable[str]) -> str:
        return " ".join(
            f"{self.any_of(self.wording.indifferent).format(name=NAMES[slot])} ."
            for slot in slots
            if self.slots[slot] == ANY
        )


def _usual(seed: int, wording: Wording) -> Profile:
    rng = generator(seed, "groceries", "profile")
    return Profile(wording, corrections=rng.choice((1, 1, 2)), turns=rng.randint(6, 9))


def _unusual(seed: int, wording: Wording) -> Profile:
    rng = generator(seed, "groceries", "profile")
    return Profile(
        wording,
        corrections=rng.choice((0, 3)),
        turns=rng.choice((5, 10, 11)),
        limit=rng.choice((2.0, 4.0)),
        answers=rng.choice((1, 2)),
        volunteers=rng.choice((0, 1)),
        corrects=rng.choice((1, 2)),
    )


PROFILES: dict[str, UserMaker] = {
    "train": lambda request, seed: GroceriesUser(_checked(request), _usual(seed, TRAIN)),
    "unseen-habits": lambda request, seed: GroceriesUser(_checked(request), _unusual(seed, TRAIN)),
    "unseen-wording": lambda request, seed: GroceriesUser(_checked(request), _usual(seed, UNSEEN)),
    "unseen": lambda request, seed: GroceriesUser(_checked(request), _unusual(seed, UNSEEN)),
}


def _checked(request: Request) -> Request:
    """The request itself.

    Raises:
        DataError: its facts do not say what is wanted of every slot, or what the first message mentions.
    """
    slots: Any = request.facts.get("slots")
    if not isinstance(slots, Mapping) or set(cast("Mapping[str, Any]", slots)) != set(SLOTS):
        raise DataError(f'groceries: the request\'s facts need "slots" with {", ".join(SLOTS)}')
    for slot, value in cast("Mapping[str, Any]", slots).items():
        if value != ANY and value not in VALUES[slot]:
            raise DataError(f'groceries: no {slot} "{value}"{nearest(str(value), [ANY, *VALUES[slot]])}')
    mentions: Any = request.facts.get("mentions")
    if not isinstance(mentions, list | tuple) or not {"item"} <= set(cast("list[Any]", mentions)) <= set(SLOTS):
        raise DataError('groceries: the request\'s facts need "mentions": the slots said at first, the item among them')
    return request
