"""A policy that an engine plays, for tests: `played` by a stand-in for `vllm serve`, or `through` any engine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from duologue.background import BackgroundLoop
from duologue.conversation import Message
from duologue.models.base import Reply, Sampling
from duologue.models.endpoint import Endpoint
from duologue.models.local import LocalModel
from duologue.reward import MultiturnReward
from duologue.simulation import Assistant
from duologue.tasks import Task
from duologue.training.engines.played import PlayedPolicy
from duologue.training.engines.vllm_server import VllmServer
from duologue.training.settings import GrpoSettings, LoraSettings
from duologue.training.stage import Stage
from vllm_server import VllmServer as Served

LORA = LoraSettings(r=4, alpha=8, dropout=0.1)
SMALL = GrpoSettings(
    algorithm="grpo", learning_rate=2e-3, groups=3, candidates=3, steps=3, deepest=1, save_steps=None, warmup=0
)
ASKED = [Message("user", "please order two tea")]
DRAWN = Sampling(max_tokens=12)


def played(policy: LocalModel, server: Served, folder: Path, **endpoint: Any) -> PlayedPolicy:
    """A policy as the server plays it."""
    return PlayedPolicy(policy, VllmServer(Endpoint(server.url, retries=0, **endpoint), folder, "abc"))


def through(stage: Stage, engine: PlayedPolicy, samples: int = 1) -> Stage:
    """A stage whose policy an engine plays."""

    def partners(task: Task) -> tuple[Assistant, MultiturnReward]:
        assistant = Assistant(engine, sampling=DRAWN)
        return assistant, MultiturnReward(assistant, task.user, task.metrics, samples, 1, turn_limit=task.turn_limit)

    return replace(stage, partners=partners, engine=engine)


def say(engine: PlayedPolicy, loop: BackgroundLoop, seed: int = 1) -> Reply:
    """A reply to a short message."""
    return loop.run(engine.reply(ASKED, seed=seed, sampling=DRAWN))


def move(policy: LocalModel, far: float) -> None:
    """Change what is trained, by a random step."""
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in policy.model.parameters():
            if weight.requires_grad:
                weight += far * torch.randn_like(weight)
    policy.weights_changed()


def replies_asked(server: Served) -> list[dict[str, Any]]:
    """The bodies of what the server was asked to reply to."""
    return [body for path, body in server.asked if path == "/v1/completions"]
