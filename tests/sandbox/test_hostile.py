"""Nothing that wants to pass without doing what is asked does, and nothing outlives its box."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from duologue.sandbox import Limits, Sandbox, TestReport, bubblewrap
from duologue.sandbox.controls import RUNS
from hostile_pairs import LOTS, ODD, REPLACED, SLY
from hostile_programs import (
    ANYTHING,
    ESCAPES,
    GRADER,
    HARMFUL,
    HELD,
    HONEST,
    LIARS,
    TESTS,
    TIMED,
    UNCAUGHT,
    WRONG,
    comparing,
)
from sandbox_boxes import needs_bubblewrap, running

pytestmark = needs_bubblewrap

LIMITS = Limits(seconds=0.7, memory_mb=512, processes=16, disk_mb=8)
GRACE = 1.0
"""Seconds that a box may take above its limit."""


@pytest.fixture(scope="module")
def mark() -> str:
    """Stands in the command line of every process in a box of these tests."""
    return secrets.token_hex(8)


@pytest.fixture(scope="module")
def box(mark: str) -> Iterator[Sandbox]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bubblewrap, "RUNNER", f"{bubblewrap.RUNNER}\n# {mark}\n")
        sandbox = Sandbox()
        asyncio.run(sandbox.open())
        yield sandbox
        asyncio.run(sandbox.close())


async def report(box: Sandbox, code: str, mark: str) -> TestReport:
    """What becomes of a program; nothing of it is left, and it takes no longer than it may."""
    began = time.monotonic()
    found = await box.run_tests(code, TESTS, limits=LIMITS)
    took, runs = time.monotonic() - began, 1 if found.outcome in ("failed", "timeout") else 1 + RUNS
    assert running(mark) == []
    assert took < runs * (LIMITS.seconds + GRACE)
    assert found.passed + found.failed == 4
    return found


async def test_an_honest_program_passes(box: Sandbox, mark: str) -> None:
    found = await report(box, HONEST, mark)

    assert (found.outcome, found.passed, found.failed, found.reason) == ("passed", 4, 0, None)


async def test_a_wrong_program_fails(box: Sandbox, mark: str) -> None:
    found = await report(box, WRONG, mark)

    assert (found.outcome, found.reason) == ("failed", "Tests.test_few: AssertionError: -1 != 6")


@pytest.mark.parametrize("name", GRADER)
async def test_none_that_goes_for_the_grader_passes(name: str, box: Sandbox, mark: str) -> None:
    assert (await report(box, GRADER[name], mark)).outcome in ("tampered", "failed")


@pytest.mark.parametrize("name", LIARS)
async def test_none_whose_results_lie_passes(name: str, box: Sandbox, mark: str) -> None:
    assert (await report(box, LIARS[name], mark)).outcome == "tampered"


@pytest.mark.parametrize("name", TIMED)
async def test_none_that_waits_for_the_proof_to_be_over_passes(name: str, box: Sandbox, mark: str) -> None:
    code = TIMED[name].replace("{now}", str(time.time()))
    found = await box.run_tests(code, TESTS, limits=LIMITS)

    assert (found.outcome != "passed", running(mark)) == (True, [])


@pytest.mark.parametrize("way", HELD)
async def test_none_that_equals_everything_passes_whatever_way_it_is_compared(way: str, box: Sandbox) -> None:
    tests = comparing(HELD[way])
    liar = await box.run_tests(ANYTHING, tests)
    honest = await box.run_tests("def total(numbers): return float(sum(numbers))", tests)

    assert (liar.outcome, honest.outcome, honest.reason) == ("tampered", "passed", None)


@pytest.mark.parametrize("what", REPLACED)
async def test_none_passes_that_replaces_what_its_tests_stand_on(what: str, box: Sandbox) -> None:
    found = await box.run_tests(*REPLACED[what])

    assert found.outcome == "tampered"
    assert "it replaced what the tests stand on" in (found.reason or "")


@pytest.mark.parametrize("way", SLY)
async def test_none_passes_whose_objects_lie_in_a_way_of_their_own(way: str, box: Sandbox) -> None:
    found = await box.run_tests(*SLY[way])

    assert (found.outcome, found.reason) == ("tampered", "it passes tests that are wrong")


@pytest.mark.parametrize("way", LOTS)
async def test_none_passes_that_answers_one_way_and_then_another(way: str, box: Sandbox) -> None:
    assert (await box.run_tests(*LOTS[way])).outcome in ("tampered", "failed")


@pytest.mark.parametrize("kind", ODD)
async def test_an_honest_program_passes_however_odd(kind: str, box: Sandbox) -> None:
    found = await box.run_tests(*ODD[kind])

    assert (found.outcome, found.reason) == ("passed", None)


async def test_a_program_that_passes_once_alone_has_not_passed(box: Sandbox) -> None:
    found = await box.run_tests(
        "import random\nright = random.random() < 0.5\ndef total(numbers): return sum(numbers) if right else 0",
        TESTS.replace("6", "6 + 0"),
    )

    assert (found.outcome, found.passed < 4) == ("failed", True)


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, object]]:
    """What there is to be had on this machine: a file, a server on loopback and a unix socket, a process, a secret."""
    file = tmp_path_factory.mktemp("host") / "secret"
    file.write_text("secret")
    for folder in (file, *file.parents):
        if os.geteuid() == 0 and folder.is_relative_to(tmp_path_factory.getbasetemp()):
            folder.chmod(0o755)
    victim = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.socket(socket.AF_UNIX) as local,
        pytest.MonkeyPatch.context() as patch,
    ):
        port = server.getsockname()[1]
        local.bind(f"\0duologue-{port}")
        local.listen()
        patch.setenv("DUOLOGUE_SECRET", "secret")
        yield {"file": str(file), "home": str(Path.home()), "port": port, "pid": victim.pid}
        assert victim.poll() is None
    victim.kill()
    victim.wait()


@pytest.mark.parametrize("name", ESCAPES)
async def test_none_gets_out(name: str, box: Sandbox, mark: str, host: dict[str, object]) -> None:
    found = await report(box, ESCAPES[name].format(**host), mark)

    assert (found.outcome, found.reason) == ("failed", "Tests.test_few: AssertionError: -1 != 6")


@pytest.mark.parametrize("name", HARMFUL)
async def test_none_that_harms_or_hangs_passes(name: str, box: Sandbox, mark: str) -> None:
    assert (await report(box, HARMFUL[name], mark)).outcome in ("failed", "timeout")


@pytest.mark.parametrize("name", UNCAUGHT)
async def test_what_cannot_be_caught_passes(name: str, box: Sandbox, mark: str) -> None:
    """Should one of these fail, it can be caught now: say so in the docs."""
    assert (await report(box, UNCAUGHT[name], mark)).outcome == "passed"


def test_there_are_as_many_as_promised() -> None:
    assert len({*GRADER, *LIARS, *ESCAPES, *HARMFUL}) >= 13 + 30
