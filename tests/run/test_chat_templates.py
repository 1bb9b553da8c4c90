"""A chat template that refuses system prompts is found out before anything is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from chat_templates import KINDS
from duologue.errors import RecipeError
from duologue.recipe import merged, parse
from duologue.run.check import check_templates
from duologue.run.jobs import perform
from duologue.run.workers import Job

REFUSED = r'arm "proactive" has a system prompt, and .*: System role not supported: leave the arm out'


def saved(folder: Path, kind: str = "no system prompt") -> dict[str, Any]:
    """A recipe with a model of which there is the tokenizer."""
    KINDS[kind].save_pretrained(folder)
    train = [{"algorithm": "grpo", "steps": 1}]
    return {"name": "x", "task": {"name": "groceries"}, "assistant": {"model": str(folder)}, "train": train}


def checked(table: dict[str, Any], *arms: str, **changes: Any) -> None:
    check_templates(parse(merged(table, changes), "x.toml"), arms)


def test_an_arm_whose_system_prompt_is_refused_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=REFUSED):
        checked(saved(tmp_path), "base", "trained", "proactive")
    with pytest.raises(RecipeError, match='arm "trained" has a system prompt'):
        checked(saved(tmp_path), "trained", assistant={"system": "order"})


def test_arms_that_have_none_or_whose_template_takes_it_are_let_through(tmp_path: Path) -> None:
    checked(saved(tmp_path / "refusing"), "base", "trained", "oracle")
    checked(saved(tmp_path / "taking", "plain"), "base", "trained", "proactive")


def test_models_that_are_not_played_here_are_not_looked_at(tmp_path: Path) -> None:
    served = {"model": "large", "endpoint": "http://127.0.0.1:9/v1", "system": "order"}
    checked(saved(tmp_path), "base", assistant=served)
    checked({**saved(tmp_path), "assistant": {"model": "new", "system": "order"}}, "trained")


@pytest.mark.parametrize(("kind", "arm"), [("train", "trained"), ("evaluate", "proactive")])
def test_it_is_said_before_anything_is_trained_or_played(kind: Any, arm: str, tmp_path: Path) -> None:
    table = {**saved(tmp_path / "model"), "evaluate": {"arms": ["base", "proactive", "trained"]}}

    with pytest.raises(RecipeError, match=REFUSED):
        perform(Job(kind, (arm,), table, str(tmp_path / "run")), lambda *_: None)

    assert not (tmp_path / "run").exists()
