# pyright: basic
"""How large a model is, known from its config alone: no weights are read, nothing is asked of the hub."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel
from transformers.utils.peft_utils import find_adapter_config_file

from duologue.errors import ModelError
from duologue.models import BUILT_IN
from duologue.models.adapters import base_of


def blueprint(source: str | Path) -> PreTrainedModel | None:
    """A model's layers without their weights (on torch's device "meta").

    None where its config is not on this machine, or is none of a causal language model: whoever loads it says why.

    Of an adapter, the model that it stands on.

    Args:
        source: a folder, an id on the hub that was loaded here before, or one of those built in.

    >>> round(sum(weight.numel() for weight in blueprint("tiny").parameters()) / 1e6, 1)
    1.0
    """
    place = str(BUILT_IN.get(str(source), source))
    try:
        adapter = find_adapter_config_file(place, local_files_only=True)
        if adapter is not None:
            place = base_of(Path(adapter).parent)
        config = AutoConfig.from_pretrained(place, local_files_only=True)
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(config)
    except (OSError, ValueError, ModelError):
        return None


def parameters(model: nn.Module) -> int:
    """The number of a model's weights; those that two layers share are counted once."""
    return sum(weight.numel() for weight in model.parameters())
