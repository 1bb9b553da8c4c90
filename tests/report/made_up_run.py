"""A run folder that never happened, for testing the page made from one."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson

ARMS = ("base", "proactive", "ask-missing", "single-turn", "single-turn-blind", "dpo", "trained", "oracle")
USERS = ("train", "unseen", "unseen-habits", "unseen-wording")
NASTY = '<script>document.title = "taken"</script> & <b>"bold"</b>'
RECIPE = """# git revision: 0f3c9a1

name = "quickstart"
seed = 3

[[task]]
name = "groceries"

[[task]]
name = "twenty-questions"

[user]
model = "scripted"

[reward]
samples = 3
window = 2

[[train]]
algorithm = "grpo"
steps = 60
"""
LOSS = {"left_out": 2, "unscored": 0, "unfinished": 0, "reasons": {"the server did not answer in 60 s": 2}}

MEANS: dict[str, dict[str, float]] = {
    "success": dict(zip(ARMS, (0.74, 0.92, 0.86, 0.58, 0.55, 0.88, 0.971, 0.995), strict=True)),
    "turns": dict(zip(ARMS, (2.38, 3.95, 2.9, 1.9, 1.87, 2.51, 2.03, 2.2), strict=True)),
    "tokens": dict(zip(ARMS, (41.7, 58.6, 47.2, 37.0, 36.6, 43.1, 39.5, 36.4), strict=True)),
    "satisfaction": dict(zip(ARMS, (0.81, 0.69, 0.78, 0.77, 0.76, 0.85, 0.94, 0.98), strict=True)),
    "left": dict(zip(ARMS, (0.25, 0.07, 0.12, 0.41, 0.44, 0.11, 0.025, 0.004), strict=True)),
    "asks_when_missing": dict(zip(ARMS, (0.52, 0.99, 0.8, 0.005, 0.0, 0.88, 0.9, 1.0), strict=True)),
    "asks_when_complete": dict(zip(ARMS, (0.12, 0.97, 0.4, 0.0, 0.0, 0.01, 0.013, 0.0), strict=True)),
    "asks_indifferent": dict(zip(ARMS, (0.08, 0.31, 0.2, 0.0, 0.0, 0.05, 0.03, 0.0), strict=True)),
    "repeats": dict(zip(ARMS, (0.12, 0.41, 0.2, 0.002, 0.0, 0.1, 0.05, 0.0), strict=True)),
    "reward": dict(zip(ARMS, (0.847, 0.859, 0.9, 0.74, 0.71, 0.947, 1.083, 1.12), strict=True)),
}
COSTS: dict[str, list[dict[str, Any]]] = {
    "single-turn": [
        {"stage": "0-grpo", "algorithm": "grpo", "updates": 60, "sampled_tokens": 104200, "seconds": 31.4,
         "learning_rate": 7e-4},
    ],
    "dpo": [
        {"stage": "0-dpo", "algorithm": "dpo", "updates": 40, "sampled_tokens": None, "seconds": 55.0,
         "learning_rate": 1.5e-4},
    ],
    "trained": [
        {"stage": "0-grpo", "algorithm": "grpo", "updates": 60, "sampled_tokens": 260848, "seconds": 69.2,
         "learning_rate": 7e-4},
    ],
}  # fmt: skip
SHARES = ("success", "left", "asks_when_missing", "asks_when_complete", "asks_indifferent", "repeats", "satisfaction")


def make_run(
    folder: Path,
    *,
    arms: Sequence[str] = ARMS,
    tasks: Sequence[str] = ("groceries", "twenty-questions"),
    visits: int = 12,
    steps: bool = True,
    greedy: bool = True,
    trees: bool = True,
) -> Path:
    """Write recipe, evaluation and journal; the same arguments give the same files."""
    folder.mkdir(parents=True, exist_ok=True)
    luck = random.Random(7)
    (folder / "recipe.toml").write_text(RECIPE, "utf-8")
    evaluation = _comparison(luck, arms, tasks, USERS)
    evaluation["greedy"] = _comparison(luck, arms, tasks, ("train",)) if greedy else {}
    evaluation["notes"] = [
        "Intervals: 95% percentile bootstrap over clusters.",
        "p: paired t on cluster means, two-sided.",
    ]
    evaluation["training"] = {arm: stages for arm, stages in COSTS.items() if arm in arms}
    (folder / "evaluation.json").write_bytes(orjson.dumps(evaluation))
    with (folder / "journal.jsonl").open("wb") as journal:
        for key, kind, value in _records(luck, arms, tasks, visits, steps, trees):
            journal.write(orjson.dumps({"key": key, "kind": kind, "value": value}) + b"\n")
    return folder


Record = tuple[str, str, dict[str, Any]]


def _records(
    luck: random.Random, arms: Sequence[str], tasks: Sequence[str], visits: int, steps: bool, trees: bool
) -> Iterator[Record]:
    if steps:
        yield from _steps(luck, arms)
    if trees:
        yield from (_tree(luck, task, index, place) for place, task in enumerate(tasks) for index in range(3))
    for task in tasks:
        for users in ("train", "unseen"):
            for visit in range(visits):
                drawn = luck.random()
                yield from (_conversation(luck, arm, task, users, visit, drawn) for arm in arms)


def _comparison(luck: random.Random, arms: Sequence[str], tasks: Sequence[str], users: Sequence[str]) -> dict[str, Any]:
    figures = {
        arm: {t: {u: {m: _estimate(luck, m, arm, t, u) for m in MEANS} for u in users} for t in tasks} for arm in arms
    }
    differences = [
        _difference(figures, rival, task, kind, metric)
        for task in tasks
        for kind in users
        for rival in arms
        if rival not in ("trained", "oracle") and "trained" in arms
        for metric in ("success", "reward", "turns", "asks_when_missing", "asks_when_complete")
    ]
    losses = [
        {"task": t, "users": u, "pairs": 500, **LOSS, "arms": dict.fromkeys(arms, 0)} for t in tasks for u in users
    ]
    bound = {"arm": arms[0], "against": None, "task": tasks[0], "users": users[0], "metric": "success"}
    bounds = [bound | {"low": 0.71, "high": 0.79}]
    return {"arms": figures, "differences": differences, "lost": losses, "bounds": bounds}


def _estimate(luck: random.Random, metric: str, arm: str, task: str, users: str) -> dict[str, Any]:
    base, oracle = MEANS[metric]["base"], MEANS[metric]["oracle"]
    harder = (0.0 if task == "groceries" else 0.25) + 0.06 * USERS.index(users)
    mean = MEANS[metric][arm] * (1 - harder) + base * harder + luck.uniform(-0.004, 0.004)
    mean = min(max(mean, 0.0), 1.0) if metric in SHARES else mean
    half = 0.02 if metric in SHARES else 0.03 * mean
    low, high = mean - half, mean + half
    if metric in SHARES:
        low, high = max(low, 0.0), min(high, 1.0)
    share = None if oracle == base else (mean - base) / (oracle - base)
    return {"mean": mean, "low": low, "high": high, "n": 498, "of_oracle": share}


def _difference(figures: dict[str, Any], rival: str, task: str, users: str, metric: str) -> dict[str, Any]:
    own, other = (figures[arm][task][users][metric]["mean"] for arm in ("trained", rival))
    half = 0.1 if metric == "turns" else 0.028
    p = 0.4 if abs(own - other) < half else 0.0002
    row = {"arm": "trained", "against": rival, "task": task, "users": users, "metric": metric, "mean": own - other}
    row |= {"low": own - other - half, "high": own - other + half, "p": p}
    return row | ({"holm": min(1.0, 3 * p)} if metric in ("success", "reward") and users in USERS[:2] else {})


def _steps(luck: random.Random, arms: Sequence[str]) -> Iterator[Record]:
    for arm in (a for a in ("trained", "single-turn") if a in arms):
        top = 1.08 if arm == "trained" else 0.78
        for step in range(1, 61):
            grown = 1 - 2.718 ** (-step / 14)
            asks = 0.55 + 0.2 * grown if arm == "trained" else 0.55 * (1 - grown)
            value = {"arm": arm, "stage": "0-grpo", "algorithm": "grpo", "step": step, "steps": 60, "unscored": 0}
            value |= {"reward": 0.7 + (top - 0.7) * grown + luck.gauss(0, 0.03), "asks": asks + luck.gauss(0, 0.03)}
            value |= {"tokens": 11 - 2 * grown + luck.gauss(0, 0.2), "loss": luck.gauss(0, 0.01), "seconds": 1.2}
            yield f"train/{arm}/0-grpo/{step}", "step", value
    if "dpo" in arms:
        for step in range(1, 41):
            value = {"arm": "dpo", "stage": "0-dpo", "algorithm": "dpo", "step": step, "steps": 40, "reward": None}
            value |= {"loss": 0.7 * 2.718 ** (-step / 20) + luck.gauss(0, 0.02), "asks": None, "tokens": None}
            yield f"train/dpo/0-dpo/{step}", "step", value


def said(*texts: str) -> list[dict[str, str]]:
    """Messages, the user first, taking turns."""
    return [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]


def _conversation(luck: random.Random, arm: str, task: str, users: str, visit: int, drawn: float) -> Record:
    complete = drawn < 0.25
    asks = luck.random() < MEANS["asks_when_complete" if complete else "asks_when_missing"][arm]
    success = luck.random() < (0.97 if complete or asks else 0.45)
    opening = "six any apples to boston today by card please" if complete else "hello , i need six apples to boston"
    texts = [opening]
    if asks:
        texts += ["which day and how will you pay ?", "i already said that" if complete else "today , by card please"]
    texts += ["order : six any apples to boston today by card ."] if success else ["order : two red apples to denver ."]
    if not success:
        texts += [
            "no , it should go to boston",
            "order : two red apples to boston .",
            "this is taking too long , goodbye",
        ]
    if visit == 0 and arm == "trained":
        texts[1] = NASTY
    value = {
        "arm": arm, "task": task, "users": users, "decoding": "sampled", "goal": f"{task}-{visit}", "visit": 0,
        "cluster": f"{task}-{visit}", "messages": said(*texts), "ending": "satisfied" if success else "left",
        "reason": None, "figures": _counts(success, complete, asks, len(texts) // 2),
        "reaction": {"satisfied": success, "annoyance": 0.0 if success else 1.5, "limit": 3.0, "leaving": not success},
        "tokens_usage": {"prompt": 40, "completion": 20},
    }  # fmt: skip
    return f"evaluate/{arm}/{task}/{users}/sampled/{task}-{visit}/0", "conversation", value


def _counts(success: bool, complete: bool, asks: bool, turns: int) -> dict[str, list[float]]:
    return {
        "success": [int(success), 1],
        "turns": [turns, 1],
        "reward": [1.2 - 0.03 * turns if success else 0.2, 1],
        "asks_when_missing": [int(asks), 1] if not complete else [0, 0],
        "asks_when_complete": [int(asks), 1] if complete else [0, 0],
    }


REPLIES = (
    "which day and how will you pay ?",
    "order : six red apples to boston now .",
    "which city ?",
    "thank you so much for reaching out today ! how will you pay ?",
    "which day ?",
    NASTY,
)


def _tree(luck: random.Random, task: str, index: int, place: int) -> Record:
    candidates: list[dict[str, Any]] = []
    for rank, text in enumerate(REPLIES):
        worth = [1.05 - 0.15 * rank + luck.gauss(0, 0.05 + 0.05 * index) for _ in range(3)]
        futures = [_future(v, rank) for v in worth]
        mean = sum(worth) / len(worth)
        parts = {"outcome": mean + 0.1, "tokens": 0.14, "satisfaction": 0.9}
        candidates.append({"text": text, "value": mean, "stderr": 0.04, "parts": parts, "futures": futures})
    candidates.append({"text": "", "value": None, "stderr": None, "parts": {}, "futures": [_future(None, 1)]})
    value = {"arm": "trained", "task": task, "step": 20 * index + 1, "goal": f"{task}-{index}", "request": "apples"}
    value |= {"prefix": said("hello , i need six apples to boston"), "candidates": candidates}
    return f"tree/trained/0-grpo/{20 * index + 1}/{place}", "tree", value


def _future(value: float | None, place: int) -> dict[str, Any]:
    good = said("today , by card please", "order : six any apples to boston today by card .", "great , thank you")
    bad = said("no , not like that", "order : six apples to boston .", "no , goodbye")
    if value is None:
        return {"messages": [], "ending": "failed", "value": None}
    return {
        "messages": good if place % 2 == 0 else bad,
        "ending": "satisfied" if place % 2 == 0 else "left",
        "value": value,
    }
