"""The reward as an entry of `reward_funcs` in anyone's own TRL trainer."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")

from datasets import Dataset  # noqa: E402
from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer  # noqa: E402

import duologue  # noqa: E402
from duologue.conversation import Conversation, Message  # noqa: E402
from duologue.errors import DataError, ModelError, RecipeError  # noqa: E402
from duologue.metrics import METRICS  # noqa: E402
from duologue.models.base import Reply, Sampling  # noqa: E402
from duologue.models.local import LocalModel  # noqa: E402
from duologue.reward import MultiturnReward  # noqa: E402
from duologue.simulation import Assistant  # noqa: E402
from endpoint_server import Asked, ServerThread, failure  # noqa: E402
from lab_server import answer  # noqa: E402

TASK = duologue.load_task("groceries")
SHORT = Sampling(max_tokens=6)
TRAINERS = [(GRPOTrainer, GRPOConfig), (RLOOTrainer, RLOOConfig)]


@pytest.fixture
def policy(small_model: Path) -> LocalModel:
    return LocalModel.load(small_model, device="cpu")


def trainer_of(
    kinds: tuple[Any, Any],
    policy: LocalModel,
    reward: Any,
    folder: Path,
    *,
    data: Dataset | None = None,
    steps: int = 2,
    tokens: int = 6,
) -> Any:
    """A plain trainer of TRL's on four candidates a step."""
    kind, config = kinds
    return kind(
        model=policy.model,
        processing_class=policy.tokenizer,
        reward_funcs=[reward],
        train_dataset=data or duologue.trl.prompts(TASK, 8),
        args=config(
            output_dir=str(folder),
            per_device_train_batch_size=4,
            num_generations=2,
            max_steps=steps,
            max_completion_length=tokens,
            learning_rate=1e-2,
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            use_cpu=True,
            bf16=False,
            disable_tqdm=True,
            activation_checkpointing=False,
        ),
    )


def listening(reward: Any) -> tuple[Callable[..., Any], list[dict[str, Any]]]:
    """The reward, and what TRL gives it and gets of it at every call."""
    calls: list[dict[str, Any]] = []

    def multiturn_reward(**given: Any) -> Any:
        calls.append({**given, "found": reward(**given)})
        return calls[-1]["found"]

    return multiturn_reward, calls


# ---- in a trainer


@pytest.mark.parametrize("kinds", TRAINERS, ids=["grpo", "rloo"])
def test_a_plain_trainer_learns_from_it_without_being_given_the_model(
    kinds: tuple[Any, Any], policy: LocalModel, tmp_path: Path
) -> None:
    before = [weight.clone() for weight in policy.model.parameters()]
    trainer = trainer_of(kinds, policy, duologue.trl.reward(TASK, samples=3, window=2), tmp_path)

    trainer.train()

    assert trainer.state.global_step == 2
    assert all("rewards/multiturn_reward/mean" in log for log in trainer.state.log_history[:2])
    assert any(not torch.equal(old, new) for old, new in zip(before, policy.model.parameters(), strict=True))


def test_its_rewards_are_those_of_the_live_model(policy: LocalModel, tmp_path: Path) -> None:
    reward, calls = listening(duologue.trl.reward(TASK, samples=1, window=1))
    trainer = trainer_of((GRPOTrainer, GRPOConfig), policy, reward, tmp_path)
    expected: list[list[float | None]] = []

    def compare(**given: Any) -> Any:
        fresh = LocalModel(policy.model, policy.tokenizer)
        expected.append(asyncio.run(_by_hand(fresh, given, samples=1, window=1)))
        return reward(**given)

    trainer.reward_funcs = [compare]
    trainer.train()

    assert [call["found"] for call in calls] == [pytest.approx(each) for each in expected]
    assert len(calls) == 2


async def _by_hand(model: LocalModel, given: dict[str, Any], *, samples: int, window: int) -> list[float | None]:
    sampling = Sampling(1.0, max_tokens=6)
    reward = MultiturnReward(
        Assistant(model, None, sampling), TASK.user, TASK.metrics, samples, window, turn_limit=TASK.turn_limit
    )
    goals = {goal.id: goal for goal in TASK.goals("train")}
    found: list[float | None] = []
    for prompt, completion, name, visit in zip(
        given["prompts"], given["completions"], given["goal"], given["visit"], strict=True
    ):
        prefix = Conversation(tuple(Message(m["role"], m["content"]) for m in prompt))
        scored = await reward(goals[name], prefix, Reply(completion[-1]["content"].strip()), seed=visit)
        found.append(scored.value)
    return found


def test_the_models_mode_is_as_before(policy: LocalModel) -> None:
    policy.model.train()

    _score(policy, ["how many ?"])

    assert policy.model.training


def test_it_looks_ahead_with_the_weights_as_they_are(policy: LocalModel) -> None:
    reward = duologue.trl.reward(
        TASK, samples=2, window=2, model=policy.model, tokenizer=policy.tokenizer, sampling=SHORT
    )
    before = reward(*_batch(["how many ?"] * 4), **_columns(range(4)))
    with torch.no_grad():
        for weight in policy.model.parameters():
            weight.mul_(-1.5)

    after = reward(*_batch(["how many ?"] * 4), **_columns(range(4)))

    anew = duologue.trl.reward(
        TASK, samples=2, window=2, model=policy.model, tokenizer=policy.tokenizer, sampling=SHORT
    )
    assert after != before
    assert after == anew(*_batch(["how many ?"] * 4), **_columns(range(4)))


# ---- with endpoints


async def half_of_it(asked: Asked) -> Any:
    """What the lab's models say; but its judge refuses every other request."""
    return failure(400, "not this one") if asked.body["model"] == "judge" and asked.number % 2 else await answer(asked)


JUDGED = {"interactivity": duologue.Weighted(METRICS["interactivity"])}


def test_a_judge_behind_an_endpoint_scores_what_it_can_and_the_trainer_logs_the_rest(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tiny = LocalModel.load("tiny", device="cpu")
    before = set(threading.enumerate())
    with ServerThread(half_of_it) as server:
        judge = duologue.Endpoint(server.url).model("judge", role="judge")
        with duologue.trl.reward(TASK, samples=2, window=0, metrics=JUDGED, judge=judge) as reward:
            trainer = trainer_of((GRPOTrainer, GRPOConfig), tiny, reward, tmp_path, steps=1)
            trainer.train()
        left = [thread.name for thread in set(threading.enumerate()) - before if thread.name.startswith("duologue")]
        asked, refused = len(server.asked), sum(reward.failures.values())

    log = trainer.state.log_history[0]
    assert left == ["duologue"], "the server's own"
    assert 0 < log["rewards/multiturn_reward/lost"] < 1
    assert 0 <= log["rewards/multiturn_reward/unscored"] <= 1
    assert refused == asked // 2
    said = [record for record in caplog.records if record.name == "duologue.trl" and record.levelno == logging.WARNING]
    assert len(said) == len(reward.failures) == 1
    assert "not this one" in said[0].getMessage()


def test_nothing_lost_is_logged_as_nothing(policy: LocalModel, tmp_path: Path) -> None:
    trainer = trainer_of((GRPOTrainer, GRPOConfig), policy, duologue.trl.reward(TASK, samples=1), tmp_path, steps=1)

    trainer.train()

    log = trainer.state.log_history[0]
    assert (log["rewards/multiturn_reward/unscored"], log["rewards/multiturn_reward/lost"]) == (0, 0)


def test_users_behind_an_endpoint_say_the_prompts_and_go_on_after_them(policy: LocalModel) -> None:
    with ServerThread(answer) as server:
        users = duologue.prompted_users(duologue.Endpoint(server.url).model("person", role="user"))
        task = replace(TASK, profiles={"train": users})
        data = duologue.trl.prompts(task, 2)
        with duologue.trl.reward(
            task,
            samples=1,
            window=1,
            metrics={"tokens": TASK.metrics["tokens"]},
            model=policy.model,
            tokenizer=policy.tokenizer,
            sampling=SHORT,
        ) as reward:
            found = reward(data["prompt"], ["how many ?"] * 2, goal=data["goal"], visit=data["visit"])

    assert None not in found


def test_a_reward_that_was_closed_begins_anew(policy: LocalModel) -> None:
    reward = duologue.trl.reward(
        TASK, samples=1, window=1, model=policy.model, tokenizer=policy.tokenizer, sampling=SHORT
    )
    before = reward(*_batch(["how many ?"]), **_columns([0]))
    reward.close()
    reward.close()

    assert reward(*_batch(["how many ?"]), **_columns([0])) == before


# ---- called by hand

OPENING = [{"role": "user", "content": "i need seven coffee tonight ."}]


def _batch(texts: list[str]) -> tuple[list[Any], list[Any]]:
    return [OPENING] * len(texts), [[{"role": "assistant", "content": text}] for text in texts]


def _columns(visits: Any) -> dict[str, Any]:
    seeds = list(visits)
    return {"goal": [TASK.goals("train")[0].id] * len(seeds), "visit": seeds}


def _score(policy: LocalModel, texts: list[str], **columns: Any) -> list[float | None]:
    reward = duologue.trl.reward(
        TASK, samples=2, window=1, model=policy.model, tokenizer=policy.tokenizer, sampling=SHORT
    )
    return reward(*_batch(texts), **{**_columns([0] * len(texts)), **columns})


def test_it_is_deterministic(policy: LocalModel) -> None:
    assert _score(policy, ["how many ?", "which city ?"]) == _score(policy, ["how many ?", "which city ?"])


def test_the_same_text_of_a_group_is_scored_once(policy: LocalModel) -> None:
    reward = duologue.trl.reward(
        TASK, samples=2, window=1, model=policy.model, tokenizer=policy.tokenizer, sampling=SHORT
    )

    def generated(texts: list[str]) -> tuple[int, list[float | None]]:
        found = reward(*_batch(texts), **_columns([0] * len(texts)))
        assert reward._policy is not None
        return reward._policy.counters.generated, found

    once, (alone,) = generated(["how many ?"])
    total, found = generated(["how many ?", " how many ?", "how many ?"])

    assert total == 2 * once
    assert found == [alone] * 3


def test_plain_texts_are_completions_too(policy: LocalModel) -> None:
    reward = duologue.trl.reward(
        TASK, samples=2, window=1, model=policy.model, tokenizer=policy.tokenizer, sampling=SHORT
    )

    assert reward([OPENING], ["how many ?"], **_columns([0])) == _score(policy, ["how many ?"])


def test_a_system_prompt_reaches_the_model_and_not_the_user(policy: LocalModel) -> None:
    told = [{"role": "system", "content": "ask before you order ."}, *OPENING]
    reward = duologue.trl.reward(
        TASK, samples=3, window=0, model=policy.model, tokenizer=policy.tokenizer, sampling=SHORT
    )

    with_prompt = reward([told], ["how many ?"], **_columns([0]))

    assert with_prompt == reward([OPENING], ["how many ?"], **_columns([0]))


def test_a_reply_that_was_cut_counts_as_cut(policy: LocalModel, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    score = MultiturnReward.__call__

    async def looking(self: Any, goal: Any, prefix: Any, reply: Any, *, seed: int) -> Any:
        seen.append(reply.finish)
        return await score(self, goal, prefix, reply, seed=seed)

    monkeypatch.setattr(MultiturnReward, "__call__", looking)
    end = policy.tokenizer.eos_token_id

    _score(policy, ["how many", "how many ?"], completion_ids=[[7, 8], [7, end]])

    assert seen == ["length", "stop"]


def test_without_a_goal_column_it_says_what_is_missing(policy: LocalModel, tmp_path: Path) -> None:
    data = Dataset.from_dict({"prompt": [OPENING] * 8})
    trainer = trainer_of((GRPOTrainer, GRPOConfig), policy, duologue.trl.reward(TASK), tmp_path, data=data)

    with pytest.raises(DataError, match="needs a `goal` column"):
        trainer.train()


def test_an_unknown_goal_is_named(policy: LocalModel) -> None:
    with pytest.raises(DataError, match='no training goal "nowhere": make prompts'):
        _score(policy, ["how many ?"], goal=["nowhere"])


def test_prompts_that_are_no_conversations_are_refused(policy: LocalModel) -> None:
    reward = duologue.trl.reward(TASK, model=policy.model, tokenizer=policy.tokenizer)

    with pytest.raises(DataError, match="needs prompts that are conversations"):
        reward(["i need coffee"], ["how many ?"], **_columns([0]))


@pytest.mark.parametrize(
    ("prompt", "last"),
    [([*OPENING, {"role": "assistant", "content": "how"}], "a message of role assistant"), ([], "nothing")],
)
def test_prompts_that_do_not_end_in_a_user_message_are_refused(
    prompt: list[dict[str, str]], last: str, policy: LocalModel
) -> None:
    reward = duologue.trl.reward(TASK, model=policy.model, tokenizer=policy.tokenizer)

    with pytest.raises(DataError, match=f"a prompt ends in {last}, and a completion replies to a user message"):
        reward([prompt], ["many ?"], **_columns([0]))


def test_a_second_system_message_is_refused(policy: LocalModel) -> None:
    reward = duologue.trl.reward(TASK, model=policy.model, tokenizer=policy.tokenizer)
    told = [{"role": "system", "content": text} for text in ("ask before you order .", "be brief .")]

    with pytest.raises(DataError, match="a system message after its first message"):
        reward([[*told, *OPENING]], ["how many ?"], **_columns([0]))


@pytest.mark.parametrize("given", [{}, {"model": "the model alone"}])
def test_without_a_trainer_it_asks_for_the_model(given: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match=r"give duologue.trl.reward\(…, model=…, tokenizer=…\)"):
        duologue.trl.reward(TASK, **given)(*_batch(["how many ?"]), **_columns([0]))


def test_it_is_importable_by_a_dotted_path() -> None:
    module, _, name = "duologue.trl.reward".rpartition(".")

    assert getattr(import_module(module), name) is duologue.trl.reward
    assert duologue.trl.reward(TASK).__name__ == "multiturn_reward"


# ---- the data set


def test_prompts_name_their_goal_and_visit_and_end_in_a_user_message() -> None:
    data = duologue.trl.prompts(TASK, 6, seed=3)

    known = {goal.id for goal in TASK.goals("train")}
    assert set(data.column_names) == {"prompt", "goal", "visit"}
    assert len(data) == 6
    assert all(row["goal"] in known and row["prompt"][-1]["role"] == "user" for row in data)
    assert data.to_list() == duologue.trl.prompts(TASK, 6, seed=3).to_list()


def test_deeper_prompts_are_played_by_an_assistant() -> None:
    oracle = Assistant(TASK.scripted["oracle"])

    data = duologue.trl.prompts(TASK, 20, assistant=oracle, deepest=2)

    lengths = {len(row["prompt"]) for row in data}
    assert 1 in lengths and max(lengths) > 1
    assert all(row["prompt"][-1]["role"] == "user" for row in data)


def test_deeper_prompts_without_an_assistant_are_refused() -> None:
    with pytest.raises(DataError, match="need an assistant to play them"):
        duologue.trl.prompts(TASK, 2, deepest=2)


def test_every_prompt_begins_with_the_assistants_system_prompt() -> None:
    told = Assistant(TASK.scripted["oracle"], system="ask before you order .")

    data = duologue.trl.prompts(TASK, 10, assistant=told, deepest=2)

    assert all(row["prompt"][0] == {"role": "system", "content": "ask before you order ."} for row in data)
    assert all(row["prompt"][1]["role"] == "user" for row in data)


def test_prompts_that_could_not_be_played_are_no_rows() -> None:
    class Silent:
        async def reply(self, *_: Any, **__: Any) -> Reply:
            raise ModelError("the server went away")

        def count_tokens(self, text: str) -> int:
            return 0

    with pytest.raises(ModelError, match=r"of 20 prompts could not be played; the last: .*the server went away"):
        duologue.trl.prompts(TASK, 20, assistant=Assistant(Silent()), deepest=2)


def test_rewards_and_prompts_that_would_be_none_are_refused() -> None:
    for wrong in ({"samples": 0}, {"window": -1}):
        with pytest.raises(RecipeError):
            duologue.trl.reward(TASK, **wrong)
    with pytest.raises(DataError, match="at least one prompt"):
        duologue.trl.prompts(TASK, 0)
