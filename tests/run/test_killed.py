"""A real `duologue evaluate` against a real server, killed at random moments, ends as if nothing had happened."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from hashlib import blake2b
from pathlib import Path
from typing import Any

import orjson
import pytest

from endpoint_server import Asked, Server, ServerThread
from lab_server import answer

RECIPE = """
name = "lab"
task = {{ name = "groceries" }}
endpoints.lab = {{ url = "{url}", in_flight = 8, price = {{ input = 1.0, output = 2.0 }} }}
assistant = {{ endpoint = "lab", model = "helper" }}
user = {{ endpoint = "lab", model = "person" }}
judge = {{ endpoint = "lab", model = "judge" }}
reward.metrics = {{ interactivity = 1.0, satisfaction = 1.0 }}
evaluate = {{ arms = ["base"], conversations = {conversations}, decoding = ["sampled"] }}
"""


async def slowly(asked: Asked) -> Any:
    await asyncio.sleep(0.01 + 0.02 * random.random())
    return await answer(asked)


def begun(recipe: Path, runs: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "duologue", "evaluate", str(recipe), "--runs", str(runs), "--quiet"]
    return subprocess.Popen(command, start_new_session=True, stderr=subprocess.PIPE)


def finished(recipe: Path, runs: Path) -> list[dict[str, Any]]:
    """The journal of a call that was left alone, sorted by key."""
    process = begun(recipe, runs)
    _, errors = process.communicate(timeout=200)
    assert process.returncode == 0, errors.decode()
    lines = (runs / "lab" / "journal.jsonl").read_bytes().splitlines()
    return sorted(map(orjson.loads, lines), key=lambda entry: entry["key"])


def killed(process: subprocess.Popen[bytes], server: Server, more: int) -> None:
    """End a call and all its processes once so many more requests have come."""
    until, target = time.monotonic() + 60, len(server.asked) + more
    while len(server.asked) < target and process.poll() is None:
        assert time.monotonic() < until, "it never asked"
        time.sleep(0.001)
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def check(folder: Path, kills: int, conversations: int) -> None:
    draws = random.Random(kills)
    with ServerThread(slowly) as server:
        recipe = folder / "lab.toml"
        recipe.write_text(RECIPE.format(url=server.url, conversations=conversations))
        whole = finished(recipe, folder / "whole")
        calls = len(server.asked)
        server.asked.clear()
        recorded: set[bytes] = set()
        for _ in range(kills):
            before = len(server.asked)
            killed(begun(recipe, folder / "killed"), server, draws.randint(1, calls // 5))
            assert not recorded & {key(asked) for asked in server.asked[before:]}, "nothing recorded is asked again"
            recorded = keys(folder / "killed" / "lab" / "calls.sqlite")
        assert recorded, "it got somewhere"
        assert finished(recipe, folder / "killed") == whole
        assert len({key(asked) for asked in server.asked}) == calls, "every call of the whole run, and no other"


def key(asked: Asked) -> bytes:
    """What the reply to a request is remembered under."""
    return blake2b(b"lab\0" + orjson.dumps(asked.body), digest_size=16).digest()


def keys(path: Path) -> set[bytes]:
    """What is remembered."""
    if not path.exists():
        return set()
    with closing(sqlite3.connect(path)) as database:
        return {row[0] for row in database.execute("SELECT key FROM replies")}


@pytest.mark.timeout(200)
def test_killed_five_times_it_ends_with_the_same_journal(tmp_path: Path) -> None:
    check(tmp_path, 5, 30)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_killed_fifty_times_it_ends_with_the_same_journal(tmp_path: Path) -> None:
    check(tmp_path, 50, 200)
