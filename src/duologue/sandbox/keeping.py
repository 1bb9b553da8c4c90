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
        inside = [each for value in values if type(value) is list or type(value) is tuple for each in value[:10]]
        objects = [each for each in (*values, *inside) if type(each).__module__ == self.CODE]
        kinds = [kind for each in objects for kind in type(each).__mro__ if kind.__module__ == self.CODE]
        owners = [*objects, *kinds, *([modules[self.CODE]] if objects else [])]
        self.kept = [(owner, self.attributes(owner)) for owner in owners]
        values_there = [value for _, kept in self.kept for value in kept.values()]
        containers = [each for each in values_there if any(type(each) is kind for kind in (list, dict, set))]
        self.entries = [(each, each.copy()) for each in containers if len(each) <= self.MOST]

    def attributes(self, owner: Any) -> dict[str, Any]:
        try:
            return dict(vars(owner))
        except TypeError:  # it has slots, or nothing
            return {}

    def put_back(self) -> None:
        for owner, kept in self.kept:
            setter: Any = type if isinstance(owner, type) else object
            for name, now in self.attributes(owner).items():
                if name not in kept:
                    setter.__delattr__(owner, name)
                elif now is not kept[name]:
                    setter.__setattr__(owner, name, kept[name])
        for container, entries in self.entries:
            if len(container) != len(entries):
                container.clear()
                (container.extend if type(container) is list else container.update)(entries)
