"""What the copies of a prompt share when a trainer runs each on its own; verl is not needed for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

import duologue
from duologue.conversation import Conversation, Goal
from duologue.errors import DataError, ModelError
from duologue.integrations.rollouts import Rollout, Rollouts, Row
from duologue.models.base import Reply
from duologue.reward import MultiturnReward
from duologue.simulation import Assistant
from duologue.tasks.base import Share, Task
from scripted_world import GOAL, OPENING, Babbler, Chatterer, length, luck

OTHER = replace(GOAL, id="h")
PROMPT = [{"role": "user", "content": "I need apples"}]


def task(user: Chatterer | None = None, name: str = "shopping", **changes: Any) -> Task:
    """A task of two goals whose users are one chatterer."""
    met = user or Chatterer()
    metrics = {"luck": duologue.Weighted(luck), "length": duologue.Weighted(length, weight=0.0)}
    goals: dict[str, Sequence[Goal]] = {"train": [GOAL], "test": [OTHER]}
    return Task(name, "", goals.__getitem__, {"train": lambda request, seed: met}, metrics, **changes)


def rollouts(*tasks: Task) -> Rollouts:
    def reward(task: Task, assistant: Assistant) -> MultiturnReward:
        return MultiturnReward(assistant, task.user, task.metrics, samples=3, window=1)

    return Rollouts(tasks, reward, lambda task: list(task.metrics))


@dataclass
class Served:
    """A policy whose candidates a test writes, and whose model babbles."""

    texts: Callable[[int], str] = lambda drawn: f"reply {drawn}"
    model: Babbler = field(default_factory=Babbler)
    longest: int = 100
    drawn: list[Conversation] = field(default_factory=list[Conversation])

    def fits(self, conversation: Conversation, system: str | None) -> bool:
        return len(conversation.messages) <= self.longest

    async def candidate(self, conversation: Conversation, system: str | None, *, seed: int) -> tuple[Reply, Any]:
        self.drawn.append(conversation)
        return Reply(self.texts(len(self.drawn) - 1)), seed


def row(worker: Rollouts, copy: int = 0, *, group: str = "a", step: int = 1, **columns: Any) -> Row:
    found = {"raw_prompt": PROMPT, "task": "shopping", "goal": "g", "seed": 7, **columns}
    return worker.row(found, group=group, copy=copy, step=step)


async def rolled(worker: Rollouts, policy: Served, copies: int, **columns: Any) -> list[Rollout]:
    rows = [row(worker, copy, **columns) for copy in range(copies)]
    return list(await asyncio.gather(*(worker.rollout(each, policy) for each in rows)))


# ---- prefixes


async def test_copies_wait_for_the_first_to_play_their_prefix() -> None:
    policy = Served()
    found = await rolled(rollouts(task()), policy, 4, depth=2)
    assert len({rollout.prefix for rollout in found}) == 1
    assert len(found[0].prefix.messages) == 5
    before_candidates = [read for read in policy.model.read if len(read) < 5]
    assert len(before_candidates) == 2


async def test_without_a_depth_the_prompt_itself_is_the_prefix() -> None:
    policy = Served()
    (found,) = await rolled(rollouts(task()), policy, 1)
    assert found.prefix == OPENING


async def test_the_next_step_plays_the_prefix_anew() -> None:
    worker, before, after = rollouts(task()), Served(model=Babbler("old")), Served(model=Babbler("new"))
    await worker.rollout(row(worker, depth=1, group="a", step=1), before)
    found = await worker.rollout(row(worker, depth=1, group="b", step=2), after)
    assert found.prefix.replies == ("new",)


async def test_a_prefix_is_taken_back_to_where_it_fits() -> None:
    (found,) = await rolled(rollouts(task()), Served(longest=4), 1, depth=2)
    assert len(found.prefix.messages) == 3


async def test_a_prompt_that_does_not_fit_is_an_error() -> None:
    with pytest.raises(DataError, match=r"longer than data\.max_prompt_length"):
        await rolled(rollouts(task()), Served(longest=0), 2)


async def test_where_no_prefix_can_be_played_candidates_follow_the_prompt() -> None:
    user = Chatterer(fails=lambda seed: True)
    policy = Served()
    (found,) = await rolled(rollouts(task(user)), policy, 1, depth=2)
    assert found.prefix == OPENING and policy.drawn[0] == OPENING


# ---- rewards


async def test_equal_replies_of_a_prompt_are_looked_ahead_from_once() -> None:
    user = Chatterer()
    found = await rolled(rollouts(task(user)), Served(lambda drawn: "the same"), 5)
    assert len({rollout.score for rollout in found}) == 1
    assert len(user.heard) == 3


async def test_copies_draw_from_seeds_of_their_own_and_again_the_same() -> None:
    seeds = [rollout.drawn for rollout in await rolled(rollouts(task()), Served(), 3)]
    again = [rollout.drawn for rollout in await rolled(rollouts(task()), Served(), 3)]
    assert seeds == again and len(set(seeds)) == 3


def failing_for(*texts: str) -> Chatterer:
    """A user who has no answer to certain replies."""

    class Failing(Chatterer):
        async def speak(self, conversation: Conversation, *, seed: int) -> Any:
            if conversation.replies[-1:] and conversation.replies[-1] in texts:
                raise ModelError("no answer from the user's server")
            return await super().speak(conversation, seed=seed)

    return Failing()


async def test_a_candidate_that_cannot_be_scored_is_drawn_once_more() -> None:
    policy = Served()
    (found,) = await rolled(rollouts(task(failing_for("reply 0"))), policy, 1)
    assert found.scored and found.reply.text == "reply 1"
    assert found.figures["unscored"] == 0.0 and found.figures["look_aheads"] == 3.0


async def test_one_without_a_score_takes_the_mean_of_its_siblings() -> None:
    worker = rollouts(task(failing_for("reply 0", "reply 3")))
    found = await rolled(worker, Served(), 3)
    lost = [rollout for rollout in found if not rollout.scored]
    others = [rollout.score for rollout in found if rollout.scored]
    assert len(lost) == 1 and lost[0].score == pytest.approx(sum(others) / 2)
    assert lost[0].figures["unscored"] == 1.0 and lost[0].figures["luck"] is None
    assert lost[0].figures["multiturn_reward"] is None and "no answer from" in str(lost[0].why)
    assert all(rollout.figures["multiturn_reward"] == rollout.score for rollout in found if rollout.scored)
    assert sum(worker.failures.values()) == 6


async def test_where_a_whole_group_has_no_score_it_takes_the_mean_of_the_step() -> None:
    worker = rollouts(task(failing_for("bad")))
    first = await rolled(worker, Served(), 2, group="a")
    lost = await rolled(worker, Served(lambda drawn: "bad"), 2, group="b")
    assert [rollout.scored for rollout in lost] == [False, False]
    mean = sum(rollout.score for rollout in first) / 2
    assert [rollout.score for rollout in lost] == pytest.approx([mean, mean])


async def test_what_a_step_validates_with_has_no_part_in_what_it_trains_with() -> None:
    worker = rollouts(task(failing_for("bad")))
    await rolled(worker, Served(), 2, group="a", goal="g")
    (lost,) = await rolled(worker, Served(lambda drawn: "bad"), 1, group="b", goal="h")
    assert not lost.scored and lost.score == 0.0


async def test_a_step_without_any_score_has_mean_zero() -> None:
    worker = rollouts(task(failing_for("bad")))
    await rolled(worker, Served(), 2, step=1)
    (lost,) = await rolled(worker, Served(lambda drawn: "bad"), 1, step=2, group="b")
    assert lost.score == 0.0 and not lost.scored


async def test_a_copy_whose_server_fails_keeps_no_other_waiting() -> None:
    class Failing(Served):
        async def candidate(self, conversation: Conversation, system: str | None, *, seed: int) -> tuple[Reply, Any]:
            raise RuntimeError("the server is gone")

    worker = rollouts(task(failing_for("bad")))
    failing, lost = await asyncio.gather(
        worker.rollout(row(worker, 0), Failing()),
        worker.rollout(row(worker, 1), Served(lambda drawn: "bad")),
        return_exceptions=True,
    )
    assert isinstance(failing, RuntimeError)
    assert isinstance(lost, Rollout) and not lost.scored


async def test_a_group_is_forgotten_with_its_last_copy() -> None:
    worker, policy = rollouts(task()), Served(model=Babbler("hm"))
    await rolled(worker, policy, 2, depth=1)
    played = len(policy.model.read)
    await rolled(worker, policy, 2, depth=1)
    assert len(policy.model.read) == 2 * played


# ---- figures and rows


async def test_rows_of_all_tasks_have_the_same_figures() -> None:
    def asks(conversation: Conversation, goal: Goal) -> Share:
        return Share(float(conversation.replies[-1].endswith("?")))

    asking = task(name="asking", figures={"asks_when_missing": asks, "shares": asks})
    worker = rollouts(task(), asking)
    plain = await worker.rollout(row(worker), Served())
    asked = await worker.rollout(row(worker, task="asking", group="b"), Served(lambda drawn: "which ?"))
    deeper = await worker.rollout(row(worker, task="asking", group="c", depth=1), Served())
    assert (
        [*plain.figures]
        == [*asked.figures]
        == [*("multiturn_reward", "luck", "length", "asks_when_missing", "look_aheads", "unscored")]
    )
    assert plain.figures["asks_when_missing"] is deeper.figures["asks_when_missing"] is None
    assert asked.figures["asks_when_missing"] == 1.0


def test_a_row_may_be_of_a_test_goal_and_have_a_system_prompt() -> None:
    messages = [{"role": "system", "content": "be brief"}, *PROMPT]
    found = row(rollouts(task()), raw_prompt=messages, goal="h")
    assert found.system == "be brief" and found.start == OPENING and found.goal is OTHER


def test_of_two_goals_with_one_id_a_row_has_that_of_its_split() -> None:
    goals = {"train": GOAL, "test": replace(GOAL, reference="bread")}
    worker = rollouts(replace(task(), goal_maker=lambda split: (goals[split],)))
    for split, goal in goals.items():
        assert row(worker, split=split).goal == goal
    with pytest.raises(DataError, match='two goals "g": say which in a column `split`'):
        row(worker)


def test_a_row_without_a_seed_has_one_of_its_prompts() -> None:
    worker = rollouts(task())
    seeds = {row(worker, copy, seed=None).seed for copy in range(3)}
    assert len(seeds) == 1
    assert row(worker, seed=None, raw_prompt=[{"role": "user", "content": "hello"}]).seed not in seeds


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"goal": None}, "a row names no goal"),
        ({"goal": "x"}, 'no goal "x"'),
        ({"split": "test"}, 'no goal "g"'),
        ({"split": "dev"}, 'names the split "dev"'),
        ({"depth": "x"}, "its depth is 'x', which is no whole number"),
        ({"depth": -1}, "its depth is -1; it counts turns"),
        ({"seed": "x"}, "its seed is 'x'"),
        ({"task": "shoping"}, 'did you mean "shopping"'),
        ({"raw_prompt": None}, "must be a list"),
        ({"raw_prompt": []}, "ends in a user message"),
        ({"raw_prompt": [*PROMPT, {"role": "assistant", "content": "hello"}]}, "ends in a user message"),
        ({"raw_prompt": [*PROMPT, {"role": "system", "content": "be brief"}]}, "ends in a user message"),
    ],
)
def test_a_row_that_cannot_be_used_is_refused(changed: dict[str, Any], told: str) -> None:
    with pytest.raises(DataError, match=told):
        row(rollouts(task()), **changed)
