"""Sentences that the figures support, and nothing else.

A difference is named only where its 95 % interval excludes zero and, for the family fixed in the recipe,
Holm's p is below 0.05. Where a file has no paired difference, the two intervals must not touch.
"""

from __future__ import annotations

from dataclasses import dataclass

from duologue.report.folder import Difference, Figures
from duologue.report.markup import Html, element, joined
from duologue.report.wording import interval, naming, number, scaled

LEAD = "trained"
RIVALS = ("base", "proactive", "single-turn", "sft-only", "trajectory")
"""The arms that claims are about; the tables have them all."""
UNSEEN = ("success", "reward")
"""What is claimed for users the training never met."""


@dataclass(frozen=True, slots=True)
class Template:
    """A sentence about one figure of the trained arm; `rival` introduces the other arms."""

    metric: str
    before: str
    after: str
    rival: str


TEMPLATES = (
    Template("success", " succeeds in ", " of conversations", "in "),
    Template("asks_when_missing", " asks in ", " of requests where something is missing", "in "),
    Template("asks_when_complete", " asks in ", " of requests where nothing is missing", "in "),
    Template("turns", " takes ", " turns a conversation", ""),
    Template("reward", " earns a reward of ", " a conversation", ""),
)


def supported(figures: Figures, task: str, users: str) -> list[Html]:
    """One sentence a figure, naming the arms from which the trained one is shown to differ."""
    chosen = [t for t in TEMPLATES if not users.startswith("unseen") or t.metric in UNSEEN]
    sentences = (_sentence(figures, template, task, users) for template in chosen)
    return [sentence for sentence in sentences if sentence is not None]


def undecided(figures: Figures, task: str, users: str) -> list[Html]:
    """Arms whose success the evaluation could not tell from the trained one's."""
    found = (figures.difference(LEAD, rival, task, users, "success") for rival in RIVALS)
    return [_undecided(d) for d in found if d is not None and d.mean is not None and not d.shown]


def _sentence(figures: Figures, template: Template, task: str, users: str) -> Html | None:
    own = figures.estimate(LEAD, task, users, template.metric)
    rivals = [rival for rival in RIVALS if _differs(figures, rival, task, users, template.metric)]
    if template.metric == "turns":
        # Users who give up make short conversations: a rival is not quicker for failing more.
        rivals = [r for r in rivals if not _quicker_by_failing(figures, r, task, users)]
    if own is None or not rivals:
        return None
    name = naming(template.metric)
    value = f"{_written(own.mean, template.metric)} {interval(own.low, own.high, name)}".rstrip()
    others = joined((_rival(figures, rival, template, task, users) for rival in rivals), ", ")
    lead = element("strong", LEAD, class_="lead-arm")
    return joined((lead, template.before, element("strong", value, class_="value"), template.after, "; ", others, "."))


def _rival(figures: Figures, rival: str, template: Template, task: str, users: str) -> str:
    other = figures.estimate(rival, task, users, template.metric)
    return f"{rival} {template.rival}{_written(other.mean if other else None, template.metric)}"


def _differs(figures: Figures, rival: str, task: str, users: str, metric: str) -> bool:
    own, other = (figures.estimate(arm, task, users, metric) for arm in (LEAD, rival))
    if own is None or other is None:
        return False
    paired = figures.difference(LEAD, rival, task, users, metric)
    return own.apart(other) if paired is None else paired.shown


def _quicker_by_failing(figures: Figures, rival: str, task: str, users: str) -> bool:
    fewer = _mean(figures, rival, task, users, "turns") < _mean(figures, LEAD, task, users, "turns")
    fails = _mean(figures, rival, task, users, "success") < _mean(figures, LEAD, task, users, "success")
    return fewer and fails and _differs(figures, rival, task, users, "success")


def _mean(figures: Figures, arm: str, task: str, users: str, metric: str) -> float:
    found = figures.estimate(arm, task, users, metric)
    return found.mean if found is not None and found.mean is not None else float("nan")


def _undecided(d: Difference) -> Html:
    name = naming(d.metric)
    size = (
        f"{number(scaled(d.mean, name), name.digits, signed=True)} points {interval(d.low, d.high, name, signed=True)}"
    )
    if d.low is not None and d.high is not None and (d.low > 0 or d.high < 0):
        return joined((f"The difference in success from {d.against}, {size}, does not stand after Holm's correction.",))
    return joined((f"No difference in success from {d.against} is shown: {size}.",))


def _written(value: float | None, metric: str) -> str:
    name = naming(metric)
    if name.unit == "percent":
        return f"{number(scaled(value, name), name.digits)}\u00a0%"
    return number(value, name.digits)
