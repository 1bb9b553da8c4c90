from __future__ import annotations

import asyncio
import os
import signal
import sys
import time

import pytest

from child_processes import children
from duologue.errors import MissingDependency
from duologue.metrics import equality
from duologue.metrics.equality import Equality, check_installed, equal


@pytest.mark.parametrize(
    ("reference", "answer", "same"),
    [
        ("\\frac{1}{2}", "0.5", True),
        ("3\\sqrt{2}", "\\sqrt{18}", True),
        ("x^2-1", "(x-1)(x+1)", True),
        ("1,2", "2, 1", True),
        ("5", "x = 5", True),
        ("[1,3)", "1 \\le x < 3", True),
        ("7", "8", False),
        ("7", "7, 8", False),
        ("(2,3)", "(3,2)", False),
        ("7", "x = 8", False),
    ],
)
async def test_values_are_compared_and_not_their_spelling(reference: str, answer: str, same: bool) -> None:
    assert await equal(reference, answer) == Equality(same)


@pytest.mark.parametrize("answer", ["\\begin{pmatrix}1", "7 \\lor", "{{{", "\ud800", "__import__('os').system('true')"])
async def test_what_is_no_mathematics_is_not_told(answer: str) -> None:
    assert (await equal("7", answer)).same is None


HOSTILE = [
    "10^{10^{10}}",
    "9^{9^{9^{9}}}",
    "100000000!",
    "(x+1)^{100000}",
    "2^{2^{2^{2^{2^{2}}}}}",
    "(" * 490 + "5" + ")" * 490,
]


@pytest.mark.parametrize("answer", HOSTILE, ids=lambda text: text[:20])
async def test_an_expression_that_takes_for_ever_ends_its_process_and_nothing_else(answer: str) -> None:
    begun = time.monotonic()
    assert (await equal("7", answer, seconds=0.5)).same is not True
    assert time.monotonic() - begun < 30
    assert await equal("7", "7") == Equality(True)


async def test_a_process_that_was_killed_is_begun_again() -> None:
    await asyncio.gather(*(equal("7", "7") for _ in range(8)))
    for child in children("maths_process.py"):
        os.kill(child, signal.SIGKILL)
    found = await asyncio.gather(*(equal("7", "7") for _ in range(8)))
    assert Equality(True) in found
    assert await equal("7", "8") == Equality(False)


async def test_it_works_off_the_main_thread() -> None:
    assert await asyncio.to_thread(lambda: asyncio.run(equal("7", "14/2"))) == Equality(True)


async def test_what_is_too_long_is_not_looked_at() -> None:
    assert "more than 1000 characters" in (await equal("7", "7" * 1001)).why


def test_a_missing_library_is_named_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(equality, "find_spec", lambda name: None)  # pyright: ignore[reportUnknownLambdaType]
    with pytest.raises(MissingDependency, match=r"math-verify: pip install 'duologue\[tasks\]'"):
        check_installed()


def test_its_processes_end_with_the_interpreter() -> None:
    import subprocess

    code = (
        "import asyncio, os; from duologue.metrics import equality as e; print(asyncio.run(e.equal('7', '7')).same); "
        "print(e._places()._threads and os.getpid())"
    )
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.startswith("True")
    assert "ResourceWarning" not in done.stderr
