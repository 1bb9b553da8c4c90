# pyright: basic
"""What rollouts tell of themselves, in verl's log: verl's trainer logs none of it but in validation.

Set `trainer.v1.sampler.custom_sampler.path=pkg://duologue.integrations.verl_figures` and its `name` to one of the two
classes here. Each step's metrics then have the means of the reward and every part of it, how often first replies ask,
look-aheads that counted, and the share of candidates without a score, as `duologue/NAME`. A batch to train on that has
no other candidates ends the training: verl would go on with NaN, or end at an assertion.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import transfer_queue as tq  # pyright: ignore[reportMissingImports]
from verl.trainer.ppo.v1.replay_buffer import (  # pyright: ignore[reportMissingImports]
    ReplayBuffer,
    ReplayBufferAsync,
)

from duologue.errors import ModelError
from duologue.integrations.verl import WHY


class TellingBuffer(ReplayBuffer):
    """verl's buffer for `trainer_mode=sync`, with the figures of what it hands out."""

    def sample(self, global_steps: int, partition_id: str, batch_size: int) -> tuple[Any, dict[str, Any]]:
        """As verl's; the figures are among the metrics."""
        batch, metrics = super().sample(global_steps, partition_id, batch_size)
        return batch, {**metrics, **_told(batch)}


class TellingBufferAsync(ReplayBufferAsync):
    """The same for verl's other modes."""

    def sample(self, global_steps: int, partition_id: str, batch_size: int) -> tuple[Any, dict[str, Any]]:
        """As verl's; the figures are among the metrics."""
        batch, metrics = super().sample(global_steps, partition_id, batch_size)
        return batch, {**metrics, **_told(batch)}


def _told(batch: Any) -> dict[str, float]:
    data = tq.kv_batch_get(keys=batch.keys, partition_id=batch.partition_id, select_fields=["extra_fields"])
    rows = data.pop("extra_fields").tolist()
    if batch.partition_id == "train":
        check(rows)
    return means([fields.get("reward_extra_info") or {} for fields in rows])


def check(rows: Sequence[Mapping[str, Any]]) -> None:
    """Refuse a batch of which nothing can be learnt; each row is what an agent loop said besides.

    Raises:
        ModelError: none of its candidates could be scored, with the commonest reason.
    """
    reasons = Counter(why for fields in rows if (why := fields.get(WHY)) is not None)
    if rows and reasons.total() == len(rows):
        raise ModelError(
            f"none of a step's {len(rows)} candidates could be scored, mostly: {reasons.most_common(1)[0][0]}"
        )


def means(figures: Sequence[Mapping[str, float | None]]) -> dict[str, float]:
    """The mean of each figure over the rows that have it, under `duologue/NAME`."""
    names = dict.fromkeys(name for row in figures for name in row)
    known = {name: [value for row in figures if (value := row.get(name)) is not None] for name in names}
    return {f"duologue/{name}": sum(values) / len(values) for name, values in known.items() if values}
