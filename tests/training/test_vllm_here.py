"""vLLM in this process, as far as a stand-in for its module can show: what it is given, and when."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from duologue.background import BackgroundLoop
from duologue.errors import MissingDependency
from duologue.training.engines.played import PlayedPolicy
from duologue.training.engines.vllm_here import QUIET, VllmHere
from duologue.training.grpo import train_grpo
from duologue.training.lora import open_policy
from duologue.training.settings import LoraSettings
from duologue.training.stage import Stage
from played_policy import LORA, SMALL, say, through
from training_stage import a_stage, steps, weights
from vllm_module import LLMEngine, installed

TWO_STEPS = SMALL.model_copy(update={"steps": 2})


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[LLMEngine]]:
    """The stand-in is installed; the engines that are made of it."""
    for name in QUIET:
        monkeypatch.setenv(name, os.environ.get(name, ""))  # put back at the end
    with installed(monkeypatch) as made:
        yield made


def inside(stage: Stage, folder: Path) -> Stage:
    """A stage whose policy vLLM plays in this process."""
    return through(stage, PlayedPolicy(stage.policy, VllmHere(folder, 0.3)))


@pytest.mark.parametrize(
    ("lora", "loading"), [(None, ["weights", "reset"]), (LORA, ["adapter"])], ids=["all weights", "an adapter"]
)
def test_it_is_given_the_weights_before_every_steps_replies_and_training_is_as_here(
    base: Path,
    tmp_path: Path,
    loop: BackgroundLoop,
    engines: list[LLMEngine],
    lora: LoraSettings | None,
    loading: list[str],
) -> None:
    here = a_stage(tmp_path / "here", open_policy(base, lora), loop)
    there = inside(a_stage(tmp_path / "there", open_policy(base, lora), loop), tmp_path / "weights")

    for stage in (here, there):
        train_grpo(TWO_STEPS, stage)

    (engine,) = engines
    changes = [what for what, before in zip(engine.done, ["", *engine.done], strict=False) if what != before]
    assert changes == [*loading, "reply", *loading, "reply"]
    assert torch.allclose(weights(there), weights(here), atol=1e-4)
    assert all(step["logprob_gap"] < 1e-4 for step in steps(there))
    assert there.policy.counters.generated == 0


def test_it_is_started_with_room_for_the_adapter_and_its_share_of_the_memory(
    base: Path, tmp_path: Path, loop: BackgroundLoop, engines: list[LLMEngine]
) -> None:
    played = PlayedPolicy(open_policy(base, LORA), VllmHere(tmp_path / "weights", 0.4))

    say(played, loop)

    arguments = engines[0].arguments
    assert (arguments.model, arguments.max_lora_rank, arguments.gpu_memory_utilization) == (str(base), 8, 0.4)


def test_at_the_end_it_is_shut_down_and_its_weights_are_removed(
    base: Path, tmp_path: Path, loop: BackgroundLoop, engines: list[LLMEngine]
) -> None:
    played = PlayedPolicy(open_policy(base, None), VllmHere(tmp_path / "weights", 0.3))
    say(played, loop)

    loop.run(played.close())

    assert engines[0].done[-1] == "shutdown"
    assert not (tmp_path / "weights").exists()


def test_without_vllm_the_command_that_installs_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in QUIET:
        monkeypatch.setenv(name, os.environ.get(name, ""))
    monkeypatch.setitem(sys.modules, "vllm", None)

    with pytest.raises(MissingDependency, match=r"an environment of its own: python -m venv .* install vllm"):
        VllmHere(tmp_path, 0.3)
