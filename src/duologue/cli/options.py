"""The options that several commands take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

RecipeFile = Annotated[Path, typer.Argument(help="A recipe (TOML).", show_default=False)]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", help="Change a key of the recipe, like reward.samples=5.", metavar="KEY=VALUE"),
]
Name = Annotated[str | None, typer.Option(help="The run's name, in place of the recipe's.")]
Runs = Annotated[Path, typer.Option(help="The folder of all runs.")]
Restart = Annotated[bool, typer.Option("--restart", help="Move an earlier run of this name aside and begin anew.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress, no tables.")]
NoCache = Annotated[bool, typer.Option("--no-cache", help="Ask endpoints anew, also what they answered before.")]
OneShard = Annotated[
    str | None,
    typer.Option("--shard", help="One part of the work, by goal: 2/8 is the second of eight.", metavar="I/N"),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
RUNS = Path("runs")
