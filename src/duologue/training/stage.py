"""What a training stage is given: the policy, who it meets, where it writes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from duologue.background import BackgroundLoop
from duologue.dataset import Group
from duologue.journal import Journal
from duologue.reward import MultiturnReward
from duologue.simulation import Assistant
from duologue.tasks.base import Task

if TYPE_CHECKING:
    from duologue.models.local import LocalModel

Partners = Callable[[Task], tuple[Assistant, MultiturnReward]]
"""A task → who replies in it, and how replies are rewarded; both with the current policy."""


@dataclass(frozen=True)
class Stage:
    """One `[[train]]` table at work for one arm."""

    arm: str
    name: str
    """Its place and algorithm, like "0-grpo"."""
    folder: Path
    """Where its checkpoints and its model go."""
    seed: int
    tasks: Sequence[Task]
    policy: LocalModel
    partners: Partners
    loop: BackgroundLoop
    journal: Journal
    progress: Callable[[int, int, str], None]
    """(done, total, what) for whoever watches."""

    @property
    def key(self) -> str:
        """The stage's part of a journal key."""
        return f"{self.arm}/{self.name}"

    def record_step(self, algorithm: str, step: int, steps: int, figures: dict[str, float | None]) -> None:
        """Journal one training step's figures, once."""
        key = f"train/{self.key}/{step:06d}"
        value = {"arm": self.arm, "stage": self.name, "algorithm": algorithm, "step": step, "steps": steps, **figures}
        if key not in self.journal:
            self.journal.append(key, "step", value)

    def record_tree(self, group: Group, step: int, index: int) -> None:
        """Journal a group with its look-aheads, for the report."""
        key = f"tree/{self.key}/{step:06d}/{index}"
        if key not in self.journal and not group.failed:
            self.journal.append(key, "tree", tree_of(group, self.arm, step))


def tree_of(group: Group, arm: str, step: int) -> dict[str, Any]:
    """A group as the report reads it: the prefix, and each distinct candidate with its futures."""
    distinct = {reply.text: reward for reply, reward in zip(group.replies, group.rewards, strict=True)}
    start = len(group.prefix.messages) + 1
    return {
        "arm": arm,
        "task": group.task,
        "step": step,
        "goal": group.goal.id,
        "request": group.goal.request.text,
        "prefix": [{"role": m.role, "content": m.content} for m in group.prefix.messages],
        "candidates": [
            {
                "text": text,
                "value": reward.value,
                "stderr": reward.stderr,
                "parts": dict(reward.parts),
                "futures": [
                    {
                        "messages": [{"role": m.role, "content": m.content} for m in future.messages[start:]],
                        "ending": future.ending.value,
                        "value": value,
                    }
                    for future, value in zip(reward.futures, reward.values, strict=True)
                ],
            }
            for text, reward in distinct.items()
        ],
    }
