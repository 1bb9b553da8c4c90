"""A thousand runs leave no process, descriptor, mount or file."""

from __future__ import annotations

import asyncio
import secrets
import tempfile
from collections import Counter
from pathlib import Path

import pytest

from duologue.sandbox import Limits, Sandbox, bubblewrap
from sandbox_boxes import left_behind, needs_bubblewrap, running

pytestmark = needs_bubblewrap

LIMITS = Limits(seconds=4, memory_mb=512, processes=16, disk_mb=8)
TESTS = "import unittest\nclass Tests(unittest.TestCase):\n    def test(self): self.assertEqual(number(), {n})"
PROGRAMS = {
    "passed": "def number(): return {n}",
    "failed": "def number(): return -1",
    "ended": "import os\ndef number(): os._exit(0)",
    "daemon": "import os, time\ndef number():\n    if os.fork() == 0: time.sleep(60)\n    return {n}",
    "timeout": "def number():\n    while True: pass",
    "tampered": "class Any:\n    __eq__ = lambda self, other: True\ndef number(): return Any()",
}
OUTCOMES = {**{name: name for name in PROGRAMS}, "ended": "failed", "daemon": "passed"}


@pytest.mark.parametrize("runs", [24, pytest.param(1000, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])])
def test_runs_leave_nothing_behind(runs: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mark = secrets.token_hex(8)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(bubblewrap, "RUNNER", f"{bubblewrap.RUNNER}\n# {mark}\n")
    asyncio.run(soak(2))  # what Python opens once and keeps
    before = left_behind()

    outcomes = asyncio.run(soak(runs))

    names = list(PROGRAMS)
    assert outcomes == Counter(OUTCOMES[names[n % len(names)]] for n in range(runs))
    assert running(mark) == []
    assert left_behind() == before


async def soak(runs: int) -> Counter[str]:
    """The outcomes of so many different runs."""
    async with Sandbox(limits=LIMITS, boxes=4) as box:
        programs = list(PROGRAMS.values())
        work = [box.run_tests(programs[n % len(programs)].format(n=n), TESTS.format(n=n)) for n in range(runs)]
        return Counter(report.outcome for report in await asyncio.gather(*work))


async def test_a_run_that_is_given_up_ends_when_the_sandbox_closes(monkeypatch: pytest.MonkeyPatch) -> None:
    mark = secrets.token_hex(8)
    box = Sandbox(limits=Limits(seconds=60))
    await box.open()
    monkeypatch.setattr(bubblewrap, "RUNNER", f"{bubblewrap.RUNNER}\n# {mark}\n")
    run = asyncio.ensure_future(box.run_tests("while True: pass", TESTS.format(n=1)))
    while not running(mark):
        await asyncio.sleep(0.01)

    run.cancel()
    await asyncio.wait_for(box.close(), timeout=10)

    assert running(mark) == []
