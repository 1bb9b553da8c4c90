"""What there is to guess: 32 objects, each told apart by eight yes-or-no attributes.

Sets of attributes and of objects are integers, bit i for the i-th of them. The knowledge is a little stylised
(people do own outdoor beds), but it is what every user answers from. Splitting well, six questions are enough.
"""

from __future__ import annotations

from functools import cache, lru_cache

ATTRIBUTES = ("big", "alive", "indoors", "metal", "mobile", "edible", "loud", "soft")
"""Big: bigger than a person. Indoors: usually found there. Metal: mostly made of it. Mobile: it moves about."""

_TRUE_OF = {
    "cow": "big alive mobile edible loud",
    "lion": "big alive mobile loud",
    "bear": "big alive mobile loud soft",
    "sheep": "alive mobile edible loud soft",
    "chicken": "alive mobile edible loud",
    "rabbit": "alive mobile edible soft",
    "fish": "alive mobile edible",
    "cat": "alive indoors mobile soft",
    "dog": "alive indoors mobile loud soft",
    "parrot": "alive indoors mobile loud",
    "tree": "big alive",
    "rose": "alive soft",
    "cactus": "alive indoors",
    "mushroom": "alive edible soft",
    "carrot": "alive edible",
    "pear": "indoors edible",
    "cake": "indoors edible soft",
    "car": "big metal mobile loud",
    "bicycle": "metal mobile",
    "boat": "big mobile",
    "bridge": "big metal",
    "bed": "big indoors soft",
    "piano": "big indoors loud",
    "fridge": "big indoors metal",
    "spoon": "indoors metal",
    "trumpet": "indoors metal loud",
    "bell": "metal loud",
    "robot": "indoors metal mobile",
    "pillow": "indoors soft",
    "river": "big mobile loud",
    "cloud": "big mobile soft",
    "firework": "mobile loud",
}

OBJECTS = tuple(_TRUE_OF)
ATTRIBUTE_INDEX = {name: index for index, name in enumerate(ATTRIBUTES)}
OBJECT_INDEX = {name: index for index, name in enumerate(OBJECTS)}
ALL_ATTRIBUTES = (1 << len(ATTRIBUTES)) - 1
ALL_OBJECTS = (1 << len(OBJECTS)) - 1

CODES = tuple(sum(1 << ATTRIBUTE_INDEX[word] for word in true.split()) for true in _TRUE_OF.values())
"""The set of attributes true of each object."""

HAVING = tuple(sum(1 << i for i, code in enumerate(CODES) if code >> a & 1) for a in range(len(ATTRIBUTES)))
"""The set of objects each attribute is true of."""


def phrase(attribute: int, true: bool) -> str:
    """ "big", or "not big"."""
    return ATTRIBUTES[attribute] if true else f"not {ATTRIBUTES[attribute]}"


@cache
def members(of: int) -> tuple[int, ...]:
    """The indices in a set of attributes (at most 256 sets)."""
    return tuple(i for i in range(len(ATTRIBUTES)) if of >> i & 1)


@lru_cache(maxsize=1 << 16)
def objects_with(said: int, values: int) -> int:
    """The set of objects whose attributes among `said` are those in `values`."""
    objects = ALL_OBJECTS
    for attribute in members(said):
        objects &= HAVING[attribute] if values >> attribute & 1 else ~HAVING[attribute]
    return objects


@lru_cache(maxsize=1 << 16)
def splits(objects: int) -> tuple[int, ...]:
    """The attributes that tell some of the objects from others, those that halve them best first."""
    count = objects.bit_count()
    yes = [(objects & having).bit_count() for having in HAVING]
    order = sorted(range(len(ATTRIBUTES)), key=lambda a: abs(count - 2 * yes[a]))
    return tuple(a for a in order if 0 < yes[a] < count)


@lru_cache(maxsize=1 << 16)
def best_splits(objects: int) -> tuple[int, ...]:
    """The attributes that halve the objects best; several where they tie."""

    def unevenness(attribute: int) -> int:
        return abs(objects.bit_count() - 2 * (objects & HAVING[attribute]).bit_count())

    order = splits(objects)
    return tuple(a for a in order if unevenness(a) == unevenness(order[0]))
