"""Stands inside the hidden tests of a proof and looks for objects that lie when they are compared.

Its class is put into the tests, under a name drawn anew each time; nothing of ours is imported there. Each comparison
is made as it stands, and beside it are asked questions of the same objects, before or after it by a coin: to which no
honest object says yes each time. Such are whether it equals two strangers, whether it is above and below the same,
whether it holds whatever there is. What the objects of the code keep in their attributes is put back after each
question. Only objects of types beyond Python's own can lie.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any, ClassVar

Question = Callable[[], Any]


class Spy:
    """Compares for the tests.

    Args:
        number, text: what strangers are made with; equal to nothing that is there.
        coin: a number to begin with: which questions come first.
        exempt: names of types of the tests that may be equal to more than one value, or of their methods.
        beside: the classes `Raising` and `Keeping`, and the modules of the interpreter by name.
    """

    PLAIN: ClassVar[tuple[type, ...]] = (
        *(int, float, complex, bool, str, bytes, bytearray, type(None), list, tuple, dict, set, frozenset, range),
        *(slice, type(...), type),
    )
    COMPARED: ClassVar[dict[str, Callable[[Any, Any], Any]]] = {
        "Eq": lambda a, b: a == b,
        "NotEq": lambda a, b: a != b,
        "Lt": lambda a, b: a < b,
        "LtE": lambda a, b: a <= b,
        "Gt": lambda a, b: a > b,
        "GtE": lambda a, b: a >= b,
        "In": lambda a, b: a in b,
        "NotIn": lambda a, b: a not in b,
    }
    CONTRARY: ClassVar[dict[str, tuple[str, ...]]] = {
        **{"Lt": ("GtE", "Gt"), "LtE": ("Gt",), "Gt": ("LtE", "Lt"), "GtE": ("Lt",)},
    }
    NAN, TOP = float("nan"), float("inf")
    PARTS = 10**5  # of a value that are looked at
    OPERANDS = (
        *("first", "second", "actual", "desired", "x", "y", "a", "b", "left", "right", "member", "container"),
        *("list1", "list2", "tuple1", "tuple2", "set1", "set2", "d1", "d2", "seq1", "seq2"),
    )

    def __init__(
        self, number: int, text: str, coin: int, exempt: tuple[str, ...], beside: tuple[Any, Any, dict[str, ModuleType]]
    ) -> None:
        self.number, self.text, self.coin, self.exempt = number, text, coin, exempt
        self.errors, self.keeping, self.modules = beside
        self.found: list[bool] = []
        self.doubtful: list[Any] = []  # results that are no bool, and true whatever is compared
        self.full: list[type] = []  # types that hold whatever there is
        self.denied: list[type] = []  # types that were seen not to hold something

    @property
    def lies(self) -> bool:
        return bool(self.found) or any(not any(kind is each for each in self.denied) for kind in self.full)

    def note(self, lie: bool) -> None:
        self.found += [True] * lie

    # ---- what the tests do

    def compare(self, names: tuple[str, ...], *values: Any) -> Any:
        """A comparison, or a chain of them."""
        chain = [(name, values[place], values[place + 1]) for place, name in enumerate(names)]

        def true() -> Any:
            name, left, right = chain[0]
            found = self.COMPARED[name](left, right)
            for name, left, right in chain[1:]:
                found = found and self.COMPARED[name](left, right)
            return found

        found, answers = self.beside(true, [doubt for each in chain for doubt in self.doubts(*each)], values)
        self.note(any(min(levels) == 2 for levels in answers))
        if any(map(all, answers)) and not self.is_plain(found):
            self.doubtful.append(found)
        if names[0] in ("In", "NotIn") and bool(found) is (names[0] == "NotIn"):
            self.deny(values[1])
        return found

    def asserting(self, kind: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """An assertion of two values; `kind` is an operator, or "near"."""

        def watched(*given: Any, **named: Any) -> Any:
            keys = [key for key in sorted(named) if key in self.OPERANDS]
            both = [*given[:2], *(named[key] for key in (reversed(keys) if "member" in keys else keys))]
            rest = {key: value for key, value in named.items() if key not in keys}
            if len(both) != 2:
                return function(*given, **named)
            doubts = self.far(function, both, given[2:], rest) if kind == "near" else self.doubts(kind, *both)
            found, answers = self.beside(lambda: function(*given, **named), doubts, both)
            self.note(any(map(all, answers)))
            if kind == "NotIn":
                self.deny(both[1])
            return found

        return watched

    def minus(self, left: Any, right: Any) -> Any:
        """A difference: a size that stays the same whatever is subtracted, or from whatever, is a lie."""
        asked: list[list[Question]] = []
        if self.may_lie(left):
            asked.append([lambda s=s: self.size(left - self.changed(right, s)) for s in (1, -1)])
        if self.may_lie(right):
            asked.append([lambda s=s: self.size(self.changed(left, s) - right) for s in (1, -1)])
        found, sides = self.beside(lambda: left - right, asked, [left, right], level=False)
        if asked and (size := self.asked(lambda: self.size(found))) is not None:
            self.note(any(all(type(each) is type(size) and each == size for each in side) for side in sides))
        return found

    def deny(self, container: object) -> None:
        """It was seen to lack something: it does not hold whatever there is."""
        self.denied.append(type(container))

    def truth(self, value: Any) -> Any:
        """What decides: that a comparison's result is true says nothing where it always is."""
        self.note(any(value is each for each in self.doubtful))
        return value

    def raising(self, assertion: Callable[..., Any]) -> Any:
        """An assertion that something raises."""
        return self.errors(assertion, self.note, self.is_of_library)

    # ---- questions, in groups: who says yes to all of a group lies

    def doubts(self, name: str, left: Any, right: Any) -> list[list[Question]]:
        if name in ("Eq", "NotEq"):
            return [
                [lambda kept=kept, other=other, more=more: kept == self.changed(other, 1, more) for more in (0, 1)]
                for kept, other, _ in self.parts(left, right)
            ]
        if name in ("In", "NotIn"):
            return self.membership(left, right)
        asked = self.COMPARED
        found: list[list[Question]] = []
        for each in filter(self.may_lie, (left, right)):
            for above, below in (("GtE", "LtE"), ("Gt", "Lt")):
                found.append(
                    [lambda e=each, n=above: asked[n](e, self.TOP), lambda e=each, n=below: asked[n](e, -self.TOP)]
                )
        contrary = self.CONTRARY[name] if found else ()
        return found + [[lambda n=n: asked[n](left, right), lambda: asked[name](left, right)] for n in contrary]

    def membership(self, member: Any, container: Any) -> list[list[Question]]:
        kind = self.kind(container)
        strangers = [object(), self.text]
        found: list[list[Question]] = [[lambda: member in strangers]] if self.may_lie(member) else []
        if not self.may_lie(container) or f"{kind.__name__}.__contains__" in self.exempt:
            return found
        if not any("__contains__" in vars(each) for each in kind.__mro__):
            return found

        def full() -> bool:
            self.full += [kind] * all(bool(x in container) for x in strangers)
            return False

        return [*found, [full]]

    def far(self, function: Any, both: list[Any], more: Any, rest: Any) -> list[list[Question]]:
        loose = bool(more) or not {"msg"}.issuperset(rest)
        found = self.doubts("Eq", *both)
        for kept, other, first in self.parts(*both):
            far = self.nowhere(other) if loose else self.changed(other, 1)
            sides = (kept, far) if first else (far, kept)
            found.append([lambda sides=sides: function(*sides, *more, **rest) is None])
        return found

    def beside(self, true: Question, groups: list[list[Question]], values: Any, level: bool = True) -> tuple[Any, Any]:
        """Do the one, and ask each question before or after it; what the objects keep is as before each time."""
        if not groups:
            return true(), []
        answers: list[list[Any]] = [[None] * len(group) for group in groups]
        places = [(i, j, self.flip()) for i, group in enumerate(groups) for j in range(len(group))]

        def ask(first: bool) -> None:
            kept = self.keeping(values, self.modules)
            for i, j, before in places:
                if before is first:
                    answers[i][j] = self.asked(groups[i][j], level)
                    kept.put_back()

        ask(True)
        found = true()
        ask(False)
        return found, answers

    def flip(self) -> bool:
        self.coin = (self.coin * 6364136223846793005 + 1442695040888963407) % 2**64
        return bool(self.coin >> 63)

    def asked(self, question: Question, level: bool = False) -> Any:
        """What comes of it; what breaks is no yes."""
        try:
            return self.level(question()) if level else question()
        except Exception:
            return 0 if level else None

    def level(self, found: Any) -> int:
        """2 for a yes, 1 for an object that is true, 0 for a no."""
        for _ in range(3):
            if self.is_plain(found) or type(found).__name__ in ("bool", "bool_"):
                return 2 * bool(found)
            if not any("all" in vars(each) for each in self.kind(found).__mro__) or found.size == 0:
                break
            found = found.all()
        return int(bool(found))

    def size(self, found: Any) -> Any:
        """The size of a difference, as a number; None where it has none."""
        measures: list[Question] = [lambda: abs(found), lambda: float(found), lambda: found * found, lambda: found**2]
        for measure in measures if self.may_lie(found) else measures[:1]:
            number: Any = self.asked(measure)
            if self.asked(lambda number=number: bool(number - number == 0)):
                return number
        return None

    def parts(self, left: Any, right: Any) -> list[tuple[Any, Any, bool]]:
        """What may lie in two values, part by part, with what it is compared to, and whether it stands left."""
        found: list[tuple[Any, Any, bool]] = []
        todo = [(left, right)]
        for a, b in todo:
            if len(todo) < self.PARTS:
                todo += self.inside(a, b)
            found += [(a, b, True)] if self.may_lie(a) else []
            found += [(b, a, False)] if self.may_lie(b) else []
        return found

    def inside(self, left: Any, right: Any) -> list[tuple[Any, Any]]:
        """What stands side by side in two containers of a kind, by the methods of that kind alone."""
        kind = self.shared(left, right)
        if kind is None:
            return []
        if "keys" in vars(kind):
            return [(kind.get(left, key), value) for key, value in kind.items(right) if kind.__contains__(left, key)]
        return list(zip(kind.__iter__(left), kind.__iter__(right), strict=False))

    def shared(self, left: Any, right: Any) -> Any:
        kinds = (list, tuple, dict)
        return next((k for k in kinds if issubclass(type(left), k) and issubclass(type(right), k)), None)

    def kind(self, value: object) -> type:
        return type(value)

    def may_lie(self, value: Any) -> bool:
        return not self.is_plain(value) and type(value).__name__ not in self.exempt

    def is_plain(self, value: Any) -> bool:
        return any(type(value) is kind for kind in self.PLAIN)

    def is_of_library(self, kind: type) -> bool:
        module = self.modules.get(kind.__module__)
        return kind.__module__ != "solution" and module is not None and vars(module).get(kind.__name__) is kind

    def changed(self, value: Any, sign: int, more: int = 0) -> Any:
        """A stranger: something else of the same kind, and far off; with `more`, another."""
        if isinstance(value, bool):
            return self.number if more else not value
        if isinstance(value, str):
            return self.text if more else value + self.text
        if isinstance(value, bytes):
            return self.text.encode() if more else value + self.text.encode()
        if self.asked(lambda: len(value)) == 0:
            return object() if more else self.full_of(value)
        if any(type(value) is kind for kind in (list, tuple, set, frozenset)):
            return value.__class__([self.changed(each, sign, more) for each in value])
        if type(value) is dict:
            keys: list[Any] = [*value]
            return {key: self.changed(value[key], sign, more) for key in keys}
        try:
            other = value + sign * (abs(value) + self.number + more)
            return other if other != value and other == other else object()
        except Exception:  # no number
            return object()

    def full_of(self, empty: Any) -> Any:
        """Something like what is empty that is not: numpy takes what is empty for near to any number."""
        if type(empty) is dict:
            return {self.text: self.number}
        return empty.__class__([self.number]) if self.is_plain(empty) else [self.number]

    def nowhere(self, value: Any) -> Any:
        """What no tolerance reaches."""
        if self.asked(lambda: len(value)) == 0:
            return self.full_of(value)
        try:
            return value * self.NAN if value == value else object()
        except Exception:  # no number
            return object()
