"""An evaluation on a terminal."""

from __future__ import annotations

import math
from collections.abc import Mapping, Set
from typing import TYPE_CHECKING, Any

from duologue.evaluation.names import METRICS, USERS, ordered

if TYPE_CHECKING:
    from rich.table import Table

HEADINGS: Mapping[str, str] = {
    "satisfaction": "satis-\nfied",
    "asks_when_missing": "asks:\nmissing",
    "asks_when_complete": "asks:\ncomplete",
    "asks_indifferent": "asks:\nindif-\nferent",
}


def tables(evaluation: Mapping[str, Any], *, of_oracle: bool = False) -> list[Table]:
    """An evaluation as tables, one a task, users and decoding; arms are rows, metrics columns.

    Under each mean stands half the width of its interval. At most ten metrics are shown, the standard ones
    first, which takes 100 columns at most.

    Args:
        of_oracle: adds each figure's share of the way from the base to the oracle.
    """
    parts = {"sampled": evaluation, "greedy": evaluation["greedy"]}
    return [
        _table(part["arms"], task, users, decoding, of_oracle)
        for decoding, part in parts.items()
        for task, users in _places(part["arms"])
    ]


def _places(arms: Mapping[str, Any]) -> list[tuple[str, str]]:
    places = dict.fromkeys((task, users) for by_task in arms.values() for task in by_task for users in by_task[task])
    tasks = dict.fromkeys(task for task, _ in places)
    known = ordered({users for _, users in places}, USERS)
    return [(task, users) for task in tasks for users in known if (task, users) in places]


def _table(arms: Mapping[str, Any], task: str, users: str, decoding: str, of_oracle: bool) -> Table:
    from rich import box
    from rich.table import Table

    rows = {arm: by_task[task][users] for arm, by_task in arms.items() if users in by_task.get(task, {})}
    metrics = _shown({metric for row in rows.values() for metric in row})
    count = max((figure["n"] for row in rows.values() for figure in row.values()), default=0)
    title = f"{task} · users: {users} · {decoding} · {count:,} conversations an arm"
    table = Table(title=title, box=box.SIMPLE_HEAD, padding=0, show_edge=False, title_justify="left")
    if of_oracle:
        table.caption = "mean, ± half its interval, and the share of the way from base to oracle"
    table.add_column("arm", no_wrap=True)
    for metric in metrics:
        table.add_column(HEADINGS.get(metric, metric.replace("_", "\n")), justify="right")
    for arm, row in rows.items():
        table.add_row(arm, *(_cell(row.get(metric), of_oracle) for metric in metrics))
    return table


def _shown(metrics: Set[str]) -> list[str]:
    """As many as fit, the standard ones first."""
    return ordered(metrics, METRICS)[: len(METRICS)]


def _cell(figure: Mapping[str, Any] | None, of_oracle: bool) -> str:
    if figure is None or figure["mean"] is None:
        return "–"
    digits = 3 if abs(figure["mean"]) < 10 else 1
    lines = [f"{figure['mean']:.{digits}f}"]
    if figure["low"] is not None and figure["high"] is not None:
        lines.append(f"±{(figure['high'] - figure['low']) / 2:.{digits}f}")
    if of_oracle and figure["of_oracle"] is not None and math.isfinite(figure["of_oracle"]):
        lines.append(f"{round(figure['of_oracle'], 2) + 0.0:.0%}")
    return "\n".join(lines)
