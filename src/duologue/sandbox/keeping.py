"""Stands beside the spy inside the hidden tests of a proof: what its questions change is put back.

So an object of the code that counts how often it is compared, or remembers with what, counts the tests' comparisons
alone. Kept are attributes: of the objects compared, of their classes and of the code's module, and the entries of short
lists, dictionaries and sets in them.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Any, ClassVar


class Keeping:
    """What the objects of the code keep, at a moment.

    Args:
        values: what is compared.
        modules: those of the interpreter, by name.
    """

    CODE: ClassVar[str] = "solution"
    MOST: ClassVar[int] = 1000

    def __init__(self, values: Any, modules: Mapping[str, ModuleType]) -> None:
        inside: list[Any] = [
            each for value in values if self.kind(value) is list or self.kind(value) is tuple for each in value[:10]
        ]
        objects = [each for each in (*values, *inside) if self.kind(each).__module__ == self.CODE]
        kinds: list[Any] = [
            kind for each in objects for kind in self.kind(each).__mro__ if kind.__module__ == self.CODE
        ]
        owners = [*objects, *kinds, *([modules[self.CODE]] if objects else [])]
        self.kept: list[tuple[Any, dict[str, Any]]]
        self.kept = [(owner, dict(space)) for owner in owners if (space := self.space(owner)) is not None]
        there = [value for _, kept in self.kept for value in kept.values()]
        short = [each for each in there if self.is_container(each) and len(each) <= self.MOST]
        self.entries: list[tuple[Any, Any]] = [(each, each.copy()) for each in short]

    def is_container(self, value: object) -> bool:
        return any(type(value) is kind for kind in (list, dict, set))

    def kind(self, value: object) -> type:
        return type(value)

    def space(self, owner: object) -> Any:
        """Its attributes; None where it has slots, or nothing."""
        try:
            return vars(owner)
        except TypeError:
            return None

    def put_back(self) -> None:
        for owner, kept in self.kept:
            space = self.space(owner)
            for name, now in dict(space).items():
                if name in kept and now is kept[name]:
                    continue
                if isinstance(owner, type):
                    type.__setattr__(owner, name, kept[name]) if name in kept else type.__delattr__(owner, name)
                elif name in kept:
                    space[name] = kept[name]
                else:
                    del space[name]
        for container, before in self.entries:
            if len(container) != len(before):
                container.clear()
                (container.extend if self.kind(container) is list else container.update)(before)
