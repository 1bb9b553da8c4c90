"""The memory and the time that a command and all processes it starts take (Linux).

    python benchmarks/memory.py -- make demo

Memory is the sum of the processes' proportional set sizes (PSS: what several share counts once in all), read from
the system every second; a peak shorter than that can be missed. A process's own peak may lie at another moment than
the whole's. Seconds are the clock's, from the start of the command to its end. Exits as the command does.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

PROC = Path("/proc")
GB = 1e9


@dataclass
class Peak:
    """One process, and the most memory that it was seen with."""

    pid: int
    command: str
    bytes: int


@dataclass(frozen=True)
class Measured:
    """What a command took."""

    command: list[str]
    status: int
    seconds: float
    peak: int
    """The largest sum over the processes of a moment, in bytes."""
    at: float
    """When that was, in seconds from the start."""
    samples: int
    processes: list[Peak]


def main() -> None:
    """Run the command; print a row a process, the largest first."""
    arguments = _arguments()
    if not (PROC / "self" / "smaps_rollup").exists():
        sys.exit("this machine does not say how much memory a process shares: it needs Linux with /proc")
    measured = measure(arguments.command, arguments.every)
    _print(measured, arguments.least)
    if arguments.output:
        arguments.output.write_text(json.dumps(asdict(measured), indent=1) + "\n")
    sys.exit(measured.status if measured.status >= 0 else 128 - measured.status)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--every", type=float, default=1.0, help="seconds between two readings")
    parser.add_argument("--least", type=float, default=0.01, help="GB of the processes that are listed")
    parser.add_argument("--output", type=Path, help="the figures as JSON")
    parser.add_argument("command", nargs="+", help="after --, the command with its arguments")
    return parser.parse_args()


def measure(command: Sequence[str], every: float) -> Measured:
    """Run a command to its end, looking at its processes again and again."""
    began = time.monotonic()
    seen: dict[int, Peak] = {}
    peak, at, samples = 0, 0.0, 0
    with subprocess.Popen(command) as process:
        while process.poll() is None:
            now, moment = time.monotonic() - began, dict(memory(process.pid))
            samples += 1
            if sum(moment.values()) > peak:
                peak, at = sum(moment.values()), now
            for pid, size in moment.items():
                known = seen.setdefault(pid, Peak(pid, "", 0))
                known.command = _command(pid) or known.command
                known.bytes = max(known.bytes, size)
            _wait(process, every)
    seconds = time.monotonic() - began
    processes = sorted(seen.values(), key=lambda each: -each.bytes)
    return Measured(list(command), process.returncode, seconds, peak, at, samples, processes)


def _wait(process: subprocess.Popen[bytes], seconds: float) -> None:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return


def memory(root: int) -> Iterator[tuple[int, int]]:
    """(pid, bytes) for a process and all that descend from it; one that has just ended is left out."""
    for pid in tree(root):
        rollup = _read(pid, "smaps_rollup")
        sizes = [line.split() for line in rollup.splitlines() if line.startswith("Pss:")]
        yield from ((pid, 1024 * int(size)) for _, size, _ in sizes)


def tree(root: int) -> Iterator[int]:
    """A process and all that descend from it."""
    children: dict[int, list[int]] = {}
    for folder in PROC.glob("[0-9]*"):
        pid = int(folder.name)
        state = _read(pid, "stat").rpartition(")")[2].split()  # a name in parentheses comes before: any characters
        if state:
            children.setdefault(int(state[1]), []).append(pid)
    found = [root]
    while found:
        pid = found.pop()
        yield pid
        found += children.get(pid, [])


def _command(pid: int) -> str:
    return _read(pid, "cmdline").replace("\0", " ").strip()


def _read(pid: int, name: str) -> str:
    """A file of a process; nothing once it has ended."""
    try:
        return (PROC / str(pid) / name).read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _print(measured: Measured, least: float) -> None:
    table = Table(title=" ".join(measured.command), title_justify="left")
    table.add_column("process", overflow="ellipsis", no_wrap=True, max_width=90)
    table.add_column("peak, GB", justify="right")
    for process in measured.processes:
        if process.bytes >= least * GB:
            table.add_row(process.command, f"{process.bytes / GB:.2f}")
    console = Console(width=110)
    console.print(table)
    console.print(
        f"all processes: {measured.peak / GB:.2f} GB at most, {measured.at:.0f} s after the start "
        f"({measured.samples} readings); {measured.seconds:.1f} s in all"
    )


if __name__ == "__main__":
    main()
