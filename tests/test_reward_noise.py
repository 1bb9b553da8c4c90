"""The noise benchmark: one set of full look-aheads stands for every window, and its figures are what they say."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from benchmark_script import benchmark
from duologue.conversation import Conversation, Ending, Message
from duologue.errors import ContextOverflow, ModelError
from duologue.models.base import Reply, Sampling, count_bytes
from duologue.seeding import generator
from duologue.simulation import Assistant, Window, look_ahead, reach
from duologue.tasks import Task, load_task
from scripted_world import OPENING, Babbler, Chatterer, Grumbler, babbling, prefix

pytest.importorskip("torch")
noise = benchmark("reward_noise")

SEEDS = st.integers(0, 2**63 - 1)
WINDOWS: tuple[Window, ...] = (0, 1, 2, 3)
TASKS = [load_task(name) for name in ("groceries", "twenty-questions")]
GOALS = {task.name: task.goals("train")[:200] for task in TASKS}


class Fickle:
    """A model that takes up one of a task's scripted habits anew at every reply."""

    def __init__(self, task: Task) -> None:
        self._habits = [task.scripted[name] for name in sorted(task.scripted)]

    async def reply(self, messages: Sequence[Message], *, seed: int, sampling: Sampling) -> Reply:
        habit = generator(seed, "habit").choice(self._habits)
        return await habit.reply(messages, seed=seed, sampling=sampling)

    def count_tokens(self, text: str) -> int:
        return count_bytes(text)


# Cutting a full look-ahead


@settings(deadline=None)
@given(SEEDS, st.sampled_from(TASKS), st.sampled_from(WINDOWS))
def test_a_cut_look_ahead_is_the_one_that_its_window_would_have_given(seed: int, task: Task, window: Window) -> None:
    goal = GOALS[task.name][seed % len(GOALS[task.name])]
    assistant, user = Assistant(Fickle(task)), task.user(goal.request, seed)

    async def both() -> tuple[Conversation, Conversation]:
        state = await reach(assistant, user, depth=seed % 3, seed=seed)
        reply = (await assistant.reply(state, seed=seed)).text
        cut, whole = [
            await look_ahead(
                assistant, user, state, reply, window=w, seed=seed, sample=seed % 7, turn_limit=task.turn_limit
            )
            for w in (window, "full")
        ]
        return cut, whole

    cut, whole = asyncio.run(both())
    assert noise.cut_after(whole, window, user) == cut


@settings(deadline=None)
@given(SEEDS, st.sampled_from(WINDOWS), st.integers(1, 6), st.booleans())
def test_it_is_so_however_the_conversation_ends(seed: int, window: Window, last: int, reacts: bool) -> None:
    user = (Grumbler if reacts else Chatterer)(last=last)
    trouble = (None, ModelError("refused"), ContextOverflow("too long"))[seed % 3]
    model = Babbler(finish="length", error=trouble, fails=lambda drawn: drawn % 3 == 0)

    async def ahead(w: Window) -> Conversation:
        return await look_ahead(babbling(model), user, prefix(seed % 2), "yes", window=w, seed=seed, cut=True)

    whole = asyncio.run(ahead("full"))
    assert noise.cut_after(whole, window, user) == asyncio.run(ahead(window))


def test_the_reaction_is_that_to_the_cut_conversation() -> None:
    user = Grumbler()
    whole = asyncio.run(look_ahead(babbling(), user, OPENING, "yes", window="full", seed=0, turn_limit=6))
    cut = noise.cut_after(whole, 1, user)
    assert whole.reaction is not None
    assert (whole.reaction.annoyance, cut.reaction.annoyance) == (6.0, 2.0)
    assert cut.ending is Ending.WINDOW


def test_a_window_beyond_the_turn_limit_is_refused_rather_than_made_up() -> None:
    whole = asyncio.run(look_ahead(babbling(), Chatterer(), OPENING, "yes", window="full", seed=0, turn_limit=2))
    with pytest.raises(ValueError, match="before turn 2"):
        noise.cut_after(whole, 2, Chatterer())


# What is made of the values


def made_up(states: int, *, spread: float, noise_sd: float, luck: float = 0.0, samples: int = 16) -> list[Any]:
    """States whose candidates differ by `spread`, their look-aheads by `noise_sd`, and by luck they share."""
    draws = np.random.default_rng(0)
    found: list[Any] = []
    for _ in range(states):
        truth = draws.normal(0, spread, 6)
        shared = draws.normal(0, luck, samples)
        values = truth[:, None] + shared + draws.normal(0, noise_sd, (6, samples))
        by_window = {str(window): values for window in noise.WINDOWS}
        found.append(noise.State(by_window, truth, np.full(6, 1e-12)))
    return found


def analysis(states: Sequence[Any]) -> Any:
    return noise.Analysis(states, noise.statistics.draw_clusters(len(states), seed=0, resamples=200))


def test_deviations_within_and_between_replies_are_told_apart() -> None:
    found = analysis(made_up(400, spread=0.2, noise_sd=0.5, luck=0.3))
    within, apart, between = [
        found.deviation(lambda s, of=of: of(s.values["0"])) for of in (noise.within, noise.apart, noise.between)
    ]
    assert within["mean"] == pytest.approx(np.hypot(0.5, 0.3), rel=0.05)
    assert apart["mean"] == pytest.approx(0.5, rel=0.05)
    assert between["mean"] == pytest.approx(0.2, rel=0.1)
    assert between["low"] < 0.2 < between["high"]


@pytest.mark.parametrize("k", [1, 3, 8])
def test_the_correlation_is_the_one_that_signal_and_noise_make(k: int) -> None:
    found = analysis(made_up(400, spread=0.2, noise_sd=0.4)).correlation("0", k)
    assert found["mean"] == pytest.approx(0.2 / np.hypot(0.2, 0.4 / k**0.5), abs=0.03)
    assert found["low"] < found["mean"] < found["high"]


def test_without_noise_every_pair_is_ranked_right_and_without_signal_half() -> None:
    clear, blind = made_up(50, spread=1.0, noise_sd=0.0), made_up(400, spread=1.0, noise_sd=0.0)
    draws = np.random.default_rng(1)
    blind = [replace(s, values={"0": draws.normal(size=(6, 16))}) for s in blind]
    assert analysis(clear).ratio(lambda s: noise.right(s, "0", 1))["mean"] == 1.0
    assert analysis(blind).ratio(lambda s: noise.right(s, "0", 1))["mean"] == pytest.approx(0.5, abs=0.05)


def test_a_tie_is_half_right_and_a_state_that_the_truth_leaves_open_does_not_count() -> None:
    values = {"0": np.ones((2, 16))}
    assert noise.right(noise.State(values, np.array([0.0, 1.0]), np.zeros(2)), "0", 3) == (0.5, 1.0)
    assert noise.right(noise.State(values, np.array([0.0, 0.1]), np.full(2, 0.01)), "0", 3) == (0.0, 0.0)


def test_estimates_share_no_look_ahead() -> None:
    values = np.arange(16.0)[None]
    assert noise.blocks(values, 3)[:, 0].tolist() == [1.0, 4.0, 7.0, 10.0, 13.0]


# The whole of it


def test_a_run_goes_on_from_what_is_recorded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "noise.json"
    size = ["--states", "3", "--candidates", "3", "--samples", "3", "--truth", "4", "--k", "1", "3"]
    arguments = ["--output", str(output), "--tasks", "groceries", *size]
    noise.main(arguments)
    first, journal = output.read_text(), output.with_suffix(".jsonl")
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:1]) + lines[1][:20])
    noise.main(arguments)
    assert sorted(journal.read_bytes().splitlines(keepends=True)) == sorted(lines)
    assert output.read_text() == first
    assert "best > worst" in capsys.readouterr().out
