"""The commands that look before anything starts: what there is, what works, what it will cost."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from duologue.cli.options import Json, Overrides, RecipeFile
from duologue.cli.terminal import opened_recipe

if TYPE_CHECKING:
    from duologue.metrics import MetricFactory
    from duologue.recipe import Recipe
    from duologue.run.doctor import Finding
    from duologue.tasks import Task

ESSENTIAL = ("answers", "fills in forms", "holds")
"""Findings of `doctor` without which nothing will work."""


def doctor(recipe: RecipeFile, set_: Overrides = None, as_json: Json = False) -> None:
    """Ask every endpoint of a recipe a few small things: what works, what does not, what to change.

    Example: duologue doctor my_recipe.toml
    """
    from dataclasses import asdict

    from duologue.run.doctor import examine

    findings: list[Finding] = []
    asked: tuple[str, str] | None = None
    for finding in examine(opened_recipe(recipe, set_, None)):
        findings.append(finding)
        if not as_json and (finding.endpoint, finding.model) != asked:
            asked = (finding.endpoint, finding.model)
            sys.stdout.write(f"{finding.endpoint} · {finding.model} ({', '.join(finding.roles)})\n")
        if not as_json:
            sys.stdout.write(_diagnosis(finding))
            sys.stdout.flush()
    if as_json:
        sys.stdout.write(json.dumps([asdict(finding) for finding in findings], indent=1) + "\n")
    if any(finding.works is False and finding.question.startswith(ESSENTIAL) for finding in findings):
        raise typer.Exit(1)


def _diagnosis(finding: Finding) -> str:
    mark = {True: "works", False: "FAILS", None: "–"}[finding.works]
    advice = f"\n{'':24}→ {finding.advice}" if finding.advice else ""
    return f"  {finding.question:<14}  {mark:<5}  {finding.said}{advice}\n"


def cost(
    recipe: RecipeFile,
    parameters: Annotated[
        list[str] | None,
        typer.Option(help="The size of the assistant's model, or of MODEL: 8e9.", metavar="[MODEL=]N"),
    ] = None,
    gpu_flops: Annotated[float, typer.Option(help="What a GPU computes a second at most; an A100 in bf16.")] = 3.12e14,
    utilisation: Annotated[float, typer.Option(help="The share of it that reading and learning reach.")] = 0.4,
    tokens_per_second: Annotated[
        float | None, typer.Option(help="What a GPU writes of the assistant's model, where you measured it.")
    ] = None,
    gpu_price: Annotated[float | None, typer.Option(help="Of a GPU's hour.")] = None,
    set_: Overrides = None,
    as_json: Json = False,
) -> None:
    """Estimate the calls, tokens, GPU hours and money of a recipe; nothing is started, and nobody is asked.

    Example: duologue cost recipes/qwen-one-gpu.toml --parameters 1.7e9 --parameters Qwen/Qwen3-4B-Instruct-2507=4e9
    """
    from duologue.run.cost import Hardware, estimate, sizes_given
    from duologue.run.cost_tables import lines, sentences, to_json

    settings = opened_recipe(recipe, set_, None)
    sizes = sizes_given(parameters or (), settings.assistant.model)
    hardware = Hardware(gpu_flops, utilisation, tokens_per_second, gpu_price, sizes)
    rows = estimate(settings, hardware)
    if as_json:
        sys.stdout.write(json.dumps(to_json(rows), indent=1) + "\n")
        return
    sys.stdout.writelines(f"{line}\n" for line in (*lines(rows), *sentences(rows, hardware, settings.budget)))


def tasks(as_json: Json = False) -> None:
    """The tasks that a recipe can name.

    Example: duologue tasks
    """
    rows = _tasks()
    if as_json:
        described = {
            name: {
                "summary": t.summary,
                "metrics": list(t.metrics),
                "profiles": list(t.profiles),
                "prompts": list(t.prompts),
            }
            for name, t in rows.items()
        }
        sys.stdout.write(json.dumps(described, indent=1) + "\n")
        return
    for name, t in rows.items():
        named = ", ".join(t.metrics) or "those that the recipe names"
        sys.stdout.write(f"{name}\n    {t.summary}\n    metrics: {named}; users: {', '.join(t.profiles)}\n")


def metrics(
    recipe: Annotated[Path | None, typer.Argument(help="A recipe: its own, as they are in force.")] = None,
    set_: Overrides = None,
    as_json: Json = False,
) -> None:
    """The metrics that a recipe can name: everybody's, then each task's own. Or what a recipe's reward is made of.

    Example: duologue metrics recipes/quickstart.toml
    """
    from duologue.metrics import METRICS

    if recipe is not None:
        _show_reward(opened_recipe(recipe, set_, None), as_json=as_json)
        return

    rows = {name: _described(factory) for name, factory in METRICS.items()}
    for task, settings in _tasks().items():
        own = {name: weighted for name, weighted in settings.metrics.items() if name not in METRICS}
        rows |= {f"{task}: {name}": _described(weighted.factory) for name, weighted in own.items()}
    if as_json:
        sys.stdout.write(json.dumps(rows, indent=1) + "\n")
        return
    for name, row in rows.items():
        options = f"\n    options: {', '.join(row['options'])}" if row["options"] else ""
        sys.stdout.write(f"{name}\n    {row['summary']}{options}\n")


def _show_reward(recipe: Recipe, *, as_json: bool) -> None:
    """Print the parts of a recipe's reward by task: weights, and options with what was not given filled in."""
    from duologue.run.filter import OWN_GOALS

    tasks = recipe.tasks() if recipe.task else (OWN_GOALS,)
    parts = {task.name: recipe.reward.of(task) for task in tasks}
    if as_json:
        rows = {
            task: {name: {"weight": part.weight, "options": part.in_force} for name, part in found.items()}
            for task, found in parts.items()
        }
        sys.stdout.write(json.dumps(rows, indent=1) + "\n")
        return
    for task, found in parts.items():
        sys.stdout.write(f"{task}\n")
        for name, part in found.items():
            options = "".join(f", {option} = {json.dumps(value)}" for option, value in part.in_force.items())
            sys.stdout.write(f"    {name} = {{ weight = {part.weight}{options} }}\n")


def _tasks() -> dict[str, Task]:
    """Ours, and those of installed packages, by name."""
    from importlib.metadata import entry_points

    from duologue.tasks import TASKS, load_task

    plugins = (point.name for point in entry_points(group="duologue.tasks"))
    return {name: load_task(name) for name in dict.fromkeys((*TASKS, *plugins))}


def _described(factory: MetricFactory) -> dict[str, Any]:
    import inspect

    from duologue.metrics.base import SUPPLIED

    return {
        "summary": (inspect.getdoc(factory) or "").split("\n\n")[0],
        "options": [p for p in inspect.signature(factory).parameters if p not in SUPPLIED],
    }
