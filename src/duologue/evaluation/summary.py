"""Every figure, difference and test that the recorded conversations give.

A pair is one goal visited by every arm with the same user and the same seeds. A conversation lost in one
arm leaves all of them, and is counted; above 2 % lost, the summary adds what the lost ones could have
changed at worst.
"""

from __future__ import annotations

from array import array
from collections import Counter as Tally
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from duologue import statistics
from duologue.conversation import Ending
from duologue.errors import DataError
from duologue.evaluation.names import ARMS, METRICS, RANGES, USERS, Decoding, ordered
from duologue.seeding import derive
from duologue.statistics import Ratio

if TYPE_CHECKING:
    from duologue.statistics import Floats

Pair = tuple[str, int]
"""A goal and the visit to it: what the arms of a comparison have in common."""

LOST_LIMIT = 0.02
"""Share of pairs that may be lost before worst-case bounds are printed."""


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
        return ordered(self.comparison.arms, ARMS)


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
    users = ordered({name for _, name, each in comparisons if each == decoding}, USERS)
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
    metrics = tuple(ordered(comparison.columns, METRICS))
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
    for arm in ordered({arm for result in results for arm in result.arms}, ARMS):
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
            arm: sum(comparison.arms[arm][pair] is None for pair in played) for arm in ordered(comparison.arms, ARMS)
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
