"""Trains a few steps on groceries, alone or with the others that it was started with; run as a script by each process.

    torchrun --nproc_per_node 2 several_processes.py grpo MODEL FOLDER [REPLIES]

What the model draws is written to FOLDER/replies.pt; where such a file of REPLIES is given, it says the same again.
The gradients of every update go to FOLDER/gradients.pt, the weights after it to FOLDER/updates.pt, the trained model
to FOLDER/model.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate import DistributedType, PartialState
from accelerate.state import AcceleratorState
from torch.optim.optimizer import register_optimizer_step_pre_hook

from duologue.background import BackgroundLoop
from duologue.conversation import Message
from duologue.models.base import Reply, Sampling
from duologue.models.local import LocalModel
from duologue.reward import MultiturnReward
from duologue.run.jobs import run_stage
from duologue.seeding import derive
from duologue.simulation import Assistant
from duologue.tasks import Task
from duologue.training import ranks
from duologue.training.launch import splits
from duologue.training.lora import open_policy
from duologue.training.settings import (
    DpoSettings,
    GrpoSettings,
    LoraSettings,
    OnlineDpoSettings,
    PpoSettings,
    RlooSettings,
    SftSettings,
    TrainSettings,
)
from training_stage import a_stage, weights

SMALL: dict[str, Any] = {
    "learning_rate": 1e-4,
    "max_grad_norm": 1e9,
    "warmup": 0,
    "save_steps": None,
    "candidates": 4,
    "deepest": 1,
}
STEPS: dict[str, Any] = {**SMALL, "groups": 4, "steps": 5}
PAIRS: dict[str, Any] = {"min_gap": 0.0, "noise": 0.0, "likelihood": 1.0}
SETTINGS: dict[str, TrainSettings] = {
    "sft": SftSettings(algorithm="sft", states=40, batch=4, micro_batch=2, **SMALL),
    "dpo": DpoSettings(algorithm="dpo", states=16, batch=4, micro_batch=2, epochs=3, **SMALL, **PAIRS),
    "online-dpo": OnlineDpoSettings(algorithm="online-dpo", refresh=2, micro_pairs=2, **STEPS, **PAIRS),
    "ppo": PpoSettings(algorithm="ppo", minibatches=3, micro_batch=2, **STEPS),
    "grpo": GrpoSettings(algorithm="grpo", micro_groups=2, **STEPS),
    "rloo": RlooSettings(algorithm="rloo", micro_groups=1, refresh=2, shared_prompts=False, **STEPS),
    "trajectory": GrpoSettings(algorithm="grpo", unit="conversation", shared_prompts=False, **STEPS),
    "saved": GrpoSettings(algorithm="grpo", **{**STEPS, "save_steps": 2}),
    "lora": GrpoSettings(algorithm="grpo", lora=LoraSettings(r=4), **STEPS),
}


class Recorded:
    """A model whose replies are kept, or said again as they were kept; with split weights it draws its own, too."""

    def __init__(self, model: LocalModel, kept: dict[int, Reply] | None) -> None:
        self._model, self._kept = model, kept
        self.drawn: dict[int, Reply] = {}

    async def reply(self, messages: Sequence[Message], *, seed: int, sampling: Sampling) -> Reply:
        key = derive(seed, *(message.content for message in messages))
        if self._kept is None or splits():
            self.drawn[key] = await self._model.reply(messages, seed=seed, sampling=sampling)
        return (self._kept or self.drawn)[key]

    def count_tokens(self, text: str) -> int:
        return self._model.count_tokens(text)


def let_fsdp_run_here() -> None:
    """accelerate has FSDP for accelerators alone, and torch for CPUs, too: have it take these for accelerators."""
    begin = PartialState.__init__

    def begun(self: PartialState, *given: Any, **named: Any) -> None:
        begin(self, *given, **named)
        if self.distributed_type == DistributedType.MULTI_CPU:
            self.distributed_type, self.device = DistributedType.MULTI_GPU, torch.device("cpu")

    PartialState.__init__ = begun


def main(algorithm: str, model: Path, folder: Path, replies: Path | None) -> None:
    """Be one of the processes."""
    torch.set_num_threads(1)
    if splits():
        let_fsdp_run_here()
    with ranks.launched_together():
        train(algorithm, model, folder, replies)


def train(algorithm: str, model: Path, folder: Path, replies: Path | None) -> None:
    """The training, and what is written of it."""
    settings, updates, gradients = SETTINGS[algorithm], list[torch.Tensor](), list[torch.Tensor]()
    policy = open_policy(model, settings.lora, seed=1)
    recorded = Recorded(policy, torch.load(replies, weights_only=False) if replies else None)

    def watch(done: int, total: int, what: str) -> None:
        if what != "states compared":
            updates.append(weights(stage))
            if str(done) == os.environ.get("DIE_AT"):
                os._exit(1)

    def keep(optimizer: torch.optim.Optimizer, given: Any, named: Any) -> None:
        trained = [weight for group in optimizer.param_groups for weight in group["params"]]
        gradients.append(torch.cat([weight.grad.detach().flatten() for weight in trained]))

    register_optimizer_step_pre_hook(keep)
    with BackgroundLoop() as loop:
        stage = a_stage(folder, policy, loop, name=f"0-{algorithm}", samples=2, progress=watch)
        partners = stage.partners

        def spoken(task: Task) -> tuple[Assistant, MultiturnReward]:
            assistant, reward = partners(task)
            assistant = replace(assistant, model=recorded)
            return assistant, reward.of(assistant)

        run_stage(settings, replace(stage, partners=spoken))
    assert (AcceleratorState().distributed_type == DistributedType.FSDP) == splits(), "weights were not split"
    drawn = {key: reply for each in ranks.gathered([recorded.drawn]) for key, reply in each.items()}
    if ranks.is_first():
        torch.save([*updates, weights(stage)], folder / "updates.pt")
        if not splits():
            torch.save(gradients, folder / "gradients.pt")
        torch.save(drawn, folder / "replies.pt")
        policy.save(folder / "model")


def launch(processes: int, *arguments: str | Path, dies: bool = False, **environment: str) -> None:
    """Run this script in so many processes, and wait for them.

    Args:
        dies: whether they are told to (`DIE_AT`, a step).
    """
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    quiet = {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", "TRL_EXPERIMENTAL_SILENCE": "1"}
    command = [*words, __file__, *map(str, arguments)]
    done = subprocess.run(command, env={**os.environ, **quiet, **environment}, capture_output=True, timeout=900)
    assert (done.returncode != 0) is dies, done.stderr.decode()[-4000:]


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4]) if len(sys.argv) > 4 else None)
