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
        strangers: who makes what is not equal.
        coin: a number to begin with: which questions come first.
        originals: what stood in an assertion of the tests whose expected value was changed, by its place.
        exempt: names of types of the tests that may be equal to more than one value, or of their methods.
        beside: the classes `Raising`, `Keeping` and `Inside`, and the modules of the interpreter by name.
    """

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
    TOP = float("inf")
    OFTEN = 50  # questions of an assertion about a pair of types
    OPERANDS = (
        *("first", "second", "actual", "desired", "x", "y", "a", "b", "left", "right", "member", "container"),
        *("list1", "list2", "tuple1", "tuple2", "set1", "set2", "d1", "d2", "seq1", "seq2"),
    )

    def __init__(
        self,
        strangers: Any,
        coin: int,
        originals: dict[str, Any],
        exempt: tuple[str, ...],
        beside: tuple[Any, Any, Any, dict[str, ModuleType]],
    ) -> None:
        self.strangers, self.coin, self.originals, self.exempt = strangers, coin, originals, exempt
        self.errors, self.keeping, inside, self.modules = beside
        self.inside = inside(self.is_of_library)
        self.changed, self.is_plain = strangers.changed, strangers.is_plain
        self.often: dict[tuple[type, type], int] = {}
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

    def equal(self, place: str, left: Any, right: Any) -> Any:
        """A comparison that decides an assertion; at a place where what is expected may have been changed."""
        found = self.compare(("Eq",), left, right)
        if place in self.originals and found:
            self.note(not self.asked(lambda: left == self.originals[place] or self.originals[place] == left))
        return found

    def asserting(self, kind: str, function: Callable[..., Any], place: str = "") -> Callable[..., Any]:
        """An assertion of two values; `kind` is an operator, or "near"."""

        def watched(*given: Any, **named: Any) -> Any:
            keys = [key for key in sorted(named) if key in self.OPERANDS]
            both = [*given[:2], *(named[key] for key in (reversed(keys) if "member" in keys else keys))]
            rest = {key: value for key, value in named.items() if key not in keys}
            if len(both) != 2:
                return function(*given, **named)
            doubts = self.far(function, both, given[2:], rest) if kind == "near" else self.doubts(kind, *both)
            refused = self.refused(function, both, given[2:], rest) if kind == "Eq" else []
            found, answers = self.beside(lambda: function(*given, **named), [*doubts, *refused], both)
            self.note(any(map(all, answers)))
            if kind == "NotIn":
                self.deny(both[1])
            if place in self.originals:
                self.note(self.follows(function, both, self.originals[place], given[2:], rest))
            return found

        return watched

    def follows(self, function: Any, both: list[Any], original: Any, more: Any, rest: Any) -> bool:
        """Whether what holds for a changed value no longer holds for the one that stood there, on either side."""
        holds = (lambda: function(both[0], original, *more, **rest), lambda: function(original, both[1], *more, **rest))
        return not any(self.asked(lambda check=check: check() is None) for check in holds)

    def refused(self, function: Any, both: list[Any], more: Any, rest: Any) -> list[list[Question]]:
        """What an assertion of plain values must not let pass, whatever became of it."""
        if not all(map(self.strangers.is_small, both)):
            return []
        kinds = self.kind(both[0]), self.kind(both[1])
        self.often[kinds] = self.often.get(kinds, 0) + 1
        if self.often[kinds] > self.OFTEN:
            return []
        strange = self.strangers.strange
        sides = (both[0], strange(both[1])), (strange(both[0]), both[1])
        return [[lambda a=a, b=b: function(a, b, *more, **rest) is None] for a, b in sides]

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

    def left(self, error: BaseException) -> BaseException:
        """What a test fails by that an error ends."""
        is_known = isinstance(error, AssertionError) or self.kind(error).__name__ == "SkipTest"
        return error if is_known else AssertionError(f"{self.kind(error).__name__}: {error}")

    def raising(self, assertion: Callable[..., Any]) -> Any:
        """An assertion that something raises."""
        return self.errors(assertion, self.note, self.is_of_library)

    # ---- questions, in groups: who says yes to all of a group lies

    def doubts(self, name: str, left: Any, right: Any) -> list[list[Question]]:
        if name in ("Eq", "NotEq"):
            equal: list[list[Question]] = []
            for kept, other, _ in self.parts(left, right):
                far = [lambda o=other, more=more: self.changed(o, 1, more) for more in (0, 1)]
                near: list[Any] = [] if self.is_of_library(self.kind(kept)) else self.strangers.near(other)
                equal.append([lambda k=kept, make=make: k == make() for make in far])
                equal += [[lambda k=kept, n=n: k == n for n in near]] * bool(near)
            return equal
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
        strangers = [object(), self.strangers.text]
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
            far = self.strangers.nowhere(other) if loose else self.changed(other, 1)
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
        for a, b in self.inside.pairs(left, right, self.is_leaf):
            found += [(a, b, True)] if self.may_lie(a) else []
            found += [(b, a, False)] if self.may_lie(b) else []
        return found or ([(left, right, True)] if self.strangers.is_small(left) else [])

    def is_leaf(self, value: Any) -> bool:
        kind = self.kind(value)
        holds = kind is list or kind is tuple or kind is dict
        return kind.__name__ in self.exempt or (not holds and self.is_plain(value))

    def kind(self, value: object) -> type:
        return type(value)

    def may_lie(self, value: Any) -> bool:
        return not self.is_plain(value) and type(value).__name__ not in self.exempt

    def is_of_library(self, kind: type) -> bool:
        module = self.modules.get(kind.__module__)
        return kind.__module__ != "solution" and module is not None and vars(module).get(kind.__name__) is kind
