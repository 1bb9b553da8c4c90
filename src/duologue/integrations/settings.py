"""`[scale]`: where the conversations of an evaluation are played."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from duologue.settings import Settings


def _place(address: str) -> str:
    if not re.fullmatch(r"[^/\s]+:\d+", address):
        raise ValueError("it is HOST:PORT, like 10.0.0.5:6379")
    return address


class ScaleSettings(Settings):
    """`[scale]`: where the conversations of an evaluation are played."""

    engine: Literal["here", "ray"] = "here"
    """"here", on this machine; or "ray", in shards on a Ray cluster."""
    address: Annotated[str, AfterValidator(_place)] | None = None
    """A Ray cluster to join, like "10.0.0.5:6379"; left out, one is started on this machine for the run."""
    shards: int | None = Field(default=None, gt=0)
    """Parts that the work is divided into; left out, four for each that the cluster can work on at a time."""
    cpus: float = Field(default=1.0, gt=0)
    """Processor cores a shard."""
    gpus: float = Field(default=0.0, ge=0)
    """GPUs a shard."""
