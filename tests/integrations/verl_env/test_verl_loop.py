"""The agent loop in verl's own classes: its configuration, data set, worker, batch and advantages.

Inference servers are stood in for by the built-in model, which decodes what they would be sent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from verl.experimental.agent_loop import AgentLoopWorker
from verl.protocol import DataProto
from verl.trainer.ppo.metric_utils import process_validation_metrics
from verl.trainer.ppo.ray_trainer import compute_advantage
from verl.utils.dataset.rl_dataset import RLHFDataset, collate_fn

import duologue
from duologue.conversation import Conversation, parse_messages
from duologue.errors import DataError, ModelError, RecipeError
from duologue.integrations import verl_figures
from duologue.integrations.verl import WHY
from duologue.integrations.verl_figures import TellingBuffer, TellingBufferAsync, check, means
from duologue.models.base import Sampling
from verl_server import Params, TinyClient

COPIES = 3
Configured = Callable[..., Any]


@dataclass
class Rolled:
    """A batch as verl's worker gives it back, and what the servers were asked."""

    worker: AgentLoopWorker
    client: TinyClient
    rows: list[dict[str, Any]]
    batch: DataProto

    @property
    def scores(self) -> list[float]:
        return self.batch.batch["rm_scores"].sum(dim=1).tolist()

    @property
    def masks(self) -> list[list[int]]:
        return self.batch.batch["response_mask"].tolist()

    def prompt(self, row: int) -> list[int]:
        """The ids of a row's prompt without what pads them."""
        width = self.batch.batch["prompts"].shape[1]
        seen = self.batch.batch["attention_mask"][row, :width].bool()
        return self.batch.batch["prompts"][row][seen].tolist()

    def response(self, row: int) -> list[int]:
        width = self.batch.batch["prompts"].shape[1]
        seen = self.batch.batch["attention_mask"][row, width:].bool()
        return self.batch.batch["responses"][row][seen].tolist()

    def figure(self, name: str) -> list[Any]:
        return [fields[name] for fields in self.batch.non_tensor_batch["reward_extra_info"]]


def data_set(config: Any, tokenizer: Any) -> RLHFDataset:
    return RLHFDataset(config.data.train_files, tokenizer, config.data)


async def roll(
    config: Any,
    chosen: Callable[[dict[str, Any]], bool] = lambda row: True,
    *,
    prompts: int = 2,
    copies: int = COPIES,
    lost: Callable[[tuple[int, ...], Params], bool] = lambda ids, params: False,
    changed: Callable[[dict[str, Any]], dict[str, Any]] = lambda row: row,
    handed: Sequence[str] = ("uid", "session_id", "global_steps"),
) -> Rolled:
    """Rows of the data set, each several times, through verl's worker; `lost` requests are given up."""
    client = TinyClient(lost)
    worker = AgentLoopWorker(config, client, reward_loop_worker_handles=[NoReward()])
    found = data_set(config, worker.tokenizer)
    rows = [changed(row) for row in (found[i] for i in range(len(found))) if chosen(row)][:prompts]
    assert len(rows) == prompts
    repeated = [
        {**row, "uid": f"prompt-{i}", "session_id": copy, "global_steps": 1}
        for i, row in enumerate(rows)
        for copy in range(copies)
    ]
    for row in repeated:
        for name in {"uid", "session_id", "global_steps"} - {*handed}:
            del row[name]
    batch = DataProto.from_single_dict(collate_fn(repeated))
    return Rolled(worker, client, rows, await worker.generate_sequences(batch))


class NoReward:
    """In the place of verl's reward workers, which are not to be asked."""

    @property
    def compute_score(self) -> Any:
        raise AssertionError("verl's own reward loop was asked")


def first_turn(row: dict[str, Any]) -> bool:
    return row["depth"] == 0


def later_turn(row: dict[str, Any]) -> bool:
    return row["depth"] > 0


def a_look_ahead(ids: tuple[int, ...], params: Params) -> bool:
    """Whether a request is not for a candidate: those alone are asked for with log-probabilities."""
    return not params["logprobs"]


async def test_a_row_is_the_prompt_and_the_candidates_tokens_alone(configured: Configured) -> None:
    rolled = await roll(configured("grpo"), first_turn)
    drawn = [prompt for _, prompt, params in rolled.client.calls if params["logprobs"]]
    for row in range(2 * COPIES):
        messages = rolled.rows[row // COPIES]["raw_prompt"]
        verls_own = rolled.worker.tokenizer.apply_chat_template(messages, add_generation_prompt=True)["input_ids"]
        assert rolled.prompt(row) == verls_own
        assert tuple(rolled.prompt(row)) in drawn
        response = rolled.response(row)
        assert 0 < len(response) <= 48
        assert rolled.masks[row][: len(response)] == [1] * len(response)
        assert not any(rolled.masks[row][len(response) :])
        assert rolled.batch.batch["rm_scores"][row].nonzero().flatten().tolist() in ([], [len(response) - 1])
    assert rolled.batch.batch["rollout_log_probs"].lt(0).any(dim=1).all()


async def test_the_score_is_the_multiturn_aware_reward(configured: Configured) -> None:
    rolled = await roll(configured("grpo"), first_turn, prompts=1)
    (row,) = rolled.rows
    task = duologue.load_task("groceries")
    goal = next(goal for goal in task.goals("train") if goal.id == row["goal"])
    assistant = duologue.Assistant(rolled.client.model, None, Sampling(max_tokens=48))
    reward = duologue.MultiturnReward(assistant, task.plain_users, task.metrics, 3, 2, turn_limit=task.turn_limit)
    start = Conversation(parse_messages(row["raw_prompt"], "a prompt"))
    for index, score in enumerate(rolled.scores):
        reply = rolled.client.model.said((), rolled.response(index), ())
        expected = await reward(goal, start, reply, seed=row["seed"])
        assert score == pytest.approx(expected.value, abs=1e-6)
    assert len({tuple(rolled.response(index)) for index in range(COPIES)}) > 1


async def test_copies_of_a_prompt_share_one_prefix_that_the_policy_plays_once(configured: Configured) -> None:
    rolled = await roll(configured("grpo"), later_turn)
    prompts = [rolled.prompt(row) for row in range(2 * COPIES)]
    assert prompts[:COPIES] == [prompts[0]] * COPIES
    assert prompts[COPIES:] == [prompts[COPIES]] * COPIES
    encode = rolled.client.model.encode
    for row in rolled.rows:
        begun = encode(parse_messages(row["raw_prompt"], "a prompt"))
        assert prompts[COPIES * rolled.rows.index(row)] != list(begun)
        asked = [call for call in rolled.client.calls if call[1] == begun]
        assert len(asked) == 1


async def test_a_later_step_plays_the_prefix_with_the_policy_as_it_is_then(configured: Configured) -> None:
    config = configured("grpo")
    before = await roll(config, later_turn, prompts=1, copies=1)

    def other_words(client: TinyClient) -> None:
        with torch.no_grad():
            for weights in client.model.model.parameters():
                weights.mul_(0.5)

    made = TinyClient.__init__

    def init(self: TinyClient, *arguments: Any) -> None:
        made(self, *arguments)
        other_words(self)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(TinyClient, "__init__", init)
        after = await roll(config, later_turn, prompts=1, copies=1)
    assert before.rows == after.rows
    assert before.prompt(0) != after.prompt(0)


async def test_look_aheads_of_all_copies_are_played_side_by_side_on_one_server(configured: Configured) -> None:
    rolled = await roll(configured("grpo"), first_turn, prompts=1)
    distinct = len({tuple(rolled.response(row)) for row in range(COPIES)})
    assert rolled.client.most_under_way >= 3 * distinct
    assert {name for name, _, _ in rolled.client.calls} == {"prompt-0"}


async def test_every_row_has_the_same_figures(configured: Configured) -> None:
    rolled = await roll(configured("grpo"), prompts=8, copies=1)
    infos = rolled.batch.non_tensor_batch["reward_extra_info"]
    metrics = duologue.load_task("groceries").metrics
    assert {*metrics, "asks_when_missing", "asks_when_complete", "look_aheads", "unscored"} <= {*infos[0]}
    assert all([*info] == [*infos[0]] for info in infos)
    assert rolled.figure("look_aheads") == [3.0] * 8 and rolled.figure("unscored") == [0.0] * 8
    assert rolled.batch.meta_info["reward_extra_keys"] == [*infos[0]]
    assert set(rolled.batch.non_tensor_batch["min_global_steps"]) == {1}


async def without_score(config: Any, *, copies: int, draws: int) -> Rolled:
    """A prompt's copies, where the first `draws` candidates of the first copy cannot be scored."""
    unlucky: list[tuple[int, ...]] = []

    def lost(ids: tuple[int, ...], params: Params) -> bool:
        return a_look_ahead(ids, params) and any(ids[: len(begun)] == begun for begun in unlucky)

    rolled = await roll(config, first_turn, prompts=1, copies=copies)
    for _ in range(draws):
        unlucky.append(tuple(rolled.prompt(0) + rolled.response(0)))
        rolled = await roll(config, first_turn, prompts=1, copies=copies, lost=lost)
    return rolled


async def test_a_candidate_that_cannot_be_scored_is_drawn_again(configured: Configured) -> None:
    whole = await roll(configured("grpo"), first_turn, prompts=1)
    again = await without_score(configured("grpo"), copies=COPIES, draws=1)
    assert again.response(0) != whole.response(0)
    assert again.figure("unscored") == [0.0] * COPIES


async def test_one_that_cannot_be_scored_twice_is_masked_counted_and_given_its_siblings_mean(
    configured: Configured,
) -> None:
    rolled = await without_score(configured("grpo"), copies=4, draws=2)
    unscored = rolled.figure("unscored")
    assert unscored[0] == 1.0 and rolled.figure("look_aheads")[0] == 0.0
    assert rolled.response(0) and not any(rolled.masks[0])
    others = [score for score, lost in zip(rolled.scores, unscored, strict=True) if not lost]
    assert others and rolled.scores[0] == pytest.approx(sum(others) / len(others), abs=1e-6)


async def test_verls_grpo_and_gae_learn_nothing_from_a_candidate_without_a_score(configured: Configured) -> None:
    rolled = await without_score(configured("grpo"), copies=4, draws=2)
    lost = torch.tensor(rolled.figure("unscored")).bool()
    batch = rolled.batch
    batch.batch["token_level_rewards"] = batch.batch["rm_scores"]
    batch.batch["values"] = torch.zeros_like(batch.batch["rm_scores"])
    batch.non_tensor_batch["uid"] = np.array(["prompt-0"] * 4, dtype=object)
    grpo = compute_advantage(batch, "grpo", norm_adv_by_std_in_grpo=False).batch["advantages"].clone()
    gae = compute_advantage(batch, "gae", config=configured("ppo").algorithm).batch["advantages"]
    for advantages in (grpo, gae):
        assert not (advantages * batch.batch["response_mask"])[lost].any()
        assert (advantages * batch.batch["response_mask"])[~lost].any()
    scores = torch.tensor(rolled.scores)[~lost]
    assert torch.allclose(grpo[~lost][:, 0], scores - scores.mean(), atol=1e-5)


async def test_where_no_copy_can_be_scored_none_is_trained_on(configured: Configured) -> None:
    rolled = await roll(configured("grpo"), first_turn, prompts=1, lost=a_look_ahead)
    assert rolled.figure("unscored") == [1.0] * COPIES
    assert not any(map(any, rolled.masks))
    assert len(set(rolled.scores)) == 1
    assert rolled.figure("multiturn_reward") == [None] * COPIES
    why = {str(each) for each in rolled.batch.non_tensor_batch["why_unscored"]}
    assert why == {"the assistant's model: verl's server gave up a request before its reply was whole"}


async def test_options_of_the_chat_template_may_be_nested(configured: Configured) -> None:
    nested = "data.apply_chat_template_kwargs={tools_in:{style:[short]}}"
    rolled = await roll(configured("grpo", nested), first_turn, prompts=1, copies=1)
    assert rolled.figure("unscored") == [0.0]


def test_validation_has_the_reward_of_what_could_be_scored_alone() -> None:
    infos = {"reward": [0.5, 0.75], "multiturn_reward": [0.5, None]}
    found = process_validation_metrics(["groceries"] * 2, ["a", "b"], infos)
    assert found["groceries"]["reward"]["mean@1"] == 0.625
    assert found["groceries"]["multiturn_reward"]["mean@1"] == 0.5


def test_a_batch_without_any_score_is_refused_and_one_with_some_is_not() -> None:
    lost = [{WHY: "no judge"}, {WHY: "too long"}, {WHY: "no judge"}]
    with pytest.raises(ModelError, match="none of a step's 3 candidates could be scored, mostly: no judge"):
        check(lost)
    check([*lost, {WHY: None}])


@dataclass
class Batch:
    """What a buffer hands out."""

    partition_id: str
    keys: tuple[str, ...] = ("a", "b")


@pytest.mark.parametrize("buffer", [TellingBuffer, TellingBufferAsync])
def test_verls_buffer_hands_out_no_batch_to_train_on_without_any_score(
    buffer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = np.array([{WHY: "no judge", "reward_extra_info": {"unscored": 1.0}}] * 2, dtype=object)
    monkeypatch.setattr(verl_figures.tq, "kv_batch_get", lambda **asked: {"extra_fields": rows})
    monkeypatch.setattr(buffer.__base__, "sample", lambda self, step, name, size: (Batch(name), {}))
    made = buffer.__new__(buffer)
    with pytest.raises(ModelError, match="none of a step's 2 candidates"):
        made.sample(1, "train", 2)
    assert made.sample(1, "val", 2)[1] == {"duologue/unscored": 1.0}


def test_rows_of_other_agent_loops_have_no_figures() -> None:
    check([{WHY: "no judge"}, {}])
    assert means([{}, {"luck": 1.0}, {"luck": None}, {"luck": 3.0}]) == {"duologue/luck": 2.0}


async def test_a_prefix_longer_than_the_longest_prompt_is_taken_back_to_where_it_fits(configured: Configured) -> None:
    rolled = await roll(configured("grpo"), later_turn, prompts=1, copies=1)
    begun = len(rolled.client.model.encode(parse_messages(rolled.rows[0]["raw_prompt"], "a prompt")))
    short = configured("grpo", f"data.max_prompt_length={begun}")
    assert len((await roll(short, later_turn, prompts=1, copies=1)).prompt(0)) == begun
    with pytest.raises(DataError, match=r"data\.max_prompt_length"):
        await roll(configured("grpo", f"data.max_prompt_length={begun - 1}"), later_turn, prompts=1, copies=1)


async def test_a_look_ahead_that_outgrows_the_context_is_an_outcome(configured: Configured) -> None:
    rolled = await roll(configured("grpo", "actor_rollout_ref.rollout.max_model_len=100"), first_turn, prompts=1)
    assert rolled.figure("unscored") == [0.0] * COPIES
    assert all(len(prompt) + 48 <= 100 for _, prompt, _ in rolled.client.calls)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"goal": "nobody's"}, 'no goal "nobody\'s"'),
        ({"task": "grocery"}, 'did you mean "groceries"'),
        ({"raw_prompt": [{"role": "assistant", "content": "hello"}]}, "ends in a user message"),
    ],
)
async def test_a_row_that_cannot_be_used_is_refused(configured: Configured, changed: dict[str, Any], told: str) -> None:
    with pytest.raises(DataError, match=told):
        await roll(configured("grpo"), prompts=1, copies=1, changed=lambda row: {**row, **changed})


async def test_settings_of_verl_that_do_not_go_together_are_named(configured: Configured) -> None:
    with pytest.raises(RecipeError, match="max_model_len"):
        await roll(configured("grpo", "actor_rollout_ref.rollout.max_model_len=null"), prompts=1, copies=1)
    with pytest.raises(DataError, match="use_v1=True"):
        await roll(configured("grpo"), prompts=1, copies=1, handed=["uid"])


async def test_equal_seeds_give_equal_rollouts_in_another_worker(configured: Configured) -> None:
    config = configured("grpo")
    first, second = await roll(config, copies=2), await roll(config, copies=2)
    assert torch.equal(first.batch.batch["input_ids"], second.batch.batch["input_ids"])
    assert first.scores == second.scores


@pytest.mark.parametrize("name", ["grpo", "ppo"])
def test_the_launch_recipes_are_ones_that_verl_takes(configured: Configured, name: str) -> None:
    from verl.trainer.ppo.utils import need_critic, need_reference_policy
    from verl.utils.config import validate_config
    from verl.utils.import_utils import load_extern_object

    config = configured(name)
    validate_config(config, need_reference_policy(config), need_critic(config))
    assert need_critic(config) == (name == "ppo") and need_reference_policy(config)
    sampler = config.trainer.v1.sampler.custom_sampler
    assert load_extern_object(sampler.path, sampler.name).__name__ == "TellingBuffer"
    assert Path(config.actor_rollout_ref.rollout.agent.agent_loop_config_path).is_file()
