"""The arms known by name: the keys that they change, or what becomes of the recipe's stages in them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from duologue.errors import RecipeError
from duologue.recipe.overrides import Table
from duologue.training.settings import (
    DpoSettings,
    ExploreSettings,
    GrpoSettings,
    OnlineDpoSettings,
    PpoSettings,
    RlooSettings,
    SftSettings,
    TrainSettings,
)

Exploring = DpoSettings | GrpoSettings | OnlineDpoSettings | PpoSettings | RlooSettings
"""Stages that compare replies."""

CHANGED: dict[str, Table] = {
    "base": {"train": []},
    "proactive": {"train": [], "assistant": {"prompt": "proactive"}},
    "ask-missing": {"train": [], "assistant": {"prompt": "ask-missing"}},
    "single-turn": {"reward": {"window": 0}},
    "single-turn-blind": {"reward": {"window": 0, "reacts": False}},
    "oracle": {"train": [], "assistant": {"model": "scripted:oracle", "endpoint": ""}},
    "trained": {},
}
"""Arms as the changes that make them."""


def on_conversations(stages: Sequence[TrainSettings]) -> list[Table]:
    """The stages with GRPO on whole conversations, and nothing else changed.

    Raises:
        RecipeError: none of them is GRPO.
    """
    if not any(isinstance(stage, GrpoSettings) for stage in stages):
        raise RecipeError(
            'no [[train]] has algorithm = "grpo", whose groups it would make of whole conversations: leave it out'
        )
    units = ({"unit": "conversation"} if isinstance(stage, GrpoSettings) else {} for stage in stages)
    return [{**_table(stage), **unit} for stage, unit in zip(stages, units, strict=True)]


def supervised(stages: Sequence[TrainSettings]) -> list[Table]:
    """The stages up to the last supervised one; without any, one on the best of as many replies as they compare.

    That one looks ahead from the same number of candidate replies, at as many states as there are groups in all
    steps, in two batches at least, and has what it can of the last stage's settings, its learning rate among them.

    Raises:
        RecipeError: there are no stages.
    """
    if not stages:
        raise RecipeError("there is no [[train]] whose replies it could learn from: leave it out")
    places = [place for place, stage in enumerate(stages) if isinstance(stage, SftSettings)]
    if places:
        return [_table(stage) for stage in stages[: places[-1] + 1]]
    exploring = [stage for stage in stages if not isinstance(stage, SftSettings)]
    kept = {key: value for key, value in _table(stages[-1]).items() if key in ExploreSettings.model_fields}
    candidates = max(exploring[-1].candidates, 2)
    compared = sum(_states(stage) * stage.candidates for stage in exploring)
    states = max(1, round(compared / candidates))
    batch = min(SftSettings.model_fields["batch"].default, max(1, states // 2))
    return [{**kept, "algorithm": "sft", "candidates": candidates, "states": states, "batch": batch}]


def _states(stage: Exploring) -> int:
    return stage.states if isinstance(stage, DpoSettings) else stage.groups * stage.steps


def _table(stage: TrainSettings) -> Table:
    return stage.model_dump(mode="json", exclude_unset=True)


RESTAGED: dict[str, Callable[[Sequence[TrainSettings]], list[Table]]] = {
    "trajectory": on_conversations,
    "sft-only": supervised,
}
"""Arms as what becomes of the recipe's stages in them."""

ARMS = (*CHANGED, *RESTAGED)


def restaged(arm: str, stages: Sequence[TrainSettings]) -> Table:
    """The changes that make an arm of `RESTAGED`.

    Raises:
        RecipeError: it cannot be made of these stages.
    """
    try:
        return {"train": RESTAGED[arm](stages), "stop_after": None}
    except RecipeError as error:
        raise RecipeError(f"arms.{arm}: {error}") from error
