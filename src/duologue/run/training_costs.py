"""What the training of a run's arms took, and whether it was at equal sampled tokens.

Read off the journal, where each step and each row of candidates says what it cost, once: a stage that was killed
and went on has cost what one in one piece would have.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from duologue.journal import Journal
from duologue.recipe import Recipe, Table
from duologue.run.folder import stage_names
from duologue.training.settings import TrainSettings

LEAD = "trained"
"""The arm whose sampled tokens the others' are held against, or else the first."""
NEAR = 0.05
"""By which share of those they may differ without a word."""

Costs = Mapping[str, Sequence[Table]]
"""By arm, a table a stage."""


def training_costs(recipe: Recipe, journal: Journal) -> Costs:
    """What each stage of the evaluated arms took, as far as it was trained in this journal.

    Returns:
        {ARM: [{"stage", "algorithm", "updates", "sampled_tokens", "seconds", "learning_rate"}]}. Sampled tokens are
        all that the policy said: prefixes, candidates, look-aheads. These and updates are None where the journal
        does not say. Seconds are those of steps and of comparing replies; what several processes compare takes
        the seconds of each.
    """
    found: dict[str, list[Table]] = {}
    for arm in recipe.evaluate.arms:
        stages = recipe.arm(arm).stages
        named = zip(stage_names(stages), stages, strict=True)
        begun = [(name, stage) for name, stage in named if any(journal.keys(f"train/{arm}/{name}/"))]
        if begun:
            found[arm] = [_cost(arm, name, stage, journal) for name, stage in begun]
    return found


def _cost(arm: str, name: str, settings: TrainSettings, journal: Journal) -> Table:
    steps = _values(journal, f"train/{arm}/{name}/")
    every = [*steps, *_values(journal, f"build/{arm}/{name}/")]
    return {
        "stage": name,
        "algorithm": settings.algorithm,
        "updates": _total(steps, "updates"),
        "sampled_tokens": _total(every, "sampled_tokens"),
        "seconds": sum(value.get("seconds", 0.0) for value in every),
        "learning_rate": settings.learning_rate,
    }


def _values(journal: Journal, prefix: str) -> list[dict[str, Any]]:
    return [journal.entry(key).value for key in journal.keys(prefix)]


def _total(values: Sequence[Mapping[str, Any]], name: str) -> int | None:
    counts: list[float | None] = [value.get(name) for value in values]
    return None if None in counts else round(sum(count or 0 for count in counts))


def uneven(costs: Costs) -> list[str]:
    """A sentence on the arms that sampled more or fewer tokens than `trained`, or without it the first of them."""
    totals = {arm: _sampled(stages) for arm, stages in costs.items()}
    name = LEAD if LEAD in totals else next(iter(totals), LEAD)
    lead = totals.pop(name, None)
    if not lead:
        return []
    shares = {arm: total / lead for arm, total in totals.items() if total is not None}
    off = [f"{arm} {share:.2f} times as many" for arm, share in shares.items() if abs(share - 1) > NEAR]
    if not off:
        return []
    return [f"Not at equal sampled tokens: {name} sampled {lead:,} in its training, {', '.join(off)}."]


def _sampled(stages: Sequence[Table]) -> int | None:
    counts: list[int | None] = [stage["sampled_tokens"] for stage in stages]
    return None if None in counts else sum(count or 0 for count in counts)
