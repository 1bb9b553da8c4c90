"""What every trainer of ours is told: where it runs, what it saves, what it keeps quiet about."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import torch

from duologue.errors import RecipeError
from duologue.models.loading import is_adapted
from duologue.seeding import derive
from duologue.training import ranks

if TYPE_CHECKING:
    from duologue.training.settings import GrpoSettings, RlooSettings
    from duologue.training.stage import Stage

STATE = "trainer_state.json"
"""The last file that a checkpoint gets: with it, a checkpoint is whole."""


class SharedArguments(TypedDict):
    """The part of a TRL config that all algorithms share."""

    output_dir: str
    seed: int
    use_cpu: bool
    bf16: bool
    activation_checkpointing: bool
    report_to: str
    disable_tqdm: bool
    logging_steps: int
    save_strategy: str
    save_steps: int
    save_total_limit: int
    dataloader_pin_memory: bool


def shared_arguments(folder: Path, *, seed: int, save_steps: int | None) -> SharedArguments:
    """A quiet trainer that writes checkpoints to `folder` every `save_steps` steps, or none.

    TRL's configs turn bf16 and checkpointing of activations on by themselves, which a CPU pays for. On a GPU, where
    memory is what is short, both are on.
    """
    gpu = torch.cuda.is_available()
    return SharedArguments(
        output_dir=str(folder),
        seed=seed,
        use_cpu=not gpu,
        bf16=gpu and torch.cuda.is_bf16_supported(),
        activation_checkpointing=gpu,
        report_to="none",
        disable_tqdm=True,
        logging_steps=1,
        save_strategy="steps" if save_steps else "no",
        save_steps=save_steps or 1,
        save_total_limit=2,
        dataloader_pin_memory=gpu,
    )


class GroupArguments(SharedArguments):
    """The part that algorithms on groups of candidates share."""

    per_device_train_batch_size: int
    gradient_accumulation_steps: int
    num_generations: int
    max_steps: int
    learning_rate: float
    max_grad_norm: float
    temperature: float
    max_completion_length: int
    beta: float
    shuffle_dataset: bool
    disable_dropout: bool


def group_arguments(settings: GrpoSettings | RlooSettings, stage: Stage) -> GroupArguments:
    """A step of this process's share of the groups, in micro-batches of whole groups.

    Raises:
        RecipeError: the replies are drawn greedily.
    """
    groups = settings.groups // ranks.processes()
    micro = settings.micro_groups or groups
    samplings = [stage.partners(task)[0].sampling for task in stage.tasks]
    return GroupArguments(
        **shared_arguments(stage.folder, seed=derive(stage.seed, "trainer") % 2**31, save_steps=settings.save_steps),
        per_device_train_batch_size=micro * settings.candidates,
        gradient_accumulation_steps=groups // micro,
        num_generations=settings.candidates,
        max_steps=settings.steps,
        learning_rate=settings.learning_rate,
        max_grad_norm=settings.max_grad_norm,
        temperature=drawing_temperature(stage),
        max_completion_length=max(sampling.max_tokens for sampling in samplings),
        beta=settings.beta if is_adapted(stage.policy.model) else 0.0,  # of a whole model: `reference.py`
        shuffle_dataset=False,
        disable_dropout=True,
    )


def drawing_temperature(stage: Stage) -> float:
    """The temperature that the policy's replies are drawn at, in every task.

    Raises:
        RecipeError: it is 0.
    """
    temperature = stage.partners(stage.tasks[0])[0].sampling.temperature
    if temperature == 0:
        raise RecipeError("assistant.temperature = 0 draws equal replies, which teach nothing: set it above 0")
    return temperature


def newest_checkpoint(folder: Path) -> Path | None:
    """The newest whole checkpoint in a trainer's folder; one that a kill cut short is passed over."""
    checkpoints = [path for path in folder.glob("checkpoint-*") if path.name.removeprefix("checkpoint-").isdigit()]
    by_age = sorted(checkpoints, key=lambda path: int(path.name.removeprefix("checkpoint-")), reverse=True)
    return next((path for path in by_age if _is_whole(path)), None)


def _is_whole(checkpoint: Path) -> bool:
    state = checkpoint / STATE
    if not state.is_file():
        return False
    try:
        json.loads(state.read_text())
    except ValueError:
        return False
    return True
