"""What a penalty holds a policy to is the policy as its stage began, wherever its weights came from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from duologue.background import BackgroundLoop
from duologue.models.local import LocalModel
from duologue.training.grpo import grpo_trainer
from duologue.training.rloo import rloo_trainer
from duologue.training.settings import GrpoSettings, RlooSettings
from training_stage import a_stage

SHAPE: dict[str, Any] = {"groups": 4, "candidates": 3, "steps": 3, "deepest": 1, "warmup": 0, "save_steps": None}
WAYS = [(algorithm, shared) for algorithm in ("grpo", "rloo") for shared in (True, False)]


def a_merged_policy(base: Path) -> LocalModel:
    """Weights that are in no folder, as of a model that had an adapter merged into it."""
    policy = LocalModel.load(base, device="cpu")
    with torch.no_grad():
        for weight in policy.model.parameters():
            weight.mul_(1.1)
    policy.model.config._name_or_path = ""
    return policy


@pytest.mark.parametrize(("algorithm", "shared"), WAYS)
def test_the_penalty_begins_at_zero_and_grows_with_the_distance(
    algorithm: str, shared: bool, base: Path, tmp_path: Path, loop: BackgroundLoop
) -> None:
    stage = a_stage(tmp_path, a_merged_policy(base), loop, name=f"0-{algorithm}")
    options = {**SHAPE, "algorithm": algorithm, "learning_rate": 7e-3, "beta": 0.1, "shared_prompts": shared}
    start = {name: weight.clone() for name, weight in stage.policy.model.state_dict().items()}
    trainer: Any = (
        grpo_trainer(GrpoSettings(**options), stage)
        if algorithm == "grpo"
        else rloo_trainer(RlooSettings(**options), stage)
    )

    trainer.train()

    kl = [entry["kl"] for entry in trainer.state.log_history if "kl" in entry]
    assert kl[0] == pytest.approx(0, abs=1e-6)
    assert abs(kl[-1]) > 1e-4
    assert all(torch.equal(weight, start[name]) for name, weight in trainer.ref_model.state_dict().items())
