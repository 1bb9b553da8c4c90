"""One round of calls, ours or the bare client's, and what `benchmarks/endpoint.py` prints of many."""

from __future__ import annotations

import asyncio
import gc
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import orjson
from endpoint_bare import Branch, Client, play
from endpoint_ours import Made, Models, Work, World, watched

from duologue.models.calls import Calls
from duologue.models.endpoint import Endpoint

HERE = Path(__file__).parent
AMPLE = 4096
"""In flight where the graph alone is to be the limit."""


@dataclass(frozen=True)
class Sizes:
    """How much of everything."""

    repeats: int = 3
    goals: int = 16
    many: int = 512
    throughput: int = 64
    conversations: tuple[int, int] = (1_000, 100_000)
    faults: int = 111


QUICK = Sizes(repeats=1, goals=8, many=64, throughput=16, conversations=(200, 2_000), faults=24)


@dataclass(frozen=True)
class Figure:
    """One line of the table."""

    workload: str
    against: str
    ours: float
    bound: float
    unit: str
    ratio: float
    target: str
    reached: bool
    more: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        word = "reached" if self.reached else "MISSED"
        more = "".join(f"\n    {name}: {_shown(value)}" for name, value in self.more.items())
        return (
            f"{self.workload}\n    ours {_shown(self.ours)} {self.unit}, {self.against} {_shown(self.bound)}; "
            f"ratio {self.ratio:.3f}; {self.target}: {word}{more}"
        )


def _shown(value: Any) -> str:
    return f"{value:,.4g}" if isinstance(value, float) else str(value)


@dataclass(frozen=True)
class Measured:
    """What one round took."""

    seconds: float
    """From the first call to the last reply."""
    cpu: float
    """Of this process, closing included."""
    calls: int
    most: int
    """Calls that waited at the server at a time."""
    server_cpu: float
    fingerprint: str
    """Of all bodies, whatever their order."""
    met: dict[str, int]

    @property
    def cpu_ms(self) -> float:
        """Milliseconds of processor time a call."""
        return 1e3 * self.cpu / self.calls


class Server:
    """The mock's process: `with Server() as server: …`."""

    def __enter__(self) -> Server:
        free = sorted(os.sched_getaffinity(0))
        command = [sys.executable, str(HERE / "endpoint_mock.py")]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        if len(free) > 1:
            os.sched_setaffinity(self._process.pid, free[1:])
            os.sched_setaffinity(0, free[:1])
        assert self._process.stdout is not None
        self._address = f"http://127.0.0.1:{int(self._process.stdout.readline())}"
        return self

    def __exit__(self, *raised: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(10)

    def url(self, mode: str) -> str:
        """Where a mode is served."""
        return f"{self._address}/{mode}/v1"

    def told(self, what: str) -> Any:
        """What the server knows."""
        with urlopen(f"{self._address}/{what}") as response:
            return orjson.loads(response.read())

    def measure(self, round_: Callable[[], Awaitable[float]]) -> Measured:
        """A round, which gives its seconds."""
        before = self.told("forget")
        gc.collect()
        cpu = time.process_time()
        seconds = asyncio.run(_awaited(round_))
        cpu = time.process_time() - cpu
        stats = self.told("stats")
        spent = stats["cpu"] - before["cpu"]
        return Measured(seconds, cpu, stats["requests"], stats["most"], spent, stats["fingerprint"], stats["met"])


async def _awaited(round_: Callable[[], Awaitable[float]]) -> float:
    return await round_()


def bare(server: Server, mode: str, branches: list[Branch], in_flight: int) -> Measured:
    """The bare client's round."""

    async def round_() -> float:
        async with Client(server.url(mode), in_flight) as client:
            started = time.perf_counter()
            await play(client, branches)
            return time.perf_counter() - started

    return server.measure(round_)


def ours(
    server: Server, mode: str, work: Work, in_flight: int, *, calls: Path | None, timeout: float = 60.0
) -> Measured:
    """Our round; with the record of calls in a file where one is named."""

    async def round_() -> float:
        record = None if calls is None else Calls(calls)
        async with Endpoint(server.url(mode), in_flight=in_flight, calls=record, timeout=timeout) as endpoint:
            started = time.perf_counter()
            await work(World(models(endpoint)))
            seconds = time.perf_counter() - started
        if record is not None:
            record.close()
        return seconds

    return server.measure(round_)


def models(endpoint: Endpoint) -> Models:
    """The mock's one model in every role."""
    return lambda role: endpoint.model("mock", role=role)


def sizes_of(made: list[Made], bodies: Mapping[str, Any]) -> str:
    """Mean bytes of a request, by role."""
    sizes: dict[str, list[int]] = {}
    for each in made:
        for role, number, _ in each.calls:
            sizes.setdefault(role, []).append(len(orjson.dumps(bodies[str(number)])))
    return ", ".join(f"{role} {statistics.fmean(found):,.0f}" for role, found in sizes.items())


def graph(server: Server, mode: str, work: Work) -> tuple[list[Made], list[Branch]]:
    """Which calls the work makes; a round that also warms up."""
    made: list[Made] = []

    async def round_() -> float:
        async with Endpoint(server.url(f"{mode}-recorded"), in_flight=AMPLE) as endpoint:
            made.extend(await watched(models(endpoint), work))
        return 0.0

    server.measure(round_)
    bodies = server.told("bodies")
    print(f"  (bytes a request: {sizes_of(made, bodies)})", flush=True)
    return made, [each.branch(bodies) for each in made]


@contextmanager
def folder() -> Iterator[Path]:
    """For one round's files."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def in_turns(repeats: int, rounds: Mapping[str, Callable[[], Measured]]) -> dict[str, list[Measured]]:
    """Each round so many times, one after the other; all must have sent the same."""
    found: dict[str, list[Measured]] = {name: [] for name in rounds}
    for _ in range(repeats):
        for name, round_ in rounds.items():
            found[name].append(round_())
    sent = {(each.calls, each.fingerprint) for measured in found.values() for each in measured}
    assert len(sent) == 1, f"the rounds did not send the same requests: {sent}"
    return found


def median(measured: list[Measured], of: Callable[[Measured], float]) -> float:
    """Over the repeats."""
    return statistics.median(of(each) for each in measured)


def seconds(measured: Measured) -> float:
    return measured.seconds


def cpu_ms(measured: Measured) -> float:
    return measured.cpu_ms
