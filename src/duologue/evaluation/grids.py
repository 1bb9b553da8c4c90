"""The cells of a sweep as a grid: the last axis across, the others down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

SHOWN = ("success", "reward", "turns")
"""Figures that are drawn on a terminal; the report has more."""
Rows = Mapping[str, Mapping[str, Any]]
"""Figures by arm and name."""


@dataclass(frozen=True)
class Grid:
    """Where the cells of a sweep stand. A sweep of one axis has one nameless column."""

    down: str
    """What the rows are choices of."""
    across: str
    """What the columns are choices of; empty in a sweep of one axis."""
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    arms: Mapping[tuple[str, str], tuple[str, ...]]
    """The arms of a row and column, one a training seed, the recipe's first."""
    seeds: Mapping[str, int]
    """The training seed of an arm."""


def grid_of(sweep: Mapping[str, Any]) -> Grid:
    """The grid of a sweep.

    Args:
        sweep: as `evaluation.json` has it.

    >>> at = ["all", "w0"]
    >>> cells = [{"arm": "all-w0", "at": at, "seed": 0}, {"arm": "all-w0-seed1", "at": at, "seed": 1}]
    >>> grid = grid_of({"axes": {"reward": ["all"], "window": ["w0"]}, "cells": cells})
    >>> grid.down, grid.across, dict(grid.arms)
    ('reward', 'window', {('all', 'w0'): ('all-w0', 'all-w0-seed1')})
    """
    names = list(sweep["axes"])
    down = names[:-1] or names
    columns = tuple(sweep["axes"][names[-1]]) if len(names) > 1 else ("",)
    arms: dict[tuple[str, str], tuple[str, ...]] = {}
    for cell in sweep["cells"]:
        place = ("-".join(cell["at"][: len(down)]), cell["at"][-1] if len(names) > 1 else "")
        arms[place] = (*arms.get(place, ()), cell["arm"])
    return Grid(
        down=", ".join(down),
        across=names[-1] if len(names) > 1 else "",
        rows=tuple(dict.fromkeys(row for row, _ in arms)),
        columns=columns,
        arms=arms,
        seeds={cell["arm"]: cell["seed"] for cell in sweep["cells"]},
    )


def grid_tables(evaluation: Mapping[str, Any]) -> list[Table]:
    """The grid of a sweep's evaluation on a terminal, sampled: a table a task, kind of users and figure.

    In each place stand the mean, half the width of its interval, and the means of further training seeds; below,
    the arms that are no cells.
    """
    grid = grid_of(evaluation["sweep"])
    arms: Mapping[str, Any] = evaluation["arms"]
    places = dict.fromkeys((task, users) for tasks in arms.values() for task in tasks for users in tasks[task])
    found: list[Table] = []
    for task, users in places:
        rows = {arm: tasks[task][users] for arm, tasks in arms.items() if users in tasks.get(task, {})}
        measured = {figure for row in rows.values() for figure, cell in row.items() if cell["mean"] is not None}
        shown = [figure for figure in SHOWN if figure in measured]
        place = f"{task} · users: {users}"
        if grid.across:
            found += [
                _table(grid, rows, f"{figure} · {place}", {c: (c, figure) for c in grid.columns}) for figure in shown
            ]
        else:
            found.append(_table(grid, rows, place, {figure: ("", figure) for figure in shown}))
    return found


def _table(grid: Grid, rows: Rows, title: str, columns: Mapping[str, tuple[str, str]]) -> Table:
    """A table of the grid's rows.

    Args:
        columns: by heading, the column of the grid and the figure that stand there.
    """
    from rich import box
    from rich.table import Table

    table = Table(title=title, min_width=len(title), box=box.SIMPLE_HEAD, padding=(0, 1), show_edge=False)
    table.title_justify = "left"
    table.add_column(f"{grid.down} \\ {grid.across}" if grid.across else grid.down, no_wrap=True)
    for heading in columns:
        table.add_column(heading, justify="right")
    for row in grid.rows:
        table.add_row(row, *(_cell(grid.arms[row, column], rows, figure) for column, figure in columns.values()))
    table.add_section()
    for arm in (arm for arm in rows if arm not in grid.seeds):
        table.add_row(arm, *(_mean(rows[arm], figure) for figure in dict.fromkeys(f for _, f in columns.values())))
    return table


def _cell(arms: Sequence[str], rows: Rows, figure: str) -> str:
    first = rows.get(arms[0], {}).get(figure)
    lines = [_mean(rows.get(arms[0], {}), figure)]
    if first is not None and first["low"] is not None and first["high"] is not None:
        lines.append(f"±{(first['high'] - first['low']) / 2:.3f}")
    lines += [_mean(rows.get(arm, {}), figure) for arm in arms[1:]]
    return "\n".join(lines)


def _mean(row: Mapping[str, Any], figure: str) -> str:
    mean = row[figure]["mean"] if figure in row else None
    return "–" if mean is None else f"{mean:.3f}"
