"""A recipe's work played with stand-ins, a little of each kind: what a state, or a conversation, asks of its models."""

from __future__ import annotations

import asyncio
import tempfile
from collections import defaultdict
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from duologue.adaptive import FRESH
from duologue.conversation import Goal
from duologue.dataset import Group, Visit, explore, visits
from duologue.dataset.choosing import best, softmax
from duologue.dataset.conversations import Builder, make
from duologue.dataset.plan import planned
from duologue.errors import DataError
from duologue.journal import Journal
from duologue.metrics.base import Counter, Supplies
from duologue.recipe import Recipe, UserSettings
from duologue.reward import Scorer
from duologue.run.folder import fingerprint
from duologue.run.speech import Lengths, Speak, scripted
from duologue.run.stand_ins import StandIns, Use, Who
from duologue.run.wiring import Wiring, panel, wire, with_users
from duologue.seeding import derive
from duologue.simulation import Assistant, converse
from duologue.tasks import Task

PLAYED = 32
"""States, or conversations, that stand for all of their kind."""
Uses = Mapping[Who, Use]
"""What is asked of each model."""
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class State:
    """What a state costs, on average."""

    uses: Uses
    prompt: float
    """Tokens of what its candidates reply to."""
    replies: float
    """Tokens of its candidates together."""


def added(uses: Sequence[Uses], factor: float = 1.0) -> dict[Who, Use]:
    """The sum, so often."""
    total = defaultdict[Who, Use](Use)
    for each in uses:
        for who, use in each.items():
            total[who] += use.times(factor)
    return dict(total)


class Rehearsal:
    """What the parts of a recipe's work ask of its models.

    Args:
        counter: tokens in a text.
    """

    def __init__(self, lengths: Lengths, counter: Counter) -> None:
        self._lengths, self._counter = lengths, counter
        self._states: dict[str, State] = {}
        self._conversations: dict[str, Uses] = {}
        self._scripts: dict[tuple[str, str | None], Speak | None] = {}

    def state(self, arm: Recipe, *, candidates: int, deepest: int, count: int) -> State:
        """One of `count` states that are explored.

        Raises:
            DataError: none of them can be played.
        """
        depends = arm.model_dump(mode="json", include={"task", "assistant", "user", "judge", "reward"})
        key = fingerprint({**depends, "explored": [candidates, deepest, min(count, PLAYED)]})
        if key not in self._states:
            self._states[key] = self._explored(arm, candidates, deepest, min(count, PLAYED))
        return self._states[key]

    def _explored(self, arm: Recipe, candidates: int, deepest: int, count: int) -> State:
        tasks = {task.name: task for task in arm.tasks()}
        books = {name: self._books(arm, task) for name, task in tasks.items()}
        wirings = {name: _wired(arm, tasks[name], books[name]) for name in tasks}
        met = [wiring.tasks[0] for wiring in wirings.values()]

        async def one(visit: Visit) -> Group:
            task, goal = visit.task, visit.goal
            assistant, reward = wirings[task.name].partners(task, fresh=FRESH)
            return await explore(
                assistant, task, reward, goal, depth=visit.depth, candidates=candidates, seed=visit.seed
            )

        plan = visits(met, count, deepest=deepest, seed=derive(arm.seed, "cost"))
        played = asyncio.run(_all([one(visit) for visit in plan]))
        found = [group for group in played if not group.failed]
        if not found:
            raise DataError(f"none of {count} states could be played with stand-ins; the last: {played[-1].failed}")
        prompts = sum(group.replies[0].usage.prompt for group in found)
        replies = sum(reply.usage.completion for group in found for reply in group.replies)
        uses = added([each.uses for each in books.values()], 1 / len(played))
        return State(uses, prompts / len(found), replies / len(found))

    def conversation(self, arm: Recipe, task: Task, users: UserSettings, by: Recipe, count: int) -> Uses:
        """One of `count` conversations of an arm, judged.

        Args:
            users: whom it meets.
            by: whose reward and judges say what it is worth.
        """
        depends = arm.model_dump(mode="json", include={"task", "assistant"})
        judged = by.model_dump(mode="json", include={"reward", "judge"})
        key = fingerprint({**depends, **judged, "met": [task.name, users.model_dump(mode="json"), min(count, PLAYED)]})
        if key not in self._conversations:
            self._conversations[key] = self._conversed(arm, task, users, by, min(count, PLAYED))
        return self._conversations[key]

    def _conversed(self, arm: Recipe, task: Task, users: UserSettings, by: Recipe, count: int) -> Uses:
        books = self._books(arm, task)
        assistant = _wired(arm, task, books).assistant(task)
        met, goals = with_users(task, arm, users, books), task.goals("test")
        judges = panel(by, by.judge, books)
        supplies = Supplies(books.counter, judges, task.all_goals, books.sandbox(by.sandbox))
        scorer = Scorer(by.reward.of(task), supplies)

        async def one(goal: Goal, index: int) -> None:
            seed = derive(arm.seed, "cost", index, goal.id)
            user = met.user(goal.request, seed)
            await scorer(await converse(assistant, user, seed=seed, turns=task.turn_limit), goal)

        asyncio.run(_all([one(goals[index % len(goals)], index) for index in range(count)]))
        return added([books.uses], 1 / count)

    def built(self, recipe: Recipe) -> Uses:
        """One of the conversations of `[build]`."""
        count = min(recipe.build.conversations, PLAYED)
        books = {task.name: self._books(recipe, task) for task in recipe.tasks()}
        met = [with_users(task, recipe, recipe.user, books[task.name]) for task in recipe.tasks()]
        builders = {task.name: _builder(recipe, task, books[task.name]) for task in met}
        with tempfile.TemporaryDirectory() as folder:
            journal = Journal(Path(folder, "journal.jsonl"))
            plan = planned(met, count, seed=recipe.seed)
            asyncio.run(_all([make(each, builders[each.task.name], journal, "build") for each in plan]))
        return added([each.uses for each in books.values()], 1 / count)

    def demonstration(self, arm: Recipe, task: Task) -> float:
        """Tokens of one of a task's demonstrations."""
        books = self._books(arm, task)
        assistant, goals = Assistant(books.model(arm, arm.assistant, "assistant")), task.goals("train")

        async def one(index: int) -> int:
            seed = derive(arm.seed, "cost", index)
            user = task.user(goals[index % len(goals)].request, seed)
            played = await converse(assistant, user, seed=seed, turns=task.turn_limit)
            return sum(books.counter(message.content) for message in played.messages)

        return sum(asyncio.run(_all([one(index) for index in range(PLAYED)]))) / PLAYED

    def _books(self, arm: Recipe, task: Task) -> StandIns:
        under = (task.name, arm.assistant.prompt)
        if under not in self._scripts:
            self._scripts[under] = scripted(task, arm.assistant.prompt, self._lengths.script)
        return StandIns(arm, task, self._lengths, self._counter, self._scripts[under])


async def _all(work: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    return list(await asyncio.gather(*work))


def _wired(arm: Recipe, task: Task, books: StandIns) -> Wiring:
    model = books.model(arm, arm.assistant, "assistant")
    return wire(arm, lambda _, __: model, tasks=[task], counter=books.counter, endpoints=books)


def _builder(recipe: Recipe, task: Task, books: StandIns) -> Builder:
    settings = recipe.build
    arms = {name: _wired(recipe.arm(name), task, books) for name in settings.assistants}
    shared = replace(arms[settings.assistants[0]], recipe=recipe)
    _, reward = shared.partners(task, fresh=FRESH)
    scorer = shared.scorer(task) if settings.retrospective else None
    choose = best if settings.choose == "best" else softmax(settings.temperature)
    assistants = {name: arm.assistant(task) for name, arm in arms.items()}
    return Builder(assistants, reward, settings.candidates, choose, scorer)
