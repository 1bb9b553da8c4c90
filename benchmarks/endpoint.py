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
import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson
from endpoint_faults import faults
from endpoint_mock import LATENCY
from endpoint_ours import SAMPLES, Made, Work, building, exploring, rewarding
from endpoint_rounds import (
    AMPLE,
    HERE,
    QUICK,
    Figure,
    Measured,
    Server,
    Sizes,
    bare,
    cpu_ms,
    folder,
    graph,
    in_turns,
    median,
    ours,
    seconds,
)

from duologue.journal import Journal, write_atomically
from duologue.run.endpoints import collect_seldom


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
    collect_seldom()  # as the commands do; the bare client runs in this process, too
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
