"""Online DPO: which pairs are trained on and which are skipped, and that a killed training goes on as if it had not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from duologue.background import BackgroundLoop
from duologue.conversation import Conversation, Goal, Message
from duologue.dataset import Group, pairs, row_of
from duologue.errors import DataError, RecipeError
from duologue.metrics import Metric, Score, Weighted
from duologue.models.local import LocalModel
from duologue.training.lora import open_policy
from duologue.training.online_dpo import online_dpo_trainer, train_online_dpo
from duologue.training.pool import Pool
from duologue.training.settings import LoraSettings, OnlineDpoSettings
from duologue.training.stage import Stage
from training_stage import END, GROCERIES, Killed, a_stage, kill_at, steps, timeless, weights

NAME = "0-online-dpo"
SMALL = OnlineDpoSettings(
    algorithm="online-dpo",
    learning_rate=1e-3,
    groups=6,
    candidates=4,
    steps=2,
    refresh=2,
    deepest=1,
    min_gap=0,
    noise=0,
    pairs_per_state=1,
    save_steps=None,
    warmup=0,
)


def settings(**changes: Any) -> OnlineDpoSettings:
    return SMALL.model_copy(update=changes)


def the_stage(folder: Path, base: Path | LocalModel, loop: BackgroundLoop, **named: Any) -> Stage:
    return a_stage(folder, base, loop, name=NAME, **{"samples": 2, **named})


@pytest.fixture
def stage(base: Path, tmp_path: Path, loop: BackgroundLoop) -> Stage:
    return the_stage(tmp_path, base, loop)


def first_groups(stage: Stage) -> list[Group]:
    """What the policy, as it is, explores in the first step."""
    return Pool(SMALL, stage, "online-dpo").explored(range(SMALL.groups))


def log_probability(model: Any, prompt: Sequence[int], ids: Sequence[int]) -> float:
    with torch.no_grad():
        logits = model(torch.tensor([[*prompt, *ids]])).logits[0, len(prompt) - 1 : -1]
    return logits.log_softmax(-1).gather(1, torch.tensor(ids)[:, None]).sum().item()


# ---- the pairs


def test_the_pairs_are_those_that_stand_out_of_the_steps_states(stage: Stage) -> None:
    groups = first_groups(stage)
    expected, _ = pairs([row_of(group) for group in groups], min_gap=0, noise=0)

    rows = online_dpo_trainer(SMALL, stage).drawing.rows(0)

    assert [(tuple(r["chosen_ids"]), tuple(r["rejected_ids"])) for r in rows] == [
        (pair.chosen_ids, pair.rejected_ids) for pair in expected
    ]
    assert [tuple(row["prompt_ids"]) for row in rows] == [stage.policy.encode(pair.prefix) for pair in expected]
    assert rows


def test_both_replies_of_a_pair_are_as_they_were_sampled(stage: Stage) -> None:
    sampled = {(reply.prompt_ids, reply.ids): reply for group in first_groups(stage) for reply in group.replies}

    for row in online_dpo_trainer(SMALL, stage).drawing.rows(0):
        for side in ("chosen_ids", "rejected_ids"):
            reply = sampled[tuple(row["prompt_ids"]), tuple(row[side])]
            logp = log_probability(stage.policy.model, row["prompt_ids"], row[side])
            assert logp == pytest.approx(sum(reply.logprobs or ()), abs=1e-3)


def test_pairs_within_the_noise_are_skipped_and_counted(base: Path, tmp_path: Path, loop: BackgroundLoop) -> None:
    counted: list[dict[str, Any]] = []
    for noise in (0.0, 1.0):
        stage = the_stage(tmp_path / str(noise), base, loop)
        train_online_dpo(settings(noise=noise, steps=1), stage)
        counted += steps(stage)

    all_of_them, beyond = counted
    assert 0 < beyond["pairs"] < all_of_them["pairs"]
    assert beyond["pairs"] + beyond["within_noise"] == all_of_them["pairs"] + all_of_them["within_noise"]


def test_a_step_without_pairs_leaves_the_weights_as_they_are(stage: Stage) -> None:
    before = weights(stage).clone()
    trainer = online_dpo_trainer(settings(min_gap=50.0), stage)

    trainer.train()

    assert torch.equal(weights(stage), before)
    assert [(step["pairs"], step["updates"]) for step in steps(stage)] == [(0, 0), (0, 0)]


def test_a_training_without_any_pair_ends_with_a_sentence(stage: Stage) -> None:
    with pytest.raises(DataError, match=r"at none of 1 steps a pair's gap exceeded min_gap = 50"):
        train_online_dpo(settings(min_gap=50.0, steps=1), stage)


def sometimes() -> Metric:
    """The length of the last reply, where that does not divide by 3."""

    async def score(conversation: Conversation, goal: Goal) -> Score:
        length = len(conversation.replies[-1])
        return Score(float(length)) if length % 3 else Score(None, "divides by 3")

    return score


def test_a_reply_without_a_reward_is_in_no_pair_and_is_counted(
    base: Path, tmp_path: Path, loop: BackgroundLoop
) -> None:
    task = replace(GROCERIES, metrics={"sometimes": Weighted(sometimes)})
    stage = the_stage(tmp_path, base, loop, task=task, window=0)
    unscored = [
        reply.ids
        for group in first_groups(stage)
        for reply, reward in zip(group.replies, group.rewards, strict=True)
        if reward.value is None
    ]
    drawing = online_dpo_trainer(SMALL, stage).drawing

    rows = drawing.rows(0)

    assert rows and not {tuple(row[side]) for row in rows for side in ("chosen_ids", "rejected_ids")} & set(unscored)
    assert 0 < len(unscored) == drawing.figures({})["unscored"]


def test_greedy_candidates_are_refused(stage: Stage) -> None:
    assistant, reward = stage.partners(GROCERIES)
    greedy = replace(assistant, sampling=replace(assistant.sampling, temperature=0.0))

    with pytest.raises(RecipeError, match="temperature"):
        online_dpo_trainer(SMALL, replace(stage, partners=lambda _: (greedy, reward)))


# ---- the update


def test_the_reference_is_the_stages_start(stage: Stage, base: Path) -> None:
    trainer: Any = online_dpo_trainer(SMALL, stage)
    trainer.train()

    start = LocalModel.load(base, device="cpu").model
    ids = torch.tensor([stage.policy.encode([Message("user", "some bread .")])])
    torch.testing.assert_close(trainer.ref_model(ids).logits, start(ids).logits, atol=1e-5, rtol=0)


@pytest.mark.parametrize("lora", [None, LoraSettings(r=4)], ids=["full", "lora"])
def test_the_margin_is_zero_before_the_first_update_alone(
    lora: LoraSettings | None, base: Path, tmp_path: Path, loop: BackgroundLoop
) -> None:
    stage = the_stage(tmp_path, open_policy(base, lora), loop)
    train_online_dpo(settings(learning_rate=1e-2 if lora else 1e-3, lora=lora), stage)

    first, second = steps(stage)
    assert first["margin"] == pytest.approx(0, abs=1e-5)
    assert abs(second["margin"]) > 1e-3


def test_parts_of_a_step_make_the_same_update(base: Path, tmp_path: Path, loop: BackgroundLoop) -> None:
    found: list[torch.Tensor] = []
    for micro in (None, 2):
        stage = the_stage(tmp_path / str(micro), base, loop)
        train_online_dpo(settings(micro_pairs=micro, steps=1, likelihood=0, learning_rate=1e-4), stage)
        found.append(weights(stage))

    torch.testing.assert_close(found[1], found[0], atol=1e-5, rtol=0)


# ---- going on, and learning

LONG = settings(steps=5, save_steps=2, groups=4, warmup=1)


@pytest.fixture(scope="module")
def uninterrupted(base: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[torch.Tensor, list[Any]]:
    with BackgroundLoop() as loop:
        stage = the_stage(tmp_path_factory.mktemp("whole"), base, loop)
        train_online_dpo(LONG, stage)
        return weights(stage), rounded(stage)


def rounded(stage: Stage) -> list[Any]:
    """The journal without times; what is computed from weights, to four places."""
    return [
        (key, {name: round(v, 4) if isinstance(v, float) else v for name, v in value.items()})
        for key, value in timeless(stage)
        if not key.startswith("tree/")
    ]


@pytest.mark.parametrize("step", [1, 3, 4])
def test_a_killed_training_goes_on_as_if_it_had_not_been(
    step: int, base: Path, tmp_path: Path, loop: BackgroundLoop, uninterrupted: tuple[torch.Tensor, list[Any]]
) -> None:
    with pytest.raises(Killed):
        train_online_dpo(LONG, the_stage(tmp_path, base, loop, progress=kill_at(step)))

    again = the_stage(tmp_path, base, loop)
    train_online_dpo(LONG, again)

    torch.testing.assert_close(weights(again), uninterrupted[0], atol=1e-5, rtol=0)
    assert rounded(again) == uninterrupted[1]


def test_ten_steps_raise_the_reward(base: Path, tmp_path: Path, loop: BackgroundLoop) -> None:
    stage = the_stage(tmp_path, base, loop, window=END, max_tokens=24)

    train_online_dpo(settings(groups=16, candidates=6, steps=10, deepest=2, learning_rate=2e-3, warmup=1), stage)

    rewards = [step["reward"] for step in steps(stage)]
    assert sum(rewards[-3:]) / 3 > sum(rewards[:3]) / 3 + 0.05
