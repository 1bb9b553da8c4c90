"""Supervised training on the best of candidate replies, by multiturn-aware reward."""

from __future__ import annotations

from duologue.conversation import Message
from duologue.dataset import best_replies
from duologue.errors import DataError
from duologue.training.explore import build_rows, system_prompts
from duologue.training.settings import SftSettings
from duologue.training.sft import Example, train_stage
from duologue.training.stage import Stage


def train_on_best(settings: SftSettings, stage: Stage) -> None:
    """Compare candidates at states of the stage's first policy, then learn each state's best reply.

    Raises:
        DataError: all candidates are worth the same everywhere.
    """
    train_stage(settings, stage, best_examples(settings, stage))


def best_examples(settings: SftSettings, stage: Stage) -> list[Example]:
    """Each state's best reply, the only thing of its conversation that is learned.

    Raises:
        DataError: as `train_on_best` does.
    """
    rows = build_rows(settings, stage)
    best = best_replies(rows)
    unscored = sum(all(candidate.value is None for candidate in row.candidates) for row in rows)
    stage.record_data("best", {"rows": len(rows), "kept": len(best), "unscored": unscored})
    if not best:
        raise DataError(f"sft: at none of {len(rows)} states is one reply better than another: nothing to learn")
    system = system_prompts(stage)
    return [
        Example((*row.prefix, Message("assistant", reply.text)), "last", system[row.task], reply.ids)
        for row, reply in best
    ]
