"""What `import duologue` and `duologue --help` cost in processor time, each beside its bound.

    python benchmarks/imports.py

A bare interpreter's time is taken off; each figure is the median of several runs, so a busy machine changes
little. The first import after an installation compiles and is not counted.
"""

from __future__ import annotations

import os
import statistics
import sys
from collections.abc import Sequence

RUNS = 9
BARE = [sys.executable, "-c", "pass"]
BOUNDS = {
    "import duologue": ([sys.executable, "-c", "import duologue"], 0.3),
    "duologue --help": ([sys.executable, "-m", "duologue", "--help"], 0.5),
}


def cpu_seconds(command: Sequence[str]) -> float:
    """The processor time of a process and its children, its output thrown away."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    quiet = [(os.POSIX_SPAWN_DUP2, nowhere, 1), (os.POSIX_SPAWN_DUP2, nowhere, 2)]
    pid = os.posix_spawn(command[0], command, os.environ, file_actions=quiet)
    _, status, usage = os.wait4(pid, 0)
    os.close(nowhere)
    if status:
        raise SystemExit(f"{' '.join(command)} failed")
    return usage.ru_utime + usage.ru_stime


def median(command: Sequence[str]) -> float:
    """The median over the runs; one before them is not counted."""
    cpu_seconds(command)
    return statistics.median(cpu_seconds(command) for _ in range(RUNS))


def main() -> None:
    """Print a line a figure; exit with 1 where one is over its bound."""
    bare = median(BARE)
    over = False
    print(f"bare interpreter   {bare:.3f} s, taken off")
    for name, (command, bound) in BOUNDS.items():
        spent = median(command) - bare
        over = over or spent > bound
        print(f"{name:18} {spent:.3f} s of CPU; bound {bound:.1f} s; ratio {spent / bound:.2f}")
    sys.exit(over)


if __name__ == "__main__":
    main()
