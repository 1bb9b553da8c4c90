"""Our environment under verifiers' own `vf-eval`: every reply gets its reward, or is left out."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from duologue import Assistant, Conversation, Message, MultiturnReward, Sampling, Supplies, load_task
from duologue.models.base import Reply, count_bytes
from duologue.models.wire import SEED_LIMIT
from endpoint_server import Asked, failure, in_turn
from evaluated_environment import CHAT, Evaluated, evaluate, is_candidate, mixed, whole

TASK = load_task("groceries")
STATES, CANDIDATES, SAMPLES, COPIES = 8, 4, 2, 2

SECRET = "reference-that-nobody-may-see"
OWN = """
from dataclasses import replace
from pathlib import Path

from duologue import Weighted, load_task
from duologue.integrations.verifiers import ChatHarness, ConversationEnv, ConversationTaskset
from duologue.metrics import METRICS

GOALS = Path(__file__).with_name("goals.jsonl")


class OwnTaskset(ConversationTaskset):
    TASK = replace(load_task("own", GOALS), metrics={"interactivity": Weighted(METRICS["interactivity"])})


__all__ = ["ChatHarness", "ConversationEnv", "OwnTaskset"]
"""


class Truncating:
    """The oracle of `groceries`, as it stands behind the server: its seeds are those that fit on the wire."""

    async def reply(self, messages: Sequence[Message], *, seed: int, sampling: Sampling) -> Reply:
        return await TASK.scripted["oracle"].reply(messages, seed=seed & SEED_LIMIT, sampling=sampling)

    def count_tokens(self, text: str) -> int:
        return count_bytes(text)


def said(trace: dict[str, Any]) -> list[tuple[str, str]]:
    """The messages of a trace."""
    return [(node["message"]["role"], node["message"]["content"]) for node in trace["nodes"]]


def without_reward(trace: dict[str, Any]) -> bool:
    return not any(trace["rewards"].values())


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Evaluated:
    """Eight states, each twice, half of them later than the first message."""
    options = ("-n", str(STATES), "-r", str(COPIES), "--env.taskset.deepest", "2", "--env.taskset.split", "test")
    sizes = ("--env.candidates", str(CANDIDATES), "--env.samples", str(SAMPLES))
    return evaluate(tmp_path_factory.mktemp("eval"), mixed, *options, *sizes)


def test_vf_eval_plays_every_state_as_often_as_it_is_told(evaluated: Evaluated) -> None:
    assert evaluated.code == 0, evaluated.told
    assert len(evaluated.episodes) == STATES * COPIES
    assert all(episode["ok"] and len(episode["traces"]) == CANDIDATES for episode in evaluated.episodes)


def test_every_reply_has_its_multiturn_aware_reward(evaluated: Evaluated) -> None:
    assert evaluated.traces
    goals = {goal.id: goal for goal in TASK.goals("test")}
    reward = MultiturnReward(
        Assistant(Truncating()), TASK.plain_users, TASK.metrics, SAMPLES, 2, supplies=Supplies(count_bytes)
    )
    for trace in evaluated.traces:
        *prefix, (_, reply) = said(trace)
        conversation = Conversation(tuple(Message(role, text) for role, text in prefix))  # type: ignore[arg-type]
        data = trace["task"]["data"]
        expected = asyncio.run(reward(goals[data["goal"]], conversation, reply, seed=data["visit"]))
        assert trace["rewards"]["multiturn_reward"] == {"score": expected.value, "weight": 1.0}
        assert expected.parts.items() <= trace["metrics"].items()


def test_a_reply_that_leads_nowhere_is_worth_less_than_the_oracles(evaluated: Evaluated) -> None:
    for episode in evaluated.episodes:
        worth: dict[bool, list[float]] = defaultdict(list)
        for trace in episode["traces"]:
            worth[said(trace)[-1][1] == CHAT].append(trace["rewards"]["multiturn_reward"]["score"])
        if len(worth) == 2:
            assert max(worth[True]) < min(worth[False])
    assert {said(trace)[-1][1] == CHAT for trace in evaluated.traces} == {True, False}


def test_the_replies_to_a_state_share_its_prefix_in_every_copy_of_it(evaluated: Evaluated) -> None:
    prefixes: dict[str, set[Any]] = defaultdict(set)
    for trace in evaluated.traces:
        prefixes[trace["task"]["key"]].add(tuple(said(trace)[:-1]))
    assert len(prefixes) == STATES and all(len(met) == 1 for met in prefixes.values())
    assert {len(next(iter(met))) for met in prefixes.values()} > {1}


def test_nothing_but_the_reply_is_there_to_be_trained_on(evaluated: Evaluated) -> None:
    assert evaluated.traces
    for trace in evaluated.traces:
        assert [node["sampled"] for node in trace["nodes"]] == [False] * (len(trace["nodes"]) - 1) + [True]
        assert trace["agent"]["trainable"]


def test_the_look_aheads_are_on_the_record_and_what_they_cost_is_booked(evaluated: Evaluated) -> None:
    assert all(len(trace["info"]["look_aheads"]) == SAMPLES for trace in evaluated.traces)
    seeded = [asked for asked in evaluated.asked if not is_candidate(asked)]
    assert sum(len(trace["extra_usage"]) for trace in evaluated.traces) == len(seeded) > 0


def test_a_reply_whose_look_aheads_are_lost_has_no_reward_and_is_not_trained_on(tmp_path: Path) -> None:
    async def lost_after_chat(asked: Asked) -> Any:
        lost = any(message["content"] == CHAT for message in asked.body["messages"])
        return failure(400, "not today") if lost else await mixed(asked)

    evaluated = evaluate(tmp_path, lost_after_chat, "-n", "2", "--env.candidates", "6")
    assert all(episode["ok"] for episode in evaluated.episodes), evaluated.told
    chats = [trace for trace in evaluated.traces if said(trace)[-1][1] == CHAT]
    others = [trace for trace in evaluated.traces if said(trace)[-1][1] != CHAT]
    assert chats and all(without_reward(trace) and not trace["agent"]["trainable"] for trace in chats)
    assert all("outcome" not in trace["metrics"] and "not today" in trace["info"]["lost"][0] for trace in chats)
    assert others and all(trace["rewards"] and trace["agent"]["trainable"] for trace in others)
    assert all(0 < trace["metrics"]["unscored"] < 1 for trace in others)


def test_an_episode_none_of_whose_replies_can_be_scored_failed_with_the_reason(tmp_path: Path) -> None:
    async def only_candidates(asked: Asked) -> Any:
        return await whole(asked, CHAT) if is_candidate(asked) else failure(400, "not today")

    evaluated = evaluate(tmp_path, only_candidates, "-n", "1", "--env.candidates", "2")
    (episode,) = evaluated.episodes
    assert len(episode["traces"]) == 2
    assert not episode["ok"] and "none of 2 replies could be scored" in episode["errors"][-1]["message"]
    assert "not today" in episode["errors"][-1]["message"]
    assert all(without_reward(trace) and not trace["ok"] for trace in episode["traces"])


def test_what_may_pass_is_tried_again(tmp_path: Path) -> None:
    evaluated = evaluate(tmp_path, in_turn(failure(503), then=whole), "-n", "1", "--env.candidates", "1")
    (trace,) = evaluated.traces
    assert trace["ok"] and trace["rewards"]["multiturn_reward"]["score"] > 0


def test_a_model_plays_the_users_and_another_judges_and_none_of_them_sees_the_reference(tmp_path: Path) -> None:
    goal = f'{{"id": "tea", "request": "You want green tea.", "reference": "{SECRET}", "split": "train"}}\n'
    (tmp_path / "goals.jsonl").write_text(goal)
    (tmp_path / "own_goals.py").write_text(OWN)
    evaluated = evaluate(
        tmp_path,
        whole,
        *("-n", "1", "--env.candidates", "2", "--env.user.model", "person", "--env.judge.model", "judge"),
        package="own-goals",
        more=lambda server: ("--env.user.endpoint", server.url, "--env.judge.endpoint", server.url),
    )
    assert len(evaluated.traces) == 2, evaluated.told
    assert all(0 <= trace["metrics"]["interactivity"] <= 1 for trace in evaluated.traces)
    assert {asked.body["model"] for asked in evaluated.asked} == {"oracle", "person", "judge"}
    assert not [asked for asked in evaluated.asked if SECRET in str(asked.body)]
    assert SECRET not in (tmp_path / "run" / "traces.jsonl").read_text()


def test_settings_that_cannot_be_used_end_the_command_with_a_sentence(tmp_path: Path) -> None:
    evaluated = evaluate(tmp_path, whole, "-n", "1", "--env.user.model", "person")
    assert evaluated.code != 0 and "endpoint: give the address" in evaluated.told
    assert "--env.user" in evaluated.told and "Traceback" not in evaluated.told
