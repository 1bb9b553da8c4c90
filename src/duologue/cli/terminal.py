"""What all commands share: how they read a recipe, show progress, print figures."""

from __future__ import annotations

import json
import sys
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from duologue.errors import NothingMeasured

if TYPE_CHECKING:
    from duologue.recipe import Recipe
    from duologue.run.commands import Watch


def opened_recipe(path: Path, overrides: Sequence[str] | None, name: str | None) -> Recipe:
    from duologue.recipe import load_recipe

    named = [f"name={json.dumps(name)}"] if name is not None else []
    return load_recipe(path, [*(overrides or ()), *named])


def warn(recipe: Recipe) -> None:
    """Say what the figures will not be safe from."""
    from duologue.run.check import warnings

    for warning in warnings(recipe):
        sys.stderr.write(f"duologue: warning: {warning}\n")


def warn_of_luck(evaluation: dict[str, Any]) -> None:
    """Say which effects are not paired."""
    from duologue.run.seeds import UNPAIRED

    for note in evaluation["notes"]:
        if note.startswith(UNPAIRED):
            sys.stderr.write(f"duologue: warning: {note.removeprefix('Warning: ')}\n")


@contextmanager
def progress(quiet: bool) -> Generator[Watch]:
    """Bars with the time left, one a job; silent when asked, or when nobody watches."""
    if quiet or not sys.stderr.isatty():
        yield _unwatched
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[what]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    bars: dict[str, Any] = {}
    with Progress(*columns, console=Console(stderr=True)) as progress:

        def watch(job: str, done: int, total: int, what: str) -> None:
            if job not in bars:
                bars[job] = progress.add_task(job, what=what)
            progress.update(bars[job], completed=done, total=total, what=what)

        yield watch


def _unwatched(job: str, done: int, total: int, what: str) -> None:
    """Nobody looks."""


@contextmanager
def shown_anyway(folder: Path, *, quiet: bool, as_json: bool) -> Generator[None]:
    """Show what there is of an evaluation that measured nothing, before it fails."""
    try:
        yield
    except NothingMeasured:
        show(json.loads((folder / "evaluation.json").read_text()), folder, quiet=quiet, as_json=as_json)
        raise


def show(evaluation: dict[str, Any], folder: Path, *, quiet: bool, as_json: bool) -> None:
    warn_of_luck(evaluation)
    if as_json:
        sys.stdout.write(json.dumps(evaluation, indent=1) + "\n")
        return
    if quiet:
        return
    from rich.console import Console

    from duologue.evaluation import tables
    from duologue.evaluation.agreement import agreement_notes
    from duologue.evaluation.grids import grid_tables

    console = Console(width=None if sys.stdout.isatty() else 120)
    for table in grid_tables(evaluation) if "sweep" in evaluation else tables(evaluation, of_oracle=True):
        console.print(table)
    for line in bills(evaluation["calls"]):
        console.print(line, highlight=False, markup=False)
    for line in (*agreement_notes(evaluation["judges"]), *troubles(evaluation)):
        console.print(line, highlight=False, markup=False)
    console.print(f"report: {folder / 'report.html'}   figures: {folder / 'evaluation.json'}", highlight=False)


def bills(calls: Sequence[dict[str, Any]]) -> Iterator[str]:
    """What the calls to endpoints amount to, a line a role and model."""
    for total in calls:
        answered = f"{total['calls']:,} calls answered, {total['cached']:,} remembered, {total['unanswered']:,} in vain"
        tokens = f"{total['prompt']:,} tokens read, {total['completion']:,} written"
        spent = f"{total['seconds']:,.0f} s, cost {total['cost']:.4f}"
        yield f"{total['role']} {total['model']}: {answered}; {tokens}; {spent}"


def troubles(evaluation: dict[str, Any]) -> Iterator[str]:
    """What did not count, and why; what outgrew the model's context."""
    for decoding, part in (("sampled", evaluation), ("greedy", evaluation["greedy"])):
        for cell in part["lost"]:
            place = f"{cell['task']} · users: {cell['users']} · {decoding}"
            why = next(iter(cell["reasons"]), "unknown")
            if cell["left_out"]:
                yield f"{place}: {cell['left_out']} of {cell['pairs']} conversations were lost, mostly: {why}"
            if cell["unscored"]:
                yield f"{place}: {cell['unscored']} of {cell['pairs']} have no reward, mostly: {why}"
    for cell in evaluation["outgrown"]:
        place = f"{cell['task']} · users: {cell['users']} · {cell['decoding']}"
        yield f"{place}: {cell['count']} conversations of {cell['arm']} outgrew the model's context and ended there"


@contextmanager
def billed(folder: Path, *, quiet: bool) -> Generator[None]:
    """Say what the calls of a run amount to when the work is done, also where it measured nothing."""
    from duologue.run.endpoints import calls_made
    from duologue.run.folder import RunFolder

    nothing: NothingMeasured | None = None
    try:
        yield
    except NothingMeasured as error:
        nothing = error
    if not quiet:
        sys.stderr.writelines(f"{line}\n" for line in bills(calls_made(RunFolder(folder).calls)))
    if nothing is not None:
        raise nothing
