"""Where the figures of training go: the journal and every tracker have the same, whatever the algorithm."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from duologue.background import BackgroundLoop
from duologue.conversation import Message
from duologue.errors import MissingDependency, RecipeError
from duologue.models.base import Sampling
from duologue.models.calls import Calls
from duologue.recipe import parse
from duologue.run.check import check
from duologue.run.endpoints import Endpoints, spending
from duologue.run.jobs import run_stage
from duologue.training.settings import (
    DpoSettings,
    GrpoSettings,
    OnlineDpoSettings,
    PpoSettings,
    RlooSettings,
    SftSettings,
    TrainSettings,
)
from duologue.training.tracking import tracked
from endpoint_server import ServerThread, completion
from training_stage import a_stage, steps

SMALL = {"candidates": 3, "deepest": 0, "warmup": 0, "save_steps": None}
ONLINE = {**SMALL, "steps": 2, "groups": 4}
ALGORITHMS: dict[str, TrainSettings] = {
    "grpo": GrpoSettings(algorithm="grpo", **ONLINE),
    "rloo": RlooSettings(algorithm="rloo", **ONLINE),
    "ppo": PpoSettings(algorithm="ppo", **ONLINE),
    "online-dpo": OnlineDpoSettings(algorithm="online-dpo", min_gap=0, noise=0, **ONLINE),
    "dpo": DpoSettings(algorithm="dpo", min_gap=0, noise=0, states=12, epochs=1, batch=2, **SMALL),
    "sft": SftSettings(algorithm="sft", states=12, batch=2, **SMALL),
}
REWARDED = ("grpo", "rloo", "ppo", "online-dpo")
"""Those that look ahead in every step."""


def sent(folder: Path) -> dict[str, dict[int, float]]:
    """By figure and step, as TensorBoard reads them."""
    events = EventAccumulator(str(folder))
    events.Reload()
    return {name: {each.step: each.value for each in events.Scalars(name)} for name in events.Tags()["scalars"]}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_tensorboard_has_every_figure_of_the_journal(
    algorithm: str, base: Path, tmp_path: Path, loop: BackgroundLoop
) -> None:
    stage = a_stage(tmp_path, base, loop, name=f"0-{algorithm}", samples=2)
    named: dict[str, Any] = {"project": "tests", "run": stage.key, "settings": {"seed": 0}}

    with tracked(["tensorboard"], tmp_path, **named, model=stage.policy.model) as tracking:
        run_stage(ALGORITHMS[algorithm], replace(stage, tracking=tracking))

    found, journalled = sent(tmp_path / "tensorboard"), steps(stage)
    assert journalled
    for name in (name for name in journalled[-1] if name not in ("arm", "stage", "algorithm", "step", "steps")):
        expected = {step["step"]: step[name] for step in journalled if step[name] is not None}
        assert found.get(f"train/{name}", {}) == pytest.approx(expected, rel=1e-5, abs=1e-7)
    if algorithm in REWARDED:
        parts = {f"train/parts/{metric}" for metric in stage.tasks[0].metrics}
        wanted = {"train/reward", "train/asks", "train/counted", "train/unscored_share", "train/sampled_tokens"}
        assert {*parts, *wanted} <= set(found)


def test_without_trackers_nothing_is_sent(base: Path, tmp_path: Path, loop: BackgroundLoop) -> None:
    stage = a_stage(tmp_path, base, loop)

    with tracked((), tmp_path, project="tests", run="a", settings={}, model=stage.policy.model) as tracking:
        run_stage(ALGORITHMS["grpo"], replace(stage, tracking=tracking))

    assert tracking is None
    assert {path.name for path in tmp_path.iterdir()} == {"journal.jsonl"}


def test_a_step_has_the_tokens_and_the_money_that_endpoints_took_for_it(tmp_path: Path) -> None:
    recipe = parse(
        {
            "name": "lab",
            "endpoints": {"lab": {"url": "http://127.0.0.1:9/v1", "price": {"input": 1.0, "output": 4.0}}},
            "user": {"endpoint": "lab", "model": "person"},
        },
        "lab",
    )

    async def twice(url: str) -> list[dict[str, float | None]]:
        calls = Calls(None)
        at = recipe.endpoints["lab"].model_copy(update={"url": url})
        endpoints = Endpoints(calls)
        model = endpoints.model(recipe.model_copy(update={"endpoints": {"lab": at}}), recipe.user, "user")
        since = spending(endpoints)
        for seed in (0, 1):
            await model.reply([Message("user", "hello")], seed=seed, sampling=Sampling())
        told = [since(), since()]
        await endpoints.close()
        calls.close()
        return told

    with ServerThread(lambda asked: completion("hi", prompt=100, completion=50)) as server:
        first, second = asyncio.run(twice(server.url))

    assert first == pytest.approx({"user_tokens": 300, "cost": 2 * (100 * 1.0 + 50 * 4.0) / 1e6})
    assert second == {"user_tokens": 0, "cost": 0}


def recipe_with(*names: str) -> dict[str, Any]:
    return {
        "name": "a",
        "task": {"name": "groceries"},
        "train": [{"algorithm": "grpo"}],
        "run": {"report_to": list(names)},
    }


def test_a_tracker_that_is_not_installed_is_said_before_anything_starts() -> None:
    with pytest.raises(MissingDependency, match=r'run.report_to: "swanlab" takes a library: pip install swanlab'):
        check(parse(recipe_with("tensorboard", "swanlab"), "a"), ["base", "trained"])


def test_an_arm_that_is_not_trained_needs_no_tracker() -> None:
    check(parse(recipe_with("swanlab"), "a"), ["base"])


def test_a_tracker_that_nobody_knows_names_the_nearest() -> None:
    with pytest.raises(RecipeError, match=r'run.report_to.*transformers reports to no "tensorbord".*"tensorboard"'):
        parse(recipe_with("tensorbord"), "a")
