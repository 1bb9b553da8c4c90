"""The commands that read goals and write data and models."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from duologue.cli.options import RUNS, Json, Name, NoCache, Overrides, Quiet, RecipeFile, Runs
from duologue.cli.terminal import bills, opened_recipe, progress

if TYPE_CHECKING:
    from duologue.run.building import Product

LOST_SHOWN = 5
"""Lost conversations that are printed."""


def build(
    recipe: RecipeFile,
    export: Annotated[
        list[str] | None,
        typer.Option(help="Write a published layout, too: collabllm or collabllm-nested.", metavar="LAYOUT"),
    ] = None,
    push_to_hub: Annotated[
        str | None,
        typer.Option("--push-to-hub", help="Put it on the Hugging Face hub, by your HF_TOKEN.", metavar="OWNER/NAME"),
    ] = None,
    set_: Overrides = None,
    name: Name = None,
    runs: Runs = RUNS,
    no_cache: NoCache = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Make conversations with rewarded candidates at every turn, and write them as a data set.

    Example: duologue build recipes/build.toml --set build.conversations=50
    """
    from duologue.run import build as run_build

    settings = opened_recipe(recipe, set_, name)
    folder = runs / settings.name
    with progress(quiet or as_json) as watch:
        product = run_build(
            settings, folder, layouts=export or (), repository=push_to_hub, cached=not no_cache, watch=watch
        )
    if as_json:
        sys.stdout.write(json.dumps(product.to_json(), indent=1) + "\n")
    elif not quiet:
        sys.stdout.write("".join(f"{line}\n" for line in _product(product)))


def _product(product: Product) -> Iterator[str]:
    """What was made, and what was not."""
    summary, pairs = product.summary, product.summary.pairs
    ended = ", ".join(f"{count:,} {ending}" for ending, count in sorted(summary.endings.items())) or "none"
    yield f"{summary.finished:,} of {product.planned:,} conversations finished ({ended}); {summary.turns:,} turns"
    for name, rows in summary.sets.items():
        yield f"  {name:<16} {rows['train']:>8,} train {rows['test']:>8,} test"
    yield (
        f"pairs: {pairs['kept']:,} kept, {pairs['within_noise']:,} within the noise; turns without: "
        f"{pairs['tied']:,} tied, {pairs['identical']:,} with equal replies, {pairs['unscored']:,} not scored"
    )
    for each in product.lost[:LOST_SHOWN]:
        yield f"lost: {each.task} · {each.goal} · visit {each.visit}: {each.why}"
    if len(product.lost) > LOST_SHOWN:
        yield f"… and {len(product.lost) - LOST_SHOWN:,} more; dataset.json lists all. The same command tries again"
    yield from bills(product.calls)
    yield f"data set: {product.folder}"
    if product.commit is not None:
        yield f"on the hub: {product.commit}"


def verl(
    recipe: RecipeFile,
    output: Annotated[Path, typer.Option(help="The folder to write.")],
    train: Annotated[int, typer.Option(min=1, help="Prompts to train on.")] = 1024,
    test: Annotated[int, typer.Option(min=1, help="Prompts to validate on, at most.")] = 64,
    deepest: Annotated[int, typer.Option(min=0, help="Turns that the policy plays before a candidate, at most.")] = 2,
    set_: Overrides = None,
    no_cache: NoCache = False,
) -> None:
    """Write what verl needs to train with a recipe's reward on Ray: prompts and the agent loop (docs/verl.md).

    Example: duologue verl recipes/quickstart.toml --output runs/verl --train 2048
    """
    from duologue.run.prompts import commonest, write_inputs

    settings = opened_recipe(recipe, set_, None)
    made = write_inputs(settings, output, train=train, test=test, deepest=deepest, cached=not no_cache)
    if made.left_out:
        sys.stderr.write(f"left out, since no user began: {len(made.left_out)}, mostly: {commonest(made.left_out)}\n")
    sys.stdout.write(f"{made.folder}: {made.train} prompts to train on, {made.test} to validate on, agent.yaml\n")


def goals(
    task: Annotated[str, typer.Argument(help="A task that has data behind it.", show_default=False)],
    path: Annotated[str, typer.Option(help='Rows as they were published: a file, a folder, "hub", "hub:owner/name".')],
    output: Annotated[Path, typer.Option(help="Write JSON lines here; what is there already is not made again.")],
    endpoint: Annotated[str | None, typer.Option(help="The address of who prepares them.", metavar="URL")] = None,
    model: Annotated[str | None, typer.Option(help="The model there.")] = None,
    recipe: Annotated[Path | None, typer.Option(help="Check programs in the [sandbox] of this recipe.")] = None,
    split: Annotated[str | None, typer.Option(help="Only goals to train on, or to test on.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only so many, the first.")] = None,
    api_key_env: Annotated[str | None, typer.Option(help="The environment variable that holds the key.")] = None,
    in_flight: Annotated[int, typer.Option(min=1, help="Calls under way at a time.")] = 64,
    quiet: Quiet = False,
) -> None:
    """Have a model prepare a task's goals, once: a summary in place of a text, a request in pieces.

    Goals of programs are checked before: their own solution has to pass their tests. Without a model that is all.

    Example: duologue goals document-chat --path hub --endpoint http://127.0.0.1:8000/v1 --model large
    --limit 600 --output goals.jsonl
    """
    from duologue.recipe import load_recipe
    from duologue.run.goals import make_goals, preparing_endpoint

    served = preparing_endpoint(endpoint, api_key_env, in_flight) if endpoint is not None else None
    boxed = load_recipe(recipe).sandbox if recipe is not None else None
    with progress(quiet) as watch:
        unmade = make_goals(
            task,
            path,
            output,
            endpoint=served,
            model=model,
            sandbox=boxed,
            split=split,
            limit=limit,
            watch=lambda done, total: watch("goals", done, total, "goals"),
        )
    for each in unmade:
        sys.stderr.write(f"not made: {each.goal} ({each.where}): {each.why}\n")
    if not quiet:
        sys.stderr.write(f"{output} has the goals{f', {len(unmade)} could not be made' if unmade else ''}\n")
    if unmade:
        raise typer.Exit(1)


def export(
    source: Annotated[str, typer.Argument(help="A run's folder, or a model's.", show_default=False)],
    output: Annotated[Path, typer.Option(help="The folder to write; it must not hold anything.")],
    arm: Annotated[str, typer.Option(help="Which of a run's arms.")] = "trained",
) -> None:
    """Write a trained model as one whole: an adapter is added to the weights that it stands on.

    Example: duologue export runs/quickstart --output my-model
    """
    from duologue.run.export import export as write

    write(source, output, arm)
    sys.stderr.write(f"{output} has the model\n")
