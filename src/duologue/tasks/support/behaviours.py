"""How users of support behave when they do not just answer: see `duologue.users.behaviours`.

withholds      a question is met with "never mind that ."
contradicts    beside what they say, a fact they told gets another value
wrong-fact     a fact they tell for the first time gets a wrong value
pushes-back    what helps, a fix or a hand-over, is met with "that is not right ."
impatient, leaves   their patience ends one reply after the turn, or at it

They cannot change their goal: there is one device. What they told wrong they put right after the next fix or
hand-over that does not help.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from duologue.conversation import Request
from duologue.errors import RecipeError
from duologue.seeding import generator
from duologue.tasks.support.language import Heard
from duologue.tasks.support.remedies import FACTS, remedy
from duologue.users.behaviours import Behaviour, Scheduled, first_message

WITHHELD = "never mind that ."
PUSHED_BACK = "that is not right ."


@dataclass(frozen=True, slots=True)
class Deviation:
    """What one message does otherwise."""

    behaviour: Behaviour
    slot: str = ""
    value: str = ""
    """What is said of the slot in place of what is so."""


def check(scheduled: Scheduled) -> Scheduled:
    """The behaviour itself.

    Raises:
        RecipeError: a user of support cannot behave so.
    """
    if scheduled.behaviour is Behaviour.CHANGES_GOAL:
        others = ", ".join(each for each in Behaviour if each is not Behaviour.CHANGES_GOAL)
        raise RecipeError(f"these users cannot change their goal; what they can: {others}")
    return scheduled


def deviation(heard: Sequence[Heard], request: Request, scheduled: Scheduled) -> Deviation | None:
    """What the message after `heard`, all replies so far, does otherwise; None where it does not."""
    if first_message(scheduled, _could(heard, request, scheduled.behaviour)) != len(heard):
        return None
    slots = _open_to(scheduled.behaviour, heard, request)
    if not slots:
        return Deviation(scheduled.behaviour)
    rng = generator(0, "support", "behaviour", request.text)
    slot = rng.choice(slots)
    others = [value for value in FACTS[slot] if value != request.facts["slots"][slot]]
    return Deviation(scheduled.behaviour, slot, rng.choice(others))


def helps(heard: Heard, request: Request) -> bool:
    """Whether a reply puts forward what helps."""
    return heard.reading.remedy is not None and heard.reading.remedy == remedy(request.facts["slots"])


def told_wrong(told: Mapping[str, str], request: Request) -> list[str]:
    """The facts that a user told otherwise than they are."""
    slots = request.facts["slots"]
    return [slot for slot in FACTS if told.get(slot, slots[slot]) != slots[slot]]


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
            return last is not None and helps(last, request)
        case Behaviour.WRONG_FACT | Behaviour.CONTRADICTS:
            return bool(_open_to(behaviour, heard, request))
        case Behaviour.IMPATIENT | Behaviour.LEAVES | Behaviour.CHANGES_GOAL:
            return False


def _open_to(behaviour: Behaviour, heard: Sequence[Heard], request: Request) -> list[str]:
    """The facts that a message could say otherwise."""
    slots: Sequence[str] = ()
    if behaviour is Behaviour.WRONG_FACT:
        slots = _asked_first(heard[-1]) if heard else request.facts["mentions"]
    elif behaviour is Behaviour.CONTRADICTS and heard:
        slots = tuple(heard[-1].told)
    return [slot for slot in FACTS if slot in slots]


def _asked_first(last: Heard) -> tuple[str, ...]:
    """The slots that a reply asks for and that were not told."""
    return tuple(slot for slot in last.reading.asked if slot not in last.told)
