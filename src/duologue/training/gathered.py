"""A policy whose weights are split among processes (FSDP, DeepSpeed), and whole again where it replies.

A trainer splits the model that it is given. Replies and look-aheads take thousands of forward passes, as many in
each process as its conversations happen to need, and a split model needs every process at every one of them. So
the trainer is given a copy, and the policy stays whole in every process: its weights are brought up to date once
before a rollout, and after the last step. Where nothing is split, the trainer is given the policy's own model.

    model = to_train(policy)            # a trainer takes this, and may split it
    bring_up_to_date(policy, trainer)   # all processes at the same time

Covered: FSDP 1 and 2; adapters, of which only what is trained is brought. DeepSpeed by its own call, untested here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.distributed.tensor import DTensor

from duologue.errors import ModelError
from duologue.models.local import LocalModel
from duologue.training.launch import splits, uses_deepspeed

WRAPPERS = ("_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")
"""What wrappers of a module add to the names of its weights."""


def to_train(policy: LocalModel) -> Any:
    """The model that a trainer is given."""
    return deepcopy(policy.model) if splits() else policy.model


@torch.no_grad()
def bring_up_to_date(policy: LocalModel, trainer: Any) -> None:
    """Bring what was trained to the policy, and have it forget what it kept from the old weights.

    Args:
        trainer: of transformers, as it stands before, in or after its training.

    Raises:
        ModelError: a weight that is trained was not found in the trainer's model.
    """
    if splits():
        _bring(policy.model, trainer.model)
    policy.weights_changed()


def _bring(policy: nn.Module, trained: nn.Module) -> None:
    lacking = {name: weight for name, weight in policy.named_parameters() if weight.requires_grad}
    with _whole(trained):
        for name, weight in trained.named_parameters():
            own = lacking.pop(_plain(name), None)
            if own is not None:
                own.copy_(_gathered(weight, own.device))
    if lacking:
        raise ModelError(
            f"of {len(lacking)} weights, {next(iter(lacking))} among them, what was trained could not be gathered: "
            "train without splitting weights, or with FSDP 2"
        )


def _plain(name: str) -> str:
    for wrapper in WRAPPERS:
        name = name.replace(wrapper, "")
    return name


@contextmanager
def _whole(trained: nn.Module) -> Iterator[None]:
    """FSDP 1 knows whole weights inside a context alone."""
    if isinstance(trained, FullyShardedDataParallel):
        with FullyShardedDataParallel.summon_full_params(trained, writeback=False):
            yield
    else:
        yield


def _gathered(weight: Tensor, device: torch.device) -> Tensor:
    """A whole weight, where it is split."""
    if isinstance(weight, DTensor):
        own: Any = weight.detach().to(device)
        return own.full_tensor()
    if uses_deepspeed():
        import deepspeed  # pyright: ignore[reportMissingImports]

        with deepspeed.zero.GatheredParameters([weight]):
            return weight.detach().clone()
    return weight
