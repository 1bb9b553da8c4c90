"""RLOO on multiturn-aware rewards, through TRL.

A reply's advantage is its reward less the mean of the other replies' to the same state (Ahmadian et al.,
arXiv 2402.14740). The states come from a pool that the current policy plays anew every few steps; the replies
are drawn there by the policy as it is, looked ahead from with the same policy, and trained on by their sampled ids.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

from datasets import Dataset
from trl import RLOOConfig, RLOOTrainer

from duologue.dataset import Group
from duologue.models.local import LocalModel
from duologue.training.arguments import group_arguments
from duologue.training.figures import quieten_unscored
from duologue.training.gathered import bring_up_to_date, to_train
from duologue.training.pool import Pool
from duologue.training.reference import hold_to, start_of
from duologue.training.schedule import OwnOptimizer, adamw
from duologue.training.settings import RlooSettings
from duologue.training.stage import Stage, StepJournal, train_to
from duologue.training.tree import TreeRLOOTrainer


def train_rloo(settings: RlooSettings, stage: Stage) -> None:
    """Train the stage's policy in place; goes on from its newest checkpoint.

    Raises:
        RecipeError: the replies are drawn greedily.
        ModelError: none of a step's states could be played, or none of its candidates scored.
    """
    train_to(settings.steps, rloo_trainer(settings, stage), stage)


def rloo_trainer(settings: RlooSettings, stage: Stage) -> RLOOTrainer:
    """TRL's trainer, with rollouts and rewards of the stage.

    Raises:
        RecipeError: as `train_rloo` does.
    """
    quieten_unscored("trl.trainer.rloo_trainer")
    rollouts = Rollouts(settings, stage)
    trainer_class = _TreeTrainer if settings.shared_prompts else _Trainer
    model = to_train(stage.policy)
    start = start_of(model, settings.beta)
    trainer = trainer_class(
        model=model,
        reward_funcs=[rollouts.multiturn_reward],
        args=RLOOConfig(
            **group_arguments(settings, stage),
            normalize_advantages=settings.scale_rewards == "batch",
        ),
        train_dataset=Dataset.from_dict({"prompt": [str(i) for i in range(len(rollouts.pool.planned))]}),
        processing_class=stage.policy.tokenizer,
        callbacks=[StepJournal(stage, "rloo", lambda _: rollouts.pool.figures)],
    )
    trainer.rollouts, trainer.policy = rollouts, stage.policy
    hold_to(start, trainer, settings.beta)
    trainer.optimizing = partial(adamw, settings=settings, steps=settings.steps)
    return trainer


class Drawn(NamedTuple):
    """A candidate as TRL trains on it."""

    prompt: list[int]
    ids: list[int]
    reward: float | None


class Rollouts:
    """The candidates of a step, and their rewards."""

    def __init__(self, settings: RlooSettings, stage: Stage) -> None:
        self.pool = Pool(settings, stage, "rloo")
        self.drawn: list[Drawn] = []
        """Of the newest step."""
        self._candidates = settings.candidates
        self._end = [stage.policy.tokenizer.eos_token_id]

    def draw(self, prompts: Sequence[str]) -> None:
        """Draw this process's candidates of a step; its prompts are the numbers of states, each once a candidate."""
        groups = self.pool.explored(list(dict.fromkeys(map(int, prompts))))
        self.drawn = [row for group in groups for row in self._rows(group)]

    def multiturn_reward(self, prompts: Sequence[str], **_: Any) -> list[float | None]:
        """What the look-aheads found, handed to TRL."""
        return [row.reward for row in self.drawn]

    def _rows(self, group: Group) -> list[Drawn]:
        if group.failed:  # TRL wants whole groups; without a reward they weigh nothing
            return [Drawn(self._end, self._end, None)] * self._candidates
        return [
            Drawn(list(reply.prompt_ids or ()), list(reply.ids or ()), reward.value)
            for reply, reward in zip(group.replies, group.rewards, strict=True)
        ]


class _Trainer(OwnOptimizer, RLOOTrainer):
    """Takes prompts and replies as ids from the rollouts: TRL's RLOO has no `rollout_func`."""

    rollouts: Rollouts
    policy: LocalModel

    def _tokenize_prompts(self, prompts: list[str]) -> tuple[list[list[int]], None, dict[str, Any]]:
        bring_up_to_date(self.policy, self)
        self.rollouts.draw(prompts)
        return [row.prompt for row in self.rollouts.drawn], None, {}

    def _generate_single_turn(self, prompt_ids: Any, images: Any, multimodal_fields: Any) -> list[list[int]]:
        return [row.ids for row in self.rollouts.drawn]


class _TreeTrainer(_Trainer, TreeRLOOTrainer):
    """The same, with each group's prompt computed once."""
