"""What `accelerate launch` and torchrun tell the processes that they start, by their environment. Free of torch."""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Launch:
    """What a launcher tells one of its processes."""

    rank: int
    """Which it is, from 0."""
    processes: int


def launched() -> Launch | None:
    """What the launcher of this process told it; None where nobody launched it to train with others."""
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        return None
    return Launch(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))


def splits() -> bool:
    """Whether weights are to be split among processes; DeepSpeed counts at every stage."""
    return _uses("FSDP") or uses_deepspeed()


def unsplit_here(gpu: bool) -> str | None:
    """Why weights that are to be split are not, where they are not: accelerate splits them on GPUs alone.

    Args:
        gpu: whether there is one.
    """
    if gpu or not splits():
        return None
    return (
        "FSDP or DeepSpeed was asked for, and without a GPU accelerate splits no weights: every process trains all of "
        "them, and keeps another copy to reply with; launch with --cpu and without FSDP and DeepSpeed, to save that"
    )


def uses_deepspeed() -> bool:
    """Whether accelerate was configured to train with DeepSpeed."""
    return _uses("DEEPSPEED")


def _uses(name: str) -> bool:
    return os.environ.get(f"ACCELERATE_USE_{name}", "").lower() == "true"
