"""States that a stage's policy reaches, with rewarded candidate replies: what training learns from."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from duologue.dataset import Group, Row, Visit, build, explore, rows, visits
from duologue.errors import DataError
from duologue.models.local import evaluating
from duologue.seeding import derive
from duologue.training import ranks
from duologue.training.settings import DpoSettings, SftSettings
from duologue.training.stage import Stage

SystemPrompts = Mapping[str, str | None]
"""By task."""


def build_rows(settings: DpoSettings | SftSettings, stage: Stage) -> list[Row]:
    """Candidates with rewards at `settings.states` states; only what the journal lacks is played.

    Several processes play a share each, and every one of them writes down what it played.

    Raises:
        DataError: more than a third of the states could not be played.
    """
    planned = visits(stage.tasks, settings.states, deepest=settings.deepest, seed=derive(stage.seed, "build"))
    key = f"build/{stage.key}"
    stage.policy.weights_changed()
    with evaluating(stage.policy.model):
        stage.loop.run(_build(ranks.share(planned), stage, settings.candidates, key))
    ranks.meet()
    found = rows(stage.journal, planned, key)
    if len(found) < len(planned) * 2 / 3:
        lost = len(planned) - len(found)
        raise DataError(
            f"{stage.name}: {lost} of {len(planned)} states could not be played; the last: {_last_reason(stage, key)}"
        )
    return found


async def _build(planned: Sequence[Visit], stage: Stage, candidates: int, key: str) -> None:
    async for done in build(planned, stage.partners, candidates=candidates, journal=stage.journal, key=key):
        stage.progress(done, len(planned), "states compared")


def _last_reason(stage: Stage, key: str) -> str:
    """Why the last state that failed did."""
    rows = [entry.value for entry in stage.journal.read("row") if entry.key.startswith(f"{key}/")]
    return next(row["failed"] for row in reversed(rows) if row.get("failed"))


def explored(batch: Sequence[Visit], stage: Stage, candidates: int) -> list[Group]:
    """The visits' groups, in their order, by the policy as it is; not journalled."""

    async def one(visit: Visit) -> Group:
        assistant, reward = stage.partners(visit.task)
        return await explore(
            assistant, visit.task, reward, visit.goal, depth=visit.depth, candidates=candidates, seed=visit.seed
        )

    async def side_by_side() -> list[Group]:
        return list(await asyncio.gather(*(one(visit) for visit in batch)))

    stage.policy.weights_changed()
    with evaluating(stage.policy.model):
        return stage.loop.run(side_by_side())


def system_prompts(stage: Stage) -> SystemPrompts:
    """What the assistant is told in each task."""
    return {task.name: stage.partners(task)[0].system for task in stage.tasks}
