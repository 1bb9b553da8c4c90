"""Optimizers with their learning-rate schedules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from duologue.training.settings import StageSettings


def schedule(optimizer: Optimizer, settings: StageSettings, steps: int) -> LambdaLR:
    """Linear warm-up, over all of `steps` at most; a flat part, and a linear fall to the floor at the last of them."""
    warmup = min(settings.warmup, steps)
    flat_until = max(warmup, round(settings.hold * steps))

    def share(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        fallen = max(step - flat_until, 0) / max(steps - flat_until, 1)
        return 1.0 - (1.0 - settings.floor) * min(fallen, 1.0)

    return LambdaLR(optimizer, share)


def adamw(model: torch.nn.Module, settings: StageSettings, steps: int) -> tuple[AdamW, LambdaLR]:
    """AdamW on what is trainable, without weight decay, and its schedule."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = AdamW(parameters, lr=settings.learning_rate, betas=(0.9, 0.95), weight_decay=0.0)
    return optimizer, schedule(optimizer, settings, steps)


Optimizing = Callable[[torch.nn.Module], tuple[Optimizer, LambdaLR]]
"""A model → its optimizer and its schedule."""


class OwnOptimizer:
    """For a trainer of transformers: with an optimizer and a schedule that are made where it makes its own.

    One that is made before and handed over would have the weights as they were before they were split.
    """

    optimizing: Optimizing
    model: torch.nn.Module
    optimizer: Any
    lr_scheduler: Any

    def create_optimizer(self, model: torch.nn.Module | None = None) -> Any:
        """The optimizer of a model; with it comes the schedule."""
        if self.optimizer is None:
            self.optimizer, self.lr_scheduler = self.optimizing(self.model if model is None else model)
        return self.optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: Optimizer | None = None) -> Any:
        """The schedule of the optimizer that was created."""
        return self.lr_scheduler
