"""How well k look-aheads of w turns rank candidate replies, against what the replies are truly worth.

The model plays to a state and draws candidates there, as training does. Each is looked ahead from to the end
of the conversation a few times, users' luck shared; cutting those after w turns gives what `look_ahead` with
that window would have given (same seeds, same words), so all windows are compared on one set of draws. The
truth is the mean over many full look-aheads of other seeds.

    python benchmarks/reward_noise.py --output runs/reward-noise.json

A state is recorded when it is done (`runs/reward-noise.jsonl`): a killed run goes on, and after `--states 80`
the first 40 are not played again. One thread; for two cores run it twice with the same `--output`, once with
each `--tasks`, then once more with both for the table.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from duologue import statistics
from duologue.conversation import Conversation, Ending, Goal, message_rows
from duologue.dataset import Visit, visits
from duologue.journal import Journal, write_atomically
from duologue.metrics.base import Supplies
from duologue.models.base import Reply, Sampling
from duologue.models.local import LocalModel
from duologue.reward import Scorer
from duologue.seeding import derive, digest
from duologue.simulation import Assistant, Window, look_ahead, reach
from duologue.tasks import Task, load_task
from duologue.users.base import Reacts, User

Floats = NDArray[np.float64]

WINDOWS: tuple[Window, ...] = (0, 1, 2, "full")
CHUNK = 64
"""Look-aheads of one candidate played side by side: what bounds the memory."""
CLEAR = 3.0
"""Standard errors by which the truth must tell a state's best candidate from its worst."""


# ---- One set of full look-aheads, every window --------------------------------------------------------------


def cut_after(future: Conversation, window: Window, user: User) -> Conversation:
    """What `look_ahead(window=window)` would have given, from the full look-ahead with the same seeds.

    Raises:
        ValueError: the turn limit ended the full look-ahead before the window did; what would have come is unknown.
    """
    if window == "full":
        return future
    length = future.shared + 1 + 2 * window
    if len(future.messages) < length:
        if future.ending is Ending.WINDOW:
            raise ValueError(f"the turn limit ended a look-ahead before turn {window}: it has no window of {window}")
        return future
    seen = future.truncated(length)
    return replace(
        future,
        messages=seen.messages,
        cut=seen.cut,
        ending=Ending.WINDOW,
        reason=None,
        reaction=user.react(seen) if isinstance(user, Reacts) else None,
    )


@dataclass(frozen=True)
class World:
    """One task with the model that plays in it."""

    task: Task
    assistant: Assistant
    scorer: Scorer

    async def future(self, visit: Visit, prefix: Conversation, reply: Reply, seed: int, sample: int) -> Conversation:
        """One full look-ahead."""
        return await look_ahead(
            self.assistant,
            self.task.user(visit.goal.request, visit.seed),
            prefix,
            reply.text,
            window="full",
            seed=seed,
            sample=sample,
            cut=reply.finish == "length",
            turn_limit=self.task.turn_limit,
        )

    async def value(self, conversation: Conversation, goal: Goal) -> float | None:
        """R of a conversation."""
        return (await self.scorer(conversation, goal)).value


async def measure_state(world: World, visit: Visit, *, candidates: int, samples: int, truth: int) -> dict[str, Any]:
    """A state's distinct candidates with their values: the journal's record."""
    user = world.task.user(visit.goal.request, visit.seed)
    prefix = await reach(world.assistant, user, depth=visit.depth, seed=visit.seed)
    if prefix.ending is Ending.FAILED:
        return {"task": world.task.name, "goal": visit.goal.id, "failed": prefix.reason}
    where = prefix.digest
    replies = await asyncio.gather(
        *(world.assistant.reply(prefix, seed=derive(visit.seed, "candidate", where, i)) for i in range(candidates))
    )
    distinct = {(reply.text, reply.finish): reply for reply in replies}
    measured = await asyncio.gather(
        *(_measure_candidate(world, visit, prefix, reply, samples, truth) for reply in distinct.values())
    )
    return {
        "task": world.task.name,
        "goal": visit.goal.id,
        "prefix": message_rows(prefix.messages),
        "candidates": measured,
    }


async def _measure_candidate(
    world: World, visit: Visit, prefix: Conversation, reply: Reply, samples: int, truth: int
) -> dict[str, Any]:
    user = world.task.user(visit.goal.request, visit.seed)
    values: dict[str, list[float | None]] = {str(window): [] for window in WINDOWS}
    for futures in _chunks(samples):
        for future in await asyncio.gather(*(world.future(visit, prefix, reply, visit.seed, s) for s in futures)):
            for window in WINDOWS:
                values[str(window)].append(await world.value(cut_after(future, window, user), visit.goal))
    other = derive(visit.seed, "truth")
    true: list[float | None] = []
    for futures in _chunks(truth):
        played = await asyncio.gather(*(world.future(visit, prefix, reply, other, s) for s in futures))
        true += [await world.value(future, visit.goal) for future in played]
    counted = np.array([value for value in true if value is not None])
    return {
        "text": reply.text,
        "values": values,
        "truth": {
            "n": len(counted),
            "mean": float(counted.mean()) if len(counted) else None,
            "variance": float(counted.var(ddof=1)) if len(counted) > 1 else None,
        },
    }


def _chunks(count: int) -> Iterator[range]:
    return (range(start, min(start + CHUNK, count)) for start in range(0, count, CHUNK))


# ---- Playing what the journal lacks ---------------------------------------------------------------------------


def play(settings: argparse.Namespace, journal: Journal, tasks: Sequence[Task]) -> dict[str, list[dict[str, Any]]]:
    """Every task's states, played or found in the journal."""
    model = LocalModel.load(settings.model)
    world_of = {task.name: _world(task, model) for task in tasks}
    depends = (weights_digest(model), settings.seed, settings.candidates, settings.samples, settings.truth)
    planned = {
        f"noise/{digest((*depends, settings.deepest))}/{task.name}/{index:04d}": visit
        for task in tasks
        for index, visit in enumerate(
            visits([task], settings.states, deepest=settings.deepest, seed=derive(settings.seed, "noise"))
        )
    }
    asyncio.run(_play_missing(settings, journal, world_of, planned))
    found: dict[str, list[dict[str, Any]]] = {task.name: [] for task in tasks}
    for entry in journal.read("noise"):
        if entry.key in planned:
            found[entry.value["task"]].append(entry.value)
    return found


def _world(task: Task, model: LocalModel) -> World:
    assistant = Assistant(model, sampling=Sampling(max_tokens=task.max_tokens))
    return World(task, assistant, Scorer(task.metrics, Supplies(model.count_tokens)))


def weights_digest(model: LocalModel) -> str:
    """16 hexadecimal digits that stand for a model's weights."""
    found = hashlib.blake2b(digest_size=8)
    for name, tensor in sorted(model.model.state_dict().items()):
        found.update(name.encode())
        found.update(tensor.detach().cpu().float().numpy().tobytes())
    return found.hexdigest()


async def _play_missing(
    settings: argparse.Namespace, journal: Journal, worlds: Mapping[str, World], planned: Mapping[str, Visit]
) -> None:
    missing = [key for key in planned if key not in journal]
    started = time.monotonic()
    for done, key in enumerate(missing, 1):
        visit = planned[key]
        value = await measure_state(
            worlds[visit.task.name],
            visit,
            candidates=settings.candidates,
            samples=settings.samples,
            truth=settings.truth,
        )
        journal.append(key, "noise", value)
        left = (time.monotonic() - started) / done * (len(missing) - done)
        print(f"\r{done} of {len(missing)} states, {left:,.0f} s left ", end="", flush=True)
    if missing:
        print()


# ---- What the values say --------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class State:
    """A state's values as arrays."""

    values: dict[str, Floats]
    """By window, (candidates, samples)."""
    truth: Floats
    """(candidates,)"""
    truth_error: Floats
    """(candidates,): squared standard errors."""

    @property
    def extremes(self) -> tuple[int, int] | None:
        """The best and the worst candidate, where the truth tells them apart."""
        best, worst = int(self.truth.argmax()), int(self.truth.argmin())
        gap = float(self.truth[best] - self.truth[worst])
        clear = gap > CLEAR * math.sqrt(float(self.truth_error[best] + self.truth_error[worst]))
        return (best, worst) if clear and gap > statistics.FLAT else None


def state_of(record: Mapping[str, Any]) -> State | None:
    """A record's whole candidates; None where none is left."""
    whole = [
        c
        for c in record.get("candidates", ())
        if c["truth"]["variance"] is not None and not any(None in v for v in c["values"].values())
    ]
    if not whole:
        return None
    return State(
        {str(window): np.array([c["values"][str(window)] for c in whole]) for window in WINDOWS},
        np.array([c["truth"]["mean"] for c in whole]),
        np.array([c["truth"]["variance"] / c["truth"]["n"] for c in whole]),
    )


Sums = tuple[float, ...]


def within(values: Floats) -> Sums:
    """(squares, degrees of freedom) of look-aheads about their candidate's mean."""
    return float(((values - values.mean(1, keepdims=True)) ** 2).sum()), float(values.size - len(values))


def apart(values: Floats) -> Sums:
    """The same without the luck that candidates share: what is left when rows and columns are taken out."""
    rest = values - values.mean(1, keepdims=True) - values.mean(0, keepdims=True) + values.mean()
    return float((rest**2).sum()), float((len(values) - 1) * (values.shape[1] - 1))


def between(values: Floats) -> Sums:
    """(squares, degrees of freedom) of the candidates' expectations: those of their means, less the noise in them."""
    means = values.mean(1)
    squares, freedom = apart(values)
    noise = squares / freedom / values.shape[1] if freedom else 0.0
    return float(((means - means.mean()) ** 2).sum()) - (len(means) - 1) * noise, float(len(means) - 1)


def between_truths(state: State) -> Sums:
    """The same for the truth."""
    squares = float(((state.truth - state.truth.mean()) ** 2).sum())
    freedom = len(state.truth) - 1
    return squares - freedom * float(state.truth_error.mean()), float(freedom)


def blocks(values: Floats, samples: int) -> Floats:
    """Means of `samples` look-aheads that have none in common: (blocks, candidates)."""
    count = values.shape[1] // samples
    return values[:, : count * samples].reshape(len(values), count, samples).mean(2).T


def covariances(state: State, window: str, samples: int) -> Sums:
    """(estimate × truth, estimate², truth²) about the state's means, averaged over blocks."""
    estimates = blocks(state.values[window], samples)
    estimates = estimates - estimates.mean(1, keepdims=True)
    truth = state.truth - state.truth.mean()
    return (
        float((estimates @ truth).mean()),
        float((estimates**2).sum(1).mean()),
        float((truth**2).sum()),
    )


def right(state: State, window: str, samples: int) -> Sums:
    """(share of blocks that rank best over worst, 1); a tie is half right, an unclear state does not count."""
    if state.extremes is None:
        return 0.0, 0.0
    best, worst = state.extremes
    estimates = blocks(state.values[window], samples)
    gaps = estimates[:, best] - estimates[:, worst]
    flat = np.abs(gaps) <= statistics.FLAT
    return float(np.where(flat, 0.5, gaps > 0).mean()), 1.0


Bounds = dict[str, float | None]


@dataclass(frozen=True, eq=False)
class Analysis:
    """Figures over states, with intervals from one set of resamples of them."""

    states: Sequence[State]
    draws: Floats

    def deviation(self, sums: Callable[[State], Sums]) -> Bounds:
        """The root of a variance pooled over states."""
        return {name: None if v is None else math.sqrt(max(v, 0.0)) for name, v in self.ratio(sums).items()}

    def ratio(self, sums: Callable[[State], Sums], limits: statistics.Range | None = None) -> Bounds:
        """Σ count ÷ Σ base over states."""
        rows = np.array([sums(state) for state in self.states])
        found = statistics.bootstrap(rows[:, :1], rows[:, 1:], self.draws)[0]
        ends = statistics.interval(found, within=limits)
        return {"mean": ends.mean, "low": ends.low, "high": ends.high}

    def correlation(self, window: str, samples: int) -> Bounds:
        """Pearson's, within states, pooled over them: large spreads weigh more."""
        sums = np.array([covariances(state, window, samples) for state in self.states])
        mean = _correlations(sums.sum(0)[None])[0]
        resampled = _correlations(self.draws @ sums)
        resampled = resampled[np.isfinite(resampled)]
        if not np.isfinite(mean) or not len(resampled) or len(self.states) < 2:
            return {"mean": float(mean) if np.isfinite(mean) else None, "low": None, "high": None}
        low, high = np.percentile(resampled, [50 * (1 - statistics.LEVEL), 50 * (1 + statistics.LEVEL)])
        return {"mean": float(mean), "low": float(low), "high": float(high)}


def _correlations(sums: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        return sums[:, 0] / np.sqrt(sums[:, 1] * sums[:, 2])


def analyse(records: Sequence[Mapping[str, Any]], ks: Sequence[int], seed: int) -> dict[str, Any]:
    """A task's figures.

    Raises:
        ValueError: no state could be measured.
    """
    states = [state for record in records if (state := state_of(record)) is not None]
    if not states:
        raise ValueError(f"none of {len(records)} states could be measured")
    analysis = Analysis(states, statistics.draw_clusters(len(states), seed=derive(seed, "bootstrap")))
    drawn = sum(len(record.get("candidates", ())) for record in records)
    kept = sum(len(state.truth) for state in states)
    return {
        "states": len(states),
        "open": sum(state.extremes is not None for state in states),
        "candidates": kept / len(states),
        "lost": {"states": len(records) - len(states), "candidates": drawn - kept},
        "between_truths": analysis.deviation(between_truths),
        "windows": {str(window): _window(analysis, str(window), ks) for window in WINDOWS},
    }


def _window(analysis: Analysis, window: str, ks: Sequence[int]) -> dict[str, Any]:
    spread = analysis.deviation(lambda state: within(state.values[window]))
    paired = analysis.deviation(lambda state: apart(state.values[window]))
    return {
        "between": analysis.deviation(lambda state: between(state.values[window])),
        "samples": {
            str(k): {
                "within": _shrunk(spread, k),
                "within_shared_luck": _shrunk(paired, k),
                "correlation": analysis.correlation(window, k),
                "right": analysis.ratio(lambda state, k=k: right(state, window, k), limits=(0.0, 1.0)),
            }
            for k in ks
        },
    }


def _shrunk(deviation: Bounds, samples: int) -> Bounds:
    return {name: None if value is None else value / math.sqrt(samples) for name, value in deviation.items()}


# ---- The table ------------------------------------------------------------------------------------------------


def table(task: str, figures: Mapping[str, Any]) -> str:
    """A task's figures as text: a line for each w and k."""
    lines = [
        f"{task}: {figures['states']} states, {figures['candidates']:.1f} distinct candidates each; the truth tells "
        f"best from worst in {figures['open']}; SD between replies in truth {_cell(figures['between_truths'])}",
        f"{'w':>5} {'k':>3} {'SD within':>20} {'luck shared':>20} {'SD between':>20} {'correlation':>21} "
        f"{'best > worst':>20}",
    ]
    for window, row in figures["windows"].items():
        for k, found in row["samples"].items():
            cells = (found["within"], found["within_shared_luck"], row["between"])
            lines.append(
                f"{window:>5} {k:>3} {' '.join(f'{_cell(c):>20}' for c in cells)} "
                f"{_cell(found['correlation']):>21} {_cell(found['right']):>20}"
            )
    return "\n".join(lines)


def _cell(figure: Bounds) -> str:
    mean, low, high = figure["mean"], figure["low"], figure["high"]
    if mean is None:
        return "–"
    return f"{mean:.3f}" if low is None or high is None else f"{mean:.3f} [{low:.3f}, {high:.3f}]"


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("runs/reward-noise.json"), help="the figures")
    parser.add_argument("--model", default="tiny", help="who plays: tiny, a folder, or a hub id")
    parser.add_argument("--tasks", nargs="+", default=["groceries", "twenty-questions"])
    parser.add_argument("--states", type=int, default=40, help="states a task")
    parser.add_argument("--candidates", type=int, default=6, help="replies drawn at a state")
    parser.add_argument("--samples", type=int, default=16, help="full look-aheads a reply that estimates come from")
    parser.add_argument("--truth", type=int, default=256, help="full look-aheads of other seeds that are the truth")
    parser.add_argument("--k", type=int, nargs="+", default=[1, 3, 8], help="look-aheads an estimate")
    parser.add_argument("--deepest", type=int, default=4, help="half the states are first turns, others up to here")
    parser.add_argument("--seed", type=int, default=0)
    settings = parser.parse_args(arguments)
    if max(settings.k) > settings.samples:
        parser.error(f"--k {max(settings.k)} needs --samples {max(settings.k)} or more")
    if settings.samples < 2 or settings.truth < 2:
        parser.error("a spread needs two look-aheads or more: raise --samples and --truth")
    return settings


def main(arguments: Sequence[str] | None = None) -> None:
    settings = parsed(arguments)
    torch.set_num_threads(1)
    settings.output.parent.mkdir(parents=True, exist_ok=True)
    journal = Journal(settings.output.with_suffix(".jsonl"))
    records = play(settings, journal, [load_task(name) for name in settings.tasks])
    figures = {task: analyse(found, settings.k, settings.seed) for task, found in records.items()}
    for task, found in figures.items():
        print(f"\n{table(task, found)}")
    given = {name: str(value) if isinstance(value, Path) else value for name, value in vars(settings).items()}
    write_atomically(settings.output, json.dumps({"settings": given, "tasks": figures}, indent=1) + "\n")
    print(f"\nfigures: {settings.output}; intervals: 95 % bootstrap over states; a tie counts as half right")


if __name__ == "__main__":
    main()
