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


def uses_deepspeed() -> bool:
    """Whether accelerate was configured to train with DeepSpeed."""
    return _uses("DEEPSPEED")


def _uses(name: str) -> bool:
    return os.environ.get(f"ACCELERATE_USE_{name}", "").lower() == "true"
