"""The cells of a sweep in its evaluation: where each stands, and which arms are compared."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from duologue.evaluation import Family
from duologue.recipe import Cell, Recipe, SweepSettings


def placed(sweep: SweepSettings, seed: int) -> dict[str, Any]:
    """What `evaluation.json` has under "sweep": the axes, and each cell's choices and seed.

    Args:
        seed: the recipe's.
    """
    return {
        "axes": {axis: list(choices) for axis, choices in sweep.axes.items()},
        "against": list(sweep.against),
        "cells": [{"arm": cell.arm, "at": list(cell.at), "seed": cell.seed} for cell in sweep.cells(seed)],
    }


def compared(recipe: Recipe) -> tuple[tuple[str, str], ...] | None:
    """(arm, against) for what an evaluation of a sweep compares; None where the recipe has none.

    The family's arm is compared with the cells of the recipe's seed; each cell with those of `against` that were
    trained with its own seed; both with the arms that are no cells. Cells of different seeds are not compared.
    """
    if recipe.sweep is None:
        return None
    cells = recipe.sweep.cells(recipe.seed)
    names = {cell.arm for cell in cells}
    others = [arm for arm in recipe.evaluate.arms if arm not in names]
    lead = recipe.evaluate.family.arm
    first = [cell.arm for cell in cells if cell.seed == recipe.seed]
    pairs = [(lead, other) for other in (*others, *first)] if lead in recipe.evaluate.arms else []
    pairs += _against(cells, recipe.sweep.against)
    pairs += [(cell.arm, other) for other in others if other != Family().oracle for cell in cells]
    pairs += [(other, Family().base) for other in others]
    return tuple(dict.fromkeys((arm, against) for arm, against in pairs if arm != against))


def _against(cells: tuple[Cell, ...], against: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Each cell, and those of `against` with its own seed."""
    arms = {(cell.at, cell.seed): cell.arm for cell in cells}
    places = {cell.arm: cell.at for cell in cells}
    for name in against:
        yield from ((cell.arm, twin) for cell in cells if (twin := arms.get((places[name], cell.seed))) is not None)
