"""States spread over tasks and goals, explored one by one into a journal: what offline training learns from."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from itertools import islice

from duologue import attempts
from duologue.conversation import Goal
from duologue.dataset.candidates import Row, row_of
from duologue.dataset.groups import Rewarding, explore, random_depth
from duologue.journal import Journal
from duologue.seeding import derive, generator
from duologue.simulation import Assistant
from duologue.tasks.base import Task


@dataclass(frozen=True, slots=True)
class Visit:
    """One visit to a goal, to be explored."""

    task: Task
    goal: Goal
    seed: int
    depth: int


def visits(tasks: Sequence[Task], count: int, *, deepest: int, seed: int) -> list[Visit]:
    """`count` visits to training goals, the tasks in turn, each task's goals in a shuffled order."""
    orders = {task.name: shuffled(task, derive(seed, "goals", task.name)) for task in tasks}
    made: list[Visit] = []
    for index in range(count):
        task = tasks[index % len(tasks)]
        goals = orders[task.name]
        lap, place = divmod(index // len(tasks), len(goals))
        goal = goals[place]
        visit = derive(seed, "visit", index, lap, goal.id)
        made.append(Visit(task, goal, visit, random_depth(visit, deepest)))
    return made


def shuffled(task: Task, seed: int) -> list[Goal]:
    """A task's training goals in an order that the seed fixes."""
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

    A state that failed, or of which a candidate could not be scored, is explored again by the next call. A row says
    what it cost: the tokens sampled for it, and the seconds since the one before it was journalled.

    Yields:
        The number of rows journalled so far. A state that failed is journalled with its reason.
    """
    todo = [(f"{key}/{visit.goal.id}/{visit.seed}", visit) for visit in planned]
    done, clock = sum(name in journal for name, _ in todo), time.monotonic()

    async def one(name: str, visit: Visit) -> None:
        nonlocal clock
        assistant, reward = partners(visit.task)
        group = await explore(
            assistant, visit.task, reward, visit.goal, depth=visit.depth, candidates=candidates, seed=visit.seed
        )
        row = {"failed": group.failed} if group.failed else row_of(group).to_json()
        lost = bool(group.failed) or any(reward.value is None and reward.failures for reward in group.rewards)
        began, clock = clock, time.monotonic()
        cost = {"sampled_tokens": group.sampled, "seconds": clock - began}
        attempts.record(journal, name, "row", {**row, **cost}, lost=lost)

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
        for entry in attempts.standing(journal, "row")
        if entry.key in wanted and not entry.value.get("failed")
    }
    return [Row.from_json(found[index]) for index in sorted(found)]
