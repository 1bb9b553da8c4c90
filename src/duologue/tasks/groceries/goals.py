"""The goals: what is wanted and how much of it the first message says, held out by combination."""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import islice

from duologue.conversation import Goal, Request
from duologue.seeding import generator
from duologue.tasks.groceries.language import ANY, NAMES, SLOTS, VALUES, matters
from duologue.users.scripted import spaced

SIZES = {"train": 10_000, "test": 2_500}
ANY_SHARE = {"kind": 0.6, "pay": 0.5, "time": 0.15}
"""How often a slot does not matter; the others always do."""
DROPPED = (0.25, 0.10, 0.20, 0.25, 0.15, 0.05)
"""How often the first message leaves out 0, 1, … 5 slots."""


@cache
def goals(split: str) -> tuple[Goal, ...]:
    """The goals of "train" or "test", always the same; no combination of values is in both, or twice."""
    return tuple(islice(_goals(split), SIZES[split]))


def held_out(slots: Mapping[str, str]) -> bool:
    """Whether a combination of values is for tests only: one in five."""
    combination = " ".join(slots[slot] for slot in SLOTS)
    return zlib.crc32(combination.encode()) % 5 == 0


def _goals(split: str) -> Iterator[Goal]:
    rng = generator(0, "groceries", split)
    known: set[tuple[str, ...]] = set()
    while True:
        slots = {slot: _value(slot, rng) for slot in SLOTS}
        combination = tuple(slots.values())
        if combination in known or held_out(slots) != (split == "test"):
            continue
        known.add(combination)
        yield _goal(f"groceries-{split}-{len(known):05d}", slots, _mentions(rng))


def _value(slot: str, rng: random.Random) -> str:
    return ANY if rng.random() < ANY_SHARE.get(slot, 0.0) else rng.choice(VALUES[slot])


def _mentions(rng: random.Random) -> tuple[str, ...]:
    (count,) = rng.choices(range(len(DROPPED)), DROPPED)
    dropped = rng.sample(SLOTS[1:], count)
    return tuple(slot for slot in SLOTS if slot not in dropped)


def _goal(goal_id: str, slots: dict[str, str], mentions: tuple[str, ...]) -> Goal:
    reference = matters(slots)
    return Goal(goal_id, Request(_described(slots), {"slots": slots, "mentions": mentions}), reference)


def _described(slots: Mapping[str, str]) -> str:
    given = matters(slots)
    noun = " ".join(given[slot] for slot in ("qty", "kind", "item") if slot in given)
    pay = f"by {given['pay']}" if "pay" in given else ""
    indifferent = " ".join(f"the {NAMES[slot]} does not matter ." for slot in SLOTS if slot not in given)
    return spaced(f"you want {noun} to {given['city']} {given.get('time', '')} {pay} . {indifferent}")
