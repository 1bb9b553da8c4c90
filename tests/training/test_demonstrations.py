"""Demonstrations: what a model made from nothing learns from."""

from __future__ import annotations

from dataclasses import replace

import pytest

from duologue.errors import DataError
from duologue.tasks import load_task
from duologue.tasks.base import Demonstration
from duologue.training.demonstrations import demonstrate, stage_examples
from duologue.training.settings import SftSettings

GROCERIES = load_task("groceries")


@pytest.mark.parametrize("name", ["groceries", "twenty-questions"])
def test_every_demonstration_starts_with_the_user_and_ends_in_a_reply(name: str) -> None:
    for example in demonstrate(load_task(name), 50, seed=0):
        roles = [message.role for message in example.messages]
        assert roles == ["user", "assistant"] * (len(roles) // 2)


def test_a_demonstration_depends_on_the_seed_and_its_number_alone() -> None:
    assert demonstrate(GROCERIES, 20, seed=1)[:5] == demonstrate(GROCERIES, 5, seed=1)
    assert demonstrate(GROCERIES, 5, seed=1) != demonstrate(GROCERIES, 5, seed=2)


def test_of_demonstrations_that_succeed_within_some_turns_there_are_as_many_as_asked_for() -> None:
    shown = demonstrate(GROCERIES, 40, seed=0, within=1)

    assert [len(example.messages) for example in shown] == [2] * 40
    assert all("order :" in example.messages[-1].content for example in shown)


def test_where_hardly_any_demonstration_succeeds_the_search_ends() -> None:
    hopeless = replace(GROCERIES, demonstrations=(Demonstration("always-ask", 1.0, "proactive"),))

    with pytest.raises(DataError, match="hardly a demonstration"):
        demonstrate(hopeless, 4, seed=0, within=1)


def test_the_mixture_is_the_tasks_and_each_part_stands_under_its_prompt() -> None:
    halves = (Demonstration("guess", 1.0), Demonstration("always-ask", 1.0, "proactive"))
    task = replace(GROCERIES, demonstrations=halves)

    shown = demonstrate(task, 400, seed=0)
    asking = [example for example in shown if example.system is not None]

    assert {example.system for example in asking} == {GROCERIES.prompts["proactive"]}
    assert 150 < len(asking) < 250
    assert all("order" not in example.messages[1].content for example in asking)
    assert all("order" in example.messages[1].content for example in shown if example.system is None)


def test_test_goals_are_never_demonstrated() -> None:
    def split(name: str) -> None:
        assert name == "train"

    def goals(name: str):
        split(name)
        return GROCERIES.goal_maker(name)

    demonstrate(replace(GROCERIES, goal_maker=goals), 5, seed=0)


def test_a_task_without_demonstrations_is_refused() -> None:
    with pytest.raises(DataError, match="no demonstrations"):
        demonstrate(replace(GROCERIES, demonstrations=()), 1, seed=0)


def test_a_style_that_the_task_does_not_have_is_refused() -> None:
    with pytest.raises(DataError, match='no scripted assistant "shouting"'):
        demonstrate(replace(GROCERIES, demonstrations=(Demonstration("shouting", 1.0),)), 1, seed=0)


def test_a_stage_mixes_its_tasks_and_says_which_replies_are_learned() -> None:
    tasks = [load_task("groceries"), load_task("twenty-questions")]
    settings = SftSettings(
        algorithm="sft",
        data="demonstrations",
        conversations={"groceries": 20, "twenty-questions": 10},
        last_reply=("twenty-questions",),
    )

    examples = stage_examples(tasks, settings, seed=0)

    assert sorted(example.trained for example in examples) == ["all"] * 20 + ["last"] * 10
    assert "last" in [example.trained for example in examples[:15]]
