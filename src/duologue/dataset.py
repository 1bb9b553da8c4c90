"""Groups of candidate replies with their rewards, and the data sets that offline training makes of them."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from duologue.adaptive import AdaptiveReward, Choice
from duologue.conversation import Conversation, Ending, Goal, Message, message_rows, parse_messages
from duologue.errors import ContextOverflow, DataError, ModelError
from duologue.journal import Journal
from duologue.models.base import Reply
from duologue.reward import LOST_LIMIT, MultiturnReward, Reward
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
    group = await _explored(assistant, task, reward, goal, depth, candidates, seed)
    for redraw in range(1, REDRAWS + 1):
        if not group.failed:
            break
        again = derive(seed, "redraw", redraw)
        group = await _explored(assistant, task, reward, goal, depth, candidates, again)
    return group


async def _explored(
    assistant: Assistant, task: Task, reward: Rewarding, goal: Goal, depth: int, candidates: int, seed: int
) -> Group:
    prefix = await reach(assistant, task.user(goal.request, seed), depth=depth, seed=seed)
    replies: Sequence[Reply] = ()
    if prefix.ending is not Ending.FAILED:
        try:
            prefix, replies = await _drawn(assistant, prefix, candidates, seed)
        except ModelError as error:
            prefix = prefix.ended(Ending.FAILED, f"the assistant's model: {error}")
    rewards, choice = await _rewarded(reward, goal, prefix, replies, seed)
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


async def _rewarded(
    reward: Rewarding, goal: Goal, prefix: Conversation, replies: Sequence[Reply], seed: int
) -> tuple[tuple[Reward, ...], Choice | None]:
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


@dataclass(frozen=True, slots=True)
class Candidate:
    """A candidate reply in a data set."""

    text: str
    values: tuple[float | None, ...]
    """One a look-ahead, None where it was lost; sample s met the same user's luck in every candidate.

    Adaptive look-aheads give one candidate more of them than another."""
    cut: bool = False
    ids: tuple[int, ...] | None = None
    """What it was sampled as, where the model says."""

    @property
    def counts(self) -> bool:
        """Whether enough look-aheads counted for a value: see `reward.LOST_LIMIT`."""
        return sum(value is None for value in self.values) <= LOST_LIMIT * len(self.values)

    def mean(self, samples: Iterable[int]) -> float | None:
        """The mean over some of the look-aheads, None where none of them counted."""
        values = [value for s in samples if (value := self.values[s]) is not None]
        return math.fsum(values) / len(values) if values else None


@dataclass(frozen=True, slots=True)
class Row:
    """A prefix with its distinct candidates, as a journal keeps it."""

    task: str
    goal: str
    visit: int
    prefix: tuple[Message, ...]
    candidates: tuple[Candidate, ...]
    choice: Choice | None = None
    """What adaptive look-aheads chose among the candidates; None where all had equally many."""

    def to_json(self) -> dict[str, Any]:
        """The row as a journal's value; the choice is in it where there is one to tell of."""
        choice = {} if self.choice is None else {"choice": {"pair": self.choice.pair, "fresh": self.choice.fresh}}
        return {
            **choice,
            "task": self.task,
            "goal": self.goal,
            "visit": self.visit,
            "prefix": message_rows(self.prefix),
            "candidates": [
                {"text": c.text, "values": list(c.values), "cut": c.cut, "ids": list(c.ids) if c.ids else None}
                for c in self.candidates
            ],
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Row:
        """The row that `to_json` wrote."""
        candidates = tuple(
            Candidate(c["text"], tuple(c["values"]), c["cut"], tuple(c["ids"]) if c["ids"] else None)
            for c in value["candidates"]
        )
        prefix = parse_messages(value["prefix"], f"row of goal {value['goal']}")
        return cls(value["task"], value["goal"], value["visit"], prefix, candidates, _choice_of(value.get("choice")))


def _choice_of(value: dict[str, Any] | None) -> Choice | None:
    if value is None:
        return None
    better, worse = value["fresh"]
    return Choice(tuple(value["pair"]) if value["pair"] else None, (tuple(better), tuple(worse)))


def row_of(group: Group) -> Row:
    """A group's distinct candidates."""
    candidates = tuple(
        Candidate(reply.text, reward.values, reply.finish == "length", reply.ids) for reply, reward in group.distinct
    )
    return Row(group.task, group.goal.id, group.visit, group.prefix.messages, candidates, group.choice)


@dataclass(frozen=True, slots=True)
class Visit:
    """One visit to a goal, to be explored."""

    task: Task
    goal: Goal
    seed: int
    depth: int


def visits(tasks: Sequence[Task], count: int, *, deepest: int, seed: int) -> list[Visit]:
    """`count` visits to training goals, the tasks in turn, each task's goals in a shuffled order."""
    orders = {task.name: _shuffled(task, derive(seed, "goals", task.name)) for task in tasks}
    made: list[Visit] = []
    for index in range(count):
        task = tasks[index % len(tasks)]
        goals = orders[task.name]
        lap, place = divmod(index // len(tasks), len(goals))
        goal = goals[place]
        visit = derive(seed, "visit", index, lap, goal.id)
        made.append(Visit(task, goal, visit, random_depth(visit, deepest)))
    return made


def _shuffled(task: Task, seed: int) -> list[Goal]:
    goals = list(task.goals("train"))
    generator(seed).shuffle(goals)
    return goals


async def build(
    planned: Sequence[Visit],
    partners: Callable[[Task], tuple[Assistant, Rewarding]],
    *,
    candidates: int,
    journal: Journal,
    key: str,
    concurrency: int = 64,
) -> AsyncIterator[int]:
    """Explore every visit that the journal does not have yet, and journal its row.

    Yields:
        The number of rows journalled so far. A state that failed is journalled with its reason.
    """
    todo = [(f"{key}/{visit.goal.id}/{visit.seed}", visit) for visit in planned]
    done = sum(name in journal for name, _ in todo)

    async def one(name: str, visit: Visit) -> None:
        assistant, reward = partners(visit.task)
        group = await explore(
            assistant, visit.task, reward, visit.goal, depth=visit.depth, candidates=candidates, seed=visit.seed
        )
        journal.append(name, "row", {"failed": group.failed} if group.failed else row_of(group).to_json())

    waiting = (one(name, visit) for name, visit in todo if name not in journal)
    running: set[asyncio.Task[None]] = set()
    try:
        while running := running | {
            asyncio.ensure_future(each) for each in islice(waiting, concurrency - len(running))
        }:
            finished, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in finished:
                task.result()
                done += 1
                yield done
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


def rows(journal: Journal, planned: Sequence[Visit], key: str) -> list[Row]:
    """The journalled rows of the planned visits, in the plan's order, without those that failed."""
    wanted = {f"{key}/{visit.goal.id}/{visit.seed}": index for index, visit in enumerate(planned)}
    found = {
        wanted[entry.key]: entry.value
        for entry in journal.read("row")
        if entry.key in wanted and not entry.value.get("failed")
    }
    return [Row.from_json(found[index]) for index in sorted(found)]


@dataclass(frozen=True, slots=True)
class Pair:
    """Two replies to one prefix, the better one first."""

    task: str
    prefix: tuple[Message, ...]
    chosen: str
    rejected: str
    gap: float
    """The difference in reward, measured on look-aheads that took no part in the choice."""
    chosen_ids: tuple[int, ...] | None = None
    rejected_ids: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class PairCounts:
    """What became of the rows."""

    rows: int
    kept: int
    tied: int
    """Rows whose candidates were all alike, or equal in reward."""
    within_noise: int
    """Pairs whose gap did not exceed `min_gap` and the noise."""
    unscored: int
    """Rows without a pair of which a candidate lost too many look-aheads to have a value."""


def pairs(rows: Sequence[Row], *, min_gap: float, noise: float, per_row: int = 1) -> tuple[list[Pair], PairCounts]:
    """Preference pairs: chosen on one half of the look-aheads, their gap measured on the other.

    Of six equal replies at k = 3, best minus worst exceeds a standard error in 90 % of groups; on look-aheads
    that took no part in the choice, the gap is unbiased. The better reply is a whole one: an end that was cut
    is not to be learned. A pair counts if its gap exceeds `min_gap` and
    `noise` standard errors of the paired difference (the same sample met the same user's luck), that error
    pooled over the rows.

    Of a row of adaptive look-aheads, the pair is the one that they chose, whatever `per_row`: no other was
    measured. Its gap and its noise come from the fresh look-aheads alone.

    Raises:
        DataError: the rows have fewer than two look-aheads a candidate; or adaptive ones had no fresh ones.
    """
    chosen = [found for row in rows for found in _choices(row, per_row)]
    variance = pooled_variance([differences for _, _, differences, _ in chosen])
    kept: list[Pair] = []
    for row, (better, worse), _, measured in chosen:
        gap = math.fsum(measured) / len(measured)
        if gap > min_gap and gap > noise * math.sqrt(variance / len(measured)):
            kept.append(Pair(row.task, row.prefix, better.text, worse.text, gap, better.ids, worse.ids))
    with_choice = {id(row) for row, *_ in chosen}
    without = [row for row in rows if id(row) not in with_choice]
    unscored = sum(any(not candidate.counts for candidate in row.candidates) for row in without)
    return kept, PairCounts(len(rows), len(kept), len(without) - unscored, len(chosen) - len(kept), unscored)


Compared = tuple[Row, tuple[Candidate, Candidate], list[float], list[float]]
"""A row, its better and worse candidate, their differences that tell the noise, and those that measure the gap."""


def _choices(row: Row, per_row: int) -> list[Compared]:
    """Best against worst, second best against second worst… by the first half of the look-aheads."""
    if not row.candidates:
        return []
    if row.choice is not None:
        return _chosen(row, row.choice)
    samples = len(row.candidates[0].values)
    if samples < 2:
        raise DataError("pairs need two look-aheads a candidate or more: one half chooses, the other measures")
    first, second = range(samples // 2), range(samples // 2, samples)
    scored = [(mean, c) for c in row.candidates if c.counts and (mean := c.mean(first)) is not None]
    scored.sort(key=lambda entry: -entry[0])
    whole = [(mean, c) for mean, c in scored if not c.cut]
    found: list[Compared] = []
    for place in range(min(per_row, len(scored) // 2, len(whole))):
        (high, better), (low, worse) = whole[place], scored[-1 - place]
        measured = _differences(better, worse, second)
        if high > low and measured and better.text != worse.text:
            found.append((row, (better, worse), _differences(better, worse, range(samples)), measured))
    return found


def _chosen(row: Row, choice: Choice) -> list[Compared]:
    """The pair that adaptive look-aheads chose, where a fresh one of both replies counted."""
    if choice.pair is None:
        return []
    better, worse = (row.candidates[place] for place in choice.pair)
    if not choice.fresh[0]:
        raise DataError("pairs chosen by adaptive look-aheads need fresh ones that measure the gap; there are none")
    measured = _paired(*choice.fresh)
    return [(row, (better, worse), measured, measured)] if measured and better.text != worse.text else []


def _differences(better: Candidate, worse: Candidate, samples: Iterable[int]) -> list[float]:
    numbers = list(samples)
    return _paired([better.values[s] for s in numbers], [worse.values[s] for s in numbers])


def _paired(better: Sequence[float | None], worse: Sequence[float | None]) -> list[float]:
    return [b - w for b, w in zip(better, worse, strict=True) if b is not None and w is not None]


def pooled_variance(groups: Sequence[Sequence[float]]) -> float:
    """The variance within groups, pooled: Σ squared deviations ÷ Σ (size − 1); 0 where no group has two."""
    freedom = sum(len(group) - 1 for group in groups if len(group) > 1)
    if freedom == 0:
        return 0.0
    means = [math.fsum(group) / len(group) if group else 0.0 for group in groups]
    squares = math.fsum((v - mean) ** 2 for group, mean in zip(groups, means, strict=True) for v in group)
    return squares / freedom


def best_replies(rows: Sequence[Row]) -> list[tuple[Row, Candidate]]:
    """(row, reply) of every row's best whole reply; rows whose candidates are equal are left out."""
    best: list[tuple[Row, Candidate]] = []
    for row in rows:
        if row.choice is not None:
            best += [(row, row.candidates[row.choice.pair[0]])] if row.choice.pair else []
            continue
        scored = [
            (mean, -i, c)
            for i, c in enumerate(row.candidates)
            if c.counts and not c.cut and (mean := c.mean(range(len(c.values)))) is not None
        ]
        if len(scored) > 1 and max(scored)[0] > min(scored)[0]:
            best.append((row, max(scored)[2]))
    return best
