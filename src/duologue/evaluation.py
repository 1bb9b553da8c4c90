"""Arms × held-out goals × users: played under equal luck, compared in pairs.

`evaluate` plays one arm's conversations into the journal; `summarise` makes every figure, difference and
test out of what the journal holds; `tables` shows them on a terminal. A pair is one goal visited by every
arm with the same user and the same seeds. A conversation lost in one arm leaves all of them, and is
counted; above 2 % lost, `summarise` adds what the lost ones could have changed at worst.
"""

from __future__ import annotations

import asyncio
import math
from array import array
from collections import Counter as Tally
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal

from duologue import statistics
from duologue.conversation import Conversation, Ending, Goal
from duologue.errors import DataError, RecipeError
from duologue.journal import Journal
from duologue.metrics.base import Counter
from duologue.models.meter import Metered
from duologue.reward import Scorer
from duologue.seeding import derive
from duologue.simulation import Assistant, converse
from duologue.statistics import Ratio
from duologue.tasks.base import Share, Task

if TYPE_CHECKING:
    from rich.table import Table

    from duologue.statistics import Floats

Decoding = Literal["sampled", "greedy"]
Pair = tuple[str, int]
"""A goal and the visit to it: what the arms of a comparison have in common."""

CONCURRENCY = 256
LOST_LIMIT = 0.02
"""Share of pairs that may be lost before worst-case bounds are printed."""
ARMS = ("base", "proactive", "ask-missing", "single-turn", "single-turn-blind", "dpo", "trained", "oracle")
USERS = ("train", "unseen", "unseen-habits", "unseen-wording")
SHARES = (
    *("success", "satisfaction", "left", "repeats"),
    *("asks_when_missing", "asks_when_complete", "asks_indifferent"),
)
RANGES: Mapping[str, statistics.Range] = dict.fromkeys(SHARES, (0.0, 1.0))
"""The lowest and highest values of figures that have them by definition."""
METRICS = (
    *("success", "turns", "tokens", "satisfaction", "left"),
    *("asks_when_missing", "asks_when_complete", "asks_indifferent", "repeats", "reward"),
)


@dataclass(frozen=True)
class Arm:
    """One assistant of a comparison, by task: the same model may stand under each task's own prompt."""

    name: str
    assistants: Mapping[str, Assistant]

    def assistant(self, task: str, decoding: Decoding) -> Assistant:
        """The assistant for a task; greedy at temperature 0.

        Raises:
            RecipeError: the arm has none for this task.
        """
        if task not in self.assistants:
            raise RecipeError(f'arm "{self.name}" has no assistant for task "{task}": leave it out there, or add one')
        assistant = self.assistants[task]
        if decoding == "sampled":
            return assistant
        return replace(assistant, sampling=replace(assistant.sampling, temperature=0.0))


@dataclass(frozen=True)
class Family:
    """The hypotheses that are tested together, fixed before the data (Holm): `arm` against each other arm.

    Every difference has its p; those of the family have Holm's beside it. Sampled and greedy conversations
    are a family each.
    """

    arm: str = "trained"
    metrics: tuple[str, ...] = ("success", "reward")
    users: tuple[str, ...] = ("train", "unseen")
    base: str = "base"
    """The arm that every other is compared with, too, and where the shares of the oracle begin."""
    oracle: str = "oracle"
    """The reference line; no hypothesis is about it."""


def visits(goals: Sequence[Goal], conversations: int | None = None) -> Iterator[tuple[Goal, int]]:
    """(goal, visit) for each conversation: every goal once, then again, until there are enough.

    Args:
        conversations: how many; None is one a goal.
    """
    everything = ((goal, visit) for visit in _count() for goal in goals)
    return islice(everything, len(goals) if conversations is None else conversations)


async def evaluate(
    arm: Arm,
    task: Task,
    users: str,
    profile: str,
    goals: Sequence[Goal],
    *,
    seed: int,
    decoding: Decoding,
    scorer: Scorer,
    journal: Journal,
    counter: Counter,
    on_done: Callable[[], None] = lambda: None,
    conversations: int | None = None,
    concurrency: int = CONCURRENCY,
    prefix: str | None = None,
) -> None:
    """Play an arm's conversations that the journal lacks, side by side, each recorded when it ends.

    A conversation's seed comes from goal and visit alone: all arms, sampled or greedy, meet the same luck.

    Args:
        users: the name that the figures carry.
        profile: the task's profile set that those users come from.
        seed: the run's.
        counter: tokens in a text, the same for all arms of a comparison.
        on_done: called once a conversation, for those found in the journal as well.
        conversations: how many; more than there are goals visits them again. None is one a goal.
        concurrency: how many are open at a time.
        prefix: what the journal's keys begin with, standing for all that the conversations depend on; None
            is "evaluate/ARM/TASK/USERS/". DECODING/GOAL/VISIT follow.

    Raises:
        DataError: no goals.
        RecipeError: the arm does not know the task, or the task not the profile.
        RunError: the journal cannot be written.
    """
    if not goals:
        raise DataError(f'task "{task.name}" has no goals to evaluate on: give it some')
    prefix = f"evaluate/{arm.name}/{task.name}/{users}/" if prefix is None else prefix
    assistant = arm.assistant(task.name, decoding)
    stage = _Stage(arm.name, task.with_profile(profile), users, decoding, assistant, seed, scorer, counter)
    waiting = visits(goals, conversations)

    async def play_waiting() -> None:
        for goal, visit in waiting:
            key = f"{prefix}{decoding}/{goal.id}/{visit}"
            if key not in journal:
                journal.append(key, "conversation", await stage.play(goal, visit))
            on_done()

    total = len(goals) if conversations is None else conversations
    await _together([play_waiting() for _ in range(min(concurrency, total))])


def general_figures(conversation: Conversation, counter: Counter) -> dict[str, Share]:
    """What is read off any conversation: turns, tokens, satisfaction, left.

    `turns` are replies; `tokens` are those of the replies; `satisfaction` is 1 − annoyance ÷ its limit, 0
    at least, and does not apply to users whose reaction cannot be read. `left` counts users who gave up:
    a conversation that the turn limit or the context cut is neither left nor satisfied.
    """
    reaction = conversation.reaction
    satisfied = Share(0, 0) if reaction is None else Share(max(0.0, 1 - reaction.annoyance / reaction.limit))
    return {
        "turns": Share(len(conversation.replies)),
        "tokens": Share(sum(counter(reply) for reply in conversation.replies)),
        "satisfaction": satisfied,
        "left": Share(float(conversation.ending is Ending.LEFT)),
    }


@dataclass(frozen=True)
class _Stage:
    """One arm on one task with one kind of users, under one decoding."""

    arm: str
    task: Task
    users: str
    decoding: Decoding
    assistant: Assistant
    seed: int
    scorer: Scorer
    counter: Counter

    async def play(self, goal: Goal, visit: int) -> dict[str, Any]:
        """The journal's value of one conversation."""
        seed = derive(self.seed, "evaluation", self.task.name, self.users, goal.id, visit)
        meter = Metered(self.assistant.model)
        conversation = await converse(
            replace(self.assistant, model=meter),
            self.task.user(goal.request, seed),
            seed=seed,
            turns=self.task.turn_limit,
        )
        measured: dict[str, Any] = {"figures": {}, "unscored": None}
        if conversation.ending is not Ending.FAILED:
            measured = await self._measure(conversation, goal)
        names = {"arm": self.arm, "task": self.task.name, "users": self.users, "decoding": self.decoding}
        pair = {"goal": goal.id, "visit": visit, "cluster": self.task.cluster(goal)}
        usage = {"prompt": meter.usage.prompt, "completion": meter.usage.completion}
        return {**names, **pair, **_transcript(conversation), **measured, "tokens_usage": usage}

    async def _measure(self, conversation: Conversation, goal: Goal) -> dict[str, Any]:
        outcome = await self.scorer(conversation, goal)
        reward = Share(0, 0) if outcome.value is None else Share(outcome.value)
        figures = {**general_figures(conversation, self.counter), "reward": reward}
        figures |= {name: figure(conversation, goal) for name, figure in self.task.figures.items()}
        return {
            "figures": {name: [float(share.count), float(share.base)] for name, share in figures.items()},
            "unscored": None if outcome.value is not None else outcome.why or "unknown",
        }


def _transcript(conversation: Conversation) -> dict[str, Any]:
    reaction = conversation.reaction
    return {
        "messages": [{"role": m.role, "content": m.content} for m in conversation.messages],
        "ending": conversation.ending.value,
        "reason": conversation.reason,
        "reaction": None
        if reaction is None
        else {
            "satisfied": reaction.satisfied,
            "annoyance": float(reaction.annoyance),
            "limit": float(reaction.limit),
            "leaving": reaction.leaving,
        },
    }


async def _together(work: Sequence[Coroutine[Any, Any, None]]) -> None:
    """All of it side by side; the first error stops the rest and is raised as it is."""
    tasks = [asyncio.ensure_future(each) for each in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _count() -> Iterator[int]:
    number = 0
    while True:
        yield number
        number += 1


# ---- Figures, differences, tests --------------------------------------------------------------------------


def summarise(records: Iterable[Mapping[str, Any]], *, family: Family | None = None, seed: int = 0) -> dict[str, Any]:
    """Everything an evaluation says, as `evaluation.json` has it; the order of records does not matter.

    Args:
        records: the values of the journal's "conversation" entries; of each, its figures alone are kept.
        seed: the run's; draws the bootstrap's resamples.

    Returns:
        `{"arms": {ARM: {TASK: {USERS: {METRIC: {"mean", "low", "high", "n", "of_oracle"}}}}},
        "differences": [{"arm", "against", "task", "users", "metric", "mean", "low", "high", "p", "holm",
        "clusters"}], "lost": […], "bounds": […], "greedy": {the same}, "notes": […]}`. Every number may be
        None: nothing applied, or nothing can be said. `n` are the conversations that counted, `of_oracle`
        is (arm − base) ÷ (oracle − base) where that gap is not within its own noise; differences are the
        family's arm, and the base, against each other arm; `bounds` are there where more than 2 % of
        the pairs were lost.

    Raises:
        DataError: a record without the fields of a conversation.
    """
    family = family or Family()
    comparisons: dict[tuple[str, str, str], _Comparison] = {}
    for record in records:
        _take(comparisons, record)
    sampled, greedy = (_summary(comparisons, decoding, family, seed) for decoding in ("sampled", "greedy"))
    return {**sampled, "greedy": greedy, "notes": _notes(family)}


@dataclass
class _Comparison:
    """The arms' figures on one task with one kind of users, under one decoding."""

    task: str
    users: str
    decoding: str
    columns: dict[str, int] = field(default_factory=dict[str, int])
    clusters: dict[Pair, str] = field(default_factory=dict[Pair, str])
    arms: dict[str, dict[Pair, array[float] | None]] = field(
        default_factory=dict[str, "dict[Pair, array[float] | None]"]
    )
    """Of each conversation count, base, count, base… in the order of `columns`; None where it was lost."""
    unscored: dict[str, set[Pair]] = field(default_factory=dict[str, "set[Pair]"])
    reasons: Tally[str] = field(default_factory=Tally[str])

    def add(self, record: Mapping[str, Any]) -> None:
        arm, pair = record["arm"], (record["goal"], record["visit"])
        self.clusters[pair] = record["cluster"]
        lost = record["ending"] == Ending.FAILED
        self.arms.setdefault(arm, {})[pair] = None if lost else self._packed(record["figures"])
        unscored = record.get("unscored")
        if unscored is not None:
            self.unscored.setdefault(arm, set()).add(pair)
        if lost or unscored is not None:
            self.reasons[unscored or record["reason"] or "unknown"] += 1

    def _packed(self, figures: Mapping[str, Sequence[float]]) -> array[float]:
        for name in figures:
            self.columns.setdefault(name, len(self.columns))
        packed = array("d", bytes(16 * len(self.columns)))
        for name, (count, base) in figures.items():
            column = self.columns[name]
            packed[2 * column], packed[2 * column + 1] = count, base
        return packed

    @property
    def played(self) -> list[Pair]:
        """Pairs that every arm has played, whether or not it lost them."""
        return sorted(pair for pair in self.clusters if all(pair in arm for arm in self.arms.values()))

    def is_lost(self, pair: Pair) -> bool:
        return any(arm[pair] is None for arm in self.arms.values())

    def is_unscored(self, pair: Pair) -> bool:
        return any(pair in pairs for pairs in self.unscored.values())

    def shares(self, arm: str, pairs: Sequence[Pair]) -> Floats:
        """(pairs, metrics, 2): count and base; zeros where the conversation was lost or not scored."""
        import numpy as np

        rows = np.zeros((len(pairs), 2 * len(self.columns)))
        for row, pair in zip(rows, pairs, strict=True):
            packed = self.arms[arm][pair]
            if packed is not None:
                row[: len(packed)] = packed
        return rows.reshape(len(pairs), len(self.columns), 2)


@dataclass(frozen=True)
class _Result:
    """A comparison's figures: what pairs say in which every arm counts."""

    comparison: _Comparison
    metrics: tuple[str, ...]
    ratios: Mapping[tuple[str, str], Ratio]
    """By (arm, metric)."""
    counted: Mapping[tuple[str, str], int]

    @property
    def arms(self) -> list[str]:
        return _ordered(self.comparison.arms, ARMS)


def _take(comparisons: dict[tuple[str, str, str], _Comparison], record: Mapping[str, Any]) -> None:
    try:
        place = (record["task"], record["users"], record["decoding"])
        comparisons.setdefault(place, _Comparison(*place)).add(record)
    except KeyError as missing:
        raise DataError(f"a conversation in the journal has no {missing}: it was not written by evaluate") from missing


def _summary(
    comparisons: Mapping[tuple[str, str, str], _Comparison], decoding: Decoding, family: Family, seed: int
) -> dict[str, Any]:
    tasks = sorted({task for task, _, each in comparisons if each == decoding})
    users = _ordered({name for _, name, each in comparisons if each == decoding}, USERS)
    chosen = [
        comparisons[place] for task in tasks for name in users if (place := (task, name, decoding)) in comparisons
    ]
    results = [_result(comparison, seed) for comparison in chosen]
    differences = [row for result in results for row in _differences(result, family)]
    _adjust(differences, family)
    return {
        "arms": _figures(results, family),
        "differences": differences,
        "lost": [_losses(comparison) for comparison in chosen],
        "bounds": [row for result in results for row in _bounds(result, family)],
    }


def _result(comparison: _Comparison, seed: int) -> _Result:
    """Sums by cluster and their resamples, all arms and metrics by the same draws."""
    import numpy as np

    pairs = [pair for pair in comparison.played if not comparison.is_lost(pair)]
    metrics = tuple(_ordered(comparison.columns, METRICS))
    if not pairs:
        return _Result(comparison, metrics, {}, {})
    names = sorted({comparison.clusters[pair] for pair in pairs})
    position = {name: index for index, name in enumerate(names)}
    index = np.array([position[comparison.clusters[pair]] for pair in pairs], dtype=np.intp)
    draws = statistics.draw_clusters(
        len(names), seed=derive(seed, "bootstrap", comparison.task, comparison.users, comparison.decoding)
    )
    ratios: dict[tuple[str, str], Ratio] = {}
    counted: dict[tuple[str, str], int] = {}
    for arm in comparison.arms:
        shares = _paired_shares(comparison, arm, pairs)
        sums = statistics.sum_by_cluster(index, shares, len(names))
        by_column = statistics.bootstrap(sums[:, :, 0], sums[:, :, 1], draws)
        applies = (shares[:, :, 1] > 0).sum(axis=0)
        for metric, column in comparison.columns.items():
            ratios[arm, metric] = by_column[column]
            counted[arm, metric] = int(applies[column])
    return _Result(comparison, metrics, ratios, counted)


def _paired_shares(comparison: _Comparison, arm: str, pairs: Sequence[Pair]) -> Floats:
    """An arm's shares, with the reward left out wherever it could not be had for every arm."""
    shares = comparison.shares(arm, pairs)
    column = comparison.columns.get("reward")
    if column is not None:
        shares[[comparison.is_unscored(pair) for pair in pairs], column] = 0.0
    return shares


def _figures(results: Sequence[_Result], family: Family) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    for arm in _ordered({arm for result in results for arm in result.arms}, ARMS):
        for result in results:
            if arm in result.comparison.arms:
                task = figures.setdefault(arm, {}).setdefault(result.comparison.task, {})
                task[result.comparison.users] = _arm_figures(result, arm, family)
    return figures


def _arm_figures(result: _Result, arm: str, family: Family) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    for metric in result.metrics:
        if (arm, metric) not in result.ratios:
            figures[metric] = {"mean": None, "low": None, "high": None, "n": 0, "of_oracle": None}
            continue
        interval = statistics.interval(result.ratios[arm, metric], within=RANGES.get(metric))
        figures[metric] = {
            **{"mean": interval.mean, "low": interval.low, "high": interval.high},
            "n": result.counted[arm, metric],
            "of_oracle": _of_oracle(result, arm, metric, family),
        }
    return figures


def _of_oracle(result: _Result, arm: str, metric: str, family: Family) -> float | None:
    """(arm − base) ÷ (oracle − base); None where the gap is 0 or may be."""
    if (family.base, metric) not in result.ratios or (family.oracle, metric) not in result.ratios:
        return None
    base = result.ratios[family.base, metric]
    gap = statistics.difference(result.ratios[family.oracle, metric], base)
    gain = statistics.difference(result.ratios[arm, metric], base)
    if gap.mean is None or gain.mean is None or abs(gap.mean) <= statistics.FLAT:
        return None
    if gap.low is not None and gap.high is not None and gap.low <= 0 <= gap.high:
        return None
    return gain.mean / gap.mean


def _contrasts(arms: Sequence[str], family: Family) -> list[tuple[str, str]]:
    """(arm, against): the family's arm against each other, then each other against the base."""
    contrasts = [(family.arm, other) for other in arms if other != family.arm] if family.arm in arms else []
    if family.base in arms:
        contrasts += [(other, family.base) for other in arms if other not in (family.base, family.arm)]
    return contrasts


def _differences(result: _Result, family: Family) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for arm, against in _contrasts(result.arms, family) if result.ratios else ():
        for metric in result.metrics:
            found = statistics.difference(
                result.ratios[arm, metric], result.ratios[against, metric], within=RANGES.get(metric)
            )
            rows.append(
                {
                    **{"arm": arm, "against": against, "task": result.comparison.task},
                    **{"users": result.comparison.users, "metric": metric},
                    **{"mean": found.mean, "low": found.low, "high": found.high, "p": found.p},
                    **{"holm": None, "clusters": found.clusters},
                }
            )
    return rows


def _adjust(rows: Sequence[dict[str, Any]], family: Family) -> None:
    """Write Holm's p beside the p of each member of the family."""
    members = [
        row
        for row in rows
        if row["arm"] == family.arm
        and row["against"] != family.oracle
        and row["metric"] in family.metrics
        and row["users"] in family.users
    ]
    for row, p in zip(members, statistics.holm([row["p"] for row in members]), strict=True):
        row["holm"] = p


def _losses(comparison: _Comparison) -> dict[str, Any]:
    """How many pairs there are, which were left out and why."""
    played = comparison.played
    return {
        "task": comparison.task,
        "users": comparison.users,
        "pairs": len(played),
        "left_out": sum(comparison.is_lost(pair) for pair in played),
        "unscored": sum(comparison.is_unscored(pair) and not comparison.is_lost(pair) for pair in played),
        "unfinished": len(comparison.clusters) - len(played),
        "arms": {
            arm: sum(comparison.arms[arm][pair] is None for pair in played) for arm in _ordered(comparison.arms, ARMS)
        },
        "reasons": dict(sorted(comparison.reasons.items(), key=lambda item: (-item[1], item[0]))[:5]),
    }


def _bounds(result: _Result, family: Family) -> list[dict[str, Any]]:
    """Worst cases of arms and of the differences from them, for metrics that lost more than 2 % of pairs."""
    losses = _losses(result.comparison)
    rows: list[dict[str, Any]] = []
    for metric in result.metrics:
        lost = losses["left_out"] + (losses["unscored"] if metric == "reward" else 0)
        if lost <= LOST_LIMIT * losses["pairs"]:
            continue
        place = {"task": losses["task"], "users": losses["users"], "metric": metric}
        bounds = _worst_cases(result.comparison, metric)
        for arm in (arm for arm in result.arms if arm in bounds):
            low, high = bounds[arm]
            rows.append({"arm": arm, "against": None, **place, "low": low, "high": high})
        for arm, against in _contrasts([arm for arm in result.arms if arm in bounds], family):
            low, high = bounds[arm][0] - bounds[against][1], bounds[arm][1] - bounds[against][0]
            rows.append({"arm": arm, "against": against, **place, "low": low, "high": high})
    return rows


def _worst_cases(comparison: _Comparison, metric: str) -> dict[str, statistics.Range]:
    """By arm, over all pairs: what it lost itself is given the lowest, then the highest value.

    Those are the figure's own where it has them, else the lowest and highest of any conversation here. A
    figure is taken to apply to the lost as often as to the others.
    """
    import numpy as np

    pairs, column = comparison.played, comparison.columns[metric]
    shares = {arm: comparison.shares(arm, pairs)[:, column] for arm in comparison.arms}
    seen = np.concatenate([share[share[:, 1] > 0] for share in shares.values()])
    if not len(seen):
        return {}
    values = seen[:, 0] / seen[:, 1]
    within = RANGES.get(metric, (float(values.min()), float(values.max())))
    bounds: dict[str, statistics.Range] = {}
    for arm, share in shares.items():
        count, base = (float(total) for total in share.sum(axis=0))
        unscored: set[Pair] = comparison.unscored.get(arm, set()) if metric == "reward" else set()
        lost = sum(comparison.arms[arm][pair] is None or pair in unscored for pair in pairs)
        mean_base = base / (len(pairs) - lost) if lost < len(pairs) else float(seen[:, 1].mean())
        found = statistics.worst_case(count, base, lost * mean_base, within)
        if found is not None:
            bounds[arm] = found
    return bounds


def _notes(family: Family) -> list[str]:
    return [
        f"Intervals: {statistics.LEVEL:.0%} percentile bootstrap over clusters, {statistics.RESAMPLES:,} resamples "
        "shared by all arms; without spread, a bound that holds anyway, or none.",
        "p: paired t on cluster means, two-sided.",
        f"holm: over {family.arm} against each arm but {family.oracle} × {', '.join(family.metrics)} × tasks × users "
        f"({', '.join(family.users)}), sampled and greedy apart.",
        f"Pairs lost in one arm are left out of all; above {LOST_LIMIT:.0%} lost, bounds give the lost ones the lowest "
        "and highest values.",
    ]


def _ordered(names: Iterable[str], known: Sequence[str]) -> list[str]:
    """Known names in their order, others by the alphabet after them."""
    places = {name: index for index, name in enumerate(known)}
    return sorted(names, key=lambda name: (places.get(name, len(known)), name))


# ---- On a terminal ----------------------------------------------------------------------------------------

HEADINGS: Mapping[str, str] = {
    "satisfaction": "satis-\nfied",
    "asks_when_missing": "asks:\nmissing",
    "asks_when_complete": "asks:\ncomplete",
    "asks_indifferent": "asks:\nmoot",
}


def tables(evaluation: Mapping[str, Any], *, of_oracle: bool = False) -> list[Table]:
    """An evaluation as tables, one a task, users and decoding; arms are rows, metrics columns.

    Under each mean stands half the width of its interval. At most ten metrics are shown, the standard ones
    first, which takes 100 columns at most.

    Args:
        of_oracle: adds each figure's share of the way from the base to the oracle.
    """
    parts = {"sampled": evaluation, "greedy": evaluation["greedy"]}
    return [
        _table(part["arms"], task, users, decoding, of_oracle)
        for decoding, part in parts.items()
        for task, users in _places(part["arms"])
    ]


def _places(arms: Mapping[str, Any]) -> list[tuple[str, str]]:
    places = dict.fromkeys((task, users) for by_task in arms.values() for task in by_task for users in by_task[task])
    tasks = dict.fromkeys(task for task, _ in places)
    known = _ordered({users for _, users in places}, USERS)
    return [(task, users) for task in tasks for users in known if (task, users) in places]


def _table(arms: Mapping[str, Any], task: str, users: str, decoding: str, of_oracle: bool) -> Table:
    from rich import box
    from rich.table import Table

    rows = {arm: by_task[task][users] for arm, by_task in arms.items() if users in by_task.get(task, {})}
    metrics = _shown({metric for row in rows.values() for metric in row})
    count = max((figure["n"] for row in rows.values() for figure in row.values()), default=0)
    title = f"{task} · users: {users} · {decoding} · {count:,} conversations an arm"
    table = Table(title=title, box=box.SIMPLE_HEAD, padding=0, show_edge=False, title_justify="left")
    table.add_column("arm", no_wrap=True)
    for metric in metrics:
        table.add_column(HEADINGS.get(metric, metric.replace("_", "\n")), justify="right")
    for arm, row in rows.items():
        table.add_row(arm, *(_cell(row.get(metric), of_oracle) for metric in metrics))
    return table


def _shown(metrics: Set[str]) -> list[str]:
    """As many as fit, the standard ones first."""
    return _ordered(metrics, METRICS)[: len(METRICS)]


def _cell(figure: Mapping[str, Any] | None, of_oracle: bool) -> str:
    if figure is None or figure["mean"] is None:
        return "–"
    digits = 3 if abs(figure["mean"]) < 10 else 1
    lines = [f"{figure['mean']:.{digits}f}"]
    if figure["low"] is not None and figure["high"] is not None:
        lines.append(f"±{(figure['high'] - figure['low']) / 2:.{digits}f}")
    if of_oracle and figure["of_oracle"] is not None and math.isfinite(figure["of_oracle"]):
        lines.append(f"{figure['of_oracle']:.0%}")
    return "\n".join(lines)
