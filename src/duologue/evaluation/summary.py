"""Every figure, difference and test that the recorded conversations give.

A pair is one goal visited by every arm with the same user and the same seeds. A conversation lost in one
arm leaves all of them, and is counted; above 2 % lost, the summary adds what the lost ones could have
changed at worst.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from duologue import statistics
from duologue.errors import DataError
from duologue.evaluation.agreement import Agreements, agreement_notes
from duologue.evaluation.comparison import Comparison, Result, compared
from duologue.evaluation.effects import EFFECT_NOTE, Counterparts, effects
from duologue.evaluation.family import Family, contrasts
from duologue.evaluation.losses import LOST_LIMIT, bounds_of, losses_of
from duologue.evaluation.names import ARMS, RANGES, USERS, Decoding, ordered

Comparisons = dict[tuple[str, str, str], Comparison]
"""By task, users and decoding."""


def summarise(
    records: Iterable[Mapping[str, Any]],
    *,
    family: Family | None = None,
    counterparts: Sequence[Counterparts] = (),
    seed: int = 0,
) -> dict[str, Any]:
    """Everything an evaluation says, as `evaluation.json` has it; the order of records does not matter.

    Args:
        records: the values of the journal's "conversation" entries; of each, its figures alone are kept.
        counterparts: kinds of users whose difference is the effect of how they behave.
        seed: the run's; draws the bootstrap's resamples.

    Returns:
        `{"arms": {ARM: {TASK: {USERS: {METRIC: {"mean", "low", "high", "n", "of_oracle"}}}}},
        "differences": [{"arm", "against", "task", "users", "metric", "mean", "low", "high", "p", "holm",
        "clusters"}], "effects": [{"arm", "against", "task", "users", "plain", "metric", "mean", "low", "high", "p",
        "clusters", "same"}], "lost": […], "bounds": […], "greedy": {the same}, "judges": [{"task", "metric", "judges",
        "conversations", "alpha", "low", "high"}], "notes": […]}`. Every number may be None: nothing applied, or
        nothing can be said. `n` are the conversations that counted, `of_oracle` is (arm − base) ÷ (oracle − base)
        where that gap is not within its own noise; differences are the family's arm, and the base, against each
        other arm; `bounds` are there where more than 2 % of the pairs were lost; `judges` says how far several
        agree, over all conversations of a task.

    Raises:
        DataError: a record without the fields of a conversation.
    """
    family = family or Family()
    comparisons: Comparisons = {}
    agreements = Agreements()
    for record in records:
        _take(comparisons, record, counterparts)
        agreements.add(record)
    sampled, greedy = (
        _summary(comparisons, decoding, family, counterparts, seed) for decoding in ("sampled", "greedy")
    )
    judges = agreements.summary(seed)
    notes = [*_notes(family), *agreement_notes(judges), *([EFFECT_NOTE] if counterparts else [])]
    return {**sampled, "greedy": greedy, "judges": judges, "notes": notes}


def _take(comparisons: Comparisons, record: Mapping[str, Any], counterparts: Sequence[Counterparts]) -> None:
    try:
        place = (record["task"], record["users"], record["decoding"])
        comparison = comparisons.setdefault(place, Comparison(*place))
        comparison.add(record)
        for each in counterparts:
            if record["users"] in (each.users, each.plain):
                comparison.note_prefix(record, each.turn)
    except KeyError as missing:
        raise DataError(f"a conversation in the journal has no {missing}: it was not written by evaluate") from missing


def _summary(
    comparisons: Comparisons,
    decoding: Decoding,
    family: Family,
    counterparts: Sequence[Counterparts],
    seed: int,
) -> dict[str, Any]:
    tasks = sorted({task for task, _, each in comparisons if each == decoding})
    users = ordered({name for _, name, each in comparisons if each == decoding}, USERS)
    chosen = [
        comparisons[place] for task in tasks for name in users if (place := (task, name, decoding)) in comparisons
    ]
    results = [compared(comparison, seed) for comparison in chosen]
    differences = [row for result in results for row in _differences(result, family)]
    _adjust(differences, family)
    return {
        "arms": _figures(results, family),
        "differences": differences,
        "effects": [
            row
            for task in tasks
            for each in counterparts
            if {(task, each.users, decoding), (task, each.plain, decoding)} <= comparisons.keys()
            for row in effects(
                comparisons[task, each.users, decoding], comparisons[task, each.plain, decoding], each, family, seed
            )
        ],
        "lost": [losses_of(comparison) for comparison in chosen],
        "bounds": [row for result in results for row in bounds_of(result, family)],
    }


def _figures(results: Sequence[Result], family: Family) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    for arm in ordered({arm for result in results for arm in result.arms}, ARMS):
        for result in results:
            if arm in result.comparison.arms:
                task = figures.setdefault(arm, {}).setdefault(result.comparison.task, {})
                task[result.comparison.users] = _arm_figures(result, arm, family)
    return figures


def _arm_figures(result: Result, arm: str, family: Family) -> dict[str, Any]:
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


def _of_oracle(result: Result, arm: str, metric: str, family: Family) -> float | None:
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


def _differences(result: Result, family: Family) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for arm, against in contrasts(result.arms, family) if result.ratios else ():
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


def _notes(family: Family) -> list[str]:
    others = f"each arm but {family.oracle}" if family.pairs is None else "each arm that it is compared with"
    return [
        f"Intervals: {statistics.LEVEL:.0%} percentile bootstrap over clusters, {statistics.RESAMPLES:,} resamples "
        "shared by all arms; without spread, a bound that holds anyway, or none.",
        "p: paired t on cluster means, two-sided.",
        f"holm: over {family.arm} against {others} × {', '.join(family.metrics)} × tasks × users "
        f"({', '.join(family.users)}), sampled and greedy apart.",
        f"Pairs lost in one arm are left out of all; above {LOST_LIMIT:.0%} lost, bounds give the lost ones the lowest "
        "and highest values.",
    ]
