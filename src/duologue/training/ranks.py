"""The processes that train together, and what they tell one another; one that trains alone is the first of one.

`accelerate launch` starts them, and each gives the same command. What one of them decides by looking (at a folder,
at a journal) all of them have to decide alike, so the first looks and the others hear of it. It alone writes down
what happened.

All but `processes`, `rank`, `is_first` and `share` is for all processes at the same time: each waits there for the
others.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from accelerate import PartialState

PATIENCE = timedelta(hours=12)
"""How long a process waits for the others: conversations take one of them longer than another. Where one of them ends,
the launcher ends all."""
T = TypeVar("T")


@contextmanager
def launched_together() -> Generator[None]:
    """The processes of a launch, waiting for one another at the beginning and at the end; on GPUs, each has its own."""
    state = PartialState(cpu=not torch.cuda.is_available(), timeout=PATIENCE)
    meet()
    yield
    meet()
    state.destroy_process_group()


def processes() -> int:
    """How many train together."""
    return dist.get_world_size() if _several() else 1


def rank() -> int:
    """Which of them this one is, from 0."""
    return dist.get_rank() if _several() else 0


def is_first() -> bool:
    """Whether this process writes down what happens."""
    return rank() == 0


def share(items: Sequence[T]) -> Sequence[T]:
    """This process's part of some work: every so manieth item, so that neighbours, which are alike, are divided.

    >>> share([1, 2, 3])
    [1, 2, 3]
    """
    return items[rank() :: processes()]


def joined(results: Sequence[T]) -> list[T]:
    """The results of all processes' shares, in the order of the items."""
    parts = _from_all(list(results))
    longest = max(map(len, parts))
    return [part[index] for index in range(longest) for part in parts if index < len(part)]


def gathered(own: Sequence[T]) -> list[T]:
    """What each process has, the first's before the second's."""
    return [each for part in _from_all(list(own)) for each in part]


def agreed(value: T) -> T:
    """What the first process says; the others' is not looked at."""
    if not _several():
        return value
    heard: list[Any] = [value if is_first() else None]
    dist.broadcast_object_list(heard, src=0)
    return heard[0]


def meet() -> None:
    """Wait until all processes are here."""
    if _several():
        dist.barrier()


def _from_all(own: list[T]) -> list[list[T]]:
    if not _several():
        return [own]
    parts: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(parts, own)
    return parts


def _several() -> bool:
    return dist.is_available() and dist.is_initialized()
