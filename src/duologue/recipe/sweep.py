"""`[sweep]`: many arms from a few choices.

    [sweep.axes.window]
    w0 = { reward.window = 0 }
    full = { reward.window = "full" }

Every combination of the axes' choices is a *cell*: an arm, as if `[arms.NAME]` had been written for it. All cells
are trained from the same start and evaluated together, on the same goals with the same luck.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import Annotated, Any

from pydantic import Field

from duologue.errors import RecipeError, nearest
from duologue.recipe.overrides import Table, merged
from duologue.recipe.tables import FolderName
from duologue.settings import Settings

COMMON = ("name", "seed", "evaluate", "build", "run", "scale", "budget", "arms", "sweep")
"""Keys of a recipe that no axis changes; for training seeds there is `seeds`."""


@dataclass(frozen=True)
class Cell:
    """A combination of the axes' choices, trained with one seed."""

    arm: str
    """Its name as an arm."""
    at: tuple[str, ...]
    """Its choice on each axis."""
    seed: int
    changes: Table
    """The keys of the recipe that it changes."""


class SweepSettings(Settings):
    """`[sweep]`."""

    axes: dict[FolderName, dict[FolderName, Table]] = Field(min_length=1)
    """`[sweep.axes.NAME]`: choices by name, each the keys of the recipe that it changes."""
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = ()
    """Training seeds besides the recipe's own."""
    repeated: tuple[str, ...] | None = None
    """Cells that are trained with those seeds, too; left out, all."""
    against: tuple[str, ...] = ()
    """Cells that every other cell of the same seed is compared with."""

    def cells(self, seed: int) -> tuple[Cell, ...]:
        """All cells, with the recipe's seed, in the order of the axes; then with each further one.

        Args:
            seed: the recipe's.
        """
        first = [self._cell(at, seed) for at in product(*self.axes.values())]
        again = [cell for cell in first if self.repeated is None or cell.arm in self.repeated]
        return (*first, *(_with_seed(cell, further) for further in self.seeds for cell in again))

    def _cell(self, at: tuple[str, ...], seed: int) -> Cell:
        changes: Table = {}
        for choices, choice in zip(self.axes.values(), at, strict=True):
            changes = merged(changes, choices[choice])
        return Cell("-".join(at), at, seed, changes)


def _with_seed(cell: Cell, seed: int) -> Cell:
    return Cell(f"{cell.arm}-seed{seed}", cell.at, seed, {**cell.changes, "seed": seed})


def _faults(sweep: SweepSettings, seed: int) -> Iterator[str]:
    """What is wrong with a sweep, a sentence a fault."""
    for axis, choices in sweep.axes.items():
        if not choices:
            yield f"axes.{axis} has no choices: add one, like w2 = {{ reward.window = 2 }}"
        for choice, changes in choices.items():
            common = ", ".join(key for key in COMMON if key in changes)
            if common:
                yield f"axes.{axis}.{choice} changes what all cells have in common ({common}): write it outside [sweep]"
    names = ["-".join(at) for at in product(*sweep.axes.values())]
    yield from (f'two cells would be called "{name}": rename a choice' for name in _twice(names))
    for key, cells in (("repeated", sweep.repeated or ()), ("against", sweep.against)):
        yield from (f'{key}: there is no cell "{name}"{nearest(name, names)}' for name in cells if name not in names)
    yield from (f"seeds: {each} stands there twice" for each in _twice(sweep.seeds))
    if seed in sweep.seeds:
        yield f"seeds: {seed} is the recipe's own, with which every cell is trained: name others"


def _twice(values: Iterable[Any]) -> list[Any]:
    values = list(values)
    return sorted({value for value in values if values.count(value) > 1})


def with_cells(table: Table, sweep: SweepSettings, seed: int, taken: Iterable[str], where: str) -> Table:
    """A recipe's table with an arm for every cell of its sweep, evaluated after those that it names itself.

    Args:
        taken: names that arms have already.

    Raises:
        RecipeError: the sweep contradicts itself; a cell is called as an arm that there is.
    """
    for fault in _faults(sweep, seed):
        raise RecipeError(f"{where}: sweep: {fault}")
    cells = {cell.arm: cell.changes for cell in sweep.cells(seed)}
    arms: Table = table.get("arms", {})
    for name, changes in cells.items():
        if name in taken or arms.get(name, changes) != changes:
            raise RecipeError(f'{where}: sweep: a cell would be called as the arm "{name}": rename a choice')
    evaluate: Table = table.get("evaluate", {})
    listed = dict.fromkeys((*evaluate.get("arms", ("base",)), *cells))
    return {**table, "arms": {**arms, **cells}, "evaluate": {**evaluate, "arms": list(listed)}}
