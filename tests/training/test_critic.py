"""What a policy with a value head says of replies: the numbers they were sampled with, in little memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from bandit_stage import CHAT, bandit_model, chatting
from duologue.background import BackgroundLoop
from duologue.dataset import visits
from duologue.training import ppo
from duologue.training.arguments import shared_arguments
from duologue.training.critic import ActorCritic, Episode, checkpointed, episodes, read
from duologue.training.explore import explored
from duologue.training.lora import with_lora
from duologue.training.ppo import train_ppo
from duologue.training.settings import LoraSettings
from duologue.training.stage import Stage
from training_stage import weights


def sampled(stage: Stage) -> list[Episode]:
    return episodes(explored(visits(stage.tasks, 6, deepest=0, seed=1), stage, 3))


@pytest.fixture
def stage(tmp_path: Path, loop: BackgroundLoop) -> Stage:
    return chatting(tmp_path, loop)


@pytest.fixture
def replies(stage: Stage) -> list[Episode]:
    return sampled(stage)


# ---- what it says


def test_the_log_probabilities_of_sampling_are_those_that_are_trained(stage: Stage, replies: list[Episode]) -> None:
    both = ActorCritic(stage.policy.model, 1.0, seed=0)

    logps, _, _ = read(both, replies)

    torch.testing.assert_close(logps, torch.cat([row.logprobs for row in replies]), atol=1e-5, rtol=0)
    assert len({len(row.prompt) for row in replies}) > 1 and len({len(row.ids) for row in replies}) > 1


def test_episodes_are_the_scored_replies_as_they_were_sampled(stage: Stage, replies: list[Episode]) -> None:
    groups = explored(visits(stage.tasks, 6, deepest=0, seed=1), stage, 3)

    rewarded = [
        (reply.prompt_ids, reply.ids, reward.value)
        for group in groups
        for reply, reward in zip(group.replies, group.rewards, strict=True)
    ]
    assert sorted((row.prompt, row.ids, row.reward) for row in replies) == sorted(
        each for each in rewarded if each[2] is not None
    )
    assert 0 < len(replies) < len(rewarded)


def test_what_a_row_says_does_not_depend_on_the_rows_beside_it(stage: Stage, replies: list[Episode]) -> None:
    both = ActorCritic(stage.policy.model, 0.7, seed=0)
    torch.nn.init.normal_(both.head[-1].weight)

    together = read(both, replies)

    alone = [torch.cat(each) for each in zip(*(read(both, [row]) for row in replies), strict=True)]
    for one, other in zip(together, alone, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=0)


def test_a_value_is_the_heads_of_the_last_hidden_state_before_the_token(stage: Stage, replies: list[Episode]) -> None:
    both = ActorCritic(stage.policy.model, 1.0, seed=0)
    torch.nn.init.normal_(both.head[-1].weight)
    row = replies[-1]

    *_, values = read(both, [row])

    ids = torch.tensor([[*row.prompt, *row.ids]])
    last = stage.policy.model(ids, output_hidden_states=True).hidden_states[-1][0]
    torch.testing.assert_close(values, both.head(last[len(row.prompt) - 1 : -1]).squeeze(1), atol=1e-5, rtol=0)


def test_nothing_flows_back_from_the_values_into_the_policy(stage: Stage, replies: list[Episode]) -> None:
    both = ActorCritic(stage.policy.model, 1.0, seed=0)

    *_, values = read(both, replies)
    values.sum().backward()

    assert all(weight.grad is None for weight in both.policy.parameters())
    assert both.head[-1].weight.grad.abs().sum() > 0


# ---- what it keeps


def test_the_states_of_other_layers_are_not_asked_for(stage: Stage, replies: list[Episode]) -> None:
    found: list[Any] = []
    stage.policy.model.register_forward_hook(lambda _, __, out: found.append(out.hidden_states))

    read(ActorCritic(stage.policy.model, 1.0, seed=0), replies)

    assert found == [None]


def forwards(model: Any) -> list[bool]:
    """Grows by an item each time the first layer's inner part is computed: whether it drops anything out."""
    found: list[bool] = []
    model.get_decoder().layers[0].mlp.register_forward_pre_hook(lambda layer, _: found.append(layer.training))
    return found


def whole() -> Any:
    return bandit_model().model


def adapted() -> Any:
    model = with_lora(bandit_model().model, LoraSettings(r=2, dropout=0.5))
    with torch.no_grad():
        for weight in (each for each in model.parameters() if each.requires_grad):
            weight.add_(0.1)
    return model


@pytest.mark.parametrize("made", [whole, adapted])
def test_checkpointed_layers_are_computed_again_with_the_same_result(
    made: Callable[[], Any], replies: list[Episode]
) -> None:
    found: list[tuple[torch.Tensor, list[torch.Tensor], list[bool]]] = []
    for checkpointing in (False, True):
        both = ActorCritic(made(), 1.0, seed=0, checkpointing=checkpointing)
        both.eval()
        computed = forwards(both.policy)
        logps, _, _ = read(both, replies)
        logps.sum().backward()
        grads = [weight.grad for weight in both.policy.parameters() if weight.grad is not None]
        found.append((logps, grads, computed))

    (plain, gradients, once), (again, others, twice) = found
    assert (once, twice) == ([False], [False, False])
    torch.testing.assert_close(again, plain, atol=0, rtol=0)
    torch.testing.assert_close(others, gradients)
    assert gradients


def test_layers_keep_a_forward_of_their_own() -> None:
    model = whole()
    first, second = model.get_decoder().layers[0], model.get_decoder()
    own = first.forward = first.forward

    with checkpointed(model):
        assert first.forward is not own

    assert vars(first)["forward"] is own
    assert "forward" not in vars(second)


def test_a_training_computes_layers_again_where_the_arguments_say_so(
    tmp_path: Path, loop: BackgroundLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[tuple[torch.Tensor, int]] = []
    for checkpointing in (False, True):
        stage = chatting(tmp_path / str(checkpointing), loop)
        monkeypatch.setattr(
            ppo,
            "shared_arguments",
            lambda *given, on=checkpointing, **named: {
                **shared_arguments(*given, **named),
                "activation_checkpointing": on,
            },
        )
        computed = forwards(stage.policy.model)
        train_ppo(CHAT.model_copy(update={"steps": 2, "save_steps": None}), stage)
        found.append((weights(stage), len(computed)))

    (plain, fewer), (again, more) = found
    torch.testing.assert_close(again, plain, atol=1e-6, rtol=0)
    assert more > fewer
