"""Tables laid over tables: arms, and `--set`."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from typing import Any, cast

from duologue.errors import RecipeError

Table = dict[str, Any]


def merged(table: Mapping[str, Any], changes: Mapping[str, Any]) -> Table:
    """A table with changes laid over it: tables merge, everything else is replaced.

    Of a list, a table whose keys are numbers changes those entries, from 0, and no others.

    Raises:
        RecipeError: a list has no entry of that number.

    >>> merged({"train": [{"algorithm": "grpo", "steps": 60}]}, {"train": {"0": {"steps": 80}}})
    {'train': [{'algorithm': 'grpo', 'steps': 80}]}
    """
    return {**table, **{key: _laid_over(table.get(key), value, key) for key, value in changes.items()}}


def _laid_over(old: Any, new: Any, place: str) -> Any:
    if not isinstance(new, dict):
        return new
    changes = cast(Table, new)
    if isinstance(old, list) and changes and all(key.isdigit() for key in changes):
        entries = list(cast(list[Any], old))
        for key, change in changes.items():
            if int(key) >= len(entries):
                raise RecipeError(f'{place}: "{key}" is not the number of one of {len(entries)} entries (from 0)')
            entries[int(key)] = _laid_over(entries[int(key)], change, f"{place}.{key}")
        return entries
    return merged(cast(Table, old), changes) if isinstance(old, dict) else changes


def overridden(table: Table, override: str) -> Table:
    """A table with one "dotted.key=value" laid over it; the value is TOML, or else a plain word.

    Raises:
        RecipeError: no "=", or a number that points outside a list.
    """
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise RecipeError(f"--set {override}: write it as key=value, like --set reward.samples=5")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    return cast(Table, _placed(table, key.strip().split("."), value, override))


def _placed(node: Any, path: Sequence[str], value: Any, override: str) -> Any:
    if not path:
        return value
    head, rest = path[0], path[1:]
    if isinstance(node, list):
        items = list(cast(list[Any], node))
        if not head.isdigit() or int(head) >= len(items):
            raise RecipeError(f'--set {override}: "{head}" is not the number of one of {len(items)} entries (from 0)')
        items[int(head)] = _placed(items[int(head)], rest, value, override)
        return items
    table = dict(cast(Table, node)) if isinstance(node, dict) else {}
    table[head] = _placed(table.get(head), rest, value, override)
    return table
