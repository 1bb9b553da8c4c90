"""Groups of candidate replies: a state is reached, replies to it are drawn, and each is rewarded."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

from duologue.adaptive import AdaptiveReward, Choice
from duologue.conversation import Conversation, Ending, Goal
from duologue.errors import ContextOverflow, ModelError
from duologue.models.base import Reply
from duologue.models.meter import Metered
from duologue.reward import MultiturnReward, Reward
from duologue.seeding import derive, generator
from duologue.simulation import Assistant, reach
from duologue.tasks.base import Task

Rewarding = MultiturnReward | AdaptiveReward
"""What looks ahead from a state's replies: as often from each, or by what is still open."""
REDRAWS = 3
"""Times that a state which cannot be played is drawn again."""


@dataclass(frozen=True, slots=True)
class Group:
    """One prefix, several candidate replies to it, and what each is worth."""

    task: str
    goal: Goal
    visit: int
    """The seed of this visit to the goal: it fixed the user's profile and every draw."""
    prefix: Conversation
    replies: tuple[Reply, ...]
    rewards: tuple[Reward, ...]
    choice: Choice | None = None
    """What adaptive look-aheads chose; None where all replies had equally many."""
    sampled: int = 0
    """Tokens that the assistant said for all of it: prefix, candidates, look-aheads, and what was drawn again."""

    @property
    def failed(self) -> str | None:
        """Why there are no candidates, where the state could not be played."""
        return self.prefix.reason if self.prefix.ending is Ending.FAILED else None

    @property
    def distinct(self) -> list[tuple[Reply, Reward]]:
        """The replies that differ in text, or in whether they were cut, with their rewards."""
        found: dict[tuple[str, str], tuple[Reply, Reward]] = {}
        for reply, reward in zip(self.replies, self.rewards, strict=True):
            found.setdefault((reply.text, reply.finish), (reply, reward))
        return list(found.values())


class Counting:
    """An assistant, and a reward that looks ahead, whose tokens are counted as they are sampled."""

    def __init__(self, assistant: Assistant, reward: Rewarding) -> None:
        self._meters = (Metered(assistant.model), Metered(reward.assistant.model))
        self.assistant = replace(assistant, model=self._meters[0])
        self.reward = reward.of(replace(reward.assistant, model=self._meters[1]))

    @property
    def sampled(self) -> int:
        """Tokens so far."""
        return sum(meter.usage.completion for meter in self._meters)


def random_depth(seed: int, deepest: int) -> int:
    """Turns to play before the candidates: none half the time, else 1 to `deepest`."""
    draw = generator(seed, "depth")
    return 0 if deepest == 0 or draw.random() < 0.5 else draw.randint(1, deepest)


async def explore(
    assistant: Assistant, task: Task, reward: Rewarding, goal: Goal, *, depth: int, candidates: int, seed: int
) -> Group:
    """Play to a turn, draw candidate replies there, and reward each.

    Candidates with the same text are one candidate: it is looked ahead from once. A prefix that leaves no
    room for a reply is taken back to its last state that did. A state that cannot be played is drawn again,
    with another user and other words, up to `REDRAWS` times; a group that failed is the last one's.
    """
    counting = Counting(assistant, reward)
    group = await _explored(counting, task, goal, depth, candidates, seed)
    for redraw in range(1, REDRAWS + 1):
        if not group.failed:
            break
        group = await _explored(counting, task, goal, depth, candidates, derive(seed, "redraw", redraw))
    return replace(group, sampled=counting.sampled)


async def _explored(counting: Counting, task: Task, goal: Goal, depth: int, candidates: int, seed: int) -> Group:
    prefix = await reach(counting.assistant, task.user(goal.request, seed), depth=depth, seed=seed)
    return await _explored_from(counting, task, goal, prefix, candidates, seed)


async def explore_from(
    assistant: Assistant, task: Task, reward: Rewarding, goal: Goal, prefix: Conversation, *, candidates: int, seed: int
) -> Group:
    """Draw candidate replies at a state that was reached with this seed, and reward each; none where it FAILED.

    What the prefix cost is not among the group's sampled tokens.
    """
    counting = Counting(assistant, reward)
    group = await _explored_from(counting, task, goal, prefix, candidates, seed)
    return replace(group, sampled=counting.sampled)


async def _explored_from(
    counting: Counting, task: Task, goal: Goal, prefix: Conversation, candidates: int, seed: int
) -> Group:
    replies: Sequence[Reply] = ()
    if prefix.ending is not Ending.FAILED:
        try:
            prefix, replies = await _drawn(counting.assistant, prefix, candidates, seed)
        except ModelError as error:
            prefix = prefix.ended(Ending.FAILED, f"the assistant's model: {error}")
    rewards, choice = await rewarded(counting.reward, goal, prefix, replies, seed)
    return Group(task.name, goal, seed, prefix, tuple(replies), rewards, choice)


async def _drawn(
    assistant: Assistant, prefix: Conversation, candidates: int, seed: int
) -> tuple[Conversation, Sequence[Reply]]:
    where = prefix.digest
    draws = (assistant.reply(prefix, seed=derive(seed, "candidate", where, i)) for i in range(candidates))
    try:
        return prefix, await asyncio.gather(*draws)
    except ContextOverflow:
        if not prefix.replied_at:
            raise
        return await _drawn(assistant, prefix.truncated(prefix.replied_at[-1]), candidates, seed)


async def rewarded(
    reward: Rewarding, goal: Goal, prefix: Conversation, replies: Sequence[Reply], seed: int
) -> tuple[tuple[Reward, ...], Choice | None]:
    """The replies' rewards, in their order, and what adaptive look-aheads chose; equal replies share one."""
    if isinstance(reward, AdaptiveReward):
        return await reward(goal, prefix, replies, seed=seed)
    return await reward_each(reward, goal, prefix, replies, seed=seed), None


async def reward_each(
    reward: MultiturnReward, goal: Goal, prefix: Conversation, replies: Sequence[Reply], *, seed: int
) -> tuple[Reward, ...]:
    """The replies' rewards, in their order; equal replies share one."""
    distinct = {(reply.text, reply.finish): reply for reply in replies}
    values = await asyncio.gather(*(reward(goal, prefix, reply, seed=seed) for reply in distinct.values()))
    by_reply = dict(zip(distinct, values, strict=True))
    return tuple(by_reply[reply.text, reply.finish] for reply in replies)
