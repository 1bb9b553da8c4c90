"""What the copies of one prompt share while they run side by side, and the mean reward of a step."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, TypeVar

T = TypeVar("T")


class Group:
    """The copies of one prompt in one step."""

    def __init__(self) -> None:
        self._under_way: dict[Hashable, asyncio.Task[Any]] = {}
        self._open = 0
        self._settled = asyncio.Event()
        self._values: list[float] = []

    def join(self) -> None:
        """One copy more."""
        self._open += 1
        self._settled.clear()

    def settle(self, value: float | None) -> None:
        """A copy knows its reward, or that it has none."""
        self._open -= 1
        if value is not None:
            self._values.append(value)
        if self._open == 0:
            self._settled.set()

    async def mean(self) -> float | None:
        """The mean reward of the copies that have one, once all know; None where none has."""
        await self._settled.wait()
        return math.fsum(self._values) / len(self._values) if self._values else None

    async def once(self, key: Hashable, begin: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """What the work under a key came to; whoever asks first begins it, and what it raises is raised for all."""
        if key not in self._under_way:
            self._under_way[key] = asyncio.create_task(begin())
        return await asyncio.shield(self._under_way[key])


class StepMean:
    """The mean reward of the newest step's candidates, as far as this worker has them."""

    def __init__(self) -> None:
        self._step, self._sum, self._count = -1, 0.0, 0

    def took(self, step: int, value: float) -> float:
        """Take in a reward of a step, and give it back."""
        if step != self._step:
            self._step, self._sum, self._count = step, 0.0, 0
        self._sum, self._count = self._sum + value, self._count + 1
        return value

    def mean(self, step: int) -> float:
        """That mean; 0 where the step has none yet."""
        return self._sum / self._count if step == self._step and self._count else 0.0
