"""Replies that an engine drew, weighed by how likely the policy itself finds them.

An engine computes with other kernels, and mostly fewer bits, than the trainer: what it draws with is nearly the
policy, and not quite. TRL's GRPO knows this of its own vLLM: the loss of a reply counts π ÷ π_engine times, and not
at all where that exceeds 3 (sequence-level masked importance sampling). Here, its rollouts come from elsewhere, and
it is told that they are vLLM's.
"""

from __future__ import annotations

from typing import Any


class _SendsItself:
    """Stands where TRL expects its own vLLM: the rollouts see to the weights."""

    def sync_weights(self) -> None:
        """Nothing is left to do."""


def weigh_replies(trainer: Any) -> None:
    """Have TRL's GRPOTrainer, with a `rollout_func`, correct for what drew its replies."""
    trainer.use_vllm = True
    trainer.vllm_generation = _SendsItself()
    trainer._last_loaded_step = -1
