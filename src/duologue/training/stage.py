"""What a training stage is given: the policy, who it meets, where it writes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import PrinterCallback, Trainer, TrainerCallback

from duologue.background import BackgroundLoop
from duologue.conversation import message_rows
from duologue.dataset import Group, Rewarding
from duologue.errors import ModelError
from duologue.journal import Journal
from duologue.simulation import Assistant
from duologue.tasks.base import Task
from duologue.training import ranks
from duologue.training.arguments import newest_checkpoint
from duologue.training.gathered import bring_up_to_date

if TYPE_CHECKING:
    from duologue.models.local import LocalModel
    from duologue.training.engines.played import PlayedPolicy
    from duologue.training.tracking import Tracking

Partners = Callable[[Task], tuple[Assistant, Rewarding]]
"""A task → who replies in it, and how replies are rewarded; both with the current policy."""
Figures = dict[str, float | None]
"""A step's figures by name; None where there is none."""


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
    """As it was before the stage, also where the stage goes on from a checkpoint; it is trained in place."""
    partners: Partners
    loop: BackgroundLoop
    journal: Journal
    progress: Callable[[int, int, str], None]
    """(done, total, what) for whoever watches."""
    engine: PlayedPolicy | None = None
    """What plays the policy, where this process does not."""
    spent: Callable[[], Figures] = dict
    """What endpoints took since it was asked last: tokens by role, and what they cost."""
    tracking: Tracking | None = None
    """Where the steps' figures are sent, beside the journal; the first of several processes has one."""

    @property
    def key(self) -> str:
        """The stage's part of a journal key."""
        return f"{self.arm}/{self.name}"

    def record_step(self, algorithm: str, step: int, steps: int, figures: Figures) -> None:
        """Journal one training step's figures, once, and send them; of several processes, the first does.

        All processes call it.
        """
        key = f"train/{self.key}/{step:06d}"
        value = {"arm": self.arm, "stage": self.name, "algorithm": algorithm, "step": step, "steps": steps}
        figures = {"sampled_tokens": 0.0, "updates": 1.0, **figures, **self._spent()}
        if self.engine is not None:
            figures |= self.engine.figures()
        if ranks.is_first() and key not in self.journal:
            self.journal.append(key, "step", {**value, **figures})
            if self.tracking is not None:
                self.tracking.send(step, steps, figures)

    def _spent(self) -> Figures:
        """What endpoints took for this step, in all processes."""
        total: Figures = {}
        for each in ranks.gathered([self.spent()]):
            total |= {name: (total.get(name) or 0.0) + (value or 0.0) for name, value in each.items()}
        return total

    @property
    def has_begun(self) -> bool:
        """Whether the journal has anything that it did: replies that were compared, or a step."""
        return any(any(self.journal.keys(f"{kind}/{self.key}/")) for kind in ("build", "train"))

    def check_gradient(self, step: int, norm: float) -> None:
        """Stop where a gradient spoils the weights, before a checkpoint or a model is made of them.

        Args:
            norm: of the step's gradient, before it was clipped.

        Raises:
            ModelError: it is not finite.
        """
        if not math.isfinite(norm):
            raise ModelError(
                f"{self.key}: the gradient at step {step} was not finite, and the weights would be lost by it: lower "
                "learning_rate, or raise warmup, and train anew with --restart"
            )

    def record_data(self, kind: str, counts: Mapping[str, int]) -> None:
        """Journal what became of the data that the stage learns from, once."""
        key = f"{kind}/{self.key}"
        if ranks.is_first() and key not in self.journal:
            self.journal.append(key, kind, {"arm": self.arm, "stage": self.name, **counts})

    def record_tree(self, group: Group, step: int, index: int) -> None:
        """Journal a group with its look-aheads, for the report."""
        key = f"tree/{self.key}/{step:06d}/{index}"
        if ranks.is_first() and key not in self.journal and not group.failed:
            self.journal.append(key, "tree", tree_of(group, self.arm, step))


def train_to(steps: int, trainer: Trainer, stage: Stage) -> None:
    """Train to the last of `steps`, from the newest whole checkpoint where there is one.

    Raises:
        ModelError: the trainer stopped before.
    """
    trainer.remove_callback(PrinterCallback)
    checkpoint = newest_checkpoint(stage.folder)
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    if trainer.state.global_step != steps:
        done = trainer.state.global_step
        raise ModelError(f"{stage.key}: the trainer stopped after {done} of {steps} steps; the same command goes on")
    bring_up_to_date(stage.policy, trainer)


DIAGNOSTICS = {
    "learning_rate": "learning_rate",
    "grad_norm": "grad_norm",
    "entropy": "entropy",
    "kl": "kl",
    "clip_fraction": "clip_ratio/region_mean",
}
"""Figures of a step that TRL's trainers log, by our names."""


class StepJournal(TrainerCallback):
    """Journals every step of a trainer and tells whoever watches.

    Args:
        figures: what to record, given what the trainer logged.

    Raises:
        ModelError: in a step, its gradient is not finite.
    """

    def __init__(self, stage: Stage, algorithm: str, figures: Callable[[dict[str, float]], Figures]) -> None:
        self._stage, self._algorithm, self._figures = stage, algorithm, figures
        self._began = time.monotonic()

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._began = time.monotonic()

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        if not logs or "loss" not in logs:
            return
        self._stage.check_gradient(state.global_step, logs.get("grad_norm", 0.0))
        figures = self._figures(logs)
        reward, loss = figures.get("reward"), logs["loss"]
        told: Figures = {name: logs[logged] for name, logged in DIAGNOSTICS.items() if logged in logs}
        told |= {"loss": loss, "seconds": time.monotonic() - self._began}
        self._stage.record_step(self._algorithm, state.global_step, state.max_steps, {**figures, **told})
        what = f"loss {loss:.3f}" if reward is None else f"reward {reward:.2f}"
        self._stage.progress(state.global_step, state.max_steps, what)


def tree_of(group: Group, arm: str, step: int) -> dict[str, Any]:
    """A group as the report reads it: the prefix, and each distinct candidate with its futures."""
    start = len(group.prefix.messages) + 1
    return {
        "arm": arm,
        "task": group.task,
        "step": step,
        "goal": group.goal.id,
        "request": group.goal.request.text,
        "prefix": message_rows(group.prefix.messages),
        "candidates": [
            {
                "text": reply.text,
                "value": reward.value,
                "stderr": reward.stderr,
                "parts": dict(reward.parts),
                "futures": [
                    {
                        "messages": message_rows(future.messages[start:]),
                        "ending": future.ending.value,
                        "value": value,
                    }
                    for future, value in zip(reward.futures, reward.values, strict=True)
                ],
            }
            for reply, reward in group.distinct
        ],
    }
