"""The commands that make a run, go on with it, and report on it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from duologue.cli.options import RUNS, Json, Name, NoCache, OneShard, Overrides, Quiet, RecipeFile, Restart, Runs
from duologue.cli.terminal import opened_recipe, progress, show, shown_anyway, warn
from duologue.errors import RecipeError

if TYPE_CHECKING:
    from duologue.recipe import Recipe


def train(
    recipe: RecipeFile,
    set_: Overrides = None,
    name: Name = None,
    runs: Runs = RUNS,
    restart: Restart = False,
    no_cache: NoCache = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Train the recipe's arms, evaluate them, and write a report.

    Example: duologue train recipes/quickstart.toml --set reward.samples=2 --name two
    """
    from duologue.run import train as run_train
    from duologue.run.together import accompany
    from duologue.training.launch import launched

    settings = opened_recipe(recipe, set_, name)
    folder = runs / settings.name
    if (launch := launched()) is not None and launch.rank > 0:
        accompany(settings, folder)
        return
    warn(settings)
    with shown_anyway(folder, quiet=quiet, as_json=as_json), progress(quiet or as_json) as watch:
        evaluation = run_train(settings, folder, restart=restart, cached=not no_cache, watch=watch)
    show(evaluation, folder, quiet=quiet, as_json=as_json)


def sweep(
    recipe: RecipeFile,
    set_: Overrides = None,
    name: Name = None,
    runs: Runs = RUNS,
    restart: Restart = False,
    no_cache: NoCache = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Train every cell of a sweep, evaluate all of them together, and draw the grid.

    Example: duologue sweep recipes/ablations/samples.toml --set run.processes=2
    """
    from duologue.run.sweep import sweep as run_sweep

    settings = opened_recipe(recipe, set_, name)
    folder = runs / settings.name
    warn(settings)
    with shown_anyway(folder, quiet=quiet, as_json=as_json), progress(quiet or as_json) as watch:
        swept = run_sweep(settings, folder, restart=restart, cached=not no_cache, watch=watch)
    show(swept.evaluation, folder, quiet=quiet, as_json=as_json)
    for arm, error in swept.failures.items():
        sys.stderr.write(f"duologue: not trained: {arm}: {error}\n")
    if swept.failures:
        raise typer.Exit(1)


def evaluate(
    recipe: RecipeFile,
    set_: Overrides = None,
    name: Name = None,
    runs: Runs = RUNS,
    restart: Restart = False,
    no_cache: NoCache = False,
    shard: OneShard = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Evaluate the recipe's arms, without training any.

    Example: duologue evaluate recipes/quickstart.toml --set evaluate.arms='["base", "proactive", "oracle"]'
    """
    from duologue.run import evaluate as run_evaluate

    settings = opened_recipe(recipe, set_, name)
    folder = runs / settings.name
    if shard is not None:
        _evaluate_shard(settings, folder, shard, restart=restart, cached=not no_cache, quiet=quiet or as_json)
        return
    warn(settings)
    with shown_anyway(folder, quiet=quiet, as_json=as_json), progress(quiet or as_json) as watch:
        evaluation = run_evaluate(settings, folder, restart=restart, cached=not no_cache, watch=watch)
    show(evaluation, folder, quiet=quiet, as_json=as_json)


def _evaluate_shard(settings: Recipe, folder: Path, text: str, *, restart: bool, cached: bool, quiet: bool) -> None:
    from duologue.run.commands import evaluate_shard, losses_of_shard
    from duologue.run.shards import Shard

    shard = Shard.parse(text)
    if restart:
        raise RecipeError(f"--restart is for whole runs: delete {shard.folder(folder)} to play this shard anew")
    with progress(quiet) as watch:
        part = evaluate_shard(settings, folder, shard, cached=cached, watch=watch)
    if not quiet:
        if told := losses_of_shard(settings, part):
            sys.stderr.write(f"{told}. The same command tries them again\n")
        sys.stderr.write(
            f"shard {shard} is in {part}; figures need all {shard.of}: "
            f"duologue merge {folder}.*-of-{shard.of} --output {folder}\n"
        )


def merge(
    parts: Annotated[list[Path], typer.Argument(help="Folders of evaluate --shard, or files of reward --shard.")],
    output: Annotated[Path, typer.Option(help="The run's folder, or the file, that they become.")],
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Join what --shard divided: run folders with their figures and report, or files of rewards.

    Example: duologue merge runs/quickstart.*-of-8 --output runs/quickstart
    """
    from duologue.run.merge import merge_rewards, merge_runs

    if parts[0].is_dir():
        with shown_anyway(output, quiet=quiet, as_json=as_json):
            evaluation = merge_runs(parts, output)
        show(evaluation, output, quiet=quiet, as_json=as_json)
        return
    lines = merge_rewards(parts, output)
    if not quiet:
        sys.stderr.write(f"{lines} lines merged in {output}\n")


def report(
    run: Annotated[Path, typer.Argument(help="A run's folder.", show_default=False)],
) -> None:
    """Write a run's report.html.

    Example: duologue report runs/quickstart
    """
    from duologue.run import report as run_report

    sys.stdout.write(f"{run_report(run)}\n")
