"""Supervised training on the best of candidate replies, by multiturn-aware reward."""

from __future__ import annotations

from duologue.dataset import best_replies
from duologue.errors import DataError
from duologue.training.dpo import build_rows
from duologue.training.settings import SftSettings
from duologue.training.sft import Example, train_stage
from duologue.training.stage import Stage


def train_on_best(settings: SftSettings, stage: Stage) -> None:
    """Compare candidates at states of the stage's first policy, then learn each state's best reply.

    Raises:
        DataError: all candidates are worth the same everywhere.
    """
    rows = build_rows(settings, stage)
    best = best_replies(rows)
    if not best:
        raise DataError(f"sft: at none of {len(rows)} states is one reply better than another: nothing to learn")
    system = {task.name: stage.partners(task)[0].system for task in stage.tasks}
    train_stage(settings, stage, [Example((*row.prefix, reply), "last", system[row.task]) for row, reply in best])
