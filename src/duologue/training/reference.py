# pyright: basic
"""What a penalised policy is held to: itself, as it was when the stage began.

TRL loads its reference from where the policy's weights once came from. That is not where a stage begins whose
policy had an adapter merged into it, and a new model came from nowhere; so a whole model's reference is a copy of
ours. Of an adapter TRL keeps a copy itself.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from trl.models.utils import prepare_deepspeed, prepare_fsdp
from trl.trainer.utils import add_fused_lm_head

from duologue.models.loading import is_adapted


def start_of(model: Any, beta: float) -> Any:
    """A copy of a whole model, to be made before its trainer; None where none is needed."""
    return deepcopy(model).eval() if beta and not is_adapted(model) else None


def hold_to(start: Any, trainer: Any, beta: float) -> None:
    """Have one of TRL's trainers, made with beta = 0, charge `beta` × the KL to `start`; nothing where that is None."""
    if start is None:
        return
    # Both: a group's prompt that is computed once is asked for both.
    add_fused_lm_head(start, temperature=trainer.temperature, outputs=("log_probs", "entropy"))
    trainer.beta, trainer.ref_model = beta, _prepared(start, trainer)


def _prepared(start: Any, trainer: Any) -> Any:
    """Split among processes as the policy is."""
    if trainer.is_deepspeed_enabled:
        return prepare_deepspeed(start, trainer.accelerator)
    if trainer.is_fsdp_enabled:
        return prepare_fsdp(start, trainer.accelerator)
    return trainer.accelerator.prepare_model(start, evaluation_mode=True)
