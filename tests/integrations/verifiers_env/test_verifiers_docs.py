"""docs/verifiers.md says what is so."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import verifiers.v1 as vf
from pydantic import BaseModel

from duologue.integrations.verifiers import ConversationEnvConfig, ConversationTasksetConfig

PAGE = (Path(__file__).parents[3] / "docs" / "verifiers.md").read_text()


def table(after: str) -> dict[str, str]:
    """Key → default, of the first table after some words."""
    lines = PAGE[PAGE.index(after) :].split("\n\n")[1].splitlines()
    rows = [[cell.strip().strip("`") for cell in line.split("|")[1:-1]] for line in lines[2:]]
    return {key: default for key, default, _ in rows}


def written(value: Any) -> str:
    """A default as the page writes it."""
    if isinstance(value, BaseModel):
        return "table"
    return "unset" if value is None else f'"{value}"' if isinstance(value, str) else str(value)


@pytest.mark.parametrize(
    ("after", "ours", "theirs"),
    [
        ("Of the environment:", ConversationEnvConfig, vf.EnvConfig),
        ("Of the states:", ConversationTasksetConfig, vf.TasksetConfig),
    ],
)
def test_the_page_has_every_key_of_ours_with_its_default(after: str, ours: Any, theirs: Any) -> None:
    changed = {
        name: written(field.default)
        for name, field in ours.model_fields.items()
        if name not in theirs.model_fields or field.default != theirs.model_fields[name].default
    }
    assert table(after) == changed


def test_the_environment_of_the_training_run_can_be_made() -> None:
    (shown,) = re.findall(r"^```toml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    (source,) = tomllib.loads(shown)["orchestrator"]["train"]["source"]
    config = vf.resolve_env_config(source["env"])
    assert isinstance(config, ConversationEnvConfig)
    assert isinstance(vf.load_environment(config).taskset.config, ConversationTasksetConfig)
    assert next(iter(vf.load_taskset(config.taskset))).data.goal
