"""What a run's calls to endpoints amount to: its own, its parts', and those of machines that are gone."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import Any

from duologue.journal import Journal
from duologue.recipe import Recipe
from duologue.run.endpoints import calls_made
from duologue.run.folder import RunFolder

LEAST = 1e-9
"""What stands for nothing, which no budget is."""


def all_calls(run: RunFolder, ledgers: Iterable[Path] = ()) -> list[dict[str, Any]]:
    """The calls of a run by role and model, as `calls_made` has those of one ledger.

    Args:
        ledgers: of the run's parts, where it was merged from some.
    """
    totals: dict[tuple[str, str], dict[str, Any]] = {}
    told = (total for entry in Journal(run.journal).read("calls") for total in entry.value["totals"])
    own = (run.calls, *sorted(run.path.glob("calls.*.sqlite")))
    for total in chain(*map(calls_made, (*own, *ledgers)), told):
        found = totals.setdefault((total["role"], total["model"]), dict.fromkeys(total, 0))
        found |= {name: value if isinstance(value, str) else found[name] + value for name, value in total.items()}
    return [totals[key] for key in sorted(totals)]


def budgets(recipe: Recipe, run: RunFolder, processes: int) -> list[float | None]:
    """What the calls of each of some processes may cost, what they did already among it; None where there is no limit.

    What the run may still spend is divided among them.
    """
    if recipe.budget is None:
        return [None] * processes
    spent = [_cost(run.calls_of(rank)) for rank in range(processes)]
    left = max(recipe.budget - sum(total["cost"] for total in all_calls(run)), LEAST)
    return [own + left / processes for own in spent]


def _cost(ledger: Path) -> float:
    return sum(total["cost"] for total in calls_made(ledger))
