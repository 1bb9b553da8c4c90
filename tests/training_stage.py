"""A training stage on groceries, for tests: with a model of their own, short replies, and nobody watching."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from duologue.background import BackgroundLoop
from duologue.dataset import Group
from duologue.journal import Journal
from duologue.models.base import Sampling
from duologue.models.local import LocalModel
from duologue.reward import MultiturnReward
from duologue.simulation import Assistant, Window
from duologue.tasks import Task, load_task
from duologue.training.stage import Stage

GROCERIES = load_task("groceries")
END = GROCERIES.turn_limit


class Killed(BaseException):
    """Stands for the end of the process."""


def kill_at(step: int) -> Callable[[int, int, str], None]:
    """A `progress` that ends the process when `step` is reported: after its update, before its checkpoint."""

    def progress(done: int, total: int, what: str) -> None:
        if done == step:
            raise Killed

    return progress


def a_stage(
    folder: Path,
    model: Path | LocalModel,
    loop: BackgroundLoop,
    *,
    name: str = "0-grpo",
    task: Task = GROCERIES,
    samples: int = 1,
    window: Window = 1,
    max_tokens: int = 12,
    seed: int = 0,
    progress: Callable[[int, int, str], None] = lambda *_: None,
) -> Stage:
    """A stage that starts from a model, or the one in a folder, and goes on from what `folder` holds."""
    folder.mkdir(exist_ok=True)
    policy = model if isinstance(model, LocalModel) else LocalModel.load(model, device="cpu")

    def partners(task: Task) -> tuple[Assistant, MultiturnReward]:
        assistant = Assistant(policy, sampling=Sampling(max_tokens=max_tokens))
        return assistant, MultiturnReward(
            assistant, task.user, task.metrics, samples, window, turn_limit=task.turn_limit
        )

    journal = Journal(folder / "journal.jsonl")
    return Stage("trained", name, folder, seed, [task], policy, partners, loop, journal, progress)


def weights(stage: Stage) -> torch.Tensor:
    """All weights of the policy, one after another."""
    return torch.cat([weight.detach().flatten() for weight in stage.policy.model.parameters()])


def steps(stage: Stage) -> list[dict[str, Any]]:
    """The journalled steps' figures, in the order of writing."""
    return [entry.value for entry in Journal(stage.journal.path).read("step")]


def timeless(stage: Stage) -> list[tuple[str, dict[str, Any]]]:
    """The whole journal, sorted by key, times left out."""
    return sorted(
        (entry.key, {name: value for name, value in entry.value.items() if not name.endswith("seconds")})
        for entry in Journal(stage.journal.path).read()
    )


def first_turn(groups: Sequence[Group]) -> list[Group]:
    """The groups at the user's first message."""
    return [group for group in groups if len(group.prefix.messages) == 1]


def with_users(wrap: Callable[[Any, int], Any]) -> Task:
    """Groceries, every user wrapped: `wrap(user, seed)`."""
    maker = GROCERIES.profiles["train"]
    return replace(GROCERIES, profiles={"train": lambda request, seed: wrap(maker(request, seed), seed)})
