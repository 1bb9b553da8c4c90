"""How users of groceries behave when they do not just answer: see `duologue.users.behaviours`.

withholds      a question is met with "never mind that ."
contradicts    a slot they talked about gets another value, which they do not want
changes-goal   "never mind boston , the city is denver .": from then on they want that
wrong-fact     a slot they talk about for the first time gets a wrong value
pushes-back    a right order is met with "that is wrong ."
impatient, leaves   their patience ends one reply after the turn, or at it
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from duologue.conversation import Request
from duologue.seeding import generator
from duologue.tasks.groceries.language import ANY, CHANGE, SLOTS, VALUES, Heard, wrong_slots
from duologue.users.behaviours import Behaviour, Scheduled, first_message

WITHHELD = "never mind that ."
PUSHED_BACK = "that is wrong ."


@dataclass(frozen=True, slots=True)
class Deviation:
    """What one message does otherwise."""

    behaviour: Behaviour
    slot: str = ""
    value: str = ""
    """What is said of the slot in place of what is wanted."""


def change(old: str, fix: str) -> str:
    """The message by which a user changes their mind."""
    return f"{' '.join(CHANGE)} {old} , {fix} ."


def deviation(heard: Sequence[Heard], request: Request, scheduled: Scheduled) -> Deviation | None:
    """What the message after `heard` does otherwise; None where it does not.

    Args:
        heard: all replies so far.
    """
    at = len(heard)
    if first_message(scheduled, _could(heard, request, scheduled.behaviour)) != at:
        return None
    slots = _open_to(scheduled.behaviour, heard, request)
    if not slots:
        return Deviation(scheduled.behaviour)
    rng = generator(0, "groceries", "behaviour", request.text)
    slot = rng.choice(slots)
    return Deviation(scheduled.behaviour, slot, rng.choice([v for v in VALUES[slot] if v != _given(request)[slot]]))


def _could(heard: Sequence[Heard], request: Request, behaviour: Behaviour) -> Iterator[bool]:
    """Of each message up to the next, whether a behaviour could show in it."""
    for at in range(len(heard) + 1):
        yield _possible(heard[:at], request, behaviour)


def _possible(heard: Sequence[Heard], request: Request, behaviour: Behaviour) -> bool:
    last = heard[-1] if heard else None
    match behaviour:
        case Behaviour.WITHHOLDS:
            return last is not None and bool(_asked_first(last))
        case Behaviour.PUSHES_BACK:
            return last is not None and is_right(last, request)
        case Behaviour.WRONG_FACT | Behaviour.CONTRADICTS | Behaviour.CHANGES_GOAL:
            return bool(_open_to(behaviour, heard, request))
        case Behaviour.IMPATIENT | Behaviour.LEAVES:
            return False


def _open_to(behaviour: Behaviour, heard: Sequence[Heard], request: Request) -> list[str]:
    """The slots that a message could say something else of: never the item, nor what does not matter."""
    slots: Sequence[str] = ()
    if behaviour is Behaviour.WRONG_FACT:
        slots = _asked_first(heard[-1]) if heard else request.facts["mentions"]
    elif behaviour in (Behaviour.CONTRADICTS, Behaviour.CHANGES_GOAL) and heard:
        slots = tuple(heard[-1].said)
    given = _given(request)
    return [slot for slot in SLOTS[1:] if slot in slots and slot in given]


def _asked_first(last: Heard) -> tuple[str, ...]:
    """The slots that a reply asks for and that were not talked about."""
    return tuple(slot for slot in last.reading.asked if slot not in last.said)


def is_right(heard: Heard, request: Request) -> bool:
    """Whether a reply orders what is wanted."""
    order = heard.reading.order
    return order is not None and not wrong_slots(order, heard.wants(request.facts["slots"]))


def _given(request: Request) -> Mapping[str, str]:
    return {slot: value for slot, value in request.facts["slots"].items() if value != ANY}
