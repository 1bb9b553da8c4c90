"""The small scripts of `benchmarks/` measure what they say."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from benchmark_script import benchmark
from duologue.errors import RecipeError
from duologue.recipe import load_recipe, parse
from duologue.run.workers import Job
from duologue.tasks import load_task

MB = 2**20
HOLD = "import time; held = b'x' * ({size} * 2**20); time.sleep(1.5)"
START = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {HOLD.format(size=60)!r}])"


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_memory_is_that_of_all_that_a_command_starts() -> None:
    measured = benchmark("memory").measure([sys.executable, "-c", START], every=0.1)

    assert measured.status == 0 and measured.seconds > 1.5
    child, command = measured.processes
    assert 60 * MB < child.bytes < measured.peak < 60 * MB + 60 * MB
    assert command.bytes < 60 * MB


RATES = {"0.0001": 1e-4, "0.001": 1e-3}
RATED: dict[str, Any] = {
    "name": "rated",
    "task": {"name": "groceries"},
    "reward": {"samples": 1, "window": 1},
    "train": [{"algorithm": "sft", "states": 4}, {"algorithm": "grpo", "groups": 2, "candidates": 3, "steps": 2}],
    "arms": {"alone": {"reward": {"window": 0}, "train": [{"algorithm": "grpo", "groups": 2, "steps": 1}]}},
}


def test_an_arm_with_a_rate_differs_from_the_arm_in_its_last_stages_rate_alone() -> None:
    rates, whole = benchmark("rates"), parse(RATED, "rated")
    rated = rates.with_rates(whole, ["trajectory", "alone"], list(RATES.values()), 9)

    assert rated.evaluate.arms == ("base", *(f"{arm}-{name}" for arm in ("trajectory", "alone") for name in RATES))
    for arm, (name, rate) in product(("trajectory", "alone"), RATES.items()):
        own, found = whole.arm(arm), rated.arm(f"{arm}-{name}")
        *before, last = own.stages
        assert found.stages == (*before, last.model_copy(update={"learning_rate": rate}))
        assert (found.reward, found.seed) == (own.reward, 9)


@pytest.mark.parametrize(
    ("arm", "seed", "sentence"), [("trained", 0, "own seed, 0"), ("base", 9, 'base" trains nothing')]
)
def test_rates_that_would_tell_nothing_are_not_compared(arm: str, seed: int, sentence: str) -> None:
    with pytest.raises(RecipeError, match=sentence):
        benchmark("rates").with_rates(parse(RATED, "rated"), [arm], [1e-3], seed)


def test_rates_are_chosen_on_training_goals_and_what_was_done_is_not_done_again(
    small_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates = benchmark("rates")
    monkeypatch.setattr(rates, "run_jobs", in_this_process)
    path, output = tmp_path / "rated.toml", tmp_path / "rates.json"
    path.write_text(tomli_w.dumps({**RATED, "assistant": {"model": str(small_model)}}))
    command = f"{path} --arms alone --rates 1e-4 1e-3 --conversations 3 --runs {tmp_path} --output {output}"

    rates.main(command.split())
    journal, first = (tmp_path / "rated-rates" / "journal.jsonl").read_bytes(), json.loads(output.read_text())
    rates.main(command.split())

    goals = {line["value"]["goal"] for line in map(json.loads, journal.splitlines()) if line["kind"] == "conversation"}
    assert goals <= {goal.id for goal in load_task("groceries").goals("train")}
    assert (tmp_path / "rated-rates" / "journal.jsonl").read_bytes() == journal
    assert json.loads(output.read_text()) == first
    best = max(first["arms"]["alone"]["rates"], key=lambda row: row["reward"])
    assert first["arms"]["alone"]["chosen"] == best["rate"]
    assert best["training"][0]["updates"] == 1


def in_this_process(jobs: Sequence[Job], perform: Callable[..., None], *, watch: Callable[..., None], **_: Any) -> None:
    """Do jobs at once, in their order."""
    for job in jobs:
        perform(job, lambda *progress, name=job.name: watch(name, *progress))


def test_the_base_is_judged_by_figures_that_its_tasks_have() -> None:
    tiny = benchmark("tiny")
    recipe = load_recipe(tiny.RECIPE)

    tasks = {task.name: task for task in recipe.tasks()}
    assert [figure for figure in tiny.FIGURES if figure.name not in tasks[figure.task].figures] == []
    assert {figure.task for figure in tiny.FIGURES} == set(tasks)


def test_a_built_data_set_is_measured_against_free_conversations() -> None:
    dataset = benchmark("dataset")

    found = dataset.measure(dataset.fickle(24), 24, [12, 24])

    assert [size["conversations"] for size in found["grown"]] == [12, 24]
    assert [size["goals on both sides"] for size in found["grown"]] == [0, 0]
    assert found["difference"]["low"] <= found["built"] - found["free"] <= found["difference"]["high"]


def test_what_a_rollout_must_read_is_what_nothing_drew() -> None:
    training = benchmark("training")

    first, second = ((1, 2, 3), [4, 5]), ((1, 2, 3, 4, 5, 6), [7])

    assert training.undrawn([first, second]) == 3, "1 and 2; 3 and 4 went through the model as it drew; and 5"


def test_a_step_is_generation_the_trainer_and_our_own_part() -> None:
    training = benchmark("training")

    found = training.measure("grpo", "tiny", groups=2, candidates=2, steps=1)

    assert 0 < found.generation < found.rollouts < found.seconds
    assert 0 < found.distinct <= found.read


def test_simulation_is_measured_against_generate_on_the_same_prompts() -> None:
    gpu = benchmark("gpu")
    model = gpu.LocalModel.load("tiny")
    given = argparse.Namespace(conversations=3, turns=2, tokens=4, repeats=1)

    turns = gpu.turns_of(model, gpu.asyncio.run(gpu.play(model, given, seed=0)), given.tokens)

    assert [len(turn.prompts) for turn in turns] == [3, 3]
    assert all(len(late) > len(early) for early, late in zip(turns[0].prompts, turns[1].prompts, strict=True))
    assert gpu.bare(model, turns) == 3 * 2 * 4
