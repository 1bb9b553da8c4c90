"""`recipes/paper`: the paper's settings, stage by stage, and what they take, as docs/cost.md says it."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from duologue.cli import main
from duologue.journal import Journal
from duologue.recipe import Recipe, load_recipe
from duologue.run.check import check, warnings
from duologue.training.settings import LoraSettings
from endpoint_server import ServerThread
from lab_server import answer

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "recipes" / "paper"
TURNS = {"document": 2303, "code": 2627, "maths": 2527}
"""Turns of the paper's data sets."""
PENALTY = {"document": 1e-4, "code": 5e-4, "maths": 5e-4}
RATES = {"sft": 1e-5, "dpo": 5e-6, "online-dpo": 5e-6, "ppo": 2e-6}


def recipe(name: str) -> Recipe:
    return load_recipe(FOLDER / f"{name}.toml")


@pytest.mark.parametrize("name", TURNS)
def test_it_has_the_papers_settings(name: str) -> None:
    whole, turns = recipe(name), TURNS[name]
    arms = {arm: whole.arm(arm).stages for arm in ("sft", "ppo", "dpo", "trained")}
    stages = {stage.algorithm: stage for stages in arms.values() for stage in stages}

    assert {arm: [stage.algorithm for stage in stages] for arm, stages in arms.items()} == {
        "sft": ["sft"],
        "ppo": ["sft", "ppo"],
        "dpo": ["dpo"],
        "trained": ["dpo", "online-dpo"],
    }
    assert {algorithm: stage.learning_rate for algorithm, stage in stages.items()} == RATES
    assert all(stage.lora == LoraSettings(r=32, alpha=16, dropout=0.1) for stage in stages.values())
    sft, dpo, ppo, online = (stages[algorithm] for algorithm in ("sft", "dpo", "ppo", "online-dpo"))
    assert (sft.epochs, sft.batch, sft.states) == (3, 64, turns)
    assert (dpo.epochs, dpo.batch, dpo.states) == (8, 64, turns)
    assert (ppo.groups * ppo.candidates, ppo.steps) == (64, round(5 * turns / 64))
    assert (online.groups, online.steps) == (32, round(turns / 32))


@pytest.mark.parametrize("name", TURNS)
def test_it_looks_ahead_as_the_paper_does(name: str) -> None:
    whole = recipe(name)
    (task,) = whole.tasks()
    metrics = whole.reward.of(task)

    assert (whole.reward.window, whole.reward.samples) == (2, 3)
    assert {metric: weighted.weight for metric, weighted in metrics.items() if metric != "tokens"} == dict.fromkeys(
        metrics.keys() - {"tokens"}, 1.0
    )
    assert metrics["tokens"].options["rate"] == PENALTY[name]
    assert "interactivity" in metrics


@pytest.mark.parametrize("name", TURNS)
def test_it_could_be_started_and_its_judges_and_users_are_held_out(name: str) -> None:
    whole = recipe(name)

    check(whole, whole.evaluate.arms)

    assert warnings(whole) == []


@pytest.mark.parametrize("name", TURNS)
def test_the_docs_have_its_cost(name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(ROOT)
    page = (ROOT / "docs" / "cost.md").read_text()
    found = re.search(
        rf"^\$ (duologue cost recipes/paper/{name}\.toml(?:.*\\\n)*.*)\n((?:.+\n)+)```$", page, re.MULTILINE
    )
    assert found
    command = shlex.split(found[1].replace("\\\n", " "))[1:]

    with pytest.raises(SystemExit) as done:
        main(command)

    assert not done.value.code
    assert capsys.readouterr().out == found[2]


@pytest.mark.slow
def test_it_trains_all_of_the_papers_arms(tmp_path: Path) -> None:
    small = {
        **dict.fromkeys(("user.model", "evaluate.users.unseen.model"), "person"),
        **dict.fromkeys(("judge.model", "evaluate.judge.model"), "judge"),
        "assistant.max_tokens": "24", "reward.samples": "2", "reward.window": "1",
        "train.0.states": "12", "train.0.epochs": "1", "train.0.batch": "2", "train.0.candidates": "4",
        "train.0.min_gap": "0", "train.1.steps": "1", "train.1.groups": "8", "train.1.min_gap": "0",
        "arms.sft.train.0.states": "12", "arms.sft.train.0.batch": "2", "arms.sft.train.0.micro_batch": "2",
        "arms.ppo.train.0.states": "12", "arms.ppo.train.0.batch": "2", "arms.ppo.train.0.micro_batch": "2",
        "arms.ppo.train.1.steps": "1", "arms.ppo.train.1.groups": "4",
        "evaluate.conversations": "2", "run.processes": "1",
    }  # fmt: skip
    with ServerThread(answer) as server:
        urls = {f"endpoints.{name}.url": server.url for name in ("user", "judge", "examiner")}
        changes = {**small, **urls, "assistant.model": "tiny"}
        sets = [part for key, value in changes.items() for part in ("--set", f"{key}={value}")]
        with pytest.raises(SystemExit) as done:
            main(["train", str(FOLDER / "document.toml"), "--runs", str(tmp_path), *sets, "--quiet"])

    assert not done.value.code
    run = tmp_path / "paper-document"
    stages = {(entry.value["arm"], entry.value["algorithm"]) for entry in Journal(run / "journal.jsonl").read("step")}
    assert stages >= {("sft", "sft"), ("ppo", "sft"), ("ppo", "ppo"), ("dpo", "dpo"), ("trained", "online-dpo")}
    figures = json.loads((run / "evaluation.json").read_text())["arms"]
    assert {"base", "proactive", "sft", "ppo", "dpo", "trained"} == set(figures)
