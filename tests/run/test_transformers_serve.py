"""`transformers serve`, a server that is not ours, with the built-in model: measured through it as in this process."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Generator
from pathlib import Path

import pytest

from duologue.models import BUILT_IN
from duologue.recipe import Recipe, parse
from duologue.run import evaluate
from duologue.run.doctor import examine

MODEL = str(BUILT_IN["tiny"])
FIGURES = ("success", "turns", "asks_when_missing", "reward")


def unwatched(job: str, done: int, total: int, what: str) -> None:
    pass


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Generator[str]:
    """The address of a server with the built-in model."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("serve") / "log"
    command = [str(Path(sys.executable).with_name("transformers")), "serve", MODEL, "--port", str(port)]
    with log.open("wb") as out, subprocess.Popen([*command, "--device", "cpu"], stdout=out, stderr=out) as process:
        try:
            answering(port, process, log)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            process.terminate()


def answering(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + 120
    while time.monotonic() < until:
        assert process.poll() is None, log.read_text()
        with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
            return
        time.sleep(0.2)
    raise AssertionError(log.read_text())


def recipe(server: str) -> Recipe:
    """The built-in model behind the server as `base`, and in this process as `here`."""
    table = {
        "name": "served",
        "task": {"name": "groceries"},
        "endpoints": {"served": {"url": server, "in_flight": 4, "timeout": 120.0}},
        "assistant": {"endpoint": "served", "model": MODEL},
        "reward": {"tokenizer": "tiny"},
        "arms": {"here": {"train": [], "assistant": {"endpoint": "", "model": "tiny"}}},
        "evaluate": {"arms": ["base", "here"], "conversations": 300, "decoding": ["sampled", "greedy"]},
    }
    return parse(table, "served.toml")


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_the_figures_are_those_of_the_same_model_in_this_process(server: str, tmp_path: Path) -> None:
    found = evaluate(recipe(server), tmp_path / "served", watch=unwatched)
    assert not any(cell["reasons"] for cell in found["lost"])
    rows = [row for part in (found, found["greedy"]) for row in part["differences"] if row["metric"] in FIGURES]
    assert {(row["arm"], row["against"]) for row in rows} == {("here", "base")}
    assert len(rows) == 2 * len(FIGURES)
    for row in rows:  # the server draws by a generator of its own; eight comparisons share one error of 5 %
        assert row["mean"] == 0 or row["p"] > 0.05 / len(rows), row


@pytest.mark.slow
def test_the_doctor_knows_what_it_can_do(server: str) -> None:
    findings = {finding.question: finding for finding in examine(recipe(server))}
    assert findings["answers"].works is True
    assert findings["counts tokens"].works is True
