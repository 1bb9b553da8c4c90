"""Stands beside the spy inside the hidden tests of a proof: what stands side by side in two values.

Looked into are lists, tuples, dictionaries, whatever else a library can count and list, and the attributes of objects
of a kind. Methods of the code itself are not called; where there is no end, it stops.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar


class Inside:
    """Takes two values apart.

    Args:
        library: whether a class is one of a library.
    """

    PARTS: ClassVar[int] = 10**5  # of lists, tuples and dictionaries
    OTHERS: ClassVar[int] = 1000  # of whatever else
    ABSTRACT: ClassVar[tuple[str, ...]] = ("collections.abc", "typing", "_collections_abc", "abc")

    def __init__(self, library: Callable[[type], bool]) -> None:
        self.of_library = library

    def pairs(self, left: Any, right: Any, is_leaf: Callable[[Any], bool]) -> list[tuple[Any, Any]]:
        """The two, and all pairs in them."""
        todo, seen, others = [(left, right)], {(id(left), id(right))}, 0
        for a, b in todo:
            if len(todo) >= self.PARTS or is_leaf(a) or is_leaf(b):
                continue
            found = self.own(a, b)
            if found is None and others < self.OTHERS:
                found = self.tried(lambda a=a, b=b: self.other(a, b)[: self.OTHERS])
                others += len(found)
            fresh = [pair for pair in found or [] if (id(pair[0]), id(pair[1])) not in seen]
            seen.update((id(x), id(y)) for x, y in fresh)
            todo += fresh
        return todo

    def own(self, left: Any, right: Any) -> list[tuple[Any, Any]] | None:
        """By the methods of Python's own types alone; None where the two share none."""
        kinds: tuple[Any, ...] = (list, tuple, dict)
        kind: Any = next((k for k in kinds if issubclass(type(left), k) and issubclass(type(right), k)), None)
        if kind is None:
            return None
        if "keys" in vars(kind):
            return [(kind.get(left, key), value) for key, value in kind.items(right) if kind.__contains__(left, key)]
        return list(zip(kind.__iter__(left), kind.__iter__(right), strict=False))

    def other(self, left: Any, right: Any) -> list[tuple[Any, Any]]:
        """Of an array its elements, of what a library can list what it lists, and of a kind the attributes."""
        for name in ("tolist", "to_numpy"):
            if any(name in vars(kind) for kind in type(left).__mro__):
                return [(getattr(left, name)(), getattr(right, name)() if self.has(right, name) else right)]
        found: list[tuple[Any, Any]] = []
        kind: Any = next(filter(self.lists, type(left).__mro__), None)
        if kind is not None and issubclass(type(right), kind):
            if "keys" in vars(kind) and "__getitem__" in vars(kind):
                found += [(kind.__getitem__(left, key), kind.__getitem__(right, key)) for key in kind.__iter__(right)]
            else:
                found += zip(kind.__iter__(left), kind.__iter__(right), strict=False)
        if type(left) is type(right):
            theirs = self.attributes(right)
            found += [(value, theirs[name]) for name, value in self.attributes(left).items() if name in theirs]
        return found

    def has(self, value: object, name: str) -> bool:
        return any(name in vars(kind) for kind in type(value).__mro__)

    def lists(self, kind: type[Any]) -> bool:
        space = vars(kind)
        if "__iter__" not in space or "__len__" not in space or "__next__" in space:
            return False
        return kind.__module__ not in self.ABSTRACT and not kind.__name__.endswith("set") and self.of_library(kind)

    def attributes(self, value: Any) -> dict[str, Any]:
        """What it keeps under names, in slots too."""
        found: dict[str, Any] = {}
        for kind in type(value).__mro__:
            slots: Any = vars(kind).get("__slots__", ())
            for name in (slots,) if isinstance(slots, str) else slots:
                place: Any = vars(kind).get(name)
                if type(place).__name__ == "member_descriptor":
                    found |= self.slot(name, place, value)
        try:
            space: Any = object.__getattribute__(value, "__dict__")
        except AttributeError:
            return found
        return found | dict(space)

    def slot(self, name: str, place: Any, value: Any) -> dict[str, Any]:
        try:
            return {name: place.__get__(value)}
        except AttributeError:  # there is nothing in it yet
            return {}

    def tried(self, question: Callable[[], list[tuple[Any, Any]]]) -> list[tuple[Any, Any]]:
        try:
            return question()
        except Exception:  # what cannot be taken apart is one part
            return []
