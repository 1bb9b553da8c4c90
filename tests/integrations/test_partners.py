"""Users and judge for a policy of another library, and what a record keeps of a reward."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace

import pytest
from pydantic import ValidationError

from duologue.conversation import Conversation, Ending, Message
from duologue.errors import DataError, ModelError, RecipeError
from duologue.integrations.partners import JudgeModel, Nobody, Partners, UserModel, figures, look_aheads
from duologue.metrics import METRICS
from duologue.metrics.base import Weighted
from duologue.models.base import Reply, Sampling
from duologue.reward import Reward
from duologue.simulation import Assistant
from duologue.tasks import load_task
from endpoint_server import serving
from lab_server import answer

TASK = load_task("groceries")
ORACLE = Assistant(TASK.scripted["oracle"])
JUDGED = {"interactivity": Weighted(METRICS["interactivity"])}
ASKS, CHATS = "which city and which payment ?", "great , that is a lovely choice ."

LOST = Reward(
    value=None,
    stderr=None,
    values=(None, 1.0),
    parts={"outcome": 1.0},
    failures=("the user's model: gone",),
    futures=(Conversation().ended(Ending.FAILED, "gone"), Conversation()),
)


@pytest.fixture
async def partners() -> AsyncGenerator[Partners]:
    made = Partners(TASK, samples=2, window=2)
    yield made
    await made.close()


def blocked(module: str) -> subprocess.CompletedProcess[str]:
    """An import of ours where verifiers is not installed."""
    program = f"import sys; sys.modules['verifiers'] = None; import {module}"
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)


def test_where_verifiers_is_missing_the_command_that_installs_it_is_named() -> None:
    told = blocked("duologue.integrations.verifiers").stderr
    assert "MissingDependency" in told and "pip install 'verifiers>=0.4,<0.5'" in told


async def test_a_visit_leads_every_copy_of_a_state_to_the_same_prefix(partners: Partners) -> None:
    goal = TASK.goals("train")[3]
    one, other = [await partners.state(ORACLE, goal, depth=2, visit=7) for _ in range(2)]
    assert one == other and one.messages[-1].role == "user"
    assert await partners.state(ORACLE, goal, depth=2, visit=8) != one


async def test_a_reply_is_worth_what_the_policy_makes_of_it(partners: Partners) -> None:
    goal, reward = TASK.goals("train")[3], partners.reward(ORACLE)
    state = await partners.state(ORACLE, goal, depth=0, visit=7)
    asks, chats = [await reward(goal, state, reply, seed=7) for reply in (ASKS, CHATS)]
    assert asks.value is not None and chats.value is not None and asks.value > chats.value


async def test_a_state_that_cannot_be_played_is_an_error_with_the_reason(partners: Partners) -> None:
    class Down:
        async def reply(self, messages: Sequence[Message], *, seed: int, sampling: Sampling) -> Reply:
            raise ModelError("the server is down")

        def count_tokens(self, text: str) -> int:
            return 0

    with pytest.raises(ModelError, match=r"goal 'groceries-train-.*the server is down"):
        await partners.state(Assistant(Down()), TASK.goals("train")[3], depth=1, visit=7)


async def test_without_a_policy_there_is_no_reply() -> None:
    with pytest.raises(ModelError, match="no policy was given"):
        await Nobody().reply([Message("user", "hello")], seed=0, sampling=Sampling())


def test_a_goal_that_there_is_not_names_the_nearest(partners: Partners) -> None:
    assert partners.goal(TASK.goals("train")[3].id) is TASK.goals("train")[3]
    with pytest.raises(DataError, match='no goal "groceries-train"; did you mean "groceries-train-'):
        partners.goal("groceries-train")


async def test_a_model_plays_the_users_and_another_judges() -> None:
    async with serving(answer) as server:
        user, judge = UserModel(endpoint=server.url, model="person"), JudgeModel(endpoint=server.url, model="judge")
        partners = Partners(replace(TASK, metrics=JUDGED), samples=1, window=1, user=user, judge=judge)
        goal = TASK.goals("train")[3]
        state = await partners.state(ORACLE, goal, depth=0, visit=7)
        reward = await partners.reward(ORACLE)(goal, state, ASKS, seed=7)
        await partners.close()
    assert reward.value is not None and 0 <= reward.value <= 1
    assert {asked.body["model"] for asked in server.asked} == {"person", "judge"}


@pytest.mark.parametrize(
    ("user", "told"),
    [
        (UserModel(model="person", endpoint="http://lab/v1", api_key_env="NO_SUCH_KEY"), "has no NO_SUCH_KEY"),
        (UserModel(profiles="nobody"), 'no user profiles "nobody"'),
        (UserModel(model="person", endpoint="http://lab/v1", profiles="nobody"), 'no set of user profiles "nobody"'),
    ],
)
def test_users_that_cannot_be_had_are_refused_with_a_sentence(user: UserModel, told: str) -> None:
    judge = JudgeModel(model="judge", endpoint="http://lab/v1")
    with pytest.raises(RecipeError, match=told):
        Partners(TASK, samples=1, window=1, user=user, judge=judge)


@pytest.mark.parametrize("kind", [UserModel, JudgeModel])
@pytest.mark.parametrize("endpoint", [None, "lab"])
def test_a_model_without_an_address_is_refused(kind: type[UserModel | JudgeModel], endpoint: str | None) -> None:
    with pytest.raises(ValidationError, match="endpoint: give the address"):
        kind(model="person", endpoint=endpoint)


@pytest.mark.parametrize("kind", [UserModel, JudgeModel])
def test_an_address_without_a_model_is_refused(kind: type[UserModel | JudgeModel]) -> None:
    with pytest.raises(ValidationError, match="model: name the model"):
        kind(endpoint="http://lab/v1")


def test_a_metric_that_needs_a_judge_is_refused_before_anything_is_played() -> None:
    with pytest.raises(RecipeError, match=r'"interactivity" needs a judge: give judge\.model and judge\.endpoint'):
        Partners(replace(TASK, metrics=JUDGED), samples=1, window=1)


def test_what_scripted_users_show_needs_a_judge_where_a_model_plays_them() -> None:
    person = UserModel(model="person", endpoint="http://lab/v1")
    with pytest.raises(RecipeError, match='"satisfaction" needs a judge'):
        Partners(TASK, samples=1, window=1, user=person)


async def test_the_figures_of_a_reward_are_its_parts_and_how_many_look_aheads_counted(partners: Partners) -> None:
    goal = TASK.goals("train")[3]
    state = await partners.state(ORACLE, goal, depth=0, visit=7)
    reward = await partners.reward(ORACLE)(goal, state, ASKS, seed=7)
    counts = {"look_aheads": 2.0, "look_aheads_lost": 0.0}
    assert figures(reward) == {**reward.parts, "stderr": reward.stderr, **counts}


def test_of_a_lost_reward_no_part_becomes_a_figure() -> None:
    assert figures(LOST) == {"look_aheads": 1.0, "look_aheads_lost": 1.0}


async def test_the_record_of_a_look_ahead_has_what_followed_the_reply(partners: Partners) -> None:
    goal = TASK.goals("train")[3]
    state = await partners.state(ORACLE, goal, depth=0, visit=7)
    reward = await partners.reward(ORACLE)(goal, state, ASKS, seed=7)
    for kept, value, future in zip(look_aheads(reward), reward.values, reward.futures, strict=True):
        assert (kept["value"], kept["ending"], kept["reason"]) == (value, future.ending, None)
        followed = future.messages[len(state.messages) + 1 :]
        assert followed and [row["content"] for row in kept["messages"]] == [message.content for message in followed]
