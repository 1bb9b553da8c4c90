from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir

from duologue.models import BUILT_IN
from duologue.recipe import load_recipe
from duologue.run.prompts import write_inputs

EXAMPLES = Path(__file__).parents[3] / "examples" / "verl"
SMALL = [
    f"actor_rollout_ref.model.path={BUILT_IN['tiny']}",
    "data.max_prompt_length=128",
    "data.max_response_length=48",
    "actor_rollout_ref.rollout.max_model_len=400",
    "actor_rollout_ref.rollout.calculate_log_probs=true",
    "data.filter_overlong_prompts=false",
    "data.apply_chat_template_kwargs=null",
]
"""The launch recipes, for the built-in model."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What `duologue verl` writes of the example's recipe."""
    return write_inputs(load_recipe(EXAMPLES / "recipe.toml"), tmp_path / "verl", train=16, test=4, deepest=2).folder


@pytest.fixture
def configured(folder: Path) -> Callable[..., Any]:
    """(launch recipe, overrides) → verl's whole configuration."""

    def configure(name: str, *overrides: str) -> Any:
        with initialize_config_dir(str(EXAMPLES), version_base=None):
            return compose(name, overrides=[f"folder={folder}", *SMALL, *overrides])

    return configure
