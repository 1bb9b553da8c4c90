"""The user: their device does not work, they answer what they are asked, try what they are told, and lose patience.

They hold no state: whatever they remember is read off the conversation. A reply is taken so:
- what helps satisfies, a fix or, where only a person helps, a hand-over;
- a fix that does not help costs their time (annoyance +1); they try two, or three, and reveal nothing;
- a hand-over where a fix would have helped ends it: they leave, let down (+2);
- a question is answered for the first two slots it names that they had not told; naming one that they had
  annoys (+1 a reply);
- anything else, the empty reply too, is met with "what ?" (+1).
They leave at the limit of annoyance, at one fix too many, or when it takes too many turns.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from duologue.conversation import Conversation, Ending, Reaction, Request
from duologue.errors import DataError, nearest
from duologue.seeding import generator
from duologue.tasks.support.behaviours import (
    PUSHED_BACK,
    WITHHELD,
    Deviation,
    check,
    deviation,
    helps,
    told_wrong,
)
from duologue.tasks.support.language import Heard, listen
from duologue.tasks.support.remedies import PERSON, SLOTS, VALUES
from duologue.tasks.support.wording import TRAIN, UNSEEN, Wording
from duologue.users.base import UserMaker, Utterance
from duologue.users.behaviours import Behaviour, Scheduled
from duologue.users.scripted import spaced

REPEATED, USELESS, NEEDLESS = 1.0, 1.0, 2.0
"""Annoyance at a question for what was told, and at nonsense; at a fix that does not help; at a needless hand-over."""


@dataclass(frozen=True, slots=True)
class Profile:
    """A user's habits, patience and wording."""

    wording: Wording = TRAIN
    forgives: int = 1
    """Fixes that do not help, after which they stay."""
    turns: int = 6
    """Replies after which they leave."""
    limit: float = 3.0
    """Annoyance at which they leave."""
    answers: int = 2
    """Slots they answer a question."""
    volunteers: int = 0
    """Slots they add to an answer unasked."""


@dataclass(frozen=True, slots=True)
class State:
    """What a user makes of a conversation."""

    last: Heard | None
    """The last reply; None before the first."""
    annoyance: float
    satisfied: bool
    let_down: bool
    """Handed over to a person without need."""
    leaving: bool
    """For that reason or another."""


def read(conversation: Conversation, request: Request, profile: Profile, other: Deviation | None = None) -> State:
    """The state of a user after a conversation: a pure function of it.

    Args:
        other: what their next message does otherwise.
    """
    heard = listen(conversation)
    if not heard:
        return State(None, 0.0, False, False, False)
    last = heard[-1]
    annoyance = sum(_annoys(each, request) for each in heard)
    refuses = other is not None and other.behaviour is Behaviour.PUSHES_BACK
    satisfied = helps(last, request) and not refuses
    let_down = last.reading.remedy == PERSON and not helps(last, request) and not told_wrong(last.told, request)
    useless = sum(each.reading.fix is not None and not helps(each, request) for each in heard)
    enough = annoyance >= profile.limit or useless > profile.forgives or len(heard) >= profile.turns
    return State(last, annoyance, satisfied, let_down, (enough or let_down) and not satisfied and not refuses)


def _annoys(heard: Heard, request: Request) -> float:
    if helps(heard, request):
        return 0.0
    if heard.reading.remedy is not None:
        return NEEDLESS if heard.reading.remedy == PERSON else USELESS
    return REPEATED if heard.repeats or not heard.reading.asked else 0.0


@dataclass(frozen=True, slots=True)
class SupportUser:
    """Someone whose device does not work, bound to a request and a profile."""

    request: Request
    profile: Profile = Profile()
    scheduled: Scheduled | None = None

    async def speak(self, conversation: Conversation, *, seed: int) -> Utterance:
        """The next message; SATISFIED after what helps, LEFT when they give up."""
        other = self._other(conversation)
        state = read(conversation, self.request, self.profile, other)
        wording = self.profile.wording
        voice = Voice(wording, self._slots(other), random.Random(seed))
        if state.satisfied:
            handed_over = state.last is not None and state.last.reading.remedy == PERSON
            return Utterance(voice.any_of(wording.waiting if handed_over else wording.thanks), Ending.SATISFIED)
        if state.leaving:
            return Utterance(voice.any_of(wording.let_down if state.let_down else wording.farewells), Ending.LEFT)
        match other:
            case Deviation(behaviour=Behaviour.WITHHOLDS):
                return Utterance(WITHHELD)
            case Deviation(behaviour=Behaviour.PUSHES_BACK):
                return Utterance(PUSHED_BACK)
            case Deviation(behaviour=Behaviour.CONTRADICTS, slot=slot, value=value):
                contradiction = voice.answer([slot], {slot: value})
                return Utterance(spaced(f"{self._say(state.last, voice)} {contradiction}"))
            case _:
                return Utterance(self._say(state.last, voice))

    def react(self, conversation: Conversation) -> Reaction:
        """What they think of the last reply."""
        state = read(conversation, self.request, self.profile, self._other(conversation))
        return Reaction(state.satisfied, state.annoyance, self.profile.limit, state.leaving)

    def behaving(self, scheduled: Scheduled) -> SupportUser:
        """The same user, who from a message on behaves so.

        Raises:
            RecipeError: they cannot behave so.
        """
        match check(scheduled).behaviour:
            case Behaviour.IMPATIENT:
                profile = replace(self.profile, turns=min(self.profile.turns, scheduled.turn + 1))
            case Behaviour.LEAVES:
                profile = replace(self.profile, turns=min(self.profile.turns, max(scheduled.turn, 1)))
            case _:
                profile = self.profile
        return replace(self, profile=profile, scheduled=scheduled)

    @property
    def _truth(self) -> Mapping[str, str]:
        return self.request.facts["slots"]

    def _other(self, conversation: Conversation) -> Deviation | None:
        if self.scheduled is None:
            return None
        return deviation(listen(conversation), self.request, self.scheduled)

    def _slots(self, other: Deviation | None) -> Mapping[str, str]:
        """What this message says of each slot."""
        if other is None or other.behaviour is not Behaviour.WRONG_FACT:
            return self._truth
        return {**self._truth, other.slot: other.value}

    def _say(self, last: Heard | None, voice: Voice) -> str:
        """What they say to a reply that neither satisfies them nor makes them leave."""
        if last is None:
            return voice.opening(self.request.facts["mentions"])
        if last.reading.remedy is not None:
            failed = voice.failed() if last.reading.fix is not None else ""
            return spaced(f"{failed} {voice.correction(told_wrong(last.told, self.request))}")
        if last.reading.asked:
            return self._answer(last, voice)
        return voice.any_of(self.profile.wording.puzzled)

    def _answer(self, last: Heard, voice: Voice) -> str:
        asked = last.reading.asked
        fresh = [slot for slot in asked if slot not in last.told][: self.profile.answers]
        if fresh:
            unsaid = [slot for slot in SLOTS if slot not in last.told and slot not in fresh]
            fresh += voice.rng.sample(unsaid, min(self.profile.volunteers, len(unsaid)))
        known = [slot for slot in asked if slot in last.told]
        return spaced(f"{voice.answer(fresh)} {voice.again(known[0]) if known else ''}")


@dataclass(frozen=True, slots=True)
class Voice:
    """One message's words: a wording, what it says of each slot, and this message's luck."""

    wording: Wording
    slots: Mapping[str, str]
    rng: random.Random

    def any_of(self, templates: Sequence[str]) -> str:
        """One of several templates."""
        return templates[int(self.rng.random() * len(templates))]

    def opening(self, mentions: Sequence[str]) -> str:
        """The first message: device and symptom, and what else they mention."""
        facts = [slot for slot in mentions if slot not in ("device", "symptom")]
        told = f"{self._pieces(self.rng.sample(facts, len(facts)))} ." if facts else ""
        return spaced(f"{self.any_of(self.wording.openings).format_map(self.slots)} {told}")

    def answer(self, slots: Sequence[str], values: Mapping[str, str] | None = None) -> str:
        """What is so of some slots; empty for none."""
        return self.any_of(self.wording.answers).format(all=self._pieces(slots, values)) if slots else ""

    def again(self, slot: str) -> str:
        """That they told a slot before."""
        return self.any_of(self.wording.again).format(piece=self._pieces([slot]))

    def failed(self) -> str:
        """That a fix did not help."""
        return self.any_of(self.wording.failed).format_map(self.slots)

    def correction(self, slots: Sequence[str]) -> str:
        """What they told wrong, as it is; empty for none."""
        return self.any_of(self.wording.corrections).format(all=self._pieces(slots)) if slots else ""

    def _pieces(self, slots: Iterable[str], values: Mapping[str, str] | None = None) -> str:
        given = values or self.slots
        said = [self.any_of(self.wording.pieces[slot]).format(value=given[slot]) for slot in slots]
        return " and ".join(part for part in (" , ".join(said[:-1]), *said[-1:]) if part)


def _usual(seed: int, wording: Wording) -> Profile:
    rng = generator(seed, "support", "profile")
    return Profile(wording, forgives=rng.choice((1, 1, 2)), turns=rng.randint(6, 8))


def _unusual(seed: int, wording: Wording) -> Profile:
    rng = generator(seed, "support", "profile")
    return Profile(
        wording,
        forgives=rng.choice((0, 3)),
        turns=rng.choice((5, 9, 10)),
        limit=rng.choice((2.0, 4.0)),
        answers=rng.choice((1, 3)),
        volunteers=rng.choice((0, 1)),
    )


PROFILES: dict[str, UserMaker] = {
    "train": lambda request, seed: SupportUser(_checked(request), _usual(seed, TRAIN)),
    "unseen-habits": lambda request, seed: SupportUser(_checked(request), _unusual(seed, TRAIN)),
    "unseen-wording": lambda request, seed: SupportUser(_checked(request), _usual(seed, UNSEEN)),
    "unseen": lambda request, seed: SupportUser(_checked(request), _unusual(seed, UNSEEN)),
}


def _checked(request: Request) -> Request:
    """The request itself.

    Raises:
        DataError: its facts do not say what is so of every slot, or what the first message mentions.
    """
    slots: Any = request.facts.get("slots")
    if not isinstance(slots, Mapping) or set(cast("Mapping[str, Any]", slots)) != set(SLOTS):
        raise DataError(f'support: the request\'s facts need "slots" with {", ".join(SLOTS)}')
    for slot, value in cast("Mapping[str, Any]", slots).items():
        if value not in VALUES[slot]:
            raise DataError(f'support: no {slot} "{value}"{nearest(str(value), VALUES[slot])}')
    mentions: Any = request.facts.get("mentions")
    least = {"device", "symptom"}
    if not isinstance(mentions, list | tuple) or not least <= set(cast("list[Any]", mentions)) <= set(SLOTS):
        raise DataError('support: the facts need "mentions": the slots told at first, device and symptom among them')
    return request
