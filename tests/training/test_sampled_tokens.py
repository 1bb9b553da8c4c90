"""Every stage says, step by step and state by state, all that the policy sampled for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from duologue.background import BackgroundLoop
from duologue.journal import Journal
from duologue.run.jobs import run_stage
from duologue.training.settings import ALGORITHMS, StageSettings
from duologue.training.stage import Stage
from training_stage import Killed, a_stage, kill_at

STEPS = {"groups": 4, "candidates": 3, "steps": 3, "deepest": 1, "save_steps": 2, "learning_rate": 1e-3}
STATES = {"states": 12, "candidates": 3, "deepest": 1, "batch": 4, "save_steps": 2, "learning_rate": 1e-3}
PAIRS = {"min_gap": 0, "noise": 0}
STAGES: dict[str, dict[str, Any]] = {
    "grpo": STEPS,
    "grpo, whole conversations": {**STEPS, "unit": "conversation"},
    "ppo": STEPS,
    "rloo": {**STEPS, "refresh": 2},
    "online-dpo": {**STEPS, **PAIRS, "refresh": 2},
    "dpo": {**STATES, **PAIRS},
    "sft": STATES,
}


def settings(name: str) -> StageSettings:
    algorithm = name.partition(",")[0]
    return ALGORITHMS[algorithm].model_validate({"algorithm": algorithm, **STAGES[name]})


def said(stage: Stage) -> float:
    """The sampled tokens of all that is journalled."""
    entries = [entry.value for kind in ("step", "row") for entry in Journal(stage.journal.path).read(kind)]
    return sum(value["sampled_tokens"] for value in entries)


@pytest.mark.parametrize("name", STAGES)
def test_what_is_said_adds_up_to_what_the_policy_sampled(
    name: str, base: Path, tmp_path: Path, loop: BackgroundLoop
) -> None:
    stage = a_stage(tmp_path, base, loop, samples=2)

    run_stage(settings(name), stage)

    assert said(stage) == stage.policy.counters.generated > 0


@pytest.mark.parametrize("name", ["grpo", "grpo, whole conversations", "rloo"])
def test_a_killed_stage_has_sampled_what_one_in_one_piece_has(
    name: str, base: Path, tmp_path: Path, loop: BackgroundLoop
) -> None:
    whole = a_stage(tmp_path / "whole", base, loop, samples=2)
    run_stage(settings(name), whole)
    with pytest.raises(Killed):
        run_stage(settings(name), a_stage(tmp_path / "killed", base, loop, samples=2, progress=kill_at(3)))

    again = a_stage(tmp_path / "killed", base, loop, samples=2)
    run_stage(settings(name), again)

    assert said(again) == said(whole)
    assert again.policy.counters.generated > 0
