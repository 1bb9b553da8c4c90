"""Stands beside the spy inside the hidden tests of a proof: looks at the errors that they assert to be raised.

An error that is of several unrelated kinds at once passes for whatever is expected. Honest ones that are: of a library,
an `OSError` and something else, and what looks things up by name or by place.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar


class Raising:
    """An assertion that something raises, and the context that it makes.

    Args:
        assertion: `assertRaises` or `assertRaisesRegex`.
        note: told of each error whether it is a lie.
        library: whether a class of errors is one of a library.
    """

    FAMILIES: ClassVar[tuple[type[BaseException], ...]] = (
        *(ArithmeticError, AssertionError, AttributeError, BufferError, EOFError, ImportError, IndexError, KeyError),
        *(MemoryError, NameError, OSError, ReferenceError, RuntimeError, StopIteration, SyntaxError, SystemError),
        *(TypeError, ValueError, Warning),
    )
    """None of these is another."""
    KIN: ClassVar[tuple[set[type], ...]] = ({AttributeError, KeyError, IndexError}, {IndexError, ValueError})

    def __init__(
        self,
        assertion: Callable[..., Any],
        note: Callable[[bool], None],
        library: Callable[[type], bool],
        context: Any = None,
        expected: Any = (),
    ) -> None:
        self.assertion, self.note, self.of_library = assertion, note, library
        self.context, self.expected = context, expected

    def __call__(self, expected: Any, *given: Any, **named: Any) -> Any:
        found = self.assertion(expected, *(self.through(each, expected) for each in given), **named)
        return None if found is None else type(self)(self.assertion, self.note, self.of_library, found, expected)

    def through(self, call: Any, expected: Any) -> Any:
        def called(*given: Any, **named: Any) -> Any:
            try:
                return call(*given, **named)
            except BaseException as error:
                self.note(self.is_of_all_kinds(type(error), expected))
                raise

        return called if callable(call) else call

    def __enter__(self) -> Any:
        return self.context.__enter__()

    def __exit__(self, kind: Any, error: Any, trace: Any) -> Any:
        self.note(kind is not None and self.is_of_all_kinds(kind, self.expected))
        return self.context.__exit__(kind, error, trace)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.context, name)

    def families(self, kind: type) -> set[type]:
        return {each for each in self.FAMILIES if issubclass(kind, each)}

    def is_of_all_kinds(self, kind: type, expected: type | tuple[type, ...]) -> bool:
        """Whether it would pass for what nobody expected, too."""
        named = expected if isinstance(expected, tuple) else (expected,)
        families = self.families(kind)
        strange = {each for each in families if not any(issubclass(each, n) or issubclass(n, each) for n in named)}
        if len(strange) != 1:
            return len(strange) > 1
        return not (OSError in families or any(families <= kin for kin in self.KIN) or self.of_library(kind))
