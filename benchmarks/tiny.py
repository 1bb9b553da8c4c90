"""How often the model that reward training starts from succeeds, by what its users volunteered.

    python benchmarks/tiny.py

Held-out goals of both tasks, the users of the training, sampled replies, nothing trained. A model that cannot use
answers is rightly taught to guess, so the base has to succeed beforehand: the last column says how often at least.
Intervals are 95 %, over goals (`groceries`) or objects (`twenty-questions`); there is none where all conversations
agree. What is played is kept in `runs/tiny-base`: a killed run goes on.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from duologue.journal import write_atomically
from duologue.recipe import load_recipe
from duologue.run import evaluate

RECIPE = Path(__file__).parents[1] / "recipes" / "headline.toml"
NAME = "tiny-base"


@dataclass(frozen=True)
class Figure:
    """A figure of the evaluation, whom it is about, and what it should reach."""

    task: str
    volunteered: str
    name: str
    bound: float | None = None


FIGURES = (
    Figure("groceries", "everything", "success_when_complete", 0.95),
    Figure("groceries", "not all that matters", "success_when_missing"),
    Figure("twenty-questions", "all eight facts", "success_complete", 0.95),
    Figure("twenty-questions", "three facts", "success_partial", 0.5),
    Figure("twenty-questions", "nothing", "success_none"),
)


def main() -> None:
    """Play, and print a row a kind of goal."""
    arguments = _arguments()
    evaluation = evaluate(load_recipe(RECIPE, _changes(arguments)), arguments.runs / NAME, watch=_watch)
    rows = list(measured(evaluation))
    _print(rows, arguments.model)
    if arguments.output:
        write_atomically(arguments.output, json.dumps({"model": arguments.model, "figures": rows}, indent=1) + "\n")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="tiny", help='"tiny" or a folder')
    parser.add_argument("--conversations", type=int, default=1500, help="a task")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="the figures as JSON")
    return parser.parse_args()


def _changes(arguments: argparse.Namespace) -> list[str]:
    """What makes the recipe an evaluation of its base alone."""
    return [
        f"name={NAME}",
        f"seed={arguments.seed}",
        f"assistant.model={arguments.model}",
        "train=[]",
        "arms={}",
        'evaluate.arms=["base"]',
        'evaluate.decoding=["sampled"]',
        "evaluate.users={}",
        f"evaluate.conversations={arguments.conversations}",
    ]


def _watch(job: str, done: int, total: int, what: str) -> None:
    if done == total:
        print(f"{job}: {total} {what}", flush=True)


def measured(evaluation: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Each figure with its interval, and how many conversations it is about."""
    for figure in FIGURES:
        found = evaluation["arms"]["base"][figure.task]["train"][figure.name]
        yield {**asdict(figure), **{key: found[key] for key in ("mean", "low", "high", "n")}}


def _print(rows: list[dict[str, Any]], model: str) -> None:
    table = Table(title=f"{model} before reward training", title_justify="left")
    for column in ("task", "volunteered", "success", "conversations", "at least"):
        table.add_column(column, justify="left" if column in ("task", "volunteered") else "right")
    for row in rows:
        bound = "" if row["bound"] is None else f"{row['bound']:.2f}"
        table.add_row(row["task"], row["volunteered"], _shown(row), str(row["n"]), bound)
    Console(width=110).print(table)


def _shown(row: dict[str, Any]) -> str:
    if row["mean"] is None:
        return "–"
    ends = "" if row["low"] is None else f" [{row['low']:.3f}, {row['high']:.3f}]"
    return f"{row['mean']:.3f}{ends}"


if __name__ == "__main__":
    main()
