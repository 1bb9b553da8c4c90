"""How near to the physical limit endpoints are driven: each figure a ratio against a bound of the same run.

    python benchmarks/endpoint.py [--only NAME …] [--output runs/endpoint.json]

The server is a mock in a process of its own (`endpoint_mock.py`), whose latencies come from the hash of the
request. Ours is the library as anyone uses it (`endpoint_ours.py`). The bare client (`endpoint_bare.py`) sends
the very same bodies in the same graph: one round of ours, not counted, records which call waits for which.
Then both take turns, and medians are compared. With two processors or more, this process keeps to one of them
and the mock to the others.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import orjson
from endpoint_bare import Branch, Client, play
from endpoint_mock import FAULTS, LATENCY
from endpoint_ours import SAMPLES, Made, Models, Work, World, building, exploring, rewarding, watched

from duologue.journal import Journal, write_atomically
from duologue.models.calls import Calls
from duologue.models.endpoint import Endpoint
from duologue.reward import Reward

HERE = Path(__file__).parent
AMPLE = 4096
"""In flight where the graph alone is to be the limit."""
DEADLINE = 2.0
"""Seconds of an attempt where the server fails."""


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


# ---- The server, and one measurement -------------------------------------------------------------------------


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


def graph(server: Server, mode: str, work: Work) -> tuple[list[Made], list[Branch]]:
    """Which calls the work makes; a round that also warms up."""
    made: list[Made] = []

    async def round_() -> float:
        async with Endpoint(server.url(f"{mode}-recorded"), in_flight=AMPLE) as endpoint:
            made.extend(await watched(models(endpoint), work))
        return 0.0

    server.measure(round_)
    bodies = server.told("bodies")
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


# ---- The figures ---------------------------------------------------------------------------------------------


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


def _recorded(server: Server, mode: str, work: Work, in_flight: int) -> Callable[[], Measured]:
    def round_() -> Measured:
        with folder() as place:
            return ours(server, mode, work, in_flight, calls=place / "calls.sqlite")

    return round_


def rewards(server: Server, sizes: Sizes, mode: str) -> tuple[list[Made], dict[str, list[Measured]]]:
    """Prompts × look-aheads, ours with the record of calls and the bare client."""
    work = rewarding(sizes.goals)
    made, branches = graph(server, mode, work)
    rounds = {"ours": _recorded(server, mode, work, AMPLE), "bare": lambda: bare(server, mode, branches, AMPLE)}
    return made, in_turns(sizes.repeats, rounds)


def _about(found: Mapping[str, list[Measured]]) -> dict[str, Any]:
    return {
        "calls": found["ours"][0].calls,
        "in flight at most": found["ours"][0].most,
        "CPU ms a call": " ".join(f"{name} {median(measured, cpu_ms):.3f}" for name, measured in found.items()),
        "seconds": {name: [round(each.seconds, 3) for each in measured] for name, measured in found.items()},
    }


def fixed(server: Server, sizes: Sizes) -> list[Figure]:
    """Rewards against the bare graph."""
    made, found = rewards(server, sizes, "fixed")
    mine, theirs = median(found["ours"], seconds), median(found["bare"], seconds)
    longest = max(each.longest for each in made)
    more = {
        **_about(found),
        "longest chain": f"{longest:.3f} s: ours {longest / mine:.3f}, bare {longest / theirs:.3f}",
    }
    name = f"{sizes.goals} prompts × {SAMPLES} look-aheads, w=2, two judged metrics, 200 ms fixed"
    return [Figure(name, "bare graph", mine, theirs, "s", theirs / mine, "≥ 0.95", theirs / mine >= 0.95, more)]


def lognormal(server: Server, sizes: Sizes) -> list[Figure]:
    """Rewards against the longest chain of calls, which the hash gives."""
    made, found = rewards(server, sizes, "lognormal")
    mine, theirs = median(found["ours"], seconds), median(found["bare"], seconds)
    bound = max(each.longest for each in made)
    more = {**_about(found), "bare graph against it": bound / theirs}
    name = f"{sizes.goals} prompts × {SAMPLES} look-aheads, lognormal latency"
    return [Figure(name, "longest chain", mine, bound, "s", bound / mine, "≥ 0.93", bound / mine >= 0.93, more)]


def _built(server: Server, goals: int, in_flight: int) -> Callable[[], Measured]:
    def round_() -> Measured:
        with folder() as place:
            work = building(goals, Journal(place / "journal.jsonl"))
            return ours(server, "fixed", work, in_flight, calls=place / "calls.sqlite")

    return round_


def dataset(server: Server, sizes: Sizes) -> list[Figure]:
    """Building a data set, cache and journal on, against the bare graph."""
    _, branches = graph(server, "fixed", exploring(sizes.goals))
    rounds = {
        "ours": _built(server, sizes.goals, AMPLE),
        "bare": lambda: bare(server, "fixed", branches, AMPLE),
    }
    found = in_turns(sizes.repeats, rounds)
    mine, theirs = median(found["ours"], seconds), median(found["bare"], seconds)
    name = f"building a data set: {sizes.goals} goals, 2 candidates at each reply of 6 messages, k=3, fixed"
    met = theirs / mine >= 0.93
    return [Figure(name, "bare graph", mine, theirs, "s", theirs / mine, "≥ 0.93", met, _about(found))]


def cpu(server: Server, sizes: Sizes) -> list[Figure]:
    """Our processor time a call, 64 in flight: building a data set."""
    work = exploring(sizes.goals)
    _, branches = graph(server, "fixed", work)
    rounds = {
        "on": _built(server, sizes.goals, 64),
        "off": lambda: ours(server, "fixed", work, 64, calls=None),
        "bare": lambda: bare(server, "fixed", branches, 64),
    }
    found = in_turns(sizes.repeats, rounds)
    on, off, theirs = (median(found[name], cpu_ms) for name in ("on", "off", "bare"))
    more = {"calls": found["on"][0].calls, "in flight at most": found["on"][0].most}
    name = "our CPU a call, 64 in flight, cache and journal"
    return [
        Figure(f"{name} on", "bare", on, theirs, "ms", on / theirs, "≤ 0.30 ms", on <= 0.30, more),
        Figure(f"{name} off", "bare", off, theirs, "ms", off / theirs, "≤ 2 ×", off <= 2 * theirs),
    ]


def throughput(server: Server, sizes: Sizes) -> list[Figure]:
    """Calls a second on one core, the server answering at once; and what the mock itself can do."""
    work = rewarding(sizes.throughput)
    _, branches = graph(server, "none", work)
    rounds = {
        "ours": lambda: ours(server, "none", work, 64, calls=None),
        "on": _recorded(server, "none", work, 64),
        "bare": lambda: bare(server, "none", branches, 64),
    }
    found = in_turns(sizes.repeats, rounds)
    rate = {name: median(measured, lambda m: m.calls / m.seconds) for name, measured in found.items()}
    ratio = rate["ours"] / rate["bare"]
    more = {
        **_about(found),
        "ratio with the cache on": rate["on"] / rate["bare"],
        "ratio by processor time": median(found["bare"], cpu_ms) / median(found["ours"], cpu_ms),
        "the mock's own ceiling": f"{median(found['bare'], lambda m: m.calls / m.server_cpu):,.0f} calls a second",
    }
    name = "calls a second on one core, server answering at once, 64 in flight"
    return [Figure(name, "bare", rate["ours"], rate["bare"], "a second", ratio, "≥ 0.5 ×", ratio >= 0.5, more)]


def many(server: Server, sizes: Sizes) -> list[Figure]:
    """Many prompts at once, under a limit of 256 in flight."""
    work = rewarding(sizes.many)
    _, branches = graph(server, "fixed", work)
    rounds = {"ours": _recorded(server, "fixed", work, 256), "bare": lambda: bare(server, "fixed", branches, 256)}
    found = in_turns(sizes.repeats, rounds)
    calls, mine = found["ours"][0].calls, median(found["ours"], seconds)
    bound = calls * LATENCY / 256
    name = f"{sizes.many} prompts at once ({calls:,} calls, 200 ms), in_flight = 256"
    met = bound / mine >= 0.90
    more = {**_about(found), "bare graph against it": bound / median(found["bare"], seconds)}
    return [Figure(name, "limit × latency", mine, bound, "s", bound / mine, "≥ 0.90", met, more)]


def memory(server: Server, sizes: Sizes) -> list[Figure]:
    """Conversations journalled: what the process holds, and what it has written."""
    few, lots = sizes.conversations
    with folder() as place:
        command = [sys.executable, str(HERE / "endpoint_memory.py"), str(place), str(few), str(lots)]
        lines = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout.splitlines()
    at = {row["conversations"]: row for row in map(orjson.loads, lines)}
    grown = (at[lots]["bytes"] - at[few]["bytes"]) / 1e6
    each = {count: at[count]["written"] / count for count in at}
    ratio = each[lots] / each[few]
    name = f"{few:,} → {lots:,} conversations journalled"
    more = {"memory, MB": {count: round(row["bytes"] / 1e6, 1) for count, row in at.items()}}
    return [
        Figure(f"{name}: memory grows", "limit", grown, 50.0, "MB", grown / 50.0, "< 50 MB", grown < 50.0, more),
        Figure(f"{name}: bytes each", "at first", each[lots], each[few], "B", ratio, "linear", ratio <= 1.05),
    ]


def faults(server: Server, sizes: Sizes) -> list[Figure]:
    """5 % of attempts failing in each way, against the same calls without."""
    work = rewarding(sizes.faults)
    clean = ours(server, "fixed", work, 64, calls=None)
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
    scored: int
    """Look-aheads."""
    lost: Counter[str]
    """Look-aheads by the reason they are listed with."""
    left: str
    """Tasks, threads and sockets that were not there before, in words."""

    @property
    def floor(self) -> float:
        """Seconds that these attempts fill with 64 in flight, were each sent the moment there is room."""
        each = {"429": 0.0, "429-retry-after": 0.0, "hang": DEADLINE, "drip": DEADLINE}
        return sum(count * each.get(fault, LATENCY) for fault, count in self.measured.met.items()) / 64


def _faulty(server: Server, work: Work, mode: str) -> Faulty:
    outcomes: list[Reward] = []
    left: list[asyncio.Task[Any]] = []

    async def keep(world: World) -> None:
        outcomes.extend(await work(world))
        left.extend(asyncio.all_tasks() - {asyncio.current_task()})

    before = _held()
    measured = ours(server, mode, keep, 64, calls=None, timeout=DEADLINE)
    after = _held()
    lost = Counter(_reason(why) for reward in outcomes for why in reward.failures)
    words = f"{len(left)} tasks, {after[0] - before[0]} threads, {after[1] - before[1]} files and sockets"
    return Faulty(measured, sum(reward.counted for reward in outcomes), lost, words)


def _held() -> tuple[int, int]:
    return threading.active_count(), sum(1 for _ in Path("/proc/self/fd").iterdir())


def _reason(why: str) -> str:
    """The kind of a reason, without addresses and numbers."""
    return re.sub(r"http\S+|\d+", "…", why)[:160]


def _against_clean(name: str, faulty: Faulty, clean: Measured, limit: float, alone: Mapping[str, Faulty]) -> Figure:
    spent = faulty.measured.seconds
    more = {
        "calls": f"{clean.calls}, and {faulty.measured.calls - clean.calls:+} for the faults: {faulty.measured.met}",
        "look-aheads": f"{faulty.scored} scored, {faulty.lost.total()} listed as failed: {dict(faulty.lost)}",
        "left behind": faulty.left,
        "what these attempts take with 64 in flight at best, s": faulty.floor,
        "CPU ms a call": f"{faulty.measured.cpu_ms:.3f}, clean {clean.cpu_ms:.3f}",
    }
    if alone:
        more["each alone, s"] = {fault: round(each.measured.seconds, 2) for fault, each in alone.items()}
    ratio, target = spent / clean.seconds, f"≤ 1.5 × + the deadline ({limit:.2f} s)"
    return Figure(
        f"{clean.calls:,} calls, {name}",
        "the clean run",
        spent,
        clean.seconds,
        "s",
        ratio,
        target,
        spent <= limit,
        more,
    )


FIGURES: dict[str, Callable[[Server, Sizes], list[Figure]]] = {
    each.__name__: each for each in (fixed, lognormal, dataset, cpu, throughput, many, memory, faults)
}


def main() -> None:
    """Print the figures asked for; exit with 1 where one is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(FIGURES), default=list(FIGURES))
    parser.add_argument("--output", type=Path)
    parser.add_argument("--quick", action="store_true", help="a look at everything, too small to count")
    settings = parser.parse_args()
    found: list[Figure] = []
    with Server() as server:
        for name in settings.only:
            figures = FIGURES[name](server, QUICK if settings.quick else Sizes())
            found += figures
            print("\n".join(map(str, figures)), flush=True)
    if settings.output is not None:
        rows = [asdict(figure) for figure in found]
        write_atomically(settings.output, json.dumps(rows, indent=2, ensure_ascii=False) + "\n")
    sys.exit(not all(figure.reached for figure in found))


if __name__ == "__main__":
    main()
