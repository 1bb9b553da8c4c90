"""What the trainers' tests start from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from duologue.background import BackgroundLoop
from duologue.run.wiring import quieten_transformers
from duologue.tasks import load_task
from duologue.training.demonstrations import stage_examples
from duologue.training.scratch import new_model
from duologue.training.settings import LoraSettings, ScratchSettings, SftSettings
from duologue.training.sft import train_stage
from played_policy import LORA
from training_stage import a_stage
from vllm_server import VllmServer, VllmThread


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a model that has seen a few hundred conversations: it speaks, and mostly nonsense."""
    quieten_transformers()
    groceries = load_task("groceries")
    architecture = ScratchSettings(hidden=64, intermediate=128, layers=2, heads=2, head_dim=32, context=256)
    settings = SftSettings(
        algorithm="sft",
        data="demonstrations",
        conversations={"groceries": 600},
        batch=8,
        learning_rate=3e-3,
        optimizer="muon",
        warmup=5,
        hold=0.33,
        save_steps=None,
    )
    policy = new_model([groceries], architecture, seed=0)
    examples = stage_examples([groceries], settings, seed=1)
    folder = tmp_path_factory.mktemp("base")
    with BackgroundLoop() as loop:
        train_stage(settings, a_stage(folder, policy, loop), examples)
    policy.save(folder / "model")
    return folder / "model"


@pytest.fixture
def loop() -> Iterator[BackgroundLoop]:
    """A running loop."""
    with BackgroundLoop() as running:
        yield running


@pytest.fixture(params=[None, LORA], ids=["all weights", "an adapter"])
def lora(request: pytest.FixtureRequest) -> LoraSettings | None:
    """What is trained: everything, or an adapter."""
    return request.param


@pytest.fixture
def server(base: Path) -> Iterator[VllmServer]:
    """A stand-in for `vllm serve`, started from `base`."""
    with VllmThread(base) as running:
        yield running
