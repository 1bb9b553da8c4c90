"""The commands about replies and conversations: play them, reward them, judge their judges, be the user."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from duologue.cli.options import RUNS, Json, Name, NoCache, OneShard, Overrides, Quiet, RecipeFile, Runs
from duologue.cli.terminal import billed, bills, opened_recipe, progress
from duologue.errors import DataError, NothingMeasured

if TYPE_CHECKING:
    pass


def simulate(
    recipe: RecipeFile,
    arm: Annotated[str, typer.Option(help="Whose conversations.")] = "base",
    count: Annotated[int, typer.Option(min=1, help="Conversations a task.")] = 3,
    split: Annotated[str, typer.Option(help="Goals to take: train or test.")] = "test",
    output: Annotated[Path | None, typer.Option(help="Write JSON lines here; left out, print.")] = None,
    set_: Overrides = None,
    name: Name = None,
    runs: Runs = RUNS,
    no_cache: NoCache = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Play conversations between an arm and the simulated user.

    Example: duologue simulate recipes/quickstart.toml --arm proactive --count 5
    """
    from duologue.run import simulate as run_simulate

    settings = opened_recipe(recipe, set_, name)
    if output is not None and not output.parent.is_dir():
        raise DataError(f"there is no folder {output.parent} for the output: make it first")
    seen = output is None and sys.stdout.isatty()  # then the conversations themselves tell how far it is
    folder = runs / settings.name
    with billed(folder, quiet=quiet), progress(quiet or seen) as watch:
        played = run_simulate(settings, arm, folder, count=count, split=split, cached=not no_cache, watch=watch)
        if output is not None:
            _write_rows(output, played)
            return
        for row in played:
            sys.stdout.write(json.dumps(row, ensure_ascii=False) + "\n" if as_json else _transcript(row))


def _write_rows(output: Path, rows: Iterator[dict[str, Any]]) -> None:
    """Write what was played as JSON lines, also where none of it could be measured."""
    from duologue.journal import write_atomically

    lines: list[str] = []
    nothing: NothingMeasured | None = None
    try:
        for row in rows:
            lines.append(json.dumps(row, ensure_ascii=False) + "\n")
    except NothingMeasured as error:
        nothing = error
    write_atomically(output, "".join(lines))
    if nothing is not None:
        raise nothing


def _transcript(row: dict[str, Any]) -> str:
    lines = [f"── {row['task']} · {row['goal']} · {row['request']}"]
    lines += [f"   {m['role']:>9}  {m['content']}" for m in row["messages"]]
    value = "none: " + row["error"] if row["reward"] is None else f"{row['reward']:.3f}"
    return "\n".join([*lines, f"   {row['ending']}, reward {value}", "", ""])


def reward(
    recipe: RecipeFile,
    input_: Annotated[Path, typer.Option("--input", help="JSON lines: id, goal, messages, reply.")],
    output: Annotated[Path, typer.Option(help="Where the rewards go: JSON lines, in the same order.")],
    set_: Overrides = None,
    shard: OneShard = None,
    no_cache: NoCache = False,
    quiet: Quiet = False,
) -> None:
    """The multiturn-aware reward of every reply in a file.

    Example: duologue reward recipes/quickstart.toml --input replies.jsonl --output rewards.jsonl
    """
    from duologue.run import reward as run_reward
    from duologue.run.endpoints import calls_made
    from duologue.run.filter import ledger
    from duologue.run.measured import valueless
    from duologue.run.shards import Shard

    part = Shard.parse(shard) if shard is not None else None
    with progress(quiet) as watch:
        settings = opened_recipe(recipe, set_, None)
        lines = run_reward(settings, input_, output, shard=part, cached=not no_cache, watch=watch)
    if not quiet:
        sys.stderr.writelines(f"{line}\n" for line in bills(calls_made(ledger(output))))
        sys.stderr.write(f'{lines} lines answered in {output}; a line without a value says why under "error"\n')
    if told := valueless(output):
        sys.stderr.write(f"{told}\n")


def judge_check(
    recipe: RecipeFile,
    file: Annotated[Path, typer.Argument(help="JSON lines: id, messages, grade; or against, preferred.")],
    metric: Annotated[str | None, typer.Option(help="By which to judge; left out, the reward's only one.")] = None,
    output: Annotated[Path | None, typer.Option(help="Write the figures here, too: JSON.")] = None,
    set_: Overrides = None,
    name: Name = None,
    runs: Runs = RUNS,
    no_cache: NoCache = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Measure a recipe's judges against people's grades: correlation, bias, what sways them.

    Example: duologue judge-check lab.toml graded.jsonl --metric interactivity
    """
    from duologue.journal import write_atomically
    from duologue.run.judge_check import check_judges

    settings = opened_recipe(recipe, set_, name)
    folder = runs / settings.name
    if output is not None and not output.parent.is_dir():
        raise DataError(f"there is no folder {output.parent} for the output: make it first")
    with progress(quiet or as_json) as watch:
        found = check_judges(
            settings,
            file,
            folder,
            metric=metric,
            cached=not no_cache,
            watch=lambda done, total, what: watch(what, done, total, "calls"),
        )
    text = json.dumps(found, indent=1) + "\n"
    if output is not None:
        write_atomically(output, text)
    if as_json:
        sys.stdout.write(text)
    elif not quiet:
        from duologue.evaluation.judging import told

        sys.stdout.write("".join(f"{line}\n" for row in found["judges"] for line in told(row, found["metric"])))


def chat(
    source: Annotated[str, typer.Argument(help="A run's folder, a model's folder, or \"tiny\".", show_default=False)],
    task: Annotated[str | None, typer.Option(help="Be a user of this task: you get a goal.")] = None,
    arm: Annotated[str, typer.Option(help="Which of a run's arms.")] = "trained",
    seed: Annotated[int, typer.Option(help="Which goal, and the draws of the replies.")] = 0,
) -> None:
    """Be the user yourself.

    Example: duologue chat runs/quickstart --task groceries
    """
    from duologue.run.chat import converse_with_person

    converse_with_person(source, task, arm, seed)
