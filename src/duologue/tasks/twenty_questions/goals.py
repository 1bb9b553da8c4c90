"""Goals: an object, and the facts about it that its user volunteers in the first message.

No object is held out: a model stops guessing what never pays. Held out are combinations of an object and three
volunteered facts: a fifth of them, chosen by a hash, occur in test goals alone. Goals without facts, or with
all eight, have no combination to hold out: there, train and test goals may agree in all but id and seed.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from random import Random

from duologue.conversation import Goal, Request
from duologue.seeding import digest, generator
from duologue.tasks.twenty_questions.objects import ATTRIBUTES, CODES, OBJECTS, phrase

SIZES = {"train": 10_000, "test": 2_500, "demonstration": 10_000}
SHARES: Mapping[str, tuple[float, float, float]] = {
    "train": (0.60, 0.20, 0.20),
    "test": (0.60, 0.20, 0.20),
    "demonstration": (0.35, 0.20, 0.45),
}
"""Shares of goals with no, three and all eight facts volunteered. Volunteered facts are what teaches a model
the objects, so demonstrations have more of them."""

COUNTS = (0, 3, len(ATTRIBUTES))
HELD_OUT = 5
"""One combination in this many is held out."""


@cache
def make_goals(split: str) -> tuple[Goal, ...]:
    """The goals of "train" or "test", or those of the "demonstration"s (of train combinations): always the same."""
    rng = generator(0, "twenty-questions", split)
    goals: list[Goal] = []
    while len(goals) < SIZES[split]:
        for index in rng.sample(range(len(OBJECTS)), len(OBJECTS)):
            goals.append(_goal(split, len(goals) + 1, index, rng))
    return tuple(goals[: SIZES[split]])


def held_out(index: int, attributes: frozenset[int]) -> bool:
    """Whether the combination of an object and some volunteered attributes is for test goals alone."""
    return int(digest((OBJECTS[index], *sorted(attributes))), 16) % HELD_OUT == 0


def _goal(split: str, number: int, index: int, rng: Random) -> Goal:
    count = rng.choices(COUNTS, SHARES[split])[0]
    attributes = rng.sample(range(len(ATTRIBUTES)), count)
    while count == 3 and held_out(index, frozenset(attributes)) != (split == "test"):
        attributes = rng.sample(range(len(ATTRIBUTES)), count)
    facts = tuple(phrase(a, bool(CODES[index] >> a & 1)) for a in attributes)
    name = OBJECTS[index]
    request = Request(_sentence(name, facts), {"object": name, "volunteered": facts})
    return Goal(f"twenty-questions-{split}-{number:05}", request, name)


def _sentence(name: str, facts: tuple[str, ...]) -> str:
    told = f"You say at once that it is {', '.join(facts)}." if facts else "You say nothing about it unasked."
    return f"You are thinking of a {name}; the other has to guess it. {told}"
