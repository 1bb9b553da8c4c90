"""PPO: its losses by hand, a bandit with a known answer, and that a killed training goes on as if it had not been."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, strategies as st

from bandit_stage import BANDIT, CHAT, REWARDS, WORDS, a_bandit, bandit_model, chatting
from duologue.background import BackgroundLoop
from duologue.conversation import Conversation, Goal
from duologue.dataset import Group, visits
from duologue.errors import RecipeError
from duologue.metrics import Metric, Score
from duologue.models.local import LocalModel
from duologue.training import ppo
from duologue.training.critic import episodes
from duologue.training.explore import explored
from duologue.training.lora import with_lora
from duologue.training.ppo import Appraised, Learner, train_ppo
from duologue.training.settings import LoraSettings
from duologue.training.stage import Stage
from training_stage import Killed, kill_at, steps, weights

# ---- a bandit with a known answer


@pytest.fixture
def bandit(tmp_path: Path, loop: BackgroundLoop) -> Stage:
    return a_bandit(tmp_path, loop)


def probabilities(stage: Stage, model: LocalModel) -> torch.Tensor:
    """Of the tokens, as the one reply there is to the bandit's request."""
    (goal,) = stage.tasks[0].goals("train")
    prompt = model.encode(Conversation().said(goal.request.text).messages)
    with torch.no_grad():
        return model.model(torch.tensor([prompt])).logits[0, -1].softmax(-1)


def optimum(beta: float, stage: Stage) -> torch.Tensor:
    """π ∝ π_start · exp(r ÷ β), the policy with the best reward less β times its KL to the start."""
    rewards = torch.tensor([REWARDS.get(word, 0.0) for word in WORDS])
    return (probabilities(stage, bandit_model()).log() + rewards / beta).softmax(-1)


def test_without_a_kl_the_best_reply_is_what_is_left(bandit: Stage) -> None:
    assert probabilities(bandit, bandit_model())[WORDS.index("good")] < 0.1

    train_ppo(BANDIT, bandit)

    assert probabilities(bandit, bandit.policy)[WORDS.index("good")] > 0.98


@pytest.mark.parametrize("kl", ["loss", "reward"])
def test_with_a_kl_the_policy_ends_at_the_known_optimum(kl: str, bandit: Stage) -> None:
    settings = BANDIT.model_copy(update={"kl": kl, "beta": 0.5, "steps": 30, "floor": 0.02})

    train_ppo(settings, bandit)

    found, known = probabilities(bandit, bandit.policy), optimum(0.5, bandit)
    assert known[WORDS.index("good")] == pytest.approx(0.2, abs=0.02)
    torch.testing.assert_close(found, known, atol=0.03, rtol=0)


def test_the_weight_of_the_kl_goes_where_the_kl_is_the_target(bandit: Stage) -> None:
    settings = BANDIT.model_copy(update={"beta": 0.1, "target_kl": 0.4, "steps": 30})

    train_ppo(settings, bandit)

    last = steps(bandit)[-8:]
    assert sum(step["kl"] for step in last) / 8 == pytest.approx(0.4, abs=0.12)
    assert last[-1]["beta"] > 0.2


# ---- the losses, by hand


def test_the_policys_loss_is_clipped_where_moving_on_would_pay() -> None:
    logps = torch.tensor([1.5, 1.5, 0.5, 0.5, 1.1], dtype=torch.float64).log().requires_grad_()
    advantages = torch.tensor([2.0, -2.0, 2.0, -2.0, 3.0], dtype=torch.float64)

    losses = ppo.policy_loss(logps, torch.zeros(5, dtype=torch.float64), advantages, clip=0.2)
    losses.sum().backward()

    assert losses.tolist() == pytest.approx([-2.4, 3.0, -1.0, 1.6, -3.3])
    assert logps.grad.tolist() == pytest.approx([0.0, 3.0, -1.0, 0.0, -3.3])  # −ρ A, and 0 where it is clipped


def test_the_values_loss_is_the_larger_of_the_free_and_the_held() -> None:
    values = torch.tensor([0.9, 0.1, 0.5, -0.5], requires_grad=True)
    old, returns = torch.tensor([0.5, 0.5, 0.5, 0.5]), torch.tensor([1.0, 1.0, 1.0, 1.0])

    losses = ppo.value_loss(values, old, returns, clip=0.2)
    losses.sum().backward()

    assert losses.tolist() == pytest.approx([0.045, 0.405, 0.125, 1.125])  # the first is held at 0.7
    assert values.grad.tolist() == pytest.approx([0.0, -0.9, -0.5, -1.5])


def test_the_kls_loss_has_the_kls_gradient() -> None:
    start = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64).log()
    logits = torch.tensor([0.3, -0.2, 0.6], dtype=torch.float64, requires_grad=True)
    sampling = torch.tensor([0.2, 0.2, 0.6], dtype=torch.float64)  # another policy's: the ratio makes up for it

    logps = logits.log_softmax(-1)
    (sampling * ppo.kl_loss(logps, sampling.log(), start)).sum().backward()
    found, logits.grad = logits.grad, None
    logps = logits.log_softmax(-1)
    (logps.exp() * (logps - start)).sum().backward()

    torch.testing.assert_close(found, logits.grad)


def test_advantages_by_hand() -> None:
    found = ppo.advantages([0.1, 0.0, 1.0], [0.5, 0.4, 0.2], gamma=0.9, gae_lambda=0.5)

    last = 1.0 - 0.2
    middle = 0.9 * 0.2 - 0.4 + 0.45 * last
    assert found == pytest.approx([0.1 + 0.9 * 0.4 - 0.5 + 0.45 * middle, middle, last])


@given(st.lists(st.tuples(st.floats(-1, 1), st.floats(-1, 1)), min_size=1, max_size=9))
def test_without_discount_an_advantage_is_what_still_came_less_what_was_expected(pairs: list[Any]) -> None:
    rewards, values = [reward for reward, _ in pairs], [value for _, value in pairs]

    found = ppo.advantages(rewards, values, gamma=1.0, gae_lambda=1.0)

    assert found == pytest.approx([sum(rewards[t:]) - value for t, value in enumerate(values)], abs=1e-9)


# ---- what is trained on


def appraised(learner: Learner, stage: Stage) -> tuple[list[Group], list[Appraised]]:
    planned = visits(stage.tasks, 6, deepest=0, seed=1)
    groups = explored(planned, stage, 3)
    return groups, learner.appraise(episodes(groups))


def test_replies_without_a_reward_are_left_out_and_counted(tmp_path: Path, loop: BackgroundLoop) -> None:
    stage = chatting(tmp_path, loop)

    groups, rows = appraised(Learner(CHAT, stage), stage)
    train_ppo(CHAT.model_copy(update={"steps": 1}), stage)

    scored = [reward.value for group in groups for reward in group.rewards if reward.value is not None]
    assert sorted(row.episode.reward for row in rows) == sorted(scored)
    assert 0 < len(scored) < 18
    (step,) = steps(stage)
    assert 0 < step["unscored"] < 12


@pytest.mark.parametrize(("kl", "charge"), [("reward", 0.1), ("loss", 0.0)])
def test_the_kl_is_charged_once(kl: str, charge: float, tmp_path: Path, loop: BackgroundLoop) -> None:
    stage = chatting(tmp_path, loop)
    learner = Learner(CHAT.model_copy(update={"kl": kl}), stage)
    with torch.no_grad():
        for weight in stage.policy.model.parameters():
            weight.mul_(1.3)

    _, rows = appraised(learner, stage)

    for row in rows:
        cost = charge * (row.episode.logprobs - row.start).sum().item()
        assert row.returns[0].item() == pytest.approx(row.episode.reward - cost, abs=1e-5)
    assert any((row.episode.logprobs - row.start).abs().max() > 0.01 for row in rows)


def test_advantages_are_centred_and_scaled_over_the_step(tmp_path: Path, loop: BackgroundLoop) -> None:
    stage = chatting(tmp_path, loop)

    _, rows = appraised(Learner(CHAT.model_copy(update={"scale_rewards": "batch"}), stage), stage)

    every = torch.cat([row.advantages for row in rows])
    assert (every.mean().item(), every.std(unbiased=False).item()) == pytest.approx((0.0, 1.0), abs=1e-5)


def the_same() -> Metric:
    async def score(conversation: Conversation, goal: Goal) -> Score:
        return Score(0.7)

    return score


@pytest.mark.parametrize("kl", ["reward", "loss"])
@pytest.mark.parametrize("scale", ["batch", "none"])
def test_where_all_replies_are_worth_the_same_the_policy_stays(
    kl: str, scale: str, tmp_path: Path, loop: BackgroundLoop
) -> None:
    stage = a_bandit(tmp_path, loop, metric=the_same, max_tokens=4)
    before, beta = weights(stage), 0.1 if kl == "reward" else 0.0

    train_ppo(CHAT.model_copy(update={"scale_rewards": scale, "kl": kl, "beta": beta, "target_kl": None}), stage)

    assert torch.equal(weights(stage), before)


def test_without_a_gradient_the_policy_stays_where_the_steps_before_had_one(
    tmp_path: Path, loop: BackgroundLoop
) -> None:
    stage = chatting(tmp_path, loop)
    learner = Learner(CHAT.model_copy(update={"beta": 0.0, "target_kl": None}), stage)
    _, rows = appraised(learner, stage)
    moved = learner.learn(rows, 0)
    before = weights(stage)

    stayed = learner.learn([replace(row, advantages=torch.zeros_like(row.advantages)) for row in rows], 1)

    assert (moved["updates"], stayed["updates"]) == (CHAT.epochs * CHAT.minibatches, 0)
    assert torch.equal(weights(stage), before)


@pytest.mark.parametrize("scale", ["batch", "none"])
def test_away_from_the_start_the_kl_is_learned_from_where_all_replies_are_worth_the_same(
    scale: str, tmp_path: Path, loop: BackgroundLoop
) -> None:
    stage = a_bandit(tmp_path, loop, metric=the_same, max_tokens=4)
    learner = Learner(CHAT.model_copy(update={"scale_rewards": scale}), stage)
    with torch.no_grad():
        for weight in stage.policy.model.parameters():
            weight.mul_(1.3)

    _, rows = appraised(learner, stage)

    assert all(row.advantages.abs().max() > 0 for row in rows)


def test_replies_at_once_make_no_difference_to_the_update(tmp_path: Path, loop: BackgroundLoop) -> None:
    found: list[torch.Tensor] = []
    for size in (1, 5, 64):
        stage = chatting(tmp_path / str(size), loop)
        train_ppo(CHAT.model_copy(update={"micro_batch": size, "steps": 2, "learning_rate": 5e-4}), stage)
        found.append(weights(stage))

    torch.testing.assert_close(found[1], found[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(found[2], found[0], atol=1e-5, rtol=0)


# ---- going on


def timeless(stage: Stage) -> list[dict[str, Any]]:
    return [{k: v for k, v in step.items() if not k.endswith("seconds")} for step in steps(stage)]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> tuple[torch.Tensor, list[dict[str, Any]]]:
    with BackgroundLoop() as loop:
        stage = chatting(tmp_path_factory.mktemp("whole"), loop)
        train_ppo(CHAT, stage)
        return weights(stage), timeless(stage)


@pytest.mark.parametrize("step", [1, 2, 3, 4, 5])
def test_a_killed_training_goes_on_as_if_it_had_not_been(
    step: int, tmp_path: Path, loop: BackgroundLoop, uninterrupted: Any
) -> None:
    with pytest.raises(Killed):
        train_ppo(CHAT, chatting(tmp_path, loop, progress=kill_at(step)))

    again = chatting(tmp_path, loop)
    train_ppo(CHAT, again)

    expected, journal = uninterrupted
    torch.testing.assert_close(weights(again), expected, atol=1e-5, rtol=0)
    found = timeless(again)
    assert [one["step"] for one in found] == [1, 2, 3, 4, 5]
    for one, other in zip(found, journal, strict=True):
        assert one == pytest.approx(other, abs=1e-5)
    assert len({one["beta"] for one in found}) == 5


def test_a_torn_newest_checkpoint_is_passed_over(tmp_path: Path, loop: BackgroundLoop, uninterrupted: Any) -> None:
    with pytest.raises(Killed):
        train_ppo(CHAT, chatting(tmp_path, loop, progress=kill_at(5)))
    (tmp_path / "checkpoint-4" / "trainer_state.json").unlink()
    (tmp_path / "checkpoint-4" / "optimizer.bin").unlink()

    again = chatting(tmp_path, loop)
    train_ppo(CHAT, again)

    torch.testing.assert_close(weights(again), uninterrupted[0], atol=1e-5, rtol=0)


# ---- what is recorded


def test_a_steps_figures_say_what_happened(tmp_path: Path, loop: BackgroundLoop) -> None:
    stage = chatting(tmp_path, loop)

    train_ppo(CHAT.model_copy(update={"steps": 2}), stage)

    first, second = steps(stage)
    assert (first["algorithm"], first["kl"], first["beta"]) == ("ppo", pytest.approx(0, abs=1e-5), 0.1)
    assert second["beta"] == pytest.approx(0.09)  # the KL was 0, the target above it
    assert 0 < first["entropy"] < 2.1 and 0 <= first["clip_fraction"] <= 1
    assert first["explained_variance"] == pytest.approx(0, abs=1e-5)  # it begins with the mean
    assert {"reward", "loss", "value_loss", "unscored", "skipped", "seconds", "rollout_seconds"} <= first.keys()


def test_without_a_kl_to_the_start_a_step_says_how_far_it_moved(tmp_path: Path, loop: BackgroundLoop) -> None:
    stage = chatting(tmp_path, loop)

    train_ppo(CHAT.model_copy(update={"steps": 2, "beta": 0.0, "target_kl": None, "warmup": 2}), stage)

    first, second = steps(stage)
    assert first["kl"] is None
    assert 0 < first["update_kl"] < 1
    assert first["grad_norm"] > 0
    assert [step["learning_rate"] for step in (first, second)] == pytest.approx([5e-3 / 2, 5e-3])


def test_a_step_makes_no_more_updates_than_it_has_replies_and_says_how_many(
    tmp_path: Path, loop: BackgroundLoop
) -> None:
    stage = chatting(tmp_path, loop)

    train_ppo(CHAT.model_copy(update={"steps": 1, "epochs": 3, "minibatches": 1000}), stage)

    (step,) = steps(stage)
    assert 0 < step["updates"] <= 3 * (12 - step["unscored"])  # a reply that is clipped, or as good as all, makes none


def test_greedy_replies_are_refused(bandit: Stage) -> None:
    assistant, reward = bandit.partners(bandit.tasks[0])
    greedy = replace(assistant, sampling=replace(assistant.sampling, temperature=0.0))

    with pytest.raises(RecipeError, match=r"assistant\.temperature = 0 draws equal replies"):
        train_ppo(BANDIT, replace(bandit, partners=lambda task: (greedy, reward)))


# ---- adapters


def test_an_adapter_is_held_to_the_model_as_it_was_with_it(tmp_path: Path, loop: BackgroundLoop) -> None:
    stage = chatting(tmp_path, loop)
    stage.policy.model = with_lora(stage.policy.model, LoraSettings(r=2))
    with torch.no_grad():
        for weight in (w for w in stage.policy.model.parameters() if w.requires_grad):
            weight.add_(0.1)
    before = {name: weight.clone() for name, weight in stage.policy.model.named_parameters()}

    train_ppo(CHAT.model_copy(update={"steps": 1}), stage)

    after = dict(stage.policy.model.named_parameters())
    changed = {name for name, weight in after.items() if not torch.equal(weight, before[name])}
    assert changed == {name for name, weight in after.items() if weight.requires_grad}
    (step,) = steps(stage)
    assert step["kl"] == pytest.approx(0, abs=1e-5)
