"""What a stage trains: all of a model's weights, or an adapter of low rank beside them (LoRA).

A stage with `lora` that starts from a model with an adapter trains that adapter further, so that what an arm ends
with is one adapter on the model that it began with. A stage without it first adds the adapter to the weights.
Nothing else knows: trainers are given a policy whose `model` is a PEFT model, and whoever replies or looks ahead
with that policy replies with the adapter as it then is.

    policy = open_policy("Qwen/Qwen3-0.6B", LoraSettings(r=8))
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from duologue.errors import RecipeError, nearest
from duologue.models.loading import ADAPTER, adapting, four_bits, is_adapted, merged, plain
from duologue.models.local import LocalModel
from duologue.models.memory import adapted_layers, adapter_size, refuse_too_large, to_train
from duologue.models.size import blueprint
from duologue.training.gathered import splits
from duologue.training.settings import LoraSettings, StageSettings

if TYPE_CHECKING:
    from peft import LoraConfig, PeftModel
    from transformers import PreTrainedModel


def open_policy(
    source: str | Path, lora: LoraSettings | None, *, seed: int = 0, template: Mapping[str, Any] | None = None
) -> LocalModel:
    """A model as a stage trains it.

    Without `lora` its weights are in 32 bits, whatever they were saved in: in 16, an update of the size that these
    learning rates make is rounded away.

    Args:
        seed: of a new adapter's first weights.
        template: what its chat template takes besides messages.

    Raises:
        ModelError: it cannot be loaded, or adapted; or it does not fit into memory.
        MissingDependency: 4 bits without bitsandbytes.
        RecipeError: its adapter is of another shape, or it has no layers of the names in `lora.targets`, or peft
            takes these for experts.
    """
    check_start(source, lora)
    if lora is None:
        policy = LocalModel.load(source, dtype=torch.float32, template=template)
        policy.model = merged(policy.model).requires_grad_(True)
    else:
        policy = LocalModel.load(source, four_bit=lora.quantize == "4bit", template=template)
        policy.model = with_lora(policy.model, lora, seed=seed)
    return policy


def with_lora(model: nn.Module, settings: LoraSettings, *, seed: int = 0) -> PeftModel:
    """A model with an adapter to be trained, and nothing else: its own, or a new one that changes nothing yet.

    The model itself is changed: its layers are wrapped in place.

    Args:
        seed: of a new adapter's first weights.

    Raises:
        RecipeError: it has no layers of the names in `settings.targets`, or peft takes these for experts; its own
            adapter is of another shape.
    """
    if is_adapted(model):
        return _trained_further(model, settings)  # type: ignore[arg-type]
    from peft import LoraConfig, get_peft_model

    whole = plain(model)
    _check_targets(whole, settings.targets)
    config = LoraConfig(
        r=settings.r,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        # not "all-linear", which is packed experts, too
        target_modules=list(settings.targets or adapted_layers(whole, ())),
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed % 2**63)
        try:
            with adapting():
                return get_peft_model(whole, config, adapter_name=ADAPTER)  # type: ignore[return-value]
        finally:  # whether it then took them, or failed at them, as it does with dropout
            _refuse_experts(config)


def _check_targets(model: PreTrainedModel, targets: Sequence[str]) -> None:
    """Look the ends of names up; peft says nothing of those that no layer has, as long as another one has one."""
    for target in targets:
        if not adapted_layers(model, [target]):
            ends = {name.rpartition(".")[2] for name in adapted_layers(model, ())}
            raise RecipeError(f'lora.targets: no linear layer\'s name ends in "{target}"{nearest(target, ends)}')


def _refuse_experts(config: LoraConfig) -> None:
    """In some mixtures peft takes a layer's name for what the experts were called before they were packed.

    It changes the config then, as it does wherever such an adapter is opened.
    """
    if config.target_parameters:
        raise RecipeError(
            "lora.targets: peft takes the names of some of these layers for the packed experts of this mixture, and "
            'would adapt those: name only others, like targets = ["q_proj", "k_proj", "v_proj", "o_proj"]'
        )


def check_start(source: str | Path, lora: LoraSettings | None) -> None:
    """Refuse what cannot be trained here, before it is loaded; weights that are split among processes aside.

    Raises:
        ModelError: it does not fit into memory; 4 bits without a GPU.
        MissingDependency: 4 bits without bitsandbytes.
        RecipeError: it has no layers of the names in `lora.targets`, or peft takes these for experts.
    """
    if lora is not None and lora.quantize == "4bit":
        four_bits()  # what is missing for that is said first
    model = None if splits() else blueprint(source)
    if model is None:
        return
    if lora is None:
        need, less = to_train(model, None), "train an adapter, lora = { r = 32 }, or a smaller model"
    else:
        _check_targets(model, lora.targets)
        size = adapter_size(model, lora.r, lora.targets)
        need, less = to_train(model, size, four_bit=lora.quantize == "4bit"), "take a smaller model"
        less += "" if lora.quantize else ', or keep its weights in 4 bits, lora = { quantize = "4bit" }'
    device = "cuda" if torch.cuda.is_available() else "cpu"
    refuse_too_large(source, need, device, then=f"{less}; or split it among GPUs, with accelerate's FSDP")
    if lora is not None:
        with torch.device("meta"):
            with_lora(model, lora)  # what peft does with its layers' names


def check_stages(stages: Sequence[StageSettings], *, from_nothing: bool) -> None:
    """See to it that each stage can go on from what the one before it leaves.

    Raises:
        RecipeError: adapters of different shapes one after the other, or one on a model that is nowhere.
    """
    if from_nothing and stages and stages[0].lora:
        raise RecipeError(
            'train.0.lora: an adapter stands on a model that is there, and "new" is made from nothing: leave it out'
        )
    for index, (before, stage) in enumerate(pairwise(stages), start=1):
        if before.lora and stage.lora and before.lora != stage.lora:
            raise RecipeError(
                f"train.{index}.lora: this stage trains the adapter of the one before further, so give it the same lora"
            )


def _trained_further(model: PeftModel, settings: LoraSettings) -> PeftModel:
    own: Any = model.peft_config[ADAPTER]
    if (own.r, own.lora_alpha, own.lora_dropout) != (settings.r, settings.alpha, settings.dropout):
        raise RecipeError(
            f"train: lora: the model has an adapter with r = {own.r}, alpha = {own.lora_alpha} and dropout = "
            f"{own.lora_dropout}, which is trained further: give the same, or start from what `duologue export` makes"
        )
    for name, weight in model.named_parameters():
        weight.requires_grad = f".{ADAPTER}." in name
    return model
