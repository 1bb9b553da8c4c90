"""The words of an evaluation: what is measured, for which arms and users, in the order it is shown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from duologue.statistics import Range

Decoding = Literal["sampled", "greedy"]
ARMS = (
    *("base", "proactive", "ask-missing", "single-turn", "single-turn-blind"),
    *("sft-only", "dpo", "trajectory", "trained", "oracle"),
)
USERS = ("train", "unseen", "unseen-habits", "unseen-wording")
SHARES = (
    *("success", "satisfaction", "left", "repeats"),
    *("asks_when_missing", "asks_when_complete", "asks_indifferent"),
    *("success_when_missing", "success_when_complete"),
    *("first_pass", "escalates_needlessly", "escalates_rightly", "summary"),
    *("asks_ambiguous", "answers_clear", "macro_accuracy", "f1_asks", "f1_answers", "ask-or-answer", "maths-accuracy"),
)
JUDGED = (
    *("task-completion", "interactivity", "clarification", "helpfulness-adaptability", "contextual-consistency"),
    *("conflict-management", "engagement"),
)
"""Metrics by rubrics, beside `satisfaction`, which is a figure of every conversation."""
QUALITIES = ("accuracy", "pass-rate", "bleu", "chrf", *JUDGED)
"""Metrics of any task that lie between 0 and 1."""
RANGES: Mapping[str, Range] = {
    **dict.fromkeys((*SHARES, *QUALITIES), (0.0, 1.0)),
    **dict.fromkeys(("bleu-over-floor", "chrf-over-floor"), (-1.0, 1.0)),
}
"""The lowest and highest values of figures that have them by definition."""
METRICS = (
    *("success", "turns", "tokens", "satisfaction", "left"),
    *("asks_when_missing", "asks_when_complete", "asks_indifferent", "repeats", "reward"),
)
"""Figures, in the order in which they are shown; the metrics of the reward follow."""


def ordered(names: Iterable[str], known: Sequence[str]) -> list[str]:
    """Known names in their order, others by the alphabet after them."""
    places = {name: index for index, name in enumerate(known)}
    return sorted(names, key=lambda name: (places.get(name, len(known)), name))
