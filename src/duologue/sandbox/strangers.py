"""Stands beside the spy inside the hidden tests of a proof: makes what is not equal, from what is expected."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar


class Strangers:
    """Makes something else of the same kind as a value.

    Args:
        number, text: what is far off is made with; equal to nothing that is there.
    """

    NAN: ClassVar[float] = float("nan")
    PLAIN: ClassVar[tuple[type, ...]] = (
        *(int, float, complex, bool, str, bytes, bytearray, type(None), list, tuple, dict, set, frozenset, range),
        *(slice, type(...), type),
    )
    MARKS: ClassVar[str] = "~|^"
    STEPS: ClassVar[tuple[int, ...]] = (1, -1, 2, -2, 3, -3)
    MOST: ClassVar[int] = 100  # parts of what is small, and letters of a text in it

    def __init__(self, number: int, text: str) -> None:
        self.number, self.text = number, text

    def is_plain(self, value: Any) -> bool:
        return any(type(value) is kind for kind in self.PLAIN)

    def is_one_of(self, value: object, *kinds: type) -> bool:
        return any(type(value) is kind for kind in kinds)

    def is_small(self, value: Any) -> bool:
        """Whether it is of Python's own types through and through, and short."""
        todo = [value]
        for each in todo:
            if len(todo) > self.MOST or not self.is_plain(each):
                return False
            if self.is_one_of(each, str, bytes):
                if len(each) > self.MOST:
                    return False
            elif self.is_one_of(each, dict):
                todo += [*list(each)[: self.MOST], *list(each.values())[: self.MOST]]
            elif self.is_one_of(each, list, tuple, set, frozenset):
                todo += list(each)[: self.MOST + 1]
        return True

    def changed(self, value: Any, sign: int, more: int = 0) -> Any:
        """Something far off; with `more`, another."""
        if isinstance(value, bool):
            return self.number if more else not value
        if isinstance(value, str):
            return self.text if more else value + self.text
        if isinstance(value, bytes):
            return self.text.encode() if more else value + self.text.encode()
        if self.tried(lambda: len(value)) == 0:
            return object() if more else self.full_of(value)
        if self.is_one_of(value, list, tuple, set, frozenset):
            return value.__class__([self.changed(each, sign, more) for each in value])
        if self.is_one_of(value, dict):
            keys: list[Any] = [*value]
            return {key: self.changed(value[key], sign, more) for key in keys}
        try:
            other = value + sign * (abs(value) + self.number + more)
            return other if other != value and other == other else object()
        except Exception:  # no number
            return object()

    def strange(self, value: Any) -> Any:
        """Something far off that differs in how many it counts, too, and in which."""
        other = self.changed(value, 1)
        return {**other, self.text: self.number} if self.is_one_of(other, dict) else other

    def near(self, value: Any) -> list[Any]:
        """What differs by little, on each side of it; nothing where that is not known."""
        if self.is_one_of(value, int, float):
            return [value + step for step in self.STEPS] if abs(value) < 10**9 else []
        if self.is_one_of(value, str):
            places = sorted({0, len(value) // 2, len(value) - 1}) if value else []
            swapped = [value[:p] + mark + value[p + 1 :] for p, mark in zip(places, self.MARKS, strict=False)]
            return [*swapped, *([] if len(value) > 1 else self.MARKS)]
        if self.is_one_of(value, list, tuple) and value:
            ends = [[self.changed(value[0], 1), *value[1:]], [*value[:-1], self.changed(value[-1], 1)]]
            return [value.__class__(each) for each in (*ends, value[:-1], [*value, self.number])]
        if self.is_one_of(value, dict) and value:
            key = next(iter(value))
            return [{**value, key: self.changed(value[key], 1)}, {**value, self.text: self.number}]
        if self.is_one_of(value, set, frozenset):
            return [value | {self.number}, value | {self.text}]
        return []

    def full_of(self, empty: Any) -> Any:
        """Something like what is empty that is not: numpy takes what is empty for near to any number."""
        if self.is_one_of(empty, dict):
            return {self.text: self.number}
        return empty.__class__([self.number]) if self.is_plain(empty) else [self.number]

    def nowhere(self, value: Any) -> Any:
        """What no tolerance reaches."""
        if self.tried(lambda: len(value)) == 0:
            return self.full_of(value)
        try:
            return value * self.NAN if value == value else object()
        except Exception:  # no number
            return object()

    def tried(self, question: Callable[[], Any]) -> Any:
        try:
            return question()
        except Exception:
            return None
