"""DPO on pairs of the current policy's replies, drawn anew at every step, through TRL.

At each step the policy as it is draws replies to states from a pool, which it plays anew every few steps, and
looks ahead from them. A pair is chosen on one half of the look-aheads and its gap measured on the other; one
whose gap lies within the noise is skipped. The policy as it was before the stage is the reference.

TRL's DPOTrainer learns from the pairs, by their sampled ids. Its OnlineDPOTrainer, which is experimental,
takes the better of two replies to every prompt, ties among them, and cannot leave a pair out.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from functools import partial
from typing import Any

import torch
from datasets import Dataset
from trl import DPOConfig

from duologue.dataset import PairCounts, pairs, row_of
from duologue.errors import DataError
from duologue.models.loading import is_adapted
from duologue.models.local import LocalModel
from duologue.seeding import derive
from duologue.training import ranks
from duologue.training.arguments import drawing_temperature, shared_arguments
from duologue.training.dpo import PairTrainer, chosen_tokens, losses
from duologue.training.gathered import bring_up_to_date, to_train
from duologue.training.pool import Pool
from duologue.training.schedule import adamw
from duologue.training.settings import OnlineDpoSettings
from duologue.training.stage import Figures, Stage, StepJournal, train_to

COLUMNS = ("prompt_ids", "chosen_ids", "rejected_ids")
"""What TRL's collator takes of a pair."""
Rows = list[dict[str, list[int]]]
"""Pairs, by those columns."""


def train_online_dpo(settings: OnlineDpoSettings, stage: Stage) -> None:
    """Train the stage's policy in place; goes on from its newest checkpoint.

    Raises:
        RecipeError: the replies are drawn greedily.
        ModelError: none of a step's states could be played, or none of its candidates scored.
        DataError: at no step a pair's gap exceeded the noise.
    """
    train_to(settings.steps, online_dpo_trainer(settings, stage), stage)
    steps = [entry.value for entry in stage.journal.read("step") if entry.key.startswith(f"train/{stage.key}/")]
    if not ranks.agreed(any(step["pairs"] for step in steps)):
        raise DataError(
            f"{stage.name}: at none of {settings.steps} steps a pair's gap exceeded min_gap = {settings.min_gap} and "
            "the noise, so nothing was learned: raise groups or reward.samples"
        )


def online_dpo_trainer(settings: OnlineDpoSettings, stage: Stage) -> OnlineTrainer:
    """TRL's trainer, which draws its pairs as it learns.

    Raises:
        RecipeError: as `train_online_dpo` does.
    """
    drawing_temperature(stage)
    model, drawing = to_train(stage.policy), Drawing(settings, stage)
    trainer = OnlineTrainer(
        model=model,
        ref_model=None if is_adapted(model) else deepcopy(model),  # of an adapter, TRL keeps a copy itself
        args=_arguments(settings, stage),
        train_dataset=Dataset.from_dict({name: [[0]] * (settings.steps * ranks.processes()) for name in COLUMNS}),
        processing_class=stage.policy.tokenizer,
        callbacks=[StepJournal(stage, "online-dpo", drawing.figures)],
    )
    trainer.drawing, trainer.micro_pairs, trainer.policy = drawing, settings.micro_pairs, stage.policy
    trainer.likelihood = settings.likelihood
    trainer.optimizing = partial(adamw, settings=settings, steps=settings.steps)
    return trainer


class Drawing:
    """The pairs of a step."""

    def __init__(self, settings: OnlineDpoSettings, stage: Stage) -> None:
        self.pool = Pool(settings, stage, "online-dpo")
        self._settings = settings
        self._counts = PairCounts(0, 0, 0, 0, 0)
        """Of the newest step."""

    def rows(self, step: int) -> Rows:
        """The pairs of a step, from 0, whose gap exceeds the noise; there may be none."""
        settings = self._settings
        numbers = range(step * settings.groups, (step + 1) * settings.groups)
        groups = ranks.joined(self.pool.explored(ranks.share(numbers)))
        played = [group for group in groups if not group.failed]
        found, self._counts = pairs(
            [row_of(group) for group in played],
            min_gap=settings.min_gap,
            noise=settings.noise,
            per_row=settings.pairs_per_state,
        )
        prompts = {(group.task, group.prefix.messages): group.replies[0].prompt_ids for group in played}
        ids = [(prompts[pair.task, pair.prefix], pair.chosen_ids, pair.rejected_ids) for pair in found]
        return [{name: list(each or ()) for name, each in zip(COLUMNS, row, strict=True)} for row in ids]

    def figures(self, logs: Mapping[str, float]) -> Figures:
        """What the step's journal entry says, given what the trainer logged."""
        counts = self._counts
        return {
            **self.pool.figures,
            "pairs": counts.kept,
            "updates": float(counts.kept > 0),
            "tied": counts.tied,
            "within_noise": counts.within_noise,
            "margin": logs.get("rewards/margins"),
            "accuracy": logs.get("rewards/accuracies"),
        }


class OnlineTrainer(PairTrainer):
    """TRL's DPOTrainer, given its pairs step by step; its data set has a row a step and process, which says nothing."""

    drawing: Drawing
    micro_pairs: int | None
    policy: LocalModel
    _scale = 1.0
    """What a part's mean counts in the step's."""

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> torch.Tensor:
        """A step on pairs drawn now; without any, there is no gradient, and the optimizer leaves all as it is."""
        bring_up_to_date(self.policy, self)
        rows = self.drawing.rows(self.state.global_step)
        tokens = sum(len(row["chosen_ids"]) for row in rows)
        loss = torch.zeros((), device=self.args.device)
        for part, counts in self._parts(rows):
            batch = self.data_collator(part)
            self._scale = counts * len(part) * ranks.processes() / len(rows)  # gradients are a mean over processes
            self.weigh(chosen_tokens(batch) * len(rows) / (tokens * len(part)))
            loss = loss + super().training_step(model, batch, num_items_in_batch)
        return loss

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **named: Any) -> Any:
        """A part's share of the mean over the step's pairs."""
        return super().compute_loss(model, inputs, *args, **named) * self._scale

    def _parts(self, rows: Rows) -> list[tuple[Rows, bool]]:
        """This process's pairs in parts, as many and as large as any other's, and whether a part counts.

        Where pairs are left over, some processes have one to stand in: all have to take part.
        """
        each, over = divmod(len(rows), ranks.processes())
        own = ranks.share(rows)
        size = self.micro_pairs or each or 1
        parts: list[tuple[Rows, bool]] = [(list(own[at : min(at + size, each)]), True) for at in range(0, each, size)]
        return [*parts, (list(own[each:]) or rows[:1], len(own) > each)] if over else parts


def _arguments(settings: OnlineDpoSettings, stage: Stage) -> DPOConfig:
    return DPOConfig(
        **shared_arguments(stage.folder, seed=derive(stage.seed, "trainer") % 2**31, save_steps=settings.save_steps),
        per_device_train_batch_size=1,
        max_steps=settings.steps,
        learning_rate=settings.learning_rate,
        max_grad_norm=settings.max_grad_norm,
        beta=settings.beta,
        max_length=None,
        disable_dropout=True,
        **losses(settings),
    )
