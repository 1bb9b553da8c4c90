"""The command line: each command is one call into `duologue.run`.

Exit codes: 0 done; 1 it could not be done; 2 the recipe, the input or the command is wrong; 130 interrupted
(the same command goes on).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from duologue.errors import DataError, DuologueError, NothingMeasured, RecipeError

if TYPE_CHECKING:
    from duologue.metrics import MetricFactory
    from duologue.recipe import Recipe
    from duologue.run.building import Product
    from duologue.run.commands import Watch
    from duologue.run.doctor import Finding
    from duologue.tasks import Task

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Train, measure, study and serve language models as partners in conversation.",
    epilog="First try: duologue train recipes/quickstart.toml. Exit codes: 0 done, 1 failed, 2 wrong input, "
    "130 interrupted (the same command goes on).",
)

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
ESSENTIAL = ("answers", "fills in forms", "holds")
"""Findings of `doctor` without which nothing will work."""
RUNS = Path("runs")
GO_ON = ("train", "sweep", "evaluate", "build", "reward", "merge", "goals")
"""Commands that go on from what an interrupted one did."""
LOST_SHOWN = 5
"""Lost conversations that are printed."""
INTERRUPTED = 130
"""What typer makes of Ctrl-C."""


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


@app.command()
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

    settings = _recipe(recipe, set_, name)
    folder = runs / settings.name
    if (launch := launched()) is not None and launch.rank > 0:
        accompany(settings, folder)
        return
    _warn(settings)
    with _shown_anyway(folder, quiet=quiet, as_json=as_json), _progress(quiet or as_json) as watch:
        evaluation = run_train(settings, folder, restart=restart, cached=not no_cache, watch=watch)
    _show(evaluation, folder, quiet=quiet, as_json=as_json)


@app.command()
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

    settings = _recipe(recipe, set_, name)
    folder = runs / settings.name
    _warn(settings)
    with _shown_anyway(folder, quiet=quiet, as_json=as_json), _progress(quiet or as_json) as watch:
        swept = run_sweep(settings, folder, restart=restart, cached=not no_cache, watch=watch)
    _show(swept.evaluation, folder, quiet=quiet, as_json=as_json)
    for arm, error in swept.failures.items():
        sys.stderr.write(f"duologue: not trained: {arm}: {error}\n")
    if swept.failures:
        raise typer.Exit(1)


@app.command()
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

    settings = _recipe(recipe, set_, name)
    folder = runs / settings.name
    if shard is not None:
        _evaluate_shard(settings, folder, shard, restart=restart, cached=not no_cache, quiet=quiet or as_json)
        return
    _warn(settings)
    with _shown_anyway(folder, quiet=quiet, as_json=as_json), _progress(quiet or as_json) as watch:
        evaluation = run_evaluate(settings, folder, restart=restart, cached=not no_cache, watch=watch)
    _show(evaluation, folder, quiet=quiet, as_json=as_json)


def _evaluate_shard(settings: Recipe, folder: Path, text: str, *, restart: bool, cached: bool, quiet: bool) -> None:
    from duologue.run.commands import evaluate_shard, losses_of_shard
    from duologue.run.shards import Shard

    shard = Shard.parse(text)
    if restart:
        raise RecipeError(f"--restart is for whole runs: delete {shard.folder(folder)} to play this shard anew")
    with _progress(quiet) as watch:
        part = evaluate_shard(settings, folder, shard, cached=cached, watch=watch)
    if not quiet:
        if told := losses_of_shard(settings, part):
            sys.stderr.write(f"{told}. The same command tries them again\n")
        sys.stderr.write(
            f"shard {shard} is in {part}; figures need all {shard.of}: "
            f"duologue merge {folder}.*-of-{shard.of} --output {folder}\n"
        )


@app.command()
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
        with _shown_anyway(output, quiet=quiet, as_json=as_json):
            evaluation = merge_runs(parts, output)
        _show(evaluation, output, quiet=quiet, as_json=as_json)
        return
    lines = merge_rewards(parts, output)
    if not quiet:
        sys.stderr.write(f"{lines} lines merged in {output}\n")


@app.command()
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

    settings = _recipe(recipe, set_, name)
    if output is not None and not output.parent.is_dir():
        raise DataError(f"there is no folder {output.parent} for the output: make it first")
    seen = output is None and sys.stdout.isatty()  # then the conversations themselves tell how far it is
    folder = runs / settings.name
    with _billed(folder, quiet=quiet), _progress(quiet or seen) as watch:
        played = run_simulate(settings, arm, folder, count=count, split=split, cached=not no_cache, watch=watch)
        if output is not None:
            _write_rows(output, played)
            return
        for row in played:
            sys.stdout.write(json.dumps(row, ensure_ascii=False) + "\n" if as_json else _transcript(row))


@contextmanager
def _billed(folder: Path, *, quiet: bool) -> Generator[None]:
    """Say what the calls of a run amount to when the work is done, also where it measured nothing."""
    from duologue.run.endpoints import calls_made
    from duologue.run.folder import RunFolder

    nothing: NothingMeasured | None = None
    try:
        yield
    except NothingMeasured as error:
        nothing = error
    if not quiet:
        sys.stderr.writelines(f"{line}\n" for line in _costs(calls_made(RunFolder(folder).calls)))
    if nothing is not None:
        raise nothing


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


@app.command()
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
    with _progress(quiet) as watch:
        settings = _recipe(recipe, set_, None)
        lines = run_reward(settings, input_, output, shard=part, cached=not no_cache, watch=watch)
    if not quiet:
        sys.stderr.writelines(f"{line}\n" for line in _costs(calls_made(ledger(output))))
        sys.stderr.write(f'{lines} lines answered in {output}; a line without a value says why under "error"\n')
    if told := valueless(output):
        sys.stderr.write(f"{told}\n")


@app.command("judge-check")
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

    settings = _recipe(recipe, set_, name)
    folder = runs / settings.name
    if output is not None and not output.parent.is_dir():
        raise DataError(f"there is no folder {output.parent} for the output: make it first")
    with _progress(quiet or as_json) as watch:
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


@app.command()
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

    settings = _recipe(recipe, set_, name)
    folder = runs / settings.name
    with _progress(quiet or as_json) as watch:
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
    yield from _costs(product.calls)
    yield f"data set: {product.folder}"
    if product.commit is not None:
        yield f"on the hub: {product.commit}"


@app.command()
def verl(
    recipe: RecipeFile,
    output: Annotated[Path, typer.Option(help="The folder to write.")],
    train: Annotated[int, typer.Option(min=1, help="Prompts to train on.")] = 1024,
    test: Annotated[int, typer.Option(min=1, help="Prompts to validate on, at most.")] = 64,
    deepest: Annotated[int, typer.Option(min=0, help="Turns that the policy plays before a candidate, at most.")] = 2,
    set_: Overrides = None,
) -> None:
    """Write what verl needs to train with a recipe's reward on Ray: prompts and the agent loop (docs/verl.md).

    Example: duologue verl recipes/quickstart.toml --output runs/verl --train 2048
    """
    from duologue.run.prompts import write_inputs

    made = write_inputs(_recipe(recipe, set_, None), output, train=train, test=test, deepest=deepest)
    sys.stdout.write(f"{made.folder}: {made.train} prompts to train on, {made.test} to validate on, agent.yaml\n")


@app.command()
def report(
    run: Annotated[Path, typer.Argument(help="A run's folder.", show_default=False)],
) -> None:
    """Write a run's report.html.

    Example: duologue report runs/quickstart
    """
    from duologue.run import report as run_report

    sys.stdout.write(f"{run_report(run)}\n")


@app.command()
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


@app.command()
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


@app.command()
def doctor(recipe: RecipeFile, set_: Overrides = None, as_json: Json = False) -> None:
    """Ask every endpoint of a recipe a few small things: what works, what does not, what to change.

    Example: duologue doctor my_recipe.toml
    """
    from dataclasses import asdict

    from duologue.run.doctor import examine

    findings: list[Finding] = []
    asked: tuple[str, str] | None = None
    for finding in examine(_recipe(recipe, set_, None)):
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


@app.command()
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

    settings = _recipe(recipe, set_, None)
    sizes = sizes_given(parameters or (), settings.assistant.model)
    hardware = Hardware(gpu_flops, utilisation, tokens_per_second, gpu_price, sizes)
    rows = estimate(settings, hardware)
    if as_json:
        sys.stdout.write(json.dumps(to_json(rows), indent=1) + "\n")
        return
    sys.stdout.writelines(f"{line}\n" for line in (*lines(rows), *sentences(rows, hardware, settings.budget)))


@app.command()
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
    with _progress(quiet) as watch:
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


@app.command()
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


@app.command()
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
        _show_reward(_recipe(recipe, set_, None), as_json=as_json)
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


def _recipe(path: Path, overrides: Sequence[str] | None, name: str | None) -> Recipe:
    from duologue.recipe import load_recipe

    named = [f"name={json.dumps(name)}"] if name is not None else []
    return load_recipe(path, [*(overrides or ()), *named])


def _warn(recipe: Recipe) -> None:
    """Say what the figures will not be safe from."""
    from duologue.run.check import warnings

    for warning in warnings(recipe):
        sys.stderr.write(f"duologue: warning: {warning}\n")


def _warn_of_luck(evaluation: dict[str, Any]) -> None:
    """Say which effects are not paired."""
    from duologue.run.seeds import UNPAIRED

    for note in evaluation["notes"]:
        if note.startswith(UNPAIRED):
            sys.stderr.write(f"duologue: warning: {note.removeprefix('Warning: ')}\n")


@contextmanager
def _progress(quiet: bool) -> Generator[Watch]:
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
def _shown_anyway(folder: Path, *, quiet: bool, as_json: bool) -> Generator[None]:
    """Show what there is of an evaluation that measured nothing, before it fails."""
    try:
        yield
    except NothingMeasured:
        _show(json.loads((folder / "evaluation.json").read_text()), folder, quiet=quiet, as_json=as_json)
        raise


def _show(evaluation: dict[str, Any], folder: Path, *, quiet: bool, as_json: bool) -> None:
    _warn_of_luck(evaluation)
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
    for line in _costs(evaluation["calls"]):
        console.print(line, highlight=False, markup=False)
    for line in (*agreement_notes(evaluation["judges"]), *_troubles(evaluation)):
        console.print(line, highlight=False, markup=False)
    console.print(f"report: {folder / 'report.html'}   figures: {folder / 'evaluation.json'}", highlight=False)


def _costs(calls: Sequence[dict[str, Any]]) -> Iterator[str]:
    """What the calls to endpoints amount to, a line a role and model."""
    for total in calls:
        answered = f"{total['calls']:,} calls answered, {total['cached']:,} remembered, {total['unanswered']:,} in vain"
        tokens = f"{total['prompt']:,} tokens read, {total['completion']:,} written"
        spent = f"{total['seconds']:,.0f} s, cost {total['cost']:.4f}"
        yield f"{total['role']} {total['model']}: {answered}; {tokens}; {spent}"


def _troubles(evaluation: dict[str, Any]) -> Iterator[str]:
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


def _transcript(row: dict[str, Any]) -> str:
    lines = [f"── {row['task']} · {row['goal']} · {row['request']}"]
    lines += [f"   {m['role']:>9}  {m['content']}" for m in row["messages"]]
    value = "none: " + row["error"] if row["reward"] is None else f"{row['reward']:.3f}"
    return "\n".join([*lines, f"   {row['ending']}, reward {value}", "", ""])


if __name__ == "__main__":
    main()
