"""Which learning rate offline DPO should have, by what its models earn on training goals.

    python benchmarks/dpo_rate.py
    python benchmarks/dpo_rate.py --conversations 50 --set arms.dpo.train.0.states=60 --runs runs/small

An arm a rate: the recipe's `dpo` with nothing changed but the rate, from a seed that no reported run has (so pairs,
users and luck are others). Every arm then plays the same training goals with sampled replies; the rate with the
highest reward, the tasks' mean, is chosen. Held-out goals have no part in it. Intervals are 95 %, over goals
(`groceries`) or objects (`twenty-questions`). What is done is kept in `runs/dpo-rate`: a killed run goes on.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

from rich.console import Console
from rich.table import Table

from duologue.journal import write_atomically
from duologue.recipe import Recipe, load_recipe, parse
from duologue.run import train
from duologue.tasks import Task, load_task

RECIPE = Path(__file__).parents[1] / "recipes" / "headline.toml"
NAME = "dpo-rate"
RATES = (5e-5, 1.5e-4, 5e-4)
SHOWN = ("success", "reward")


def on_training_goals(name: str) -> Task:
    """A task whose evaluation is about the goals of its training."""
    task = load_task(name)
    return replace(task, goal_maker=lambda _: task.goals("train"))


GROCERIES = on_training_goals("groceries")
TWENTY_QUESTIONS = on_training_goals("twenty-questions")


def main() -> None:
    """Train an arm a rate, play, and print a row a rate."""
    arguments = _arguments()
    settings = recipe(arguments)
    evaluation = train(settings, arguments.runs / NAME, watch=_watch)
    rows = measured(evaluation, {"base": None} | {_arm(rate): rate for rate in arguments.rates})
    best = max((row for row in rows if row["rate"] is not None), key=lambda row: row["reward"])
    _print(rows, best)
    if arguments.output:
        write_atomically(arguments.output, json.dumps({"chosen": best["rate"], "arms": rows}, indent=1) + "\n")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rates", type=float, nargs="+", default=RATES)
    parser.add_argument("--conversations", type=int, default=500, help="an arm and task")
    parser.add_argument("--seed", type=int, default=100)
    parser.add_argument("--set", action="append", default=[], help="a recipe's key, like assistant.model=FOLDER")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--output", type=Path, help="the figures as JSON")
    return parser.parse_args()


def recipe(arguments: argparse.Namespace) -> Recipe:
    """The headline recipe with an arm a rate, evaluated on training goals."""
    plain = load_recipe(RECIPE, arguments.set).model_dump(mode="json", exclude_unset=True)
    dpo = plain["arms"]["dpo"]
    arms = {
        _arm(rate): {**dpo, "train": [{**stage, "learning_rate": rate} for stage in dpo["train"]]}
        for rate in arguments.rates
    }
    evaluate = {"conversations": arguments.conversations, "decoding": ["sampled"], "arms": ["base", *arms]}
    here = Path(__file__).resolve()
    tasks = [{"name": f"{here}:{task}"} for task in ("GROCERIES", "TWENTY_QUESTIONS")]
    changed = {"name": NAME, "seed": arguments.seed, "task": tasks, "arms": arms, "evaluate": evaluate}
    return parse({**plain, **changed}, str(RECIPE))


def _arm(rate: float) -> str:
    return f"dpo-{rate:g}"


def _watch(job: str, done: int, total: int, what: str) -> None:
    if done == total:
        print(f"{job}: {total} done ({what})", flush=True)


def measured(evaluation: Mapping[str, Any], rates: Mapping[str, float | None]) -> list[dict[str, Any]]:
    """An arm's figures by task, and its reward as the tasks' mean."""
    rows: list[dict[str, Any]] = []
    for arm, rate in rates.items():
        tasks = {
            task: {name: users["train"][name] for name in SHOWN} for task, users in evaluation["arms"][arm].items()
        }
        rows.append({"rate": rate, "reward": mean(task["reward"]["mean"] for task in tasks.values()), "tasks": tasks})
    return rows


def _print(rows: Sequence[Mapping[str, Any]], best: Mapping[str, Any]) -> None:
    table = Table(title="offline DPO on training goals", title_justify="left")
    table.add_column("learning rate")
    for task in best["tasks"]:
        for name in SHOWN:
            table.add_column(f"{task}: {name}", justify="right")
    table.add_column("reward", justify="right")
    for row in rows:
        label = "base" if row["rate"] is None else f"{row['rate']:g}{' ← chosen' if row is best else ''}"
        cells = [_shown(row["tasks"][task][name]) for task in row["tasks"] for name in SHOWN]
        table.add_row(label, *cells, f"{row['reward']:.3f}")
    Console(width=140).print(table)


def _shown(figure: Mapping[str, Any]) -> str:
    ends = "" if figure["low"] is None else f" [{figure['low']:.3f}, {figure['high']:.3f}]"
    return f"{figure['mean']:.3f}{ends}"


if __name__ == "__main__":
    main()
