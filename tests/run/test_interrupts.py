"""A real `duologue train`, interrupted and killed, goes on to the journal of a run that was not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest

from child_processes import children, is_running

RECIPE = """
name = "small"
[task]
name = "groceries"
[assistant]
model = "{model}"
[reward]
samples = 1
window = 1
[[train]]
algorithm = "grpo"
groups = 4
candidates = 3
steps = 8
save_steps = 2
[evaluate]
arms = ["base", "trained"]
conversations = 12
decoding = ["sampled"]
[run]
processes = 1
"""
TIMES = ("seconds", "rollout_seconds")


def hear_interrupts() -> None:
    """What was begun in the background had SIGINT ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@dataclass
class Call:
    """One `duologue train` in a session of its own, as a terminal would have it."""

    recipe: Path
    runs: Path
    options: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        command = [sys.executable, "-m", "duologue", "train", str(self.recipe), "--runs", str(self.runs)]
        self.process = subprocess.Popen(
            [*command, *self.options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=hear_interrupts,
        )

    def once(self, happened: Callable[[], bool]) -> Call:
        """Wait for something that the call brings about."""
        until = time.monotonic() + 120
        while not happened():
            assert self.process.poll() is None, self.process.communicate()[1]
            assert time.monotonic() < until, "it never happened"
            time.sleep(0.01)
        return self

    def workers(self) -> list[int]:
        """The processes it started that work on jobs."""
        return children("spawn_main", of=self.process.pid)

    def end(self) -> tuple[int, str, str]:
        out, err = self.process.communicate(timeout=120)
        return self.process.returncode, out, err


def entries(runs: Path) -> list[dict[str, Any]]:
    """The whole lines of a run's journal."""
    journal = runs / "small" / "journal.jsonl"
    if not journal.exists():
        return []
    return [orjson.loads(line) for line in journal.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]


def timeless(runs: Path) -> list[dict[str, Any]]:
    """A journal, sorted by key, times left out."""
    kept = [
        {**entry, "value": {name: value for name, value in entry["value"].items() if name not in TIMES}}
        for entry in entries(runs)
    ]
    return sorted(kept, key=lambda entry: entry["key"])


def recorded(runs: Path, kind: str) -> int:
    return sum(entry["kind"] == kind for entry in entries(runs))


@dataclass(frozen=True)
class Story:
    """What the calls of the fixture said."""

    whole: Path
    broken: Path
    printed: tuple[int, str, str]
    interrupted: tuple[int, str, str]
    second: tuple[int, str, str]
    orphans: list[int]
    last: tuple[int, str, str]


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory, small_model: Path) -> Story:
    folder = tmp_path_factory.mktemp("interrupts")
    whole, broken = folder / "whole", folder / "broken"
    recipe = folder / "small.toml"
    recipe.write_text(RECIPE.format(model=small_model))

    printed = Call(recipe, whole, ("--json",)).end()
    call = Call(recipe, broken).once(lambda: recorded(broken, "step") >= 1)
    os.killpg(call.process.pid, signal.SIGINT)
    interrupted = call.end()
    call = Call(recipe, broken).once(lambda: recorded(broken, "step") >= 4)
    second = Call(recipe, broken).end()
    workers = call.workers()
    call.process.kill()
    call.end()
    until = time.monotonic() + 20
    while any(map(is_running, workers)) and time.monotonic() < until:
        time.sleep(0.05)
    orphans = [pid for pid in workers if is_running(pid)]
    last = Call(recipe, broken, ("--quiet",)).end()
    return Story(whole, broken, printed, interrupted, second, orphans, last)


def test_json_is_all_that_stands_on_stdout(story: Story) -> None:
    code, out, _ = story.printed
    assert code == 0
    assert json.loads(out) == json.loads((story.whole / "small" / "evaluation.json").read_text())


def test_an_interrupt_is_one_sentence(story: Story) -> None:
    code, out, err = story.interrupted
    assert code == 130
    assert out == ""
    assert err == "duologue: interrupted; what is done is kept, and the same command goes on\n"


def test_a_second_process_on_the_same_run_is_refused(story: Story) -> None:
    code, out, err = story.second
    assert code == 1
    assert out == ""
    assert err.startswith(f"duologue: another process is working in {story.broken / 'small'} (process ")
    assert len(err.splitlines()) == 1


def test_a_killed_command_takes_its_workers_along(story: Story) -> None:
    assert story.orphans == []


def test_the_last_call_finishes_and_quiet_says_nothing(story: Story) -> None:
    assert story.last == (0, "", "")


def test_the_journal_is_that_of_a_run_that_was_not_interrupted(story: Story) -> None:
    assert recorded(story.whole, "step") == 8 and recorded(story.whole, "conversation") == 24
    assert timeless(story.broken) == timeless(story.whole)


def test_the_models_are_those_of_a_run_that_was_not_interrupted(story: Story) -> None:
    broken, whole = (run / "small" / "models/trained/model.safetensors" for run in (story.broken, story.whole))
    assert broken.read_bytes() == whole.read_bytes()


def test_so_are_the_figures_but_for_the_seconds_of_the_training(story: Story) -> None:
    broken, whole = figures(story.broken), figures(story.whole)
    assert {stage.pop("seconds") > 0 for run in (broken, whole) for stage in run["training"]["trained"]} == {True}
    assert broken == whole


def figures(run: Path) -> dict[str, Any]:
    return json.loads((run / "small" / "evaluation.json").read_text())
