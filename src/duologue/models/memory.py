# pyright: basic
"""Whether a model fits into the memory that is free, found out before anything of it is loaded.

Counted are weights, and for training their gradients and what AdamW keeps. What activations and look-aheads take
depends on the lengths of conversations, and is not: a model that fits by this may still be too large.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from duologue.errors import ModelError
from duologue.models.size import parameters

GIB = 2**30
LEARNED = 16
"""Bytes of a weight that is trained: itself, its gradient and two moments, each in 32 bits."""
FOUR_BITS = 0.56
"""Bytes of a weight in 4 bits, its share of the scales among them (QLoRA, arXiv 2305.14314)."""
LINEAR = (nn.Linear, Conv1D)
"""Conv1D is what GPT-2 has."""


@dataclass(frozen=True, slots=True)
class Need:
    """What a model takes."""

    count: float
    """Its parameters."""
    bytes: float
    told: str
    """What makes up the bytes."""


def to_play(model: PreTrainedModel, dtype: torch.dtype | str | None, *, four_bit: bool = False) -> Need:
    """What a model takes that only replies.

    Args:
        dtype: of the weights; left out, what the config says.
    """
    count = parameters(model)
    kept = dtype if isinstance(dtype, torch.dtype) else model.dtype
    size = FOUR_BITS if four_bit else kept.itemsize
    return Need(count, count * size, f"{size:g} bytes a weight")


def to_train(model: PreTrainedModel, adapter: int | None, *, four_bit: bool = False) -> Need:
    """What a model takes that is trained: all of it in 32 bits, or an adapter beside it.

    Args:
        adapter: weights of the adapter; None where all are trained.
    """
    count = parameters(model)
    if adapter is None:
        return Need(count, LEARNED * count, f"{LEARNED} bytes a weight for itself, its gradient and AdamW")
    frozen = to_play(model, None, four_bit=four_bit)
    told = f"{frozen.told}, and {LEARNED} for each of {adapter / 1e6:.1f} million in the adapter"
    return Need(count, frozen.bytes + LEARNED * adapter, told)


def adapted_layers(model: PreTrainedModel, targets: Sequence[str]) -> dict[str, nn.Linear | Conv1D]:
    """The linear layers that get an adapter, by name: those whose names end so; of no targets, all but the last.

    The experts of a mixture that are packed into one parameter are no layers.
    """
    layers = {name: layer for name, layer in model.named_modules() if isinstance(layer, LINEAR)}
    words: Any = model.get_output_embeddings()
    return {
        name: layer
        for name, layer in layers.items()
        if (any(f".{name}".endswith(f".{target}") for target in targets) if targets else layer is not words)
    }


def adapter_size(model: PreTrainedModel, rank: int, targets: Sequence[str]) -> int:
    """The weights of an adapter of low rank: as many on each layer as it has inputs and outputs, `rank` times."""
    return sum(rank * sum(layer.weight.shape) for layer in adapted_layers(model, targets).values())


def refuse_too_large(source: str | Path, need: Need, device: str | torch.device, *, then: str) -> None:
    """Refuse what does not fit into the memory that is free now.

    Args:
        then: what would need less.

    Raises:
        ModelError: it does not, with the estimate.
    """
    free = free_memory(torch.device(device))
    if free is not None and need.bytes > free:
        raise ModelError(
            f"{source} has {need.count / 1e9:.3g} billion parameters and takes about {gib(need.bytes)} "
            f"({need.told}; activations and what look-aheads keep come on top), and {gib(free)} are free on "
            f"{_called(torch.device(device))}: {then}"
        )


def gib(size: float) -> str:
    """Bytes in three digits, or in all that stand before the point.

    >>> gib(1.5 * 2**30), gib(1054.2 * 2**30)
    ('1.5 GiB', '1,054 GiB')
    """
    value = size / GIB
    return f"{value:,.0f} GiB" if value >= 999.5 else f"{value:.3g} GiB"


def free_memory(device: torch.device) -> int | None:
    """Bytes that are free on a GPU, or in main memory as far as this process may use it; None where nobody tells."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    limits = [limit for limit in (_available(), _left_of_group()) if limit is not None]
    return min(limits) if device.type == "cpu" and limits else None


def _called(device: torch.device) -> str:
    return "the GPU" if device.type == "cuda" else "this machine"


def _available() -> int | None:
    """What Linux says could be used without swapping."""
    found = re.search(r"^MemAvailable:\s+(\d+) kB$", _read("/proc/meminfo"), re.MULTILINE)
    return int(found[1]) * 1024 if found else None


def _left_of_group() -> int | None:
    """What a container's limit leaves, its cache of files taken for free."""
    most, used = _read("/sys/fs/cgroup/memory.max").strip(), _read("/sys/fs/cgroup/memory.current").strip()
    cached = re.search(r"^inactive_file (\d+)$", _read("/sys/fs/cgroup/memory.stat"), re.MULTILINE)
    if not most.isdigit() or not used.isdigit():
        return None
    return int(most) - int(used) + (int(cached[1]) if cached else 0)


def _read(path: str) -> str:
    return Path(path).read_text() if Path(path).is_file() else ""
