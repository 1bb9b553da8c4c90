"""The control for “multiturn-aware rewards are better”: GRPO on whole conversations, the outcome as their reward.

Both arms start from the recipe's model and go through the same GRPOTrainer with the same goals, updates and
optimizer. What differs is what a group is (`unit` in a recipe; the second is its arm `trajectory`):

    mr          candidates for one reply at a state on the way, each worth the mean of its look-aheads;
                one reply a row is trained on
    trajectory  whole conversations about one goal with the same user and the same luck of theirs, each worth
                R of all of it; every reply of it is trained on, and nothing that the user says

Equal: updates; sampled tokens (prefixes, candidates and look-aheads of the one, conversations of the other,
counted by the model itself), by choice of the trajectory arm's groups a step; and how the learning rate is
chosen: the best of three by R of whole conversations about training goals, after short runs with other seeds.
Not equal, and printed: seconds.

    python benchmarks/trajectory.py recipes/quickstart.toml --output runs/trajectory.json
    python benchmarks/trajectory.py --quick --output runs/trajectory-quick.json

What is done is kept in `runs/trajectory/`: a killed run goes on. One thread a process.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from rich.console import Console

from duologue.background import BackgroundLoop
from duologue.conversation import Ending
from duologue.errors import DataError, RecipeError
from duologue.evaluation import Arm, Decoding, Family, evaluate, summarise, tables
from duologue.journal import Journal, RunLock, write_atomically
from duologue.recipe import Recipe, Table, load_recipe, parse
from duologue.run.weights import weights_digest
from duologue.run.wiring import load_local, wire
from duologue.seeding import derive, digest
from duologue.training.settings import GrpoSettings

if TYPE_CHECKING:
    from duologue.models.local import LocalModel
    from duologue.training.stage import Stage

ArmName = Literal["mr", "trajectory"]
ARMS: tuple[ArmName, ...] = ("mr", "trajectory")
BASE = "base"
RATES = (3.5e-4, 7e-4, 1.4e-3)
ATTEMPTS = 4
"""Trainings at most until a trajectory arm's sampled tokens agree with the other's."""
SHOWN = ("success", "reward", "turns", "asks_when_missing", "asks_when_complete")
QUICK = (
    *("train.0.steps=4", "train.0.groups=6", "train.0.candidates=3", "train.0.save_steps=100"),
    *("evaluate.conversations=20",),
)


# ---- Training one model ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Work:
    """What all processes are told."""

    recipe: Table
    start: str
    """What stands for the weights that all begin with."""
    folder: Path
    conversations: int
    """Conversations a kind of users, decoding and model."""
    selection: int
    """Conversations about training goals that choose a learning rate."""
    decodings: tuple[Decoding, ...]
    tolerance: float

    @property
    def parsed(self) -> Recipe:
        return parse(self.recipe, "recipe")

    @property
    def shared(self) -> str:
        """What stands for everything that all trainings and conversations depend on."""
        left_out = ("name", "evaluate", "arms", "run")
        recipe = {key: value for key, value in self.recipe.items() if key not in left_out}
        return digest([json.dumps(recipe, sort_keys=True), self.start])

    @property
    def grpo(self) -> GrpoSettings:
        """The recipe's own stage, without checkpoints: a training that was killed begins anew.

        Raises:
            RecipeError: it has none.
        """
        for stage in self.parsed.stages:
            if isinstance(stage, GrpoSettings):
                return stage.model_copy(update={"save_steps": None})
        raise RecipeError('the recipe has no [[train]] with algorithm = "grpo": both arms begin from one')


@dataclass(frozen=True)
class Training:
    """One training of one arm."""

    arm: ArmName
    rate: float
    steps: int
    groups: int
    seed: int

    def name(self, work: Work) -> str:
        """A folder's name that stands for everything the training depends on."""
        return f"{self.arm}-{digest([work.shared, *asdict(self).values()])}"


Trained = dict[str, Any]
"""A training's figures, as its folder's `trained.json` has them."""


def train(work: Work, training: Training) -> Trained:
    """A training's figures; trains unless it was done before. Its model lies in `folder / "models" / name`."""
    name = training.name(work)
    place = work.folder / "models" / name
    if (place / "trained.json").exists():
        return json.loads((place / "trained.json").read_text())
    part = work.folder / "part" / name
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    figures = {"name": name, **asdict(training), **_train(work, training, part)}
    write_atomically(part / "model" / "trained.json", json.dumps(figures))
    place.parent.mkdir(exist_ok=True)
    (part / "model").replace(place)
    shutil.rmtree(part)
    return figures


def _train(work: Work, training: Training, folder: Path) -> Trained:
    """Train in this process and save the model."""
    from duologue.training.grpo import train_grpo
    from duologue.training.trajectory import train_trajectories

    settings = work.grpo.model_copy(
        update={
            **{"steps": training.steps, "groups": training.groups, "learning_rate": training.rate},
            "micro_groups": _divisor(training.groups, work.grpo.micro_groups),
            "unit": "reply" if training.arm == "mr" else "conversation",
        }
    )
    policy = load_local(work.parsed.assistant.model)
    begun, began = time.monotonic(), time.process_time()
    with BackgroundLoop() as loop:
        stage = _stage(work.parsed, training, policy, folder, loop)
        (train_grpo if training.arm == "mr" else train_trajectories)(settings, stage)
        steps = [entry.value for entry in stage.journal.read("step")]
    found = {} if training.arm == "mr" else _played(settings, steps)
    policy.save(folder / "model")
    return {
        **found,
        "updates": settings.steps,
        "tokens": policy.counters.generated,
        "seconds": time.monotonic() - begun,
        "cpu_seconds": time.process_time() - began,
    }


def _played(settings: GrpoSettings, steps: Sequence[Mapping[str, Any]]) -> Trained:
    """What became of the conversations that were trained on."""
    counts = {name: round(sum(step[name] for step in steps)) for name in ("replies", "masked", "unscored")}
    conversations = settings.steps * settings.groups * settings.candidates
    return {"conversations": conversations, **counts, "rewards": [step["reward"] for step in steps]}


def _divisor(groups: int, wanted: int | None) -> int | None:
    """The most groups a pass, `wanted` at most, that divide a step's."""
    return None if wanted is None else max(n for n in range(1, wanted + 1) if groups % n == 0)


def _stage(recipe: Recipe, training: Training, policy: LocalModel, folder: Path, loop: BackgroundLoop) -> Stage:
    from duologue.training.stage import Stage

    wiring = wire(recipe, lambda *_: policy)
    return Stage(
        arm=training.arm,
        name="0-grpo",
        folder=folder,
        seed=derive(training.seed, "train", "0-grpo"),
        tasks=wiring.tasks,
        policy=policy,
        partners=wiring.partners,
        loop=loop,
        journal=Journal(folder / "journal.jsonl"),
        progress=lambda done, total, what: None,
    )


# ---- Playing conversations with a model -----------------------------------------------------------------------


@dataclass(frozen=True)
class Play:
    """What one model is asked to play."""

    model: str
    """BASE, or a training's name."""
    arm: str
    purpose: Literal["select", "evaluate"]


def play(work: Work, given: Play) -> None:
    """Play what the journal lacks: on training goals to select, on held-out goals and both kinds of users else."""
    recipe = work.parsed
    source = recipe.assistant.model if given.model == BASE else str(work.folder / "models" / given.model)
    wiring = wire(recipe, lambda *_: load_local(source))
    arm = Arm(given.arm, {task.name: wiring.assistant(task) for task in wiring.tasks})
    selects = given.purpose == "select"
    kinds = {"train": recipe.user.profiles} if selects else {"train": recipe.user.profiles, "unseen": "unseen"}
    decodings: tuple[Decoding, ...] = ("sampled",) if selects else work.decodings
    cells = list(product(wiring.tasks, kinds, decodings))
    journal = Journal(work.folder / "journal.jsonl")
    with BackgroundLoop() as loop:
        for task, users, decoding in cells:
            loop.run(
                evaluate(
                    arm,
                    task,
                    users,
                    kinds[users],
                    task.goals("train" if selects else "test"),
                    seed=derive(recipe.seed, given.purpose),
                    decoding=decoding,
                    scorer=wiring.scorer(task),
                    journal=journal,
                    counter=wiring.counter,
                    conversations=work.selection if selects else work.conversations,
                    prefix=_key(work, given, task.name, users),
                )
            )


def _key(work: Work, given: Play, task: str, users: str) -> str:
    model = f"{BASE}-{work.shared}" if given.model == BASE else given.model
    return f"{given.purpose}/{model}/{task}/{users}/"


def records(work: Work, given: Play) -> Iterator[dict[str, Any]]:
    """The conversations that `play` recorded."""
    decodings = ("sampled",) if given.purpose == "select" else work.decodings
    begins = tuple(
        f"{_key(work, given, task.name, users)}{decoding}/"
        for task in work.parsed.tasks()
        for users in ("train", "unseen")
        for decoding in decodings
    )
    for entry in Journal(work.folder / "journal.jsonl").read("conversation"):
        if entry.key.startswith(begins):
            yield {**entry.value, "arm": given.arm}


def whole_reward(work: Work, given: Play) -> float:
    """The mean R of whole conversations, over those that were scored; tasks weigh the same."""
    by_task: dict[str, list[float]] = {}
    for record in records(work, given):
        if record["ending"] != Ending.FAILED and record["figures"]["reward"][1]:
            by_task.setdefault(record["task"], []).append(record["figures"]["reward"][0])
    return _mean([_mean(values) for values in by_task.values()])


def tokens_a_conversation(work: Work, given: Play) -> float:
    """Sampled tokens of a conversation, on average."""
    return _mean([float(record["tokens_usage"]["completion"]) for record in records(work, given)])


def _mean(values: Sequence[float]) -> float:
    if not values:
        raise DataError("none of a model's conversations could be scored: there is nothing to compare")
    return math.fsum(values) / len(values)


# ---- The study ------------------------------------------------------------------------------------------------


def trial(work: Work, training: Training) -> Trained:
    """A short run, and what its model's conversations about training goals are worth."""
    trained = train(work, training)
    given = Play(trained["name"], training.arm, "select")
    play(work, given)
    return {**trained, "selected_by": whole_reward(work, given)}


def matched(work: Work, training: Training, target: int) -> Trained:
    """A trajectory training whose sampled tokens agree with `target`, by its groups a step.

    The policy's replies get shorter as it learns, so the groups that agree are only known afterwards. What
    is chosen on is the number of tokens alone; every attempt is listed.
    """
    attempts: list[Trained] = []
    for _ in range(ATTEMPTS):
        attempts.append(train(work, training))
        groups = max(1, round(training.groups * target / attempts[-1]["tokens"]))
        near = abs(attempts[-1]["tokens"] / target - 1)
        if near <= work.tolerance or groups in {attempt["groups"] for attempt in attempts}:
            break
        training = replace(training, groups=groups)
    best = min(attempts, key=lambda attempt: abs(attempt["tokens"] / target - 1))
    tried = [{"groups": attempt["groups"], "tokens": attempt["tokens"]} for attempt in attempts]
    return {**best, "attempts": tried, "agrees": abs(best["tokens"] / target - 1) <= work.tolerance}


QUIET = {
    "OMP_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
    "TRL_EXPERIMENTAL_SILENCE": "1",
    "PYTHONWARNINGS": "ignore::FutureWarning",
}
T = TypeVar("T")
R = TypeVar("R")


class Crew:
    """Processes of one thread each; with one, everything happens here."""

    def __init__(self, processes: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(processes, mp_context=context) if processes > 1 else None

    def map(self, function: Callable[[T], R], items: Sequence[T], what: str) -> list[R]:
        """The function of every item, in order."""
        began = time.monotonic()
        print(f"{what}: {len(items)} …", flush=True)
        found = list((self._pool.map if self._pool else map)(function, items))
        print(f"{what}: done in {time.monotonic() - began:,.0f} s", flush=True)
        return found

    def close(self) -> None:
        if self._pool:
            self._pool.shutdown(cancel_futures=True)


@contextmanager
def crew_of(processes: int) -> Iterator[Crew]:
    os.environ.update(QUIET)
    crew = Crew(processes)
    try:
        yield crew
    finally:
        crew.close()


def choose_rates(
    work: Work, crew: Crew, rates: Sequence[float], steps: int
) -> tuple[dict[ArmName, Trained], list[Trained]]:
    """Each arm's best short run, and all of them. Their seed is none that a final run has."""
    base = Play(BASE, BASE, "select")
    seed = derive(work.parsed.seed, "trial")
    ours = [Training("mr", rate, steps, work.grpo.groups, seed) for rate in rates]
    crew.map(partial(play, work), [base], "the start's conversations about training goals")
    trials = crew.map(partial(trial, work), ours, "short runs, mr")
    a_conversation = tokens_a_conversation(work, base)
    groups = _groups(work, _mean([t["tokens"] for t in trials]), steps, a_conversation)
    theirs = [Training("trajectory", rate, steps, groups, seed) for rate in rates]
    trials += crew.map(partial(trial, work), theirs, "short runs, trajectory")
    return {arm: _best(trials, arm) for arm in ARMS}, trials


def _best(trials: Sequence[Trained], arm: ArmName) -> Trained:
    return max((found for found in trials if found["arm"] == arm), key=lambda found: found["selected_by"])


def _groups(work: Work, tokens: float, steps: int, a_conversation: float) -> int:
    return max(1, round(tokens / (steps * work.grpo.candidates * a_conversation)))


def _matched(work: Work, job: tuple[Training, int]) -> Trained:
    return matched(work, *job)


def final_runs(work: Work, crew: Crew, best: Mapping[ArmName, Trained], seeds: int) -> list[dict[ArmName, Trained]]:
    """For each seed, both arms' training at its chosen rate."""
    numbers = [work.parsed.seed + index for index in range(seeds)]
    steps = work.grpo.steps
    ours = crew.map(
        partial(train, work),
        [Training("mr", best["mr"]["rate"], steps, work.grpo.groups, number) for number in numbers],
        "final runs, mr",
    )
    short = best["trajectory"]
    jobs = [
        (
            Training(
                "trajectory",
                short["rate"],
                steps,
                _groups(work, mr["tokens"], steps, short["tokens"] / short["conversations"]),
                number,
            ),
            mr["tokens"],
        )
        for number, mr in zip(numbers, ours, strict=True)
    ]
    theirs = crew.map(partial(_matched, work), jobs, "final runs, trajectory")
    return [{"mr": mr, "trajectory": other} for mr, other in zip(ours, theirs, strict=True)]


def evaluations(work: Work, crew: Crew, runs: Sequence[Mapping[ArmName, Trained]]) -> dict[str, Any]:
    """What held-out conversations say, seed by seed and together.

    Together, a goal's conversations under different training seeds are one cluster: the intervals are
    about goals and luck, not about training seeds, of which there are too few.
    """
    models = [Play(run[arm]["name"], arm, "evaluate") for run in runs for arm in ARMS]
    base = Play(BASE, BASE, "evaluate")
    crew.map(partial(play, work), [base, *models], "evaluation")
    family = Family(arm="mr", base=BASE)
    found: dict[str, Any] = {}
    together: list[dict[str, Any]] = []
    for index, run in enumerate(runs):
        played = [r for given in (base, *models[2 * index : 2 * index + 2]) for r in records(work, given)]
        found[str(run["mr"]["seed"])] = summarise(played, family=family, seed=work.parsed.seed)
        # Visits are a pair's name: those of another training seed are other pairs about the same goal.
        together += [{**_figures_of(r), "visit": r["visit"] * len(runs) + index} for r in played]
    if len(runs) > 1:
        found["together"] = summarise(together, family=family, seed=work.parsed.seed)
    return found


def _figures_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record without its words."""
    return {name: value for name, value in record.items() if name != "messages"}


# ---- What is printed ------------------------------------------------------------------------------------------


def print_trials(trials: Sequence[Trained], best: Mapping[ArmName, Trained]) -> None:
    print(f"\n{'arm':<11} {'rate':>8} {'updates':>8} {'groups':>7} {'tokens':>10} {'seconds':>8}  R on training goals")
    for found in trials:
        chosen = " ← chosen" if best[found["arm"]]["name"] == found["name"] else ""
        print(f"{_run_line(found)}  {found['selected_by']:.3f}{chosen}")


def _run_line(found: Trained) -> str:
    return (
        f"{found['arm']:<11} {found['rate']:>8.1e} {found['updates']:>8} {found['groups']:>7} {found['tokens']:>10,} "
        f"{found['seconds']:>8,.0f}"
    )


def print_runs(runs: Sequence[Mapping[ArmName, Trained]]) -> None:
    print(f"\nfinal runs\n{'arm':<11} {'rate':>8} {'updates':>8} {'groups':>7} {'tokens':>10} {'seconds':>8}")
    for run in runs:
        for arm in ARMS:
            print(_run_line(run[arm]))
        other = run["trajectory"]
        ratio = other["tokens"] / run["mr"]["tokens"]
        note = "" if other["agrees"] else "; THEY DO NOT AGREE"
        print(
            f"  tokens trajectory ÷ mr: {ratio:.3f}{note} ({len(other['attempts'])} attempts); "
            f"{other['conversations']:,} conversations; {other['masked']} of {other['replies']:,} replies masked, "
            f"{other['unscored']} conversations unscored"
        )


def print_differences(found: Mapping[str, Any]) -> None:
    print("\nmr − trajectory, 95 % intervals over goals\n")
    print(f"{'seed':<9} {'task':<17} {'users':<7} {'decoding':<9} {'metric':<19} {'difference':<26} p")
    for seed, summary in found.items():
        for decoding, part in (("sampled", summary), ("greedy", summary["greedy"])):
            for row in part["differences"]:
                if row["arm"] == "mr" and row["against"] == "trajectory" and row["metric"] in SHOWN:
                    place = f"{seed:<9} {row['task']:<17} {row['users']:<7} {decoding:<9} {row['metric']:<19}"
                    print(f"{place} {_interval(row):<26} {'–' if row['p'] is None else format(row['p'], '.2g')}")


def _interval(row: Mapping[str, Any]) -> str:
    if row["mean"] is None:
        return "–"
    ends = "" if row["low"] is None else f" [{row['low']:+.3f}, {row['high']:+.3f}]"
    return f"{row['mean']:+.3f}{ends}"


# ---- From the command line ------------------------------------------------------------------------------------


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path, nargs="?", default=Path("recipes/quickstart.toml"))
    parser.add_argument("--set", action="append", default=[], help="a recipe's key, like assistant.model=FOLDER")
    parser.add_argument("--output", type=Path, default=Path("runs/trajectory.json"), help="the figures")
    parser.add_argument("--seeds", type=int, default=3, help="final runs an arm")
    parser.add_argument("--rates", type=float, nargs="+", default=RATES, help="learning rates to choose from")
    parser.add_argument("--trial-steps", type=int, default=20, help="updates of a short run")
    parser.add_argument("--selection", type=int, default=1000, help="conversations that choose a learning rate")
    parser.add_argument("--conversations", type=int, help="a model, kind of users and decoding; else the recipe's")
    parser.add_argument("--tolerance", type=float, default=0.05, help="by which sampled tokens may differ")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="everything in a minute, and no figure means anything")
    settings = parser.parse_args(arguments)
    if settings.quick:
        settings.set = [*QUICK, *settings.set]
        settings.seeds, settings.trial_steps, settings.selection = min(settings.seeds, 1), 2, 20
        settings.tolerance = max(settings.tolerance, 0.2)
    return settings


def main(arguments: Sequence[str] | None = None) -> None:
    settings = parsed(arguments)
    recipe = load_recipe(settings.recipe, settings.set)
    folder = settings.output.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    work = Work(
        recipe=recipe.model_dump(mode="json", exclude_unset=True),
        start=weights_digest(recipe.assistant.model),
        folder=folder,
        conversations=settings.conversations or recipe.evaluate.conversations,
        selection=settings.selection,
        decodings=recipe.evaluate.decoding,
        tolerance=settings.tolerance,
    )
    with RunLock(folder / "lock"), crew_of(settings.processes) as crew:
        study(work, crew, settings)


def study(work: Work, crew: Crew, settings: argparse.Namespace) -> None:
    """Choose the rates, train, evaluate, print and write."""
    best, trials = choose_rates(work, crew, settings.rates, settings.trial_steps)
    print_trials(trials, best)
    runs = final_runs(work, crew, best, settings.seeds)
    print_runs(runs)
    found = evaluations(work, crew, runs)
    for seed, summary in found.items():
        print(f"\n=== {'all training seeds together' if seed == 'together' else f'training seed {seed}'}\n")
        for table in tables(summary):
            Console(width=100).print(table)
    print_differences(found)
    given = {name: str(value) if isinstance(value, Path) else value for name, value in vars(settings).items()}
    figures = {"settings": given, "recipe": work.recipe, "trials": trials, "runs": runs, "evaluation": found}
    write_atomically(settings.output, json.dumps(figures, indent=1) + "\n")
    print(f"\nfigures: {settings.output}")


if __name__ == "__main__":
    main()
