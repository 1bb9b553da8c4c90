"""A gradient that is not finite ends a training, by whatever algorithm, and nothing is kept of it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from bandit_stage import BANDIT, a_bandit
from duologue.background import BackgroundLoop
from duologue.errors import ModelError
from duologue.run.jobs import run_stage
from duologue.training.arguments import newest_checkpoint
from duologue.training.settings import (
    DpoSettings,
    GrpoSettings,
    OnlineDpoSettings,
    RlooSettings,
    SftSettings,
    TrainSettings,
)
from duologue.training.stage import Stage
from training_stage import a_stage, steps

FAR = 1e30
"""A learning rate after whose first update the policy's numbers overflow."""
STEPS: dict[str, Any] = {"groups": 2, "candidates": 3, "steps": 4, "warmup": 0, "learning_rate": FAR, "save_steps": 1}
ROUNDS: dict[str, Any] = {
    "states": 8,
    "candidates": 4,
    "batch": 2,
    "epochs": 2,
    "warmup": 0,
    "learning_rate": FAR,
    "save_steps": 1,
}
PAIRS: dict[str, Any] = {"min_gap": 0.0, "noise": 0.0}
ONLINE: dict[str, Any] = {**STEPS, **PAIRS, "groups": 6}


def stops(settings: TrainSettings, stage: Stage) -> int:
    """The step that it stops at."""
    with pytest.raises(ModelError) as refused:
        run_stage(settings, stage)
    told = re.search(r"the gradient at step (\d+) was not finite.*lower learning_rate", str(refused.value))
    assert told, refused.value
    return int(told[1])


SFT = SftSettings(
    algorithm="sft",
    data="demonstrations",
    conversations={"groceries": 8},
    batch=2,
    warmup=0,
    learning_rate=FAR,
    save_steps=1,
)


@pytest.mark.parametrize(
    "settings",
    [
        GrpoSettings(algorithm="grpo", **STEPS),
        pytest.param(GrpoSettings(algorithm="grpo", unit="conversation", **STEPS), marks=pytest.mark.slow),
        pytest.param(RlooSettings(algorithm="rloo", **STEPS), marks=pytest.mark.slow),
        pytest.param(OnlineDpoSettings(algorithm="online-dpo", **ONLINE), marks=pytest.mark.slow),
        DpoSettings(algorithm="dpo", **ROUNDS, **PAIRS),
        SFT,
    ],
    ids=["grpo", "conversations", "rloo", "online-dpo", "dpo", "sft"],
)
def test_a_gradient_that_is_not_finite_ends_the_training(
    settings: TrainSettings, base: Path, tmp_path: Path, loop: BackgroundLoop
) -> None:
    stage = a_stage(tmp_path, base, loop, samples=2)

    step = stops(settings, stage)

    assert [row["step"] for row in steps(stage)] == list(range(1, step))
    newest = newest_checkpoint(tmp_path)
    assert newest is not None and newest.name == f"checkpoint-{step - 1}"


def test_ppo_leaves_the_weights_as_they_were_before_such_a_gradient(tmp_path: Path, loop: BackgroundLoop) -> None:
    stage = a_bandit(tmp_path, loop)

    stops(BANDIT.model_copy(update={"learning_rate": FAR}), stage)

    assert all(weight.isfinite().all() for weight in stage.policy.model.parameters())
