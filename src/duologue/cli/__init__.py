"""The command line: each command is one call into `duologue.run`.

Exit codes: 0 done; 1 it could not be done; 2 the recipe, the input or the command is wrong; 130 interrupted
(the same command goes on).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import typer

from duologue.cli.checks import cost, doctor, metrics, tasks
from duologue.cli.data import build, export, goals, verl
from duologue.cli.replies import chat, judge_check, reward, simulate
from duologue.cli.runs import evaluate, merge, report, sweep, train
from duologue.errors import DataError, DuologueError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Train, measure, study and serve language models as partners in conversation.",
    epilog="First try: duologue train recipes/quickstart.toml. Exit codes: 0 done, 1 failed, 2 wrong input, "
    "130 interrupted (the same command goes on).",
)

GO_ON = ("train", "sweep", "evaluate", "build", "reward", "merge", "goals")
"""Commands that go on from what an interrupted one did."""
INTERRUPTED = 130
"""What typer makes of Ctrl-C."""
COMMANDS = (
    *(train, sweep, evaluate, merge, simulate, reward, judge_check, build, verl),
    *(report, chat, export, doctor, cost, goals, tasks, metrics),
)
"""In the order of `--help`."""
for command in COMMANDS:
    app.command(command.__name__.replace("_", "-"))(command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; what goes wrong is said in a sentence."""
    try:
        app(args=list(arguments) if arguments is not None else None, prog_name="duologue", standalone_mode=True)
    except DuologueError as error:
        sys.stderr.write(f"duologue: {error}\n")
        sys.exit(error.exit_code)
    except OSError as error:
        sys.stderr.write(f"duologue: {error.filename or 'the system'}: {error.strerror or error}\n")
        sys.exit(1)
    except SystemExit as stop:
        if stop.code == INTERRUPTED:
            command = next(iter(sys.argv[1:] if arguments is None else arguments), "")
            kept = "; what is done is kept, and the same command goes on" if command in GO_ON else ""
            sys.stderr.write(f"duologue: interrupted{kept}\n")
        raise
    except Exception as error:
        _blame_task(error)
        raise


def _blame_task(error: Exception) -> None:
    """Say it in a sentence where the fault is in a task's own code, not in ours."""
    from duologue.tasks import fault_outside

    if told := fault_outside(error):
        sys.stderr.write(f"duologue: {told}\n")
        sys.exit(DataError.exit_code)
