"""A server that fails in 5 % of attempts, in one way or in every way at once, for `benchmarks/endpoint.py`.

Nothing may be lost sight of: every look-ahead is scored, or listed as failed with its reason, and no task,
thread or socket is left behind.
"""

from __future__ import annotations

import asyncio
import re
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from endpoint_mock import FAULTS, LATENCY
from endpoint_ours import Work, World, rewarding
from endpoint_rounds import Figure, Measured, Server, Sizes, ours

from duologue.reward import Reward

DEADLINE = 2.0
"""Seconds of an attempt."""
IN_FLIGHT = 64


def faults(server: Server, sizes: Sizes) -> list[Figure]:
    """5 % of attempts failing in each way, against the same calls without."""
    work = rewarding(sizes.faults)
    clean = ours(server, "fixed", work, IN_FLIGHT, calls=None)
    limit = 1.5 * clean.seconds + DEADLINE
    alone = {fault: _faulty(server, work, fault) for fault in FAULTS}
    worst = max(alone, key=lambda fault: alone[fault].measured.seconds)
    return [
        _against_clean(f"5 % of attempts {worst}, the slowest of the faults alone", alone[worst], clean, limit, alone),
        _against_clean("5 % of each of the faults together", _faulty(server, work, "faults"), clean, limit, {}),
    ]


@dataclass(frozen=True)
class Faulty:
    """A round among faults."""

    measured: Measured
    look_aheads: int
    """All of them."""
    scored: int
    lost: Counter[str]
    """Look-aheads by the reason they are listed with."""
    left: str
    """Tasks, threads and sockets that were not there before, in words."""
    clean: bool
    """Whether there are none."""

    @property
    def floor(self) -> float:
        """Seconds that these attempts fill with 64 in flight, were each sent the moment there is room."""
        each = {"429": 0.0, "429-retry-after": 0.0, "hang": DEADLINE, "drip": DEADLINE}
        return sum(count * each.get(fault, LATENCY) for fault, count in self.measured.met.items()) / IN_FLIGHT


def _faulty(server: Server, work: Work, mode: str) -> Faulty:
    outcomes: list[Reward] = []
    left: list[asyncio.Task[Any]] = []

    async def keep(world: World) -> None:
        outcomes.extend(await work(world))
        left.extend(asyncio.all_tasks() - {asyncio.current_task()})

    before = _held()
    measured = ours(server, mode, keep, IN_FLIGHT, calls=None, timeout=DEADLINE)
    after = _held()
    lost = Counter(_reason(why) for reward in outcomes for why in reward.failures)
    words = f"{len(left)} tasks, {after[0] - before[0]} threads, {after[1] - before[1]} files and sockets"
    scored = sum(reward.counted for reward in outcomes)
    return Faulty(
        measured, sum(len(reward.values) for reward in outcomes), scored, lost, words, after == before and not left
    )


def _held() -> tuple[int, int]:
    return threading.active_count(), sum(1 for _ in Path("/proc/self/fd").iterdir())


def _reason(why: str) -> str:
    """The kind of a reason, without addresses and numbers."""
    return re.sub(r"http\S+|\d+", "…", why)[:160]


def _against_clean(name: str, faulty: Faulty, clean: Measured, limit: float, alone: Mapping[str, Faulty]) -> Figure:
    spent = faulty.measured.seconds
    more = {
        "calls": f"{clean.calls}, and {faulty.measured.calls - clean.calls:+} for the faults: {faulty.measured.met}",
        "look-aheads": f"{faulty.look_aheads}: {faulty.scored} scored, {faulty.lost.total()} failed",
        "reasons": dict(faulty.lost),
        "left behind": faulty.left,
        "what these attempts take at best, s": faulty.floor,
        "CPU ms a call": f"{faulty.measured.cpu_ms:.3f}, clean {clean.cpu_ms:.3f}",
    }
    if alone:
        more["each alone, s"] = {fault: round(each.measured.seconds, 2) for fault, each in alone.items()}
    ratio, target = spent / clean.seconds, f"≤ 1.5 × + the deadline ({limit:.2f} s), all accounted for, nothing left"
    accounted = faulty.scored + faulty.lost.total() == faulty.look_aheads and faulty.clean
    met = spent <= limit and accounted
    return Figure(
        f"{clean.calls:,} calls, {name}", "the clean run", spent, clean.seconds, "s", ratio, target, met, more
    )
