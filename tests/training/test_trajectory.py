"""GRPO on whole conversations: trained on is what the assistant sampled in them, all of it, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from duologue.background import BackgroundLoop
from duologue.conversation import Conversation, Ending, Goal, Message
from duologue.dataset import Visit, visits
from duologue.errors import DataError, ModelError
from duologue.metrics import Metric, Score, Weighted
from duologue.metrics.base import Supplies
from duologue.models.base import Reply, Sampling
from duologue.models.local import LocalModel
from duologue.reward import MultiturnReward, Scorer
from duologue.simulation import Assistant
from duologue.training.grpo import Rollouts, grpo_trainer
from duologue.training.settings import GrpoSettings
from duologue.training.stage import Stage, train_to
from duologue.training.trajectory import (
    Conversations,
    Trajectories,
    play_group,
    train_trajectories,
    trajectory_of,
)
from duologue.users.base import Utterance
from training_stage import GROCERIES, Killed, a_stage, kill_at, steps, timeless, weights, with_users

SMALL = GrpoSettings(
    algorithm="grpo",
    unit="conversation",
    learning_rate=7e-4,
    groups=3,
    candidates=4,
    steps=2,
    save_steps=None,
    warmup=0,
)


@pytest.fixture(scope="module")
def model() -> LocalModel:
    return LocalModel.load("tiny", device="cpu")


@pytest.fixture
def stage(base: Path, tmp_path: Path, loop: BackgroundLoop) -> Stage:
    return a_stage(tmp_path, base, loop)


class Heard:
    """A model whose replies are kept."""

    def __init__(self, model: LocalModel) -> None:
        self._model = model
        self.replies: list[Reply] = []

    async def reply(self, messages: Sequence[Message], *, seed: int, sampling: Sampling) -> Reply:
        self.replies.append(await self._model.reply(messages, seed=seed, sampling=sampling))
        return self.replies[-1]

    def count_tokens(self, text: str) -> int:
        return self._model.count_tokens(text)


async def played(visit: Visit, model: Any, size: int) -> Conversations:
    assistant = Assistant(model)
    return await play_group(visit, assistant, MultiturnReward(assistant, GROCERIES.user, GROCERIES.metrics), size)


def some_visits(count: int) -> list[Visit]:
    return visits([GROCERIES], count, deepest=4, seed=0)


def reply(prompt: Sequence[int], ids: Sequence[int]) -> Reply:
    return Reply("", prompt_ids=tuple(prompt), ids=tuple(ids), logprobs=tuple(-float(i) for i in ids))


# ---- one conversation as a row


async def test_the_ids_that_bear_loss_are_those_sampled_and_the_others_are_what_the_user_said(
    model: LocalModel,
) -> None:
    lengths: set[int] = set()
    for visit in some_visits(12):
        heard = Heard(model)
        group = await played(visit, heard, 1)
        (row,), (outcome,) = group.trajectories, group.outcomes
        assert row is not None
        sampled = [token for token, mine in zip(row.completion, row.sampled, strict=True) if mine]
        others = [token for token, mine in zip(row.completion, row.sampled, strict=True) if not mine]
        users = [m.content for m in outcome.future.messages[1:-1] if m.role == "user"]

        assert (row.replies, row.masked) == (len(heard.replies), 0)
        assert sampled == [token for each in heard.replies for token in each.ids or ()]
        said = "".join(f"<|user|> {text}<|end|><|assistant|>" for text in users)
        assert model.tokenizer.decode(others) == said
        assert row.prompt == model.encode(outcome.future.messages[:1])
        lengths.add(len(heard.replies))
    assert len(lengths) > 1


def test_log_probabilities_stand_at_the_ids_they_belong_to() -> None:
    row = trajectory_of([reply([9], [1, 2]), reply([9, 1, 2, 8, 8], [3])])
    assert row.completion == (1, 2, 8, 8, 3)
    assert row.sampled == (True, True, False, False, True)
    assert row.logprobs == (-1.0, -2.0, 0.0, 0.0, -3.0)


def test_a_reply_that_is_read_back_as_other_ids_bears_no_loss_and_is_counted() -> None:
    row = trajectory_of([reply([9], [1, 2]), reply([9, 7, 8], [3]), reply([9, 7, 8, 3, 8], [4])])
    assert row.completion == (7, 8, 3, 8, 4)
    assert row.sampled == (False, False, True, False, True)
    assert (row.replies, row.masked) == (3, 1)


def test_a_cut_reply_is_read_back_with_an_end_that_was_not_sampled() -> None:
    end = 5
    row = trajectory_of([reply([9], [1]), reply([9, 1, end, 8], [3])])
    assert row.sampled == (True, False, False, True)


@pytest.mark.parametrize("replies", [[], [Reply("from a server")], [reply([9], [1]), reply([8, 1], [2])]])
def test_what_cannot_be_trained_on_is_refused(replies: list[Reply]) -> None:
    with pytest.raises(DataError):
        trajectory_of(replies)


# ---- a group


async def test_members_meet_the_same_user_with_the_same_luck_and_draw_for_themselves(model: LocalModel) -> None:
    told_apart = 0
    for visit in some_visits(4):
        conversations = [outcome.future for outcome in (await played(visit, model, 6)).outcomes]
        assert len({conversation.messages[0] for conversation in conversations}) == 1
        answers: dict[tuple[Message, ...], set[Message]] = {}
        for conversation in conversations:
            for index, message in enumerate(conversation.messages):
                if message.role == "user":
                    answers.setdefault(conversation.messages[:index], set()).add(message)
        assert all(len(same) == 1 for same in answers.values())
        told_apart += len({conversation.messages for conversation in conversations}) > 1
    assert told_apart


async def test_a_conversation_is_worth_r_of_all_of_it(model: LocalModel) -> None:
    visit = some_visits(1)[0]
    group = await played(visit, model, 4)
    score = Scorer(GROCERIES.metrics, Supplies(model.count_tokens))
    for outcome in group.outcomes:
        assert outcome.future.shared == 0 and outcome.future.ending in (Ending.SATISFIED, Ending.LEFT)
        assert outcome.value == (await score(outcome.future, visit.goal)).value


async def test_a_group_counts_all_that_was_sampled(model: LocalModel) -> None:
    before = model.counters.generated
    group = await played(some_visits(1)[0], model, 4)
    assert group.sampled == model.counters.generated - before > 0


def test_goals_users_and_luck_are_those_of_the_same_stage_on_replies(stage: Stage) -> None:
    on_replies = Rollouts(SMALL.model_copy(update={"unit": "reply", "groups": 5}), stage)
    theirs, ours = ([(v.goal, v.seed) for v in each.planned] for each in (on_replies, Trajectories(SMALL, stage)))
    assert theirs[: len(ours)] == ours


# ---- through TRL


def rolled_out(stage: Stage, settings: GrpoSettings = SMALL) -> tuple[Trajectories, dict[str, list[Any]]]:
    """The rollouts of the first step, and what they give TRL."""
    rollouts = Trajectories(settings, stage)
    trainer = grpo_trainer(settings, stage, rollouts)
    size = settings.groups * settings.candidates
    return rollouts, rollouts([str(row // settings.candidates) for row in range(size)], trainer)


def test_no_token_of_a_user_bears_loss_in_trl(tmp_path: Path, loop: BackgroundLoop) -> None:
    stage = a_stage(tmp_path, LocalModel.load("tiny", device="cpu"), loop, max_tokens=GROCERIES.max_tokens)
    trainer = grpo_trainer(SMALL, stage, Trajectories(SMALL, stage))
    compute, seen = trainer.compute_loss, list[list[int]]()

    def looked_at(model: Any, inputs: Any, *more: Any, **named: Any) -> Any:
        mask = (inputs["completion_mask"] * inputs["tool_mask"]).bool()
        seen.extend(ids[keep].tolist() for ids, keep in zip(inputs["completion_ids"], mask, strict=True))
        return compute(model, inputs, *more, **named)

    trainer.compute_loss = looked_at  # type: ignore[method-assign]
    train_to(SMALL.steps, trainer, stage)

    assert len(seen) == SMALL.steps * SMALL.groups * SMALL.candidates
    roles = set(stage.policy.tokenizer.convert_tokens_to_ids(["<|user|>", "<|assistant|>"]))
    assert all(roles.isdisjoint(ids) for ids in seen)
    assert sum(map(len, seen)) == stage.policy.counters.generated
    # Users' messages have an end of their own: it would show.
    end = stage.policy.tokenizer.eos_token_id
    assert sum(ids.count(end) for ids in seen) == sum(step["replies"] for step in steps(stage))


def test_every_row_has_the_reward_of_its_own_conversation(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    groups: list[Conversations] = []
    rows = Trajectories._rows

    def listening(self: Trajectories, group: Any) -> Any:
        groups.append(group)
        return rows(self, group)

    monkeypatch.setattr(Trajectories, "_rows", listening)
    _, given = rolled_out(stage)

    assert given["reward"] == [outcome.value for group in groups for outcome in group.outcomes]
    assert given["completion_ids"] == [list(row.completion) for g in groups for row in g.trajectories if row]
    assert len(set(given["reward"])) > 1


def test_a_step_says_what_was_played(stage: Stage) -> None:
    train_trajectories(SMALL, stage)

    first, second = steps(stage)
    assert first["algorithm"] == "grpo" and second["step"] == 2
    assert first["replies"] >= SMALL.groups * SMALL.candidates
    assert first["tokens"] == first["sampled_tokens"] / first["replies"]
    assert (first["unscored"], first["skipped"]) == (0, 0)
    assert not list(stage.journal.read("tree"))


def test_the_policy_learns(stage: Stage) -> None:
    before = weights(stage)
    train_trajectories(SMALL, stage)
    assert not torch.equal(weights(stage), before)


# ---- what is lost


class Unreachable:
    """A user whose model fails, from some message on."""

    def __init__(self, user: Any, after: int) -> None:
        self._user, self._after = user, after

    async def speak(self, conversation: Conversation, *, seed: int) -> Utterance:
        if len(conversation.turns) >= self._after:
            raise ModelError("no answer")
        return await self._user.speak(conversation, seed=seed)

    def react(self, conversation: Conversation) -> Any:
        return self._user.react(conversation)


def test_a_lost_conversation_bears_no_loss_and_is_counted(base: Path, tmp_path: Path, loop: BackgroundLoop) -> None:
    task = with_users(lambda user, seed: Unreachable(user, after=1) if seed % 2 else user)
    rollouts, given = rolled_out(a_stage(tmp_path, base, loop, task=task), SMALL.model_copy(update={"groups": 8}))

    lost = [mask for mask, reward in zip(given["env_mask"], given["reward"], strict=True) if reward is None]
    assert 0 < len(lost) < len(given["reward"])
    assert not any(map(any, lost))
    assert rollouts.figures["unscored"] == len(lost)


def test_a_goal_that_nobody_got_to_reply_to_is_skipped(base: Path, tmp_path: Path, loop: BackgroundLoop) -> None:
    task = with_users(lambda user, seed: Unreachable(user, after=0) if seed % 2 else user)
    settings = SMALL.model_copy(update={"groups": 8})
    rollouts, given = rolled_out(a_stage(tmp_path, base, loop, task=task), settings)

    odd = sum(visit.seed % 2 for visit in rollouts.planned[: settings.groups])
    assert 0 < odd < settings.groups
    assert rollouts.figures["skipped"] == odd
    assert given["reward"].count(None) == odd * settings.candidates


def test_where_nothing_could_be_scored_there_is_a_sentence(base: Path, tmp_path: Path, loop: BackgroundLoop) -> None:
    task = replace(GROCERIES, metrics={"judged": Weighted(unread)})
    with pytest.raises(ModelError, match="none of a step's candidates could be scored, mostly: judged: the judge said"):
        rolled_out(a_stage(tmp_path, base, loop, task=task))


def unread() -> Metric:
    """A judge that cannot be read."""

    async def score(conversation: Conversation, goal: Goal) -> Score:
        return Score(None, "the judge said nothing")

    return score


# ---- going on


def test_a_killed_training_goes_on_as_if_it_had_not_been(base: Path, tmp_path: Path, loop: BackgroundLoop) -> None:
    settings = SMALL.model_copy(update={"steps": 3, "save_steps": 2})
    whole = a_stage(tmp_path / "whole", base, loop)
    train_trajectories(settings, whole)
    with pytest.raises(Killed):
        train_trajectories(settings, a_stage(tmp_path / "killed", base, loop, progress=kill_at(3)))

    again = a_stage(tmp_path / "killed", base, loop)
    train_trajectories(settings, again)

    torch.testing.assert_close(weights(again), weights(whole), atol=1e-5, rtol=0)
    ours, theirs = (
        [(key, {name: value for name, value in entry.items() if name != "loss"}) for key, entry in timeless(each)]
        for each in (again, whole)
    )
    assert ours == theirs
