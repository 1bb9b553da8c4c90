from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from duologue.conversation import Ending, Goal, Request
from duologue.errors import DataError, RecipeError
from duologue.metrics import Weighted
from duologue.simulation import converse
from duologue.tasks.base import Share, Task
from duologue.users.base import User
from scripted_world import GOAL, Chatterer, babbling, length

GOALS = {"train": [GOAL], "test": [Goal("h", Request("buy bread"))]}


def patient(request: Request, seed: int) -> User:
    return Chatterer(last=seed)


def brusque(request: Request, seed: int) -> User:
    return Chatterer(last=1, ending=Ending.LEFT)


def goals(split: str) -> Sequence[Goal]:
    return GOALS[split]


SHOPPING = Task(
    name="shopping",
    summary="Buy one thing.",
    goal_maker=goals,
    profiles={"train": patient, "unseen": brusque},
    metrics={"length": Weighted(length)},
)


def test_a_task_has_goals_for_training_and_for_testing() -> None:
    assert SHOPPING.goals("train") == [GOAL]
    assert SHOPPING.goals("test") == GOALS["test"]


def test_an_unknown_split_is_refused() -> None:
    with pytest.raises(DataError, match='task "shopping" has no split "dev"; known: train, test'):
        SHOPPING.goals("dev")


def test_an_empty_task_says_so() -> None:
    empty = replace(SHOPPING, goal_maker=lambda split: [])
    with pytest.raises(DataError, match='task "shopping" has no goals to test on'):
        empty.goals("test")


async def test_the_seed_draws_the_user() -> None:
    conversation = await converse(babbling(), SHOPPING.user(GOAL.request, 3), seed=0)
    assert (conversation.ending, len(conversation.replies)) == (Ending.SATISFIED, 3)


async def test_the_same_task_can_have_users_of_another_profile() -> None:
    others = SHOPPING.with_profile("unseen")
    conversation = await converse(babbling(), others.user(GOAL.request, 3), seed=0)
    assert conversation.ending is Ending.LEFT
    assert SHOPPING.profile == "train"


def test_an_unknown_profile_names_the_nearest_one() -> None:
    with pytest.raises(RecipeError, match=r'task "shopping" has no user profiles "unsen"; did you mean "unseen"\?'):
        SHOPPING.with_profile("unsen")


def test_intervals_are_clustered_by_goal_unless_the_task_says_otherwise() -> None:
    assert SHOPPING.cluster(GOAL) == "g"


def test_a_share_counts_its_conversation_once() -> None:
    assert Share(0.5) == (0.5, 1.0)
