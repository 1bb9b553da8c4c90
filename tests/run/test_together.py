"""Two processes on a run's folder: killed, they go on; a second launch is refused; what cannot work is said."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from accelerate.commands.config.config_args import load_config_from_file
from safetensors.torch import load_file

from duologue.conversation import Message
from duologue.errors import RecipeError
from duologue.journal import Journal
from duologue.models.base import Sampling
from duologue.models.calls import Calls
from duologue.recipe import Recipe, parse
from duologue.run.bill import budgets
from duologue.run.endpoints import Endpoints
from duologue.run.folder import RunFolder
from duologue.run.together import check_together
from duologue.training.launch import unsplit_here
from endpoint_server import Asked, serving

RECIPE = """
name = "two"
[task]
name = "groceries"
[assistant]
model = "tiny"
max_tokens = 12
[reward]
samples = 1
window = 0
[[train]]
algorithm = "rloo"
steps = 5
groups = 4
candidates = 3
refresh = 2
save_steps = 2
learning_rate = 1e-4
[evaluate]
arms = ["base", "trained"]
conversations = 2
"""
DOCS = Path(__file__).parents[2] / "docs"
QUIET = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


def launched(folder: Path, *changes: str) -> subprocess.Popen[str]:
    """`duologue train` by two processes, whose run is in `folder`/two."""
    (folder / "recipe.toml").write_text(RECIPE)
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    port = ["--main_process_port", "0", "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    command = ["-m", "duologue", "train", str(folder / "recipe.toml"), "--runs", str(folder), "--quiet"]
    words = [*launch, *port, *command, *(word for change in changes for word in ("--set", change))]
    return subprocess.Popen(words, env={**os.environ, **QUIET}, stderr=subprocess.PIPE, text=True)


def finished(process: subprocess.Popen[str]) -> None:
    _, errors = process.communicate(timeout=900)
    assert process.returncode == 0, errors[-4000:]


def until(done: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Wait for something that a process does."""
    latest = time.monotonic() + 600
    while not done():
        assert time.monotonic() < latest and process.poll() is None, "it never did"
        time.sleep(0.02)


def trained(folder: Path) -> dict[str, Any]:
    return load_file(folder / "two" / "models" / "trained" / "model.safetensors")


def journalled(folder: Path) -> list[tuple[str, dict[str, Any]]]:
    """The journal, sorted by key, times and what is zero but for rounding left out."""
    entries = Journal(folder / "two" / "journal.jsonl").read()
    return sorted(
        (each.key, {name: v for name, v in each.value.items() if not name.endswith("seconds") and name != "loss"})
        for each in entries
    )


def holder(folder: Path) -> int:
    """The process that holds the run, or held it."""
    return int((folder / ".two.lock").read_text())


@pytest.mark.slow
def test_killed_at_a_step_the_same_command_goes_on(tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for folder in (whole, cut):
        folder.mkdir()
    finished(launched(whole))

    first = launched(cut)
    journal = cut / "two" / "journal.jsonl"
    until(lambda: journal.exists() and "train/trained/0-rloo/000003" in journal.read_text(), first)
    process = holder(cut)
    first.kill()  # the launcher alone: those that it started notice
    first.communicate()
    deadline = time.monotonic() + 120
    while Path(f"/proc/{process}").exists():
        assert time.monotonic() < deadline, "it outlives its launcher"
        time.sleep(0.1)
    finished(launched(cut))

    found, expected = trained(cut), trained(whole)
    assert found.keys() == expected.keys()
    assert max((found[name] - expected[name]).abs().max().item() for name in expected) < 1e-5
    assert journalled(cut) == journalled(whole)


@pytest.mark.slow
def test_a_second_launch_on_the_same_folder_is_refused(tmp_path: Path) -> None:
    first = launched(tmp_path)
    until(lambda: (tmp_path / ".two.lock").exists() and bool((tmp_path / ".two.lock").read_text()), first)

    second = launched(tmp_path)
    _, errors = second.communicate(timeout=900)

    assert second.returncode != 0
    assert errors.count("another process is working in") == 1
    finished(first)


# ---- what is said before anything starts


def recipe(*, user: dict[str, Any] | None = None, endpoints: dict[str, Any] | None = None, **stage: Any) -> Recipe:
    table = {"name": "a", "task": [{"name": "groceries"}], "assistant": {"model": "tiny"}, "train": [stage]}
    players = {"user": user or {}, "endpoints": endpoints or {}}
    return parse({**table, **players, "evaluate": {"arms": ["base", "trained"]}}, "recipe")


@pytest.mark.parametrize(
    ("stage", "told"),
    [
        ({"algorithm": "grpo", "groups": 5}, "groups = 5 cannot be divided among 2 processes: set a multiple of 2"),
        ({"algorithm": "ppo", "groups": 3}, "groups = 3 cannot be divided"),
        ({"algorithm": "sft", "batch": 7}, "batch = 7 cannot be divided"),
        ({"algorithm": "rloo", "groups": 8, "micro_groups": 8}, "groups = 8 leaves each of 2 processes 4: set micro_g"),
        ({"algorithm": "dpo", "batch": 12, "micro_batch": 4}, "batch = 12 leaves each of 2 processes 6: set"),
    ],
)
def test_steps_that_cannot_be_divided_are_refused(stage: dict[str, Any], told: str) -> None:
    with pytest.raises(RecipeError, match=f'arm "trained", train.0 .*: {told}'):
        check_together(recipe(**stage), 2)


@pytest.mark.parametrize(
    ("stage", "told"),
    [
        ({"algorithm": "ppo"}, "PPO trains whole weights: launch it without FSDP"),
        ({"algorithm": "sft", "optimizer": "muon"}, "takes whole matrices"),
    ],
)
def test_what_cannot_train_split_weights_is_refused(
    stage: dict[str, Any], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")

    with pytest.raises(RecipeError, match=told):
        check_together(recipe(**stage), 2)


@pytest.mark.parametrize(("asked", "gpu", "warned"), [("true", False, True), ("true", True, False), ("", False, False)])
def test_weights_that_accelerate_will_not_split_are_said(
    asked: str, gpu: bool, warned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCELERATE_USE_FSDP", asked)
    assert ("splits no weights" in (unsplit_here(gpu) or "")) is warned


def test_steps_that_can_be_divided_are_not_refused() -> None:
    for stage in ({"algorithm": "grpo", "groups": 8, "micro_groups": 2}, {"algorithm": "dpo"}, {"algorithm": "ppo"}):
        check_together(recipe(**stage), 2)


def test_the_configuration_in_the_docs_is_accelerates(tmp_path: Path) -> None:
    (shown,) = re.findall(r"^```yaml\n(.*?)^```$", (DOCS / "scale.md").read_text(), re.MULTILINE | re.DOTALL)
    (tmp_path / "fsdp.yaml").write_text(shown)

    read = load_config_from_file(str(tmp_path / "fsdp.yaml"))

    assert (read.distributed_type, read.num_processes, read.fsdp_config["fsdp_version"]) == ("FSDP", 8, 2)


# ---- endpoints, of which each process drives its part


async def a_moment(asked: Asked) -> str:
    await asyncio.sleep(0.05)
    return "fine"


async def test_processes_share_the_limits_of_an_endpoint() -> None:
    async with serving(a_moment) as server:
        lab = {"url": server.url, "in_flight": 9}
        given = recipe(algorithm="grpo", endpoints={"lab": lab}, user={"model": "model", "endpoint": "lab"})
        endpoints = Endpoints(processes=4)
        model = endpoints.model(given, given.user, "user")

        sampling = Sampling(max_tokens=4)
        await asyncio.gather(*(model.reply([Message("user", str(i))], seed=i, sampling=sampling) for i in range(12)))
        await endpoints.close()

    assert server.most_at_once == 2


def test_processes_share_what_is_left_of_the_budget(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    given = recipe(algorithm="grpo").model_copy(update={"budget": 10.0})
    for rank, cost in ((0, 1.0), (1, 3.0)):
        calls = Calls(run.calls_of(rank))
        calls.release(0.0, role="user", model="m", cost=cost)
        calls.close()

    assert budgets(given, run, 2) == pytest.approx([1.0 + 3.0, 3.0 + 3.0])
    assert budgets(given, run, 1) == pytest.approx([10.0 - 3.0])
