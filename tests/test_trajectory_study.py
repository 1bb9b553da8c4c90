"""The study of MR against whole conversations: equal sampled tokens, and nothing trained twice."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmark_script import benchmark

control = benchmark("trajectory")
RECIPE = {
    "name": "control",
    "task": [{"name": "groceries"}],
    "reward": {"samples": 1, "window": "full"},
    "train": [{"algorithm": "grpo", "groups": 3, "candidates": 4, "steps": 2}],
}


def work(folder: Path) -> Any:
    return control.Work(RECIPE, "start", folder, 4, 4, ("sampled",), 0.05)


# ---- equal tokens


def trained(groups: int, tokens: int) -> dict[str, Any]:
    return {"name": f"g{groups}", "groups": groups, "tokens": tokens}


def test_groups_are_chosen_until_the_sampled_tokens_agree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "train", lambda work, training: trained(training.groups, training.groups * 80))
    found = control.matched(work(tmp_path), control.Training("trajectory", 7e-4, 2, 10, 0), 1600)
    assert (found["groups"], found["tokens"], found["agrees"]) == (20, 1600, True)
    assert [attempt["groups"] for attempt in found["attempts"]] == [10, 20]


def test_tokens_that_cannot_be_made_to_agree_are_owned_up_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "train", lambda work, training: trained(training.groups, training.groups * 1000))
    found = control.matched(work(tmp_path), control.Training("trajectory", 7e-4, 2, 1, 0), 1400)
    assert (found["groups"], found["agrees"]) == (1, False)


def test_a_training_is_named_by_everything_it_depends_on(tmp_path: Path) -> None:
    given, training = work(tmp_path), control.Training("mr", 7e-4, 2, 3, 0)
    names = {each.name(given) for each in (training, replace(training, rate=1e-3), replace(training, seed=1))} | {
        training.name(replace(given, start="other weights"))
    }
    assert len(names) == 4
    other_evaluation = replace(given, recipe={**RECIPE, "name": "x", "evaluate": {"conversations": 7}})
    assert training.name(other_evaluation) == training.name(given)


# ---- the whole of it


def test_a_study_runs_and_a_second_one_trains_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        'name = "small"\n[task]\nname = "groceries"\n[reward]\nsamples = 1\nwindow = "full"\n'
        '[[train]]\nalgorithm = "grpo"\ngroups = 3\ncandidates = 3\nsteps = 2\n'
        '[evaluate]\nconversations = 6\ndecoding = ["sampled"]\n'
    )
    output = tmp_path / "study.json"
    arguments = [str(recipe), "--output", str(output), "--processes", "1", "--quick", "--rates", "7e-4"]
    monkeypatch.setattr(control, "QUICK", ())
    control.main(arguments)
    first = json.loads(output.read_text())
    (run,) = first["runs"]
    assert run["mr"]["updates"] == run["trajectory"]["updates"] == 2
    assert run["trajectory"]["replies"] >= run["trajectory"]["conversations"] == 2 * 3 * run["trajectory"]["groups"]
    assert {row["against"] for row in first["evaluation"]["0"]["differences"]} == {"trajectory", "base"}

    monkeypatch.setattr(control, "_train", lambda *given: pytest.fail("trained again"))
    control.main(arguments)
    assert json.loads(output.read_text()) == first
