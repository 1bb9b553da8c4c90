"""How often adaptive look-aheads get the best–worst pair right, against as many for every candidate.

The rule is `duologue.adaptive.race` itself, fed from a table of values. Simulated states have normal values with
the spreads of the prototype of this project (groceries: noise below the signal; twenty-questions: noise twice the
signal). With `--states`, real states of a model are played, too; their truth is the mean of 256 other look-aheads.

    python benchmarks/adaptive.py
    python benchmarks/adaptive.py --states 220

The columns, over the states whose truth tells best from worst:

- calls: look-aheads relative to fixed 8 (all states); with measuring: with those that measure the chosen pair's
  gap, equally many under every rule.
- pair right: of the pair that the rule chose, the better reply is truly better; no pair is half right.
- extremes right: the truly best reply's mean is above the truly worst one's, as in `reward_noise.py`; a tie is
  half right. A rule that stops once it has a pair it can trust does not look for the extremes.
- gap: the true gap of the chosen pairs, as a share of the largest there is.
- rounds: look-aheads that wait for others, one after another (all states); the share of states with `MOST`.

A played state is journalled (`--output`, .jsonl): a killed run goes on. For two cores run `reward_noise.py
--samples 32` twice with the same `--states` and `--output`, once with each of `--tasks`, then this.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import reward_noise as noise
import torch
from numpy.typing import NDArray

from duologue import statistics
from duologue.adaptive import FRESH, MOST, best_and_worst, race
from duologue.journal import Journal
from duologue.seeding import derive
from duologue.tasks import load_task

Floats = NDArray[np.float64]

SPREADS = {"groceries": (0.153, 0.228), "twenty-questions": (0.496, 0.244)}
"""SD of a reply's look-aheads, SD between replies: the prototype's."""
STEP = 4
"""A real state's samples go round: every rule starts at every fourth, which wastes none."""
CLUSTER = 100
"""Simulated states resampled as one."""


# ---- States and rules -----------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Table:
    """A state: what look-aheads of its candidates would give, and what the candidates are truly worth."""

    values: Floats
    """(candidates, samples)"""
    truth: Floats
    """(candidates,)"""
    open: bool
    """Whether the truth tells best from worst."""


@dataclass(frozen=True)
class Found:
    """What a rule made of a state."""

    means: Floats
    pair: tuple[int, int] | None
    look_aheads: int
    rounds: int


Rule = Callable[[Table, int], Found]
"""(state, first sample) → what it found from that sample on."""


def fixed(k: int) -> Rule:
    """k look-aheads of every candidate."""

    def rule(state: Table, first: int) -> Found:
        values = np.roll(state.values, -first, 1)[:, :k]
        return Found(values.mean(1), _best_and_worst(values.tolist()), values.size, 1)

    return rule


def adaptive(state: Table, first: int) -> Found:
    """As many as `duologue.adaptive` asks for."""

    async def look_ahead(place: int, sample: int) -> float:
        return float(state.values[place, (first + sample) % state.values.shape[1]])

    values = asyncio.run(race(look_ahead, [True] * len(state.truth)))
    counts = [len(row) for row in values]
    means = np.array([float(np.mean([v for v in row if v is not None])) for row in values])
    return Found(means, _best_and_worst(values), sum(counts), max(counts) - 1)


def _best_and_worst(values: Sequence[Sequence[float | None]]) -> tuple[int, int] | None:
    return best_and_worst(values, [True] * len(values))


RULES: dict[str, Rule] = {"fixed 4": fixed(4), "fixed 8": fixed(8), "adaptive": adaptive}
FIGURES = ("calls", "with measuring", "pair", "extremes", "gap", "rounds", "most")


def judged(state: Table, rule: Rule) -> Floats:
    """(2, figures): counts and bases of a state's figures, averaged over the samples that a rule may start from."""
    starts = range(0, state.values.shape[1], STEP) if state.values.shape[1] > MOST else (0,)
    return np.mean([_judged(state, rule(state, first)) for first in starts], axis=0)


def _judged(state: Table, found: Found) -> Floats:
    truth, counts = state.truth, float(state.open)
    best, worst = int(truth.argmax()), int(truth.argmin())
    gap = float(truth[found.pair[0]] - truth[found.pair[1]]) if found.pair else 0.0
    dearest = 8 * len(truth)
    return np.array(
        [
            [
                found.look_aheads,
                found.look_aheads + 2 * FRESH,
                counts * _above(gap),
                counts * _above(float(found.means[best] - found.means[worst])),
                counts * gap,
                found.rounds,
                found.rounds + 1 >= MOST,
            ],
            [dearest, dearest + 2 * FRESH, counts, counts, counts * float(truth[best] - truth[worst]), 1.0, 1.0],
        ]
    )


def _above(difference: float) -> float:
    return 0.5 if abs(difference) <= statistics.FLAT else float(difference > 0)


# ---- Where states come from -------------------------------------------------------------------------------------


def simulated(task: str, candidates: int, states: int, seed: int, luck: float = 0.0) -> Iterator[Table]:
    """States of normal values with a task's spreads; `luck` is the share of noise that candidates have in common."""
    draws = np.random.default_rng(derive(seed, task, candidates))
    within, between = SPREADS[task]
    for _ in range(states):
        truth = draws.normal(0.0, between, candidates)
        shared = draws.normal(0.0, within * luck**0.5, MOST)
        own = draws.normal(0.0, within * (1 - luck) ** 0.5, (candidates, MOST))
        yield Table(truth[:, None] + shared + own, truth, open=True)


def played(settings: argparse.Namespace) -> dict[str, list[noise.State]]:
    """Every task's states, played or found in the journal."""
    torch.set_num_threads(1)
    settings.output.parent.mkdir(parents=True, exist_ok=True)
    journal = Journal(settings.output.with_suffix(".jsonl"))
    records = noise.play(settings, journal, [load_task(name) for name in settings.tasks])
    return {
        task: [state for record in found if (state := noise.state_of(record)) is not None]
        for task, found in records.items()
    }


def first_of(state: noise.State, candidates: int) -> Table | None:
    """The state with its first distinct candidates alone; None where there are not two."""
    if len(state.truth) < 2:
        return None
    less = noise.State(
        {"full": state.values["full"][:candidates]}, state.truth[:candidates], state.truth_error[:candidates]
    )
    return Table(less.values["full"], less.truth, open=less.extremes is not None)


# ---- The table --------------------------------------------------------------------------------------------------


def compare(title: str, states: Sequence[Table], seed: int, cluster: int = 1) -> str:
    """A world's figures by rule, with intervals from one set of resamples; and what adaptive ones are to reach."""
    sums = {
        name: _clusters(np.array([judged(state, rule) for state in states]), cluster) for name, rule in RULES.items()
    }
    draws = statistics.draw_clusters(len(sums["adaptive"]), seed=derive(seed, "bootstrap"))
    ratios = {name: statistics.bootstrap(found[:, 0], found[:, 1], draws) for name, found in sums.items()}
    lines = [
        f"\n{title}: {len(states)} states, the truth tells best from worst in {sum(state.open for state in states)}",
        f"{'rule':<9} {'calls':>6} {'with measuring':>14} {'pair right':>20} {'− fixed 8':>23} {'extremes right':>20} "
        f"{'gap':>6} {'rounds':>6} {f'{MOST} each':>7}",
    ]
    return "\n".join(
        [*lines, *(_line(name, found, ratios["fixed 8"]) for name, found in ratios.items()), _goal(ratios)]
    )


def _clusters(sums: Floats, size: int) -> Floats:
    count = len(sums) // size
    return sums[: count * size].reshape(count, size, *sums.shape[1:]).sum(1)


def _line(name: str, ratios: Sequence[statistics.Ratio], eight: Sequence[statistics.Ratio]) -> str:
    mean = {figure: ratio.mean or 0.0 for figure, ratio in zip(FIGURES, ratios, strict=True)}
    pair, extremes = (statistics.interval(ratios[FIGURES.index(f)], within=(0.0, 1.0)) for f in ("pair", "extremes"))
    apart = statistics.difference(ratios[FIGURES.index("pair")], eight[FIGURES.index("pair")], within=(0.0, 1.0))
    difference = "" if ratios is eight else _cell(apart, "+")
    return (
        f"{name:<9} {mean['calls']:>6.3f} {mean['with measuring']:>14.3f} {_cell(pair):>20} {difference:>23} "
        f"{_cell(extremes):>20} {mean['gap']:>6.3f} {mean['rounds']:>6.1f} {mean['most']:>7.2f}"
    )


def _goal(ratios: dict[str, list[statistics.Ratio]]) -> str:
    """Both goals for both readings; the one for noise below the signal, the other for noise twice the signal."""
    cells: list[str] = []
    for figure in ("pair", "extremes"):
        four, eight = (ratios[name][FIGURES.index(figure)].mean or 0.0 for name in ("fixed 4", "fixed 8"))
        cells.append(
            f"{figure} {eight - 0.02:.3f} (within 0.02 of fixed 8), {(four + eight) / 2:.3f} (half way from fixed 4)"
        )
    return "goals: " + "; ".join(cells)


def _cell(figure: statistics.Interval | statistics.Difference, sign: str = "") -> str:
    if figure.mean is None or figure.low is None or figure.high is None:
        return "–" if figure.mean is None else f"{figure.mean:{sign}.3f}"
    return f"{figure.mean:{sign}.3f} [{figure.low:{sign}.3f}, {figure.high:{sign}.3f}]"


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulated", type=int, default=20_000, help="states a simulated world")
    parser.add_argument("--luck", type=float, default=0.0, help="share of the simulated noise that candidates share")
    parser.add_argument("--states", type=int, default=0, help="real states a task")
    parser.add_argument("--output", type=Path, default=Path("runs/adaptive.json"), help="beside it lies the journal")
    parser.add_argument("--model", default="tiny", help="who plays: tiny, a folder, or a hub id")
    parser.add_argument("--tasks", nargs="+", default=["groceries", "twenty-questions"])
    parser.add_argument("--seed", type=int, default=0)
    parser.set_defaults(candidates=6, samples=2 * MOST, truth=256, deepest=4)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    settings = parsed(arguments)
    for task, (within, between) in SPREADS.items():
        for candidates in (2, 6):
            states = list(simulated(task, candidates, settings.simulated, settings.seed, settings.luck))
            title = f"simulated, C = {candidates}, spreads of {task} (within {within}, between {between})"
            print(compare(title, states, settings.seed, CLUSTER), flush=True)
    for task, found in (played(settings) if settings.states else {}).items():
        for candidates in (2, 6):
            tables = [table for state in found if (table := first_of(state, candidates)) is not None]
            drawn = f"{np.mean([len(table.truth) for table in tables]):.1f} distinct"
            print(compare(f"{settings.model}, C = {candidates} ({drawn}), {task}", tables, settings.seed), flush=True)


if __name__ == "__main__":
    main()
