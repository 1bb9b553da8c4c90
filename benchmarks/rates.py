"""Which learning rate each arm of a recipe should have, by what its models earn on training goals.

    python benchmarks/rates.py recipes/headline.toml --arms dpo --rates 5e-5 1.5e-4 5e-4
    python benchmarks/rates.py recipes/quickstart.toml --arms trained trajectory sft-only --rates 3.5e-4 7e-4 1.4e-3

An arm with each rate: the recipe's arm with nothing changed but the learning rate of its last stage, from a seed that
no reported run has (so goals, users and luck are others). All of them, and the base, then play the same training
goals with sampled replies; of each arm, the rate with the highest reward, the tasks' mean, is chosen. Held-out goals
have no part in it. Intervals are 95 %, over what each task clusters by. What the training took stands beside.
What is done is kept in `runs/NAME-rates`: a killed run goes on.
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

from duologue.errors import RecipeError
from duologue.evaluation import Arm, Family, conversations, evaluate, summarise, visits
from duologue.journal import Journal, write_atomically
from duologue.recipe import Recipe, load_recipe, parse
from duologue.run.check import check
from duologue.run.commands import processes, training_jobs
from duologue.run.endpoints import opened
from duologue.run.evaluating import arm_wiring
from duologue.run.folder import RunFolder
from duologue.run.jobs import perform
from duologue.run.training_costs import training_costs
from duologue.run.workers import run_jobs

SEED = 100
BASE = "base"
SHOWN = ("success", "reward")
COMMON = {"name", "seed", "arms", "sweep", "evaluate", "build", "run", "scale", "budget", "train", "stop_after"}
"""Keys of a recipe that no arm with a rate has for itself."""


def main(given: Sequence[str] | None = None) -> None:
    """Train each arm with each rate, play, and print a table an arm."""
    arguments = _arguments(given)
    recipe = with_rates(load_recipe(arguments.recipe, arguments.set), arguments.arms, arguments.rates, arguments.seed)
    run = RunFolder(arguments.runs / recipe.name)
    check(recipe, recipe.evaluate.arms)
    with run.opened(recipe, restart=False):
        jobs = training_jobs(recipe, run.path, cached=True)
        run_jobs(jobs, perform, processes=processes(recipe), threads=recipe.run.threads, watch=_watch)
        play(recipe, run, arguments.conversations)
    found = measured(recipe, run, arguments)
    for arm in arguments.arms:
        _print(arm, found["arms"][arm], found[BASE])
    if arguments.output:
        write_atomically(arguments.output, json.dumps(found, indent=1) + "\n")


def _arguments(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--arms", nargs="+", default=["trained"], help="arms of the recipe, known by name or its own")
    parser.add_argument("--rates", type=float, nargs="+", required=True, help="learning rates to choose from")
    parser.add_argument("--seed", type=int, default=SEED, help="one that no reported run has")
    parser.add_argument("--conversations", type=int, default=500, help="an arm, rate and task")
    parser.add_argument("--set", action="append", default=[], help="a recipe's key, like assistant.model=FOLDER")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--output", type=Path, help="the figures as JSON")
    return parser.parse_args(given)


# ---- the recipe, with an arm a rate


def with_rates(recipe: Recipe, arms: Sequence[str], rates: Sequence[float], seed: int) -> Recipe:
    """A recipe whose arms are those given, each with each rate, and the base.

    Raises:
        RecipeError: an arm is not there, or trains nothing; the seed is the recipe's own.
    """
    if seed == recipe.seed:
        raise RecipeError(
            f"the recipe's own seed, {seed}, would choose on the luck that it reports: give another --seed"
        )
    tables = {_name(arm, rate): _table(recipe, arm, rate) for arm in arms for rate in rates}
    plain = recipe.model_dump(mode="json", exclude={"sweep"}, exclude_unset=True)
    changed = {"name": f"{recipe.name}-rates", "seed": seed, "arms": tables, "evaluate": {"arms": [BASE, *tables]}}
    return parse({**plain, **changed}, recipe.name)


def _name(arm: str, rate: float) -> str:
    return f"{arm}-{rate:g}"


def _table(recipe: Recipe, name: str, rate: float) -> dict[str, Any]:
    """The keys that make an arm with a rate."""
    arm = recipe.arm(name)
    if not arm.stages:
        raise RecipeError(f'arm "{name}" trains nothing, so there is no rate to choose')
    *before, last = (stage.model_dump(mode="json", exclude_unset=True) for stage in arm.stages)
    own = arm.model_dump(mode="json", exclude=COMMON, exclude_unset=True)
    return {**own, "train": [*before, {**last, "learning_rate": rate}], "stop_after": None}


# ---- conversations about training goals


def play(recipe: Recipe, run: RunFolder, count: int) -> None:
    """Play what the journal lacks: every arm on the same training goals, judged by the recipe's own reward."""
    journal = Journal(run.journal)
    with opened(recipe, run.calls, cached=True) as (loop, endpoints):
        for name in recipe.evaluate.arms:
            wiring = arm_wiring(recipe, name, run, endpoints)
            arm = Arm(name, {task.name: wiring.assistant(task) for task in wiring.tasks})
            for task in wiring.tasks:
                played = evaluate(
                    arm,
                    task,
                    "train",
                    recipe.user.profiles,
                    task.goals("train"),
                    seed=recipe.seed,
                    decoding="sampled",
                    scorer=replace(wiring, recipe=recipe).scorer(task),
                    journal=journal,
                    counter=wiring.counter,
                    conversations=count,
                    prefix=_key(name, task.name),
                )
                loop.run(played)
            _watch(f"play {name}", count, count, "conversations")


def _key(arm: str, task: str) -> str:
    return f"rates/{arm}/{task}/"


def _watch(job: str, done: int, total: int, what: str) -> None:
    if done == total:
        print(f"{job}: {total} done ({what})", flush=True)


# ---- what came out


def measured(recipe: Recipe, run: RunFolder, arguments: argparse.Namespace) -> dict[str, Any]:
    """By arm, a row a rate and the rate that is chosen; and the base's row."""
    journal = Journal(run.journal)
    wanted = {
        f"{_key(arm, task.name)}sampled/{goal.id}/{visit}"
        for arm in recipe.evaluate.arms
        for task in recipe.tasks()
        for goal, visit in visits(task.goals("train"), arguments.conversations)
    }
    played = (entry.value for entry in conversations(journal) if entry.key in wanted)
    figures = summarise(played, family=Family(arm=recipe.evaluate.arms[-1]), seed=recipe.seed)["arms"]
    costs = training_costs(recipe, journal)
    found: dict[str, Any] = {}
    for arm in arguments.arms:
        names = {rate: _name(arm, rate) for rate in arguments.rates}
        rows = [{"rate": rate, **_row(figures[name]), "training": costs[name]} for rate, name in names.items()]
        found[arm] = {"chosen": max(rows, key=lambda row: row["reward"])["rate"], "rates": rows}
    return {"seed": recipe.seed, BASE: _row(figures[BASE]), "arms": found}


def _row(figures: Mapping[str, Any]) -> dict[str, Any]:
    tasks = {
        task: {name: users["train"][name] for name in SHOWN if name in users["train"]}
        for task, users in figures.items()
    }
    return {"reward": mean(task["reward"]["mean"] for task in tasks.values()), "tasks": tasks}


def _print(arm: str, found: Mapping[str, Any], base: Mapping[str, Any]) -> None:
    table = Table(title=f"{arm}, on training goals", title_justify="left")
    table.add_column("learning rate")
    columns = [(task, name) for task, figures in base["tasks"].items() for name in figures]
    for task, name in columns:
        table.add_column(f"{task}: {name}", justify="right")
    for word in ("reward", "updates", "sampled tokens", "seconds"):
        table.add_column(word, justify="right")
    for row in ({"rate": None, "training": [], **base}, *found["rates"]):
        label = (
            BASE if row["rate"] is None else f"{row['rate']:g}{' ← chosen' if row['rate'] == found['chosen'] else ''}"
        )
        cells = [_shown(row["tasks"][task][name]) for task, name in columns]
        table.add_row(label, *cells, f"{row['reward']:.3f}", *_costs(row["training"]))
    Console(width=160).print(table)


def _shown(figure: Mapping[str, Any]) -> str:
    ends = "" if figure["low"] is None else f" [{figure['low']:.3f}, {figure['high']:.3f}]"
    return f"{figure['mean']:.3f}{ends}"


def _costs(stages: Sequence[Mapping[str, Any]]) -> list[str]:
    if not stages:
        return ["", "", ""]
    updates, tokens, seconds = (sum(s[key] for s in stages) for key in ("updates", "sampled_tokens", "seconds"))
    return [f"{updates:,}", f"{tokens:,}", f"{seconds:,.0f}"]


if __name__ == "__main__":
    main()
