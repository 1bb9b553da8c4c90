"""A state whose replies all have no reward is left out and counted, whatever the algorithm."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from duologue.background import BackgroundLoop
from duologue.conversation import Conversation, Goal
from duologue.errors import ModelError
from duologue.metrics import Metric, Score, Weighted
from duologue.run.jobs import run_stage
from duologue.tasks import Task
from duologue.training.settings import (
    DpoSettings,
    GrpoSettings,
    OnlineDpoSettings,
    PpoSettings,
    RlooSettings,
    SftSettings,
    TrainSettings,
)
from training_stage import GROCERIES, a_stage, steps, weights

SMALL = {"candidates": 3, "deepest": 0, "warmup": 0, "save_steps": None, "learning_rate": 1e-3}
ONLINE = {**SMALL, "steps": 2, "groups": 4}
ALGORITHMS: dict[str, TrainSettings] = {
    "grpo": GrpoSettings(algorithm="grpo", **ONLINE),
    "grpo, by group": GrpoSettings(algorithm="grpo", scale_rewards="group", shared_prompts=False, **ONLINE),
    "grpo, conversations": GrpoSettings(algorithm="grpo", unit="conversation", **ONLINE),
    "rloo": RlooSettings(algorithm="rloo", **ONLINE),
    "ppo": PpoSettings(algorithm="ppo", **ONLINE),
    "online-dpo": OnlineDpoSettings(algorithm="online-dpo", min_gap=0, noise=0, **ONLINE),
    "dpo": DpoSettings(algorithm="dpo", min_gap=0, noise=0, states=8, epochs=1, batch=2, **SMALL),
    "sft": SftSettings(algorithm="sft", states=8, batch=2, **SMALL),
}
OFFLINE = ("dpo", "sft")


def groceries(unscored: int) -> Task:
    """Four goals, some of which a metric has nothing to say about; of the others it likes long replies."""
    goals = tuple(GROCERIES.goals("train")[:4])
    unknown = {goal.id for goal in goals[:unscored]}

    def length() -> Metric:
        async def score(conversation: Conversation, goal: Goal) -> Score:
            if goal.id in unknown:
                return Score(None, "nothing is known of this goal")
            return Score(float(len(conversation.replies[0])))

        return score

    return replace(GROCERIES, metrics={"length": Weighted(length)}, goal_maker=lambda split: goals)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_its_group_is_skipped_and_counted(name: str, base: Path, tmp_path: Path, loop: BackgroundLoop) -> None:
    stage = a_stage(tmp_path, base, loop, task=groceries(unscored=1), samples=2)
    before = weights(stage)

    run_stage(ALGORITHMS[name], stage)

    after, figures = weights(stage), steps(stage)
    assert torch.isfinite(after).all()
    assert not torch.equal(before, after)
    assert all(step["loss"] == step["loss"] for step in figures), "a loss is a number"
    if name in OFFLINE:
        (counts,) = (entry.value for entry in stage.journal.read({"dpo": "pairs", "sft": "best"}[name]))
        assert (counts["rows"], counts["unscored"]) == (8, 2)
    else:
        assert [step["unscored"] for step in figures] == [3, 3]
        assert [step["unscored_share"] for step in figures] == [0.25, 0.25]
        assert all(step["counted"] == 0.75 and step["reward"] is not None for step in figures)


@pytest.mark.parametrize("name", [name for name in ALGORITHMS if name not in OFFLINE])
def test_where_no_group_has_a_reward_it_is_said(name: str, base: Path, tmp_path: Path, loop: BackgroundLoop) -> None:
    stage = a_stage(tmp_path, base, loop, task=groceries(unscored=4), samples=2)

    with pytest.raises(ModelError, match=r"none of a step's candidates could be scored.*nothing is known of this goal"):
        run_stage(ALGORITHMS[name], stage)
