"""Plays conversations into a journal, with scripted models; a process of its own for `benchmarks/endpoint.py`.

    python benchmarks/endpoint_memory.py FOLDER 1000 100000

Prints a JSON line when it has played so many: the process's own memory (proportional set size) after a
collection of garbage, and the journal's size, in bytes.
"""

from __future__ import annotations

import asyncio
import gc
import re
import sys
from pathlib import Path

import orjson

from duologue.evaluation import Arm, evaluate
from duologue.journal import Journal
from duologue.metrics.base import Supplies
from duologue.models.base import count_bytes
from duologue.reward import Scorer
from duologue.simulation import Assistant
from duologue.tasks import load_task


def resident() -> int:
    """Bytes of memory that this process holds."""
    gc.collect()
    found = re.search(r"^Pss: +(\d+) kB", Path("/proc/self/smaps_rollup").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


def main() -> None:
    """Play, and tell at each number of conversations."""
    place, counts = Path(sys.argv[1]), sorted(int(each) for each in sys.argv[2:])
    journal = Journal(place / "journal.jsonl")
    task = load_task("groceries")
    played = 0

    def on_done() -> None:
        nonlocal played
        played += 1
        if played in counts:
            row = {"conversations": played, "bytes": resident(), "written": journal.path.stat().st_size}
            print(orjson.dumps(row).decode(), flush=True)

    asyncio.run(
        evaluate(
            Arm("oracle", {task.name: Assistant(task.scripted["oracle"])}),
            task,
            "train",
            "train",
            task.goals("test"),
            seed=0,
            decoding="sampled",
            scorer=Scorer(task.metrics, Supplies()),
            journal=journal,
            counter=count_bytes,
            on_done=on_done,
            conversations=counts[-1],
        )
    )


if __name__ == "__main__":
    main()
