"""Data sets of prompts for verl: where conversations begin, and how to play them on.

A row is one visit to a goal. Its `prompt` ends in the user's first message. The agent loop reads the rest: `goal`,
`task`, `split`, `seed`, and `depth`, the turns that the policy plays from there before the candidate. verl reads
`prompt`, `data_source`, `agent_name` (without it, verl generates single turns and says nothing) and `extra_info.index`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

from duologue.conversation import Conversation, Ending, message_rows
from duologue.dataset import REDRAWS, Visit, visits
from duologue.dataset.files import features, needed
from duologue.dataset.sets import Kind
from duologue.errors import DataError
from duologue.integrations.partners import Split
from duologue.models.scripted import ScriptedModel
from duologue.seeding import derive
from duologue.simulation import Assistant, reach
from duologue.tasks.base import Task

AGENT = "duologue"
"""The agent loop's name in verl."""
COLUMNS: dict[str, Kind] = {
    "prompt": "messages",
    "data_source": "text",
    "agent_name": "text",
    "task": "text",
    "goal": "text",
    "split": "text",
    "seed": "whole",
    "depth": "whole",
}
"""A row's columns; `extra_info` comes beside them."""


def training(tasks: Sequence[Task], count: int, *, deepest: int, seed: int) -> list[Visit]:
    """`count` visits to training goals, half of them to be played on by 1 to `deepest` turns.

    Raises:
        DataError: less than one, or a task without training goals.
    """
    if count < 1:
        raise DataError(f"a data set needs at least one prompt; the number is {count}")
    return visits(tasks, count, deepest=deepest, seed=derive(seed, "verl"))


def validation(tasks: Sequence[Task], count: int, *, seed: int) -> list[Visit]:
    """The first `count` test goals, the tasks in turn; fewer where there are fewer. Candidates follow the prompt.

    Raises:
        DataError: less than one, or a task without test goals.
    """
    if count < 1:
        raise DataError(f"a data set needs at least one prompt; the number is {count}")
    goals = [(task, goal, place) for task in tasks for place, goal in enumerate(task.goals("test"))]
    goals.sort(key=lambda each: each[2])
    return [Visit(task, goal, derive(seed, "verl", "test", task.name, goal.id), 0) for task, goal, _ in goals[:count]]


async def rows(
    planned: Sequence[Visit], systems: Mapping[str, str | None], split: Split
) -> tuple[list[dict[str, Any]], list[str]]:
    """The rows of visits, in their order, and why each of those was left out that has none.

    A prompt is the user's first message. Where a user has nothing to say, others are drawn, `REDRAWS` at most.

    Args:
        systems: the system prompt that prompts stand under, by task.
        split: whose goals are visited.
    """
    begun = await asyncio.gather(*(_begun(visit) for visit in planned))
    found = [each for each in begun if each[1].ending is not Ending.FAILED]
    why = [talk.reason or "unknown" for _, talk in begun if talk.ending is Ending.FAILED]
    made = [
        {
            "prompt": message_rows(conversation.messages, systems[visit.task.name]),
            "data_source": visit.task.name,
            "agent_name": AGENT,
            "task": visit.task.name,
            "goal": visit.goal.id,
            "split": split,
            "seed": visit.seed,
            "depth": visit.depth,
            "extra_info": {"index": index},
        }
        for index, (visit, conversation) in enumerate(found)
    ]
    return made, why


async def _begun(planned: Visit) -> tuple[Visit, Conversation]:
    """The visit, with the seed of the user who began, and their first message; that failed where nobody did."""
    visit, conversation = planned, await _beginning(planned)
    for redraw in range(1, REDRAWS + 1):
        if conversation.ending is not Ending.FAILED:
            break
        visit = replace(planned, seed=derive(planned.seed, "redraw", redraw))
        conversation = await _beginning(visit)
    return visit, conversation


async def _beginning(visit: Visit) -> Conversation:
    unasked = Assistant(ScriptedModel(lambda messages, seed: ""))
    user = visit.task.user(visit.goal.request, visit.seed)
    return await reach(unasked, user, depth=0, seed=visit.seed)


def write(path: Path, found: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as a Parquet file that verl and `datasets` read.

    Raises:
        MissingDependency: `datasets` is not installed.
    """
    datasets: Any = needed("datasets", "Parquet")
    columns = datasets.Features({**features(COLUMNS, ()), "extra_info": {"index": datasets.Value("int64")}})
    table: Any = import_module("pyarrow").Table.from_pylist([dict(row) for row in found], schema=columns.arrow_schema)
    import_module("pyarrow.parquet").write_table(table, path)
