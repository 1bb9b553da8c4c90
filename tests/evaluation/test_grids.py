"""Cells find their places in the grid."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console

from duologue.evaluation.grids import grid_of, grid_tables

CELLS = [("all", "w0", 0), ("all", "full", 0), ("outcome", "w0", 0), ("outcome", "full", 0), ("all", "full", 7)]


def swept(*, axes: int = 2) -> dict[str, Any]:
    """An evaluation of four cells, one of them with a further seed; or of two, on one axis."""
    cells = [
        {"arm": "-".join(at[2 - axes :]) + (f"-seed{seed}" if seed else ""), "at": list(at[2 - axes :]), "seed": seed}
        for *at, seed in CELLS
        if axes == 2 or at[0] == "all"
    ]
    names = {"reward": ["all", "outcome"], "window": ["w0", "full"]}
    return {"axes": dict(list(names.items())[2 - axes :]), "against": [], "cells": cells}


def figures(means: dict[str, float]) -> dict[str, Any]:
    return {
        arm: {"groceries": {"train": {"success": {"mean": mean, "low": mean - 0.01, "high": mean + 0.01, "n": 9}}}}
        for arm, mean in means.items()
    }


def shown(evaluation: dict[str, Any]) -> str:
    out = io.StringIO()
    for table in grid_tables(evaluation):
        Console(file=out, width=100).print(table)
    return out.getvalue()


def test_the_last_axis_runs_across_and_a_place_has_its_seeds_in_order() -> None:
    grid = grid_of(swept())
    assert (grid.down, grid.across) == ("reward", "window")
    assert (grid.rows, grid.columns) == (("all", "outcome"), ("w0", "full"))
    assert grid.arms["all", "full"] == ("all-full", "all-full-seed7")
    assert grid.seeds["all-full-seed7"] == 7


def test_a_single_axis_runs_down() -> None:
    grid = grid_of(swept(axes=1))
    assert (grid.down, grid.across, grid.columns) == ("window", "", ("",))
    assert grid.rows == ("w0", "full")


def test_a_third_axis_goes_into_the_rows() -> None:
    grid = grid_of({"axes": {"a": ["x"], "b": ["y"], "c": ["z"]}, "cells": [{"arm": "m", "at": [*"xyz"], "seed": 0}]})
    assert (grid.down, grid.across, dict(grid.arms)) == ("a, b", "c", {("x-y", "z"): ("m",)})


def test_the_terminal_shows_a_place_with_its_further_seeds_and_the_other_arms() -> None:
    means = {
        "base": 0.5,
        "all-w0": 0.6,
        "all-full": 0.9,
        "outcome-w0": 0.7,
        "outcome-full": 0.8,
        "all-full-seed7": 0.85,
    }
    lines = shown({"arms": figures(means), "sweep": swept()}).splitlines()
    assert "success" in lines[0] and "groceries" in lines[0]
    assert lines[3].split() == ["all", "0.600", "0.900"]
    assert lines[4].split() == ["±0.010", "±0.010"]
    assert lines[5].split() == ["0.850"]
    assert lines[-1].split() == ["base", "0.500"]


def test_a_cell_that_was_not_trained_leaves_its_place_empty() -> None:
    means = {"all-w0": 0.6, "outcome-w0": 0.7, "outcome-full": 0.8}
    text = shown({"arms": figures(means), "sweep": swept()})
    assert any(line.split() == ["all", "0.600", "–"] for line in text.splitlines())
