"""`[rollouts]`: a run whose policy a vLLM server plays while it trains."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from duologue.errors import EndpointUnusable, RecipeError
from duologue.journal import Journal
from duologue.recipe import parse
from duologue.run import train
from duologue.run.folder import stage_settings
from small_model import save_small_model
from vllm_server import BASE, VllmServer, VllmThread

LORA = {"r": 4, "alpha": 8}
EXPLORES = {"candidates": 3, "deepest": 1, "lora": LORA, "learning_rate": 1e-2}
SFT: dict[str, Any] = {
    "algorithm": "sft",
    "data": "demonstrations",
    "conversations": {"groceries": 8},
    "batch": 8,
    "lora": LORA,
}
GRPO: dict[str, Any] = {"algorithm": "grpo", "steps": 2, "groups": 2, **EXPLORES}


def recipe(base: Path, rollouts: dict[str, Any], *stages: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": "served",
        "task": {"name": "groceries"},
        "assistant": {"model": str(base), "max_tokens": 8},
        "reward": {"samples": 1, "window": 1},
        "rollouts": rollouts,
        "train": list(stages),
        "evaluate": {"arms": ["trained"], "conversations": 2, "decoding": ["sampled"]},
    }


def trained(base: Path, run: Path, server: VllmServer, *stages: dict[str, Any], **rollouts: Any) -> Path:
    table = recipe(base, {"engine": "vllm-server", "endpoint": server.url, **rollouts}, *stages)
    train(parse(table, "served.toml"), run, watch=lambda *_: None)
    return run


def test_a_run_is_played_by_the_server_through_the_folder_that_is_named_and_its_calls_are_booked(
    tmp_path: Path,
) -> None:
    base = save_small_model(tmp_path / "base")
    with VllmThread(base) as server:
        run = trained(base, tmp_path / "run", server, SFT, GRPO, folder=str(tmp_path / "memory"))

    steps = [entry.value for entry in Journal(run / "journal.jsonl").read("step")]
    explored = [step for step in steps if step["algorithm"] == "grpo"]
    assert len(explored) == 2
    assert all(0 <= step["logprob_gap"] < 1e-4 for step in explored)
    (calls,) = json.loads((run / "evaluation.json").read_text())["calls"]
    replies = sum(path == "/v1/completions" for path, _ in server.asked)
    assert (calls["role"], calls["model"], calls["calls"]) == ("assistant", BASE, replies)
    assert not server.loaded
    sent = [Path(body["lora_path"]) for path, body in server.asked if path == "/v1/load_lora_adapter"]
    assert len(sent) == 2
    assert all(path.is_relative_to(tmp_path / "memory" / "served" / "trained" / "1-grpo") for path in sent)
    assert not any(path.exists() for path in sent)


@pytest.mark.slow
def test_a_server_that_is_of_no_use_ends_the_run_and_the_same_command_goes_on(tmp_path: Path) -> None:
    base = save_small_model(tmp_path / "base")
    with VllmThread(base, adapters=False) as server:
        with pytest.raises(EndpointUnusable, match="VLLM_ALLOW_RUNTIME_LORA_UPDATING=1"):
            trained(base, tmp_path / "run", server, GRPO)
        server.adapters = True

        run = trained(base, tmp_path / "run", server, GRPO)

    assert (run / "models" / "trained").exists()


def test_who_plays_the_policy_is_part_of_what_a_stages_result_depends_on(tmp_path: Path) -> None:
    base = save_small_model(tmp_path / "base")
    here = parse({**recipe(base, {}, GRPO)}, "here")
    lab, hall = (
        parse(recipe(base, {"engine": "vllm-server", "endpoint": f"http://{host}:1/v1"}, GRPO), host)
        for host in ("lab", "hall")
    )

    assert stage_settings(lab) == stage_settings(hall) != stage_settings(here)
    assert "rollouts" not in stage_settings(here)["0-grpo"]


@pytest.mark.parametrize(
    ("rollouts", "sentence"),
    [
        ({"engine": "vllm-server"}, 'engine = "vllm-server" has an endpoint'),
        ({"engine": "vllm", "endpoint": "http://lab:1/v1"}, "no other engine has one"),
        ({"engine": "vllm-server", "endpoint": "lab"}, 'rollouts.endpoint: there is no endpoint "lab"'),
        ({"engine": "vlm"}, "rollouts.engine"),
    ],
)
def test_a_table_that_cannot_be_meant_is_refused(rollouts: dict[str, Any], sentence: str) -> None:
    with pytest.raises(RecipeError, match=sentence):
        parse(recipe(Path("tiny"), rollouts, GRPO), "served.toml")
