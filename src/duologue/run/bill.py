"""What a run's calls to endpoints amount to: its own, its parts', and those of machines that are gone."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import Any

from duologue.journal import Journal
from duologue.run.endpoints import calls_made
from duologue.run.folder import RunFolder


def all_calls(run: RunFolder, ledgers: Iterable[Path] = ()) -> list[dict[str, Any]]:
    """The calls of a run by role and model, as `calls_made` has those of one ledger.

    Args:
        ledgers: of the run's parts, where it was merged from some.
    """
    totals: dict[tuple[str, str], dict[str, Any]] = {}
    told = (total for entry in Journal(run.journal).read("calls") for total in entry.value["totals"])
    for total in chain(*map(calls_made, (run.calls, *ledgers)), told):
        found = totals.setdefault((total["role"], total["model"]), dict.fromkeys(total, 0))
        found |= {name: value if isinstance(value, str) else found[name] + value for name, value in total.items()}
    return [totals[key] for key in sorted(totals)]
