"""What arms, users and figures are called on the page, and how numbers are written."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from duologue.report.markup import Html, element

ARMS: dict[str, str] = {
    "base": "the model before any reward training",
    "proactive": "the base under a system prompt to always ask",
    "ask-missing": "the base under a system prompt to ask for what is missing",
    "single-turn": "the same training, with a reward that looks at the reply alone (a window of 0 turns)",
    "single-turn-blind": "single-turn, without the user's reaction to the reply",
    "sft-only": "supervised training alone, on demonstrations or on the best of several replies",
    "dpo": "offline training on pairs of better and worse replies",
    "trajectory": "the same training on whole conversations, with their outcome as the reward of every reply in them",
    "trained": "trained on the multiturn-aware reward",
    "oracle": "a scripted assistant that plays as well as can be; a reference, not a model",
}
"""Arms by name, in the order of every table, with what they are."""

USERS: dict[str, str] = {
    "train": "users as in training",
    "unseen": "users it never met",
    "unseen-habits": "users with unseen habits",
    "unseen-wording": "users with unseen wording",
}

ENDINGS: dict[str, str] = {
    "open": "not ended",
    "satisfied": "the user was satisfied",
    "left": "the user left",
    "window": "cut at the turn limit",
    "overflow": "outgrew the model's context",
    "failed": "lost",
}


@dataclass(frozen=True, slots=True)
class Naming:
    """How one figure is named and written."""

    label: str
    meaning: str
    unit: Literal["percent", "plain"] = "plain"
    digits: int = 2


METRICS: dict[str, Naming] = {
    "success": Naming("success", "conversations in which the user got what they wanted", "percent", 1),
    "reward": Naming("reward", "the reward of the whole conversation"),
    "turns": Naming("turns", "replies a conversation"),
    "tokens": Naming("tokens", "tokens of the replies in a conversation", digits=1),
    "asks_when_missing": Naming(
        "asks when missing", "first replies that ask, where something is missing", "percent", 1
    ),
    "asks_when_complete": Naming(
        "asks when complete", "first replies that ask, where nothing is missing", "percent", 1
    ),
    "asks_indifferent": Naming(
        "asks indifferent",
        "of the things asked, the share whose answer the user had settled before: it does not matter, or it follows",
        "percent",
        1,
    ),
    "repeats": Naming(
        "repeats",
        "questions about what the user had said before, of all questions; in twenty questions a guess is one, too",
        "percent",
        1,
    ),
    "satisfaction": Naming(
        "satisfaction",
        "1 − annoyance ÷ the annoyance at which the user leaves; of users played by a model, what a judge says",
    ),
    "left": Naming("left", "conversations in which the user gave up", "percent", 1),
}
"""Figures by name, in the order of every table."""

QUALITIES: dict[str, Naming] = {
    "accuracy": Naming("accuracy", "how far what the assistant gave agrees with the reference"),
    "pass-rate": Naming("pass rate", "hidden tests: conversations whose last code passes", "percent", 1),
    "bleu": Naming("BLEU", "words in common with the reference, in runs of up to four", digits=3),
    "chrf": Naming("chrF", "characters in common with the reference, in runs of up to six", digits=3),
    "task-completion": Naming("task completion", "judged: how far what the user wanted was done"),
    "interactivity": Naming("interactivity", "judged: how well the assistant works together with its user"),
    "clarification": Naming("clarification", "judged: asks for what it cannot know, and nothing else"),
    "helpfulness-adaptability": Naming(
        "helpfulness, adaptability", "judged: useful to this very user, and follows them"
    ),
    "contextual-consistency": Naming("contextual consistency", "judged: keeps to what was said before"),
    "conflict-management": Naming(
        "conflict management", "judged: deals well with complaint, dispute and contradiction; 1 where none arose"
    ),
    "engagement": Naming("engagement", "judged: draws its user into the work"),
    "first_pass": Naming("first pass", "support: solved with the first thing that was put forward", "percent", 1),
    "escalates_needlessly": Naming(
        "escalates needlessly", "support: handed over to a person, of what a fix would have solved", "percent", 1
    ),
    "escalates_rightly": Naming(
        "escalates rightly", "support: handed over to a person, of what only a person can solve", "percent", 1
    ),
    "sampled_tokens": Naming("tokens sampled, thousands", "all that the policy said in its training", digits=0),
    "summary": Naming("summary", "support: F1 of a hand-over's facts against those that the user told"),
}
"""Other figures by name, where they were measured: metrics that the reward has, and what one task counts."""


def naming(metric: str) -> Naming:
    """How a figure is named; one the page does not know keeps its own name."""
    known = METRICS.get(metric) or QUALITIES.get(metric)
    return known or Naming(metric.replace("_", " "), "a figure of the task's own")


def in_order(names: Iterable[str], known: Iterable[str]) -> list[str]:
    """Known names in their order; the others before "trained" and "oracle", or at the end."""
    rank = {name: index for index, name in enumerate(known)}
    others = rank.get("trained", len(rank)) - 0.5
    return sorted(dict.fromkeys(names), key=lambda name: rank.get(name, others))


def capital(words: str) -> str:
    """The words with a capital first letter."""
    return words[:1].upper() + words[1:]


def users_named(users: str) -> str:
    """A profile set in words."""
    return USERS.get(users, f"users “{users}”")


def number(value: float | None, digits: int = 2, *, signed: bool = False) -> str:
    """A number with a true minus sign; an en dash where there is none."""
    if value is None:
        return "–"
    written = f"{value:+.{digits}f}" if signed else f"{value:.{digits}f}"
    negative_zero = written.lstrip("+-").strip("0.") == ""
    return written.lstrip("-").replace("+", "") if negative_zero else written.replace("-", "−")


def scaled(value: float | None, name: Naming) -> float | None:
    """The value in the unit it is shown in."""
    return value * 100 if value is not None and name.unit == "percent" else value


def figure(value: float | None, name: Naming, *, signed: bool = False) -> Html:
    """A figure in its unit, its full value kept in `<data>`."""
    text = number(scaled(value, name), name.digits, signed=signed)
    return element("data", text, value=repr(value)) if value is not None else element("span", text)


def interval(low: float | None, high: float | None, name: Naming, *, signed: bool = False) -> str:
    """`[low, high]` in the figure's unit; empty where there is none."""
    if low is None or high is None:
        return ""
    ends = (number(scaled(end, name), name.digits, signed=signed) for end in (low, high))
    return f"[{', '.join(ends)}]"


def probability(p: float | None) -> str:
    """A p-value."""
    if p is None:
        return "–"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
