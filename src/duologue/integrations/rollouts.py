"""Rollouts for trainers that run every copy of a prompt on its own: what a row says, and what its copies share.

A rollout is a prefix, a candidate reply, and its multiturn-aware reward. The copies of a prompt run side by side
in one worker. The first plays the prefix with the policy as it is, the others wait for it; replies with the same
text are one candidate and are looked ahead from once; and a candidate that cannot be scored takes the mean of the
others', so that whoever compares it with them finds no difference.
"""

from __future__ import annotations

import logging
import operator
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from weakref import WeakValueDictionary

from duologue.conversation import Conversation, Ending, Goal, parse_messages
from duologue.dataset import REDRAWS
from duologue.errors import DataError, nearest
from duologue.integrations.copies import Group, StepMean
from duologue.models.base import ChatModel, Reply
from duologue.reward import MultiturnReward, Reward
from duologue.seeding import derive
from duologue.simulation import Assistant, reach
from duologue.tasks.base import Task
from duologue.tasks.rows import SPLITS

ATTEMPTS = 2
"""Candidates drawn for one place, where the first cannot be scored."""
REWARD = "multiturn_reward"
"""The figure that is the reward: unlike the score, of a candidate without one there is none."""
ASKS = "asks_"
"""What the names of a task's figures begin with that say whether a reply asks."""

logger = logging.getLogger(__name__)


class Policy(Protocol):
    """The policy as it is now, behind whatever decodes for the trainer."""

    @property
    def model(self) -> ChatModel:
        """What plays prefixes and look-aheads."""
        ...

    def fits(self, conversation: Conversation, system: str | None) -> bool:
        """Whether it is no longer than the trainer's longest prompt."""
        ...

    async def candidate(self, conversation: Conversation, system: str | None, *, seed: int) -> tuple[Reply, Any]:
        """A reply to be trained on, with the trainer's own account of it."""
        ...


@dataclass(frozen=True)
class Row:
    """One copy of a prompt."""

    task: Task
    goal: Goal
    split: str
    """The goal's: trainers validate on goals to "test" on."""
    system: str | None
    start: Conversation
    """The prompt: it ends in a user message."""
    seed: int
    """Of this visit to the goal: it fixes the user's profile and every draw."""
    depth: int
    """Turns to play before the candidate; 0 draws it right at the prompt."""
    group: str
    """What the copies of the prompt in this step have in common, and no other rows."""
    copy: int
    """Which of them it is, from 0."""
    step: int


@dataclass(frozen=True)
class State:
    """A conversation that waits for a reply, with the seed that its user was drawn by."""

    prefix: Conversation
    seed: int


@dataclass(frozen=True)
class Rollout:
    """A candidate reply and what it is worth."""

    prefix: Conversation
    reply: Reply
    drawn: Any
    """The trainer's own account of the reply."""
    score: float
    """Its reward; of one that could not be scored, the mean of the other copies' or else of the step so far."""
    scored: bool
    """Whether it is to be trained on."""
    why: str | None
    """What most of its look-aheads were lost by, where it could not be scored."""
    figures: Mapping[str, float | None]
    """The same names for every row of every task; None where there is none."""
    generating: float
    """Seconds for the prefix and the candidate."""
    scoring: float
    """Seconds for the look-aheads and their metrics."""


class Rollouts:
    """The rollouts of one worker.

    Args:
        tasks: that rows may name.
        reward: (task, assistant) → the reward of that assistant's replies.
        parts: (task) → the names of its reward's parts.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        reward: Callable[[Task, Assistant], MultiturnReward],
        parts: Callable[[Task], Sequence[str]],
    ) -> None:
        self._tasks = {task.name: task for task in tasks}
        self._goals: dict[str, dict[str, dict[str, Goal]]] = {}
        self._reward = reward
        self._parts = tuple(dict.fromkeys(name for task in tasks for name in parts(task)))
        self._asks = tuple(dict.fromkeys(name for task in tasks for name in task.figures if name.startswith(ASKS)))
        self._groups: WeakValueDictionary[str, Group] = WeakValueDictionary()
        self._steps = {split: StepMean() for split in SPLITS}
        self.failures = Counter[str]()
        """Why look-aheads were lost, and how many by each reason."""

    def row(self, columns: Mapping[str, Any], *, group: str, copy: int, step: int) -> Row:
        """A row of the data set: `raw_prompt` and `goal`, and mostly `task`, `seed` and `depth`.

        Without `task` it is the only one there is, without `depth` 0; without `seed` one is made of the prompt.

        Raises:
            DataError: a column is missing, names what there is not or holds no such number, or a prompt does not end
                in a user message.
        """
        task = self._task(columns.get("task"))
        split, goal = self._goal(task, columns.get("split"), columns.get("goal"))
        where = f'the prompt of goal "{goal.id}"'
        messages = parse_messages(columns.get("raw_prompt"), where)
        system = messages[0].content if messages and messages[0].role == "system" else None
        start = Conversation(messages[1:] if system is not None else messages)
        if not start.messages or start.messages[-1].role != "user" or any(m.role == "system" for m in start.messages):
            raise DataError(f"{where} must be a conversation that ends in a user message, system prompt first, if any")
        seed, depth = _whole(columns, "seed", where), _whole(columns, "depth", where) or 0
        if depth < 0:
            raise DataError(f"{where}: its depth is {depth}; it counts turns, from 0")
        drawn = derive(0, "row", goal.id, start.digest) if seed is None else seed
        return Row(task, goal, split, system, start, drawn, depth, group, copy, step)

    async def rollout(self, row: Row, policy: Policy) -> Rollout:
        """Draw a candidate and score it; once more where it could not be scored.

        Raises:
            DataError: the prompt is longer than the trainer's longest.
        """
        group = self._groups.setdefault(row.group, Group())
        group.join()
        value: float | None = None
        try:
            began = time.monotonic()
            assistant = Assistant(policy.model, row.system)
            state = await group.once("state", lambda: self._state(row, assistant, policy))
            drawn = time.monotonic()
            reply, account, reward = await self._candidate(row, state, group, assistant, policy)
            value = reward.value
        finally:
            group.settle(value)
        scored = time.monotonic()
        so_far = self._steps[row.split]
        score = so_far.took(row.step, value) if value is not None else await _stand_in(group, so_far.mean, row.step)
        told = (value is not None, _why(reward), self._figures(row, state.prefix, reply, reward))
        return Rollout(state.prefix, reply, account, score, *told, drawn - began, scored - drawn)

    async def _candidate(
        self, row: Row, state: State, group: Group, assistant: Assistant, policy: Policy
    ) -> tuple[Reply, Any, Reward]:
        reward = self._reward(row.task, assistant)
        for attempt in range(ATTEMPTS):
            seed = derive(row.seed, "candidate", state.prefix.digest, row.step, row.copy, attempt)
            reply, account = await policy.candidate(state.prefix, row.system, seed=seed)
            found = await group.once(
                (reply.text, reply.finish, attempt),
                lambda reply=reply: self._scored(reward, row.goal, state, reply),
            )
            if found.value is not None:
                break
        return reply, account, found  # pyright: ignore[reportPossiblyUnboundVariable]  # ATTEMPTS > 0

    async def _scored(self, reward: MultiturnReward, goal: Goal, state: State, reply: Reply) -> Reward:
        found = await reward(goal, state.prefix, reply, seed=state.seed)
        for why in found.failures:
            if why not in self.failures:
                logger.warning("a look-ahead was lost, and is left out (said once, then counted): %s", why)
            self.failures[why] += 1
        return found

    async def _state(self, row: Row, assistant: Assistant, policy: Policy) -> State:
        state = await self._reached(row, assistant) if row.depth else State(row.start, row.seed)
        prefix = state.prefix
        while prefix.replied_at and not policy.fits(prefix, row.system):
            prefix = prefix.truncated(prefix.replied_at[-1])
        if not policy.fits(prefix, row.system):
            raise DataError(
                f'the prompt of goal "{row.goal.id}" is longer than data.max_prompt_length: set that higher'
            )
        return State(prefix, state.seed)

    async def _reached(self, row: Row, assistant: Assistant) -> State:
        """The prompt, played on; at the prompt itself where that cannot be done."""
        why = None
        for redraw in range(REDRAWS + 1):
            seed = derive(row.seed, "redraw", redraw) if redraw else row.seed
            prefix = await reach(assistant, row.task.user(row.goal.request, seed), depth=row.depth, seed=seed)
            if prefix.ending is not Ending.FAILED:
                return State(prefix, seed)
            why = prefix.reason
        logger.warning('goal "%s": the prefix could not be played; candidates follow the prompt: %s', row.goal.id, why)
        return State(row.start, row.seed)

    def _figures(self, row: Row, prefix: Conversation, reply: Reply, reward: Reward) -> dict[str, float | None]:
        found: dict[str, float | None] = {REWARD: reward.value, **dict.fromkeys((*self._parts, *self._asks))}
        if reward.value is not None:
            found |= reward.parts
        if len(prefix.messages) == 1:
            shares = {name: row.task.figures[name] for name in self._asks if name in row.task.figures}
            counted = {name: figure(prefix.replied(reply.text), row.goal) for name, figure in shares.items()}
            found |= {name: share.count / share.base for name, share in counted.items() if share.base}
        return {**found, "look_aheads": float(reward.counted), "unscored": float(reward.value is None)}

    def _task(self, name: Any) -> Task:
        if name is None and len(self._tasks) == 1:
            return next(iter(self._tasks.values()))
        if name not in self._tasks:
            raise DataError(f'a row names the task "{name}", and the recipe does not{nearest(str(name), self._tasks)}')
        return self._tasks[name]

    def _goal(self, task: Task, split: Any, name: Any) -> tuple[str, Goal]:
        """A row's split, which may go without saying, and its goal."""
        if split not in (None, *SPLITS):
            raise DataError(f'a row names the split "{split}": it is "train" or "test", or left out')
        if task.name not in self._goals:
            self._goals[task.name] = {each: {goal.id: goal for goal in task.goal_maker(each)} for each in SPLITS}
        known = self._goals[task.name]
        found = [(each, known[each][name]) for each in SPLITS if split in (None, each) and name in known[each]]
        if not found:
            told = "a row names no goal" if name is None else f'task "{task.name}" has no goal "{name}"'
            raise DataError(f"{told}: the column `goal` holds the id of one; `duologue verl` writes such data sets")
        if found[0][1] != found[-1][1]:
            raise DataError(
                f'task "{task.name}" has two goals "{name}": say which in a column `split`, "train" or "test"'
            )
        return found[0]


def _whole(columns: Mapping[str, Any], name: str, where: str) -> int | None:
    """The whole number in a column; None where there is none."""
    value = columns.get(name)
    try:
        return None if value is None else operator.index(value)
    except TypeError as error:
        raise DataError(f"{where}: its {name} is {value!r}, which is no whole number") from error


async def _stand_in(group: Group, so_far: Callable[[int], float], step: int) -> float:
    """The score of a candidate without one: it is not trained on, and moves no mean of its group."""
    mean = await group.mean()
    return so_far(step) if mean is None else mean


def _why(reward: Reward) -> str | None:
    """What most look-aheads were lost by, where there is no reward."""
    return Counter(reward.failures).most_common(1)[0][0] if reward.value is None else None
