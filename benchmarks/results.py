"""Claims 1–11 and 14 of CLAIMS.md with what the runs measured, and every arm's figures, as Markdown.

python benchmarks/results.py runs/headline-1 runs/headline-2 runs/headline-3 --quickstart runs/quickstart
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

Evaluation = dict[str, Any]
FIGURES = (
    *("success", "reward", "turns", "tokens", "satisfaction", "left"),
    *("asks_when_missing", "asks_when_complete", "asks_indifferent", "repeats"),
)
GROCERIES, QUESTIONS = "groceries", "twenty-questions"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", type=Path, help="folders of headline runs, one a seed")
    parser.add_argument("--quickstart", type=Path, help="the folder of `make demo`'s run")
    parser.add_argument("--users", nargs="*", default=["train", "unseen"], help="whose figures the tables show")
    parser.add_argument("--output", type=Path, help="write here; left out, print")
    given = parser.parse_args()
    runs = {run.name: json.loads((run / "evaluation.json").read_text()) for run in given.runs}
    lines = list(page(runs, given.quickstart, given.users))
    text = "\n".join(lines) + "\n"
    if given.output:
        given.output.write_text(text)
    else:
        print(text, end="")


def page(runs: dict[str, Evaluation], quickstart: Path | None, users: Sequence[str]) -> Iterator[str]:
    if runs:
        yield from claims(list(runs.values()))
        for name, run in runs.items():
            yield from tables(name, run, users)
    if quickstart:
        run = json.loads((quickstart / "evaluation.json").read_text())
        yield from quickstart_claims(run)
        yield from tables(quickstart.name, run, users)


# ---- reading an evaluation


def value(run: Evaluation, arm: str, task: str, metric: str, users: str = "train", part: str = "sampled") -> Any:
    """An arm's figure: its entry of evaluation.json."""
    arms = run["arms"] if part == "sampled" else run["greedy"]["arms"]
    return arms[arm][task][users][metric]


def difference(
    run: Evaluation, against: str, task: str, metric: str, users: str = "train", part: str = "sampled"
) -> Any:
    """Trained − another arm, or (for base) another arm − base; with its interval."""
    rows = run["differences"] if part == "sampled" else run["greedy"]["differences"]
    return next(
        row
        for row in rows
        if (row["arm"], row["against"], row["task"], row["users"], row["metric"])
        == ("trained", against, task, users, metric)
    )


def against_base(run: Evaluation, arm: str, task: str, metric: str) -> Any:
    return next(
        row
        for row in run["differences"]
        if (row["arm"], row["against"], row["task"], row["users"], row["metric"])
        == (arm, "base", task, "train", metric)
    )


def above(rows: Sequence[Any]) -> bool:
    """Whether every interval lies above 0; one that cannot be given does not."""
    return all(row["low"] is not None and row["low"] > 0 for row in rows)


def shown(row: Any) -> str:
    """A figure or difference with its interval."""
    if row["mean"] is None:
        return "–"
    bounds = "" if row["low"] is None else f" [{row['low']:.3f}, {row['high']:.3f}]"
    return f"{row['mean']:.3f}{bounds}"


# ---- the claims


Row = tuple[str, str, Sequence[str], bool | None]
"""Number, claim, what each seed measured, whether it holds (None: no direction was claimed)."""


def claims(runs: Sequence[Evaluation]) -> Iterator[str]:
    yield "## Claims 1–11: `recipes/headline.toml`"
    yield ""
    yield f"| # | claim | {' | '.join(f'run {i}' for i in range(1, len(runs) + 1))} | holds |"
    yield f"| --- | --- |{' --- |' * len(runs)} --- |"
    for number, claim, measured, holds in claim_rows(runs):
        verdict = "no direction claimed" if holds is None else "yes" if holds else "**no**"
        yield f"| {number} | {claim} | {' | '.join(measured)} | {verdict} |"
    yield ""


def claim_rows(runs: Sequence[Evaluation]) -> Iterator[Row]:
    def each(read: Callable[[Evaluation], Any]) -> list[Any]:
        return [read(run) for run in runs]

    def trained(metric: str) -> list[Any]:
        return each(lambda run: value(run, "trained", GROCERIES, metric))

    def average(rows: Sequence[Any]) -> float:
        return mean(row["mean"] for row in rows)

    success, missing, complete = trained("success"), trained("asks_when_missing"), trained("asks_when_complete")
    yield "1", "success ≥ 0.97 (mean)", [shown(r) for r in success], average(success) >= 0.97
    yield "2", "asks when missing ≥ 0.90 (mean)", [shown(r) for r in missing], average(missing) >= 0.90
    yield "3", "asks when complete ≤ 0.02 (mean)", [shown(r) for r in complete], average(complete) <= 0.02
    turns = each(lambda run: difference(run, "base", GROCERIES, "turns"))
    yield "4", "fewer turns than base (mean)", [shown(r) for r in turns], average(turns) < 0
    for metric in ("success", "asks_when_missing"):
        rows = each(lambda run, m=metric: difference(run, "single-turn", GROCERIES, m))
        yield "5", f"{metric}: above single-turn", [shown(r) for r in rows], above(rows)
    yield from proactive_rows(runs)
    rows = each(lambda run: against_base(run, "dpo", GROCERIES, "success"))
    yield "7", "DPO alone above base in success", [shown(r) for r in rows], above(rows)
    for metric in ("success", "reward"):
        rows = each(lambda run, m=metric: difference(run, "base", QUESTIONS, m))
        claim = f"{QUESTIONS}: {metric} above base"
        yield "8", claim, [shown(r) for r in rows], above(rows)
    for arm in ("single-turn", "single-turn-blind", "proactive"):
        for metric in ("success", "reward"):
            rows = each(lambda run, a=arm, m=metric: difference(run, a, QUESTIONS, m))
            yield "9", f"{QUESTIONS}: {metric}, trained − {arm}", [shown(r) for r in rows], None
    yield from unseen_rows(runs)
    for task in (GROCERIES, QUESTIONS):
        for metric in ("success", "reward", "turns"):
            rows = each(lambda run, t=task, m=metric: difference(run, "ask-missing", t, m))
            yield "11", f"{task}: {metric}, trained − ask-missing", [shown(r) for r in rows], None


def proactive_rows(runs: Sequence[Evaluation]) -> Iterator[Row]:
    for part in ("sampled", "greedy"):
        rows = [difference(run, "proactive", GROCERIES, "success", part=part) for run in runs]
        holds = all(row["low"] >= -0.03 for row in rows)
        yield "6", f"{part}: success at most 0.03 below proactive", [shown(r) for r in rows], holds
        for metric, limit in (("turns", 0.60), ("repeats", 0.35)):
            shares = [
                value(run, "trained", GROCERIES, metric, part=part)["mean"]
                / value(run, "proactive", GROCERIES, metric, part=part)["mean"]
                for run in runs
            ]
            claim = f"{part}: {metric} ≤ {limit:.0%} of proactive's"
            yield "6", claim, [f"{share:.1%}" for share in shares], all(share <= limit for share in shares)


def unseen_rows(runs: Sequence[Evaluation]) -> Iterator[Row]:
    rows = [difference(run, "single-turn", GROCERIES, "success", users="unseen") for run in runs]
    yield "10", "unseen users: success above single-turn", [shown(r) for r in rows], above(rows)
    for arm in ("proactive", "ask-missing", "single-turn", "single-turn-blind", "dpo"):
        rows = [difference(run, arm, GROCERIES, "reward", users="unseen") for run in runs]
        yield "10", f"unseen users: reward above {arm}", [shown(r) for r in rows], above(rows)
    rows = [difference(run, "base", GROCERIES, "reward", users="unseen") for run in runs]
    yield "10", "unseen users: reward, trained − base", [shown(r) for r in rows], None
    for users in ("unseen", "unseen-habits", "unseen-wording"):
        for task in (GROCERIES, QUESTIONS):
            drops = [
                value(run, "trained", task, "success", users=users)["mean"]
                - value(run, "trained", task, "success")["mean"]
                for run in runs
            ]
            yield "10", f"{task}: success, {users} − train users", [f"{drop:+.3f}" for drop in drops], None


def quickstart_claims(run: Evaluation) -> Iterator[str]:
    yield "## Claim 14: `recipes/quickstart.toml`"
    yield ""
    yield "| figure | claimed | measured | holds |"
    yield "| --- | --- | --- | --- |"
    for metric, limit, at_least in (
        ("success", 0.95, True),
        ("asks_when_missing", 0.87, True),
        ("asks_when_complete", 0.05, False),
    ):
        row = value(run, "trained", GROCERIES, metric)
        holds = row["mean"] >= limit if at_least else row["mean"] <= limit
        sign = "≥" if at_least else "≤"
        yield f"| {metric} | {sign} {limit} | {shown(row)} | {'yes' if holds else '**no**'} |"
    yield ""


# ---- the arms


def tables(name: str, run: Evaluation, shown_users: Sequence[str]) -> Iterator[str]:
    for part, arms in (("sampled", run["arms"]), ("greedy", run["greedy"]["arms"])):
        places = {(task, users) for arm in arms.values() for task in arm for users in arm[task] if users in shown_users}
        for task, users in sorted(places):
            yield f"### `{name}`: {task}, {users} users, {part}"
            yield ""
            yield f"| arm | {' | '.join(FIGURES)} | share of oracle − base (reward) |"
            yield f"| --- |{' --- |' * (len(FIGURES) + 1)}"
            for arm, figures in arms.items():
                row = figures[task][users]
                share = row["reward"].get("of_oracle")
                cells = [shown(row[figure]) for figure in FIGURES]
                yield f"| {arm} | {' | '.join(cells)} | {'–' if share is None else f'{share:.0%}'} |"
            yield ""


if __name__ == "__main__":
    main()
