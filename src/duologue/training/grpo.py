"""GRPO on multiturn-aware rewards, through TRL.

A step's states are on-policy: for each group the current policy and the user play to a random turn, once;
the group shares that prefix. The candidates are drawn there, looked ahead from with the same policy, and
trained on by their sampled ids. Nothing else is trained on: look-aheads are measurement.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer

from duologue.dataset import Group, Visit, explore, visits
from duologue.models.local import evaluating
from duologue.seeding import derive
from duologue.training import ranks
from duologue.training.arguments import group_arguments
from duologue.training.engines.weighing import weigh_replies
from duologue.training.figures import figures_of, quieten_unscored, record_trees, refuse_lost
from duologue.training.gathered import bring_up_to_date, to_train
from duologue.training.reference import hold_to, start_of
from duologue.training.schedule import OwnOptimizer, adamw
from duologue.training.settings import GrpoSettings
from duologue.training.stage import Figures, Stage, StepJournal, train_to
from duologue.training.tree import TreeGRPOTrainer


def train_grpo(settings: GrpoSettings, stage: Stage) -> None:
    """Train the stage's policy in place; goes on from its newest checkpoint.

    Raises:
        RecipeError: the replies are drawn greedily.
        ModelError: none of a step's states could be played, or none of its candidates scored.
    """
    train_to(settings.steps, grpo_trainer(settings, stage), stage)


def grpo_trainer(settings: GrpoSettings, stage: Stage, rollouts: Rollouts | None = None) -> GRPOTrainer:
    """TRL's trainer, with rollouts and rewards of the stage.

    Args:
        rollouts: left out, candidates for single replies.

    Raises:
        RecipeError: as `train_grpo` does.
    """
    quieten_unscored("trl.trainer.grpo_trainer")
    played = rollouts or Rollouts(settings, stage)
    trainer_class = _TreeTrainer if settings.shared_prompts else _Trainer
    model = to_train(stage.policy)
    start = start_of(model, settings.beta)
    trainer = trainer_class(
        model=model,
        reward_funcs=[multiturn_reward],
        args=GRPOConfig(
            **group_arguments(settings, stage),
            scale_rewards=settings.scale_rewards,
            loss_type=settings.loss_type,
        ),
        train_dataset=Dataset.from_dict({"prompt": [str(i) for i in range(len(played.planned))]}),
        processing_class=stage.policy.tokenizer,
        rollout_func=played,
        callbacks=[StepJournal(stage, "grpo", lambda _: played.figures)],
    )
    hold_to(start, trainer, settings.beta)
    trainer.optimizing = partial(adamw, settings=settings, steps=settings.steps)
    if stage.engine is not None:
        weigh_replies(trainer)
    return trainer


class _Trainer(OwnOptimizer, GRPOTrainer):
    """TRL's, with the stage's optimizer."""


class _TreeTrainer(OwnOptimizer, TreeGRPOTrainer):
    """The same, with each group's prompt computed once."""


def multiturn_reward(prompts: Sequence[str], reward: Sequence[float | None], **_: Any) -> list[float | None]:
    """What the rollouts found, handed to TRL."""
    return list(reward)


Row = dict[str, Any]
"""What TRL takes of a candidate, by its names."""


class Rollouts:
    """TRL's `rollout_func`: plays the prefixes, draws the candidates, looks ahead."""

    def __init__(self, settings: GrpoSettings, stage: Stage) -> None:
        self._settings = settings
        self._stage = stage
        count = settings.groups * settings.steps
        self.planned: list[Visit] = visits(
            stage.tasks, count, deepest=settings.deepest, seed=derive(stage.seed, "grpo")
        )
        self.figures: Figures = {}
        """Of the newest step."""

    def __call__(self, prompts: Sequence[str], trainer: Any) -> dict[str, list[Any]]:
        """This process's prompts (each its visit's number, repeated for every candidate) → what TRL trains on.

        Raises:
            ModelError: none of the states could be played, or none of the candidates scored.
        """
        started = time.monotonic()
        bring_up_to_date(self._stage.policy, trainer)
        batch = [self.planned[number] for number in dict.fromkeys(map(int, prompts))]
        with evaluating(self._stage.policy.model):
            groups = self._stage.loop.run(self._explore(batch))
        of_all = ranks.gathered(groups)
        refuse_lost(of_all)
        self.figures = {**self._figures(of_all), "rollout_seconds": time.monotonic() - started}
        self._show(of_all, trainer.state.global_step)
        return self._for_trl(groups)

    def _figures(self, groups: Sequence[Group]) -> Figures:
        return figures_of(groups, self._stage.tasks)

    def _show(self, groups: Sequence[Group], step: int) -> None:
        """Journal what the report shows of a step."""
        record_trees(groups, step, self._settings.steps, self._stage)

    async def _explore(self, batch: Sequence[Visit]) -> list[Group]:
        return list(await asyncio.gather(*(self._one(visit) for visit in batch)))

    async def _one(self, visit: Visit) -> Group:
        assistant, reward = self._stage.partners(visit.task)
        candidates = self._settings.candidates
        return await explore(
            assistant, visit.task, reward, visit.goal, depth=visit.depth, candidates=candidates, seed=visit.seed
        )

    def _for_trl(self, groups: Sequence[Group]) -> dict[str, list[Any]]:
        """Ids, log-probabilities and rewards; what has no reward is masked out of the loss."""
        blank = [self._blank()] * self._settings.candidates
        rows = [row for group in groups for row in (blank if group.failed else self._rows(group))]
        return {key: [row[key] for row in rows] for key in rows[0]}

    def _blank(self) -> Row:
        """What stands for a candidate that could not be played: TRL wants whole groups."""
        end = [self._stage.policy.tokenizer.eos_token_id]
        return {"prompt_ids": end, "completion_ids": end, "logprobs": [0.0], "env_mask": [0], "reward": None}

    def _rows(self, group: Group) -> list[Row]:
        return [
            {
                "prompt_ids": list(reply.prompt_ids or ()),
                "completion_ids": list(reply.ids or ()),
                "logprobs": list(reply.logprobs or ()),
                "env_mask": [int(reward.value is not None)] * len(reply.ids or ()),
                "reward": reward.value,
            }
            for reply, reward in zip(group.replies, group.rewards, strict=True)
        ]
