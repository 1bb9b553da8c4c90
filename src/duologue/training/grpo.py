"""GRPO on multiturn-aware rewards, through TRL.

A step's states are on-policy: for each group the current policy and the user play to a random turn, once;
the group shares that prefix. The candidates are drawn there, looked ahead from with the same policy, and
trained on by their sampled ids. Nothing else is trained on: look-aheads are measurement.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

from datasets import Dataset
from transformers import PrinterCallback, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from duologue.dataset import Group, Visit, explore, visits
from duologue.errors import RecipeError
from duologue.seeding import derive
from duologue.training.arguments import newest_checkpoint, shared_arguments
from duologue.training.schedule import adamw
from duologue.training.settings import GrpoSettings
from duologue.training.stage import Stage
from duologue.training.tree import TreeGRPOTrainer

TREES = 2
"""Groups a recorded step shows in the report."""


def train_grpo(settings: GrpoSettings, stage: Stage) -> None:
    """Train the stage's policy in place; goes on from its newest checkpoint.

    Raises:
        RecipeError: `micro_groups` does not divide `groups`.
    """
    micro = settings.micro_groups or settings.groups
    if settings.groups % micro:
        raise RecipeError(f"train: micro_groups = {micro} must divide groups = {settings.groups}")
    rollouts = Rollouts(settings, stage)
    trainer_class = TreeGRPOTrainer if settings.shared_prompts else GRPOTrainer
    trainer = trainer_class(
        model=stage.policy.model,
        reward_funcs=[multiturn_reward],
        args=_arguments(settings, stage, micro),
        train_dataset=Dataset.from_dict({"prompt": [str(i) for i in range(len(rollouts.planned))]}),
        processing_class=stage.policy.tokenizer,
        rollout_func=rollouts,
        callbacks=[_Report(stage, rollouts, settings.steps)],
        optimizers=adamw(stage.policy.model, settings, settings.steps),
    )
    trainer.remove_callback(PrinterCallback)
    checkpoint = newest_checkpoint(stage.folder)
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    if trainer.state.global_step != settings.steps:
        raise RuntimeError(f"trained {trainer.state.global_step} steps of {settings.steps}")
    stage.policy.weights_changed()


def multiturn_reward(prompts: Sequence[str], reward: Sequence[float | None], **_: Any) -> list[float | None]:
    """What the rollouts found, handed to TRL."""
    return list(reward)


class Rollouts:
    """TRL's `rollout_func`: plays the prefixes, draws the candidates, looks ahead."""

    def __init__(self, settings: GrpoSettings, stage: Stage) -> None:
        self._settings = settings
        self._stage = stage
        count = settings.groups * settings.steps
        self.planned: list[Visit] = visits(
            stage.tasks, count, deepest=settings.deepest, seed=derive(stage.seed, "grpo")
        )
        self.figures: dict[str, float | None] = {}

    def __call__(self, prompts: Sequence[str], trainer: Any) -> dict[str, list[Any]]:
        """A batch of prompts (each its visit's number, repeated for every candidate) → what TRL trains on."""
        model = trainer.model
        was_training = model.training
        model.eval()
        self._stage.policy.weights_changed()
        started = time.monotonic()
        numbers = list(dict.fromkeys(int(p) for p in prompts))
        groups = self._stage.loop.run(self._explore([self.planned[number] for number in numbers]))
        model.train(was_training)
        self._record(groups, trainer.state.global_step, time.monotonic() - started)
        return self._for_trl(groups)

    async def _explore(self, batch: Sequence[Visit]) -> list[Group]:
        return list(await asyncio.gather(*(self._one(visit) for visit in batch)))

    async def _one(self, visit: Visit) -> Group:
        assistant, reward = self._stage.partners(visit.task)
        return await explore(
            assistant,
            visit.task,
            reward,
            visit.goal,
            depth=visit.depth,
            candidates=self._settings.candidates,
            seed=visit.seed,
        )

    def _for_trl(self, groups: Sequence[Group]) -> dict[str, list[Any]]:
        """Ids, log-probabilities and rewards; a candidate without a reward is masked out of the loss."""
        rows: dict[str, list[Any]] = {
            key: [] for key in ("prompt_ids", "completion_ids", "logprobs", "env_mask", "reward")
        }
        for group in groups:
            if group.failed:
                raise RuntimeError(f"goal {group.goal.id}: the prefix could not be played: {group.failed}")
            for reply, reward in zip(group.replies, group.rewards, strict=True):
                ids = list(reply.ids or ())
                rows["prompt_ids"].append(list(reply.prompt_ids or ()))
                rows["completion_ids"].append(ids)
                rows["logprobs"].append(list(reply.logprobs or ()))
                rows["env_mask"].append([int(reward.value is not None)] * len(ids))
                rows["reward"].append(reward.value)
        return rows

    def _record(self, groups: Sequence[Group], step: int, seconds: float) -> None:
        rewards = [reward for group in groups for reward in group.rewards]
        values = [reward.value for reward in rewards if reward.value is not None]
        first = [reply for group in groups if len(group.prefix.messages) == 1 for reply in group.replies]
        self.figures = {
            "reward": sum(values) / len(values) if values else None,
            "asks": sum("?" in reply.text for reply in first) / len(first) if first else None,
            "unscored": 1 - len(values) / len(rewards),
            "tokens": float(sum(r.usage.completion for group in groups for r in group.replies)),
            "rollout_seconds": seconds,
        }
        if step in (0, self._settings.steps // 2, self._settings.steps - 1):
            for index, group in enumerate(sorted(groups, key=_spread, reverse=True)[:TREES]):
                self._stage.record_tree(group, step, index)


def _spread(group: Group) -> float:
    """How far apart a group's rewards lie."""
    values = [reward.value for reward in group.rewards if reward.value is not None]
    return max(values) - min(values) if values else 0.0


class _Report(TrainerCallback):
    """Journals every step and tells whoever watches."""

    def __init__(self, stage: Stage, rollouts: Rollouts, steps: int) -> None:
        self._stage, self._rollouts, self._steps = stage, rollouts, steps
        self._began = time.monotonic()

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._began = time.monotonic()

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        if not logs or "loss" not in logs:
            return
        seconds = time.monotonic() - self._began
        figures = {**self._rollouts.figures, "loss": logs["loss"], "seconds": seconds}
        self._stage.record_step("grpo", state.global_step, self._steps, figures)
        self._stage.progress(state.global_step, self._steps, f"reward {figures['reward']:.2f}")


def _arguments(settings: GrpoSettings, stage: Stage, micro: int) -> GRPOConfig:
    sampling = stage.partners(stage.tasks[0])[0].sampling
    return GRPOConfig(
        **shared_arguments(stage.folder, seed=derive(stage.seed, "trainer") % 2**31, save_steps=settings.save_steps),
        per_device_train_batch_size=micro * settings.candidates,
        gradient_accumulation_steps=settings.groups // micro,
        num_generations=settings.candidates,
        max_steps=settings.steps,
        learning_rate=settings.learning_rate,
        max_grad_norm=settings.max_grad_norm,
        temperature=sampling.temperature,
        max_completion_length=sampling.max_tokens,
        scale_rewards=settings.scale_rewards,
        loss_type=settings.loss_type,
        beta=settings.beta,
        shuffle_dataset=False,
        disable_dropout=True,
    )
