"""What fails in an episode under `vf-eval` never counts as a reward of 0, and takes nothing with it that went well."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import verifiers.v1 as vf
from pydantic import ValidationError

from endpoint_server import Asked, failure
from evaluated_environment import Evaluated, evaluate, is_candidate, whole

TASKSET = {"id": "duologue-groceries"}
FOREVER = 120


def environment() -> Any:
    return vf.load_environment(vf.resolve_env_config({"taskset": TASKSET}))


def assert_nothing_counts(evaluated: Evaluated) -> None:
    """The episode failed, and so did every trace that it has."""
    (episode,) = evaluated.episodes
    assert not episode["ok"] and episode["traces"], evaluated.told
    for trace in episode["traces"]:
        assert not trace["ok"] and not trace["agent"]["trainable"] and not trace["rewards"]
    assert not environment().complete(vf.WireEpisode.model_validate(episode))


def test_where_the_users_endpoint_turns_us_away_no_reply_counts(tmp_path: Path) -> None:
    async def away_after_the_first_message(asked: Asked) -> Any:
        away = asked.body["model"] == "person" and asked.number > 0
        return failure(403, "not today") if away else await whole(asked)

    evaluated = evaluate(
        tmp_path,
        away_after_the_first_message,
        *("-n", "1", "--env.candidates", "2", "--env.user.model", "person", "--env.judge.model", "judge"),
        more=lambda server: ("--env.user.endpoint", server.url, "--env.judge.endpoint", server.url),
    )
    assert_nothing_counts(evaluated)
    assert all("not today" in trace["errors"][-1]["message"] for trace in evaluated.traces)


async def slow_look_aheads(asked: Asked) -> Any:
    if not is_candidate(asked):
        await asyncio.sleep(FOREVER)
    return await whole(asked)


async def slow_second_reply(asked: Asked) -> Any:
    if asked.number:
        await asyncio.sleep(FOREVER)
    return await whole(asked)


@pytest.mark.parametrize("script", [slow_look_aheads, slow_second_reply])
def test_where_the_time_for_an_episode_is_over_no_reply_counts(tmp_path: Path, script: Any) -> None:
    evaluated = evaluate(tmp_path, script, "-n", "1", "--env.candidates", "2", "--env.timeout.episode", "6")
    assert_nothing_counts(evaluated)
    assert "deadline" in evaluated.episodes[0]["errors"][-1]["message"]
    assert all("ended before its replies had rewards" in t["errors"][-1]["message"] for t in evaluated.traces)


async def no_second_reply_in_time(asked: Asked) -> Any:
    if is_candidate(asked) and asked.number % 2:
        await asyncio.sleep(FOREVER)
    return await whole(asked)


def test_a_reply_that_does_not_come_in_time_is_not_an_empty_one(tmp_path: Path) -> None:
    within = ("--env.assistant.timeout.rollout", "5")
    evaluated = evaluate(tmp_path, no_second_reply_in_time, "-n", "1", "--env.candidates", "2", *within)
    assert not evaluated.episodes[0]["errors"], evaluated.told
    lost, scored = sorted(evaluated.traces, key=lambda trace: trace["ok"])
    assert lost["is_timeout"] and not lost["ok"] and not lost["rewards"] and not lost["agent"]["trainable"]
    assert scored["ok"] and scored["rewards"]["multiturn_reward"] and scored["agent"]["trainable"]


def test_a_look_ahead_whose_reply_does_not_come_in_time_is_lost(tmp_path: Path) -> None:
    within = ("--env.assistant.timeout.rollout", "5")
    evaluated = evaluate(tmp_path, slow_look_aheads, "-n", "1", "--env.candidates", "2", *within)
    assert_nothing_counts(evaluated)
    told = evaluated.episodes[0]["errors"][-1]["message"]
    assert "none of 2 replies could be scored" in told and "no reply: agent_timeout" in told


def test_replies_are_scored_although_others_of_the_episode_failed(tmp_path: Path) -> None:
    async def every_other(asked: Asked) -> Any:
        return failure(400, "not this one") if is_candidate(asked) and asked.number % 2 else await whole(asked)

    evaluated = evaluate(tmp_path, every_other, "-n", "1", "--env.candidates", "4")
    (episode,) = evaluated.episodes
    assert not episode["errors"], evaluated.told
    failed = [trace for trace in episode["traces"] if not trace["ok"]]
    scored = [trace for trace in episode["traces"] if trace["ok"]]
    assert (len(failed), len(scored)) == (2, 2)
    assert not any(trace["rewards"] or trace["agent"]["trainable"] for trace in failed)
    assert all("not this one" in trace["errors"][-1]["message"] for trace in failed)
    assert all(trace["rewards"]["multiturn_reward"] and trace["agent"]["trainable"] for trace in scored)
    assert all(trace["metrics"]["unscored"] == 0.5 for trace in scored)
    assert environment().complete(vf.WireEpisode.model_validate(episode))


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"window": -1}, "greater than or equal to 0"),
        ({"user": {"model": "person"}}, "endpoint: give the address"),
        ({"judge": {"model": "judge", "endpoint": "lab"}}, "endpoint: give the address"),
        ({"user": {"profiles": "nobody"}}, 'no user profiles "nobody"'),
    ],
)
def test_settings_that_cannot_be_used_are_refused_before_there_is_an_environment(settings: Any, told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        vf.resolve_env_config({"taskset": TASKSET, **settings})
