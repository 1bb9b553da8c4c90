"""Conversations that a model made from nothing learns from: scripted assistants of mixed habits meet a task's users."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from duologue.conversation import Conversation, Ending, Goal, Message
from duologue.errors import DataError, ModelError, RecipeError, nearest
from duologue.seeding import derive, generator
from duologue.simulation import Assistant, converse
from duologue.tasks.base import Demonstration, Task
from duologue.training.settings import SftSettings
from duologue.training.sft import Example, train_stage
from duologue.training.stage import Stage

RAREST = 50
"""Where fewer than one conversation in so many is as wanted, the search for them ends."""


def train_on_demonstrations(settings: SftSettings, stage: Stage) -> None:
    """Make the stage's demonstrations and learn from them.

    Raises:
        RecipeError: no demonstrations asked for, or of a task that the recipe does not have.
    """
    known = [task.name for task in stage.tasks]
    for name in (*settings.conversations, *settings.last_reply):
        if name not in known:
            raise RecipeError(f'train.conversations: no task "{name}"{nearest(name, known)}')
    if not settings.conversations:
        raise RecipeError("train: say how many demonstrations, like conversations = { groceries = 5000 }")
    train_stage(settings, stage, stage_examples(stage.tasks, settings, derive(stage.seed, "demonstrations")))


def stage_examples(tasks: Sequence[Task], settings: SftSettings, seed: int) -> list[Example]:
    """The demonstrations of a stage, its tasks' shuffled into one another."""
    examples: list[Example] = []
    for task in tasks:
        played = demonstrate(task, settings.conversations.get(task.name, 0), seed, within=settings.within)
        trained = "last" if task.name in settings.last_reply else "all"
        examples.extend(replace(example, trained=trained) for example in played)
    generator(seed, "order").shuffle(examples)
    return examples


def demonstrate(task: Task, count: int, seed: int, *, within: int | None = None) -> list[Example]:
    """`count` conversations over the goals to learn from, in the mixture that `task.demonstrations` names.

    The conversations depend on `seed` alone; a larger `count` goes on where a smaller one ended. Each stands
    under its demonstration's system prompt, where it has one.

    Args:
        within: only those whose user was satisfied within so many turns.

    Raises:
        DataError: the task has no demonstrations, one whose style or prompt it does not have, or too few `within`.
        ModelError: a scripted assistant or user could not speak.
    """
    check_demonstrations(task)
    return asyncio.run(_play_all(task, count, seed, within))


def check_demonstrations(task: Task) -> None:
    """Raise DataError unless every demonstration of a task names a style and a prompt that the task has."""
    if not task.demonstrations:
        raise DataError(f'task "{task.name}" has no demonstrations, so no model can be made for it from nothing')
    for part in task.demonstrations:
        if part.style not in task.scripted:
            raise DataError(f'task "{task.name}" has no scripted assistant "{part.style}" to demonstrate')
        if part.prompt is not None and part.prompt not in task.prompts:
            raise DataError(f'task "{task.name}" has no system prompt "{part.prompt}" to demonstrate under')


async def _play_all(task: Task, count: int, seed: int, within: int | None) -> list[Example]:
    examples: list[Example] = []
    for index in range(RAREST * count):
        if len(examples) == count:
            break
        conversation, system = await _play(task, derive(seed, "demonstration", task.name, index))
        if within is None or _succeeds(conversation, within):
            examples.append(Example(_to_last_reply(conversation), system=system))
    if len(examples) < count:
        raise DataError(f'of "{task.name}", hardly a demonstration satisfies its user within {within} turns')
    return examples


async def _play(task: Task, seed: int) -> tuple[Conversation, str | None]:
    draw = generator(seed, "goal")
    goal = draw.choice(_goals(task))
    part = draw.choices(task.demonstrations, [each.weight for each in task.demonstrations])[0]
    assistant = Assistant(task.scripted[part.style], system=_prompt(task, part))
    conversation = await converse(assistant, task.user(goal.request, seed), seed=seed, turns=task.turn_limit)
    if conversation.ending is Ending.FAILED:
        raise ModelError(f'a demonstration of "{task.name}" failed: {conversation.reason}')
    return conversation, assistant.system


def _succeeds(conversation: Conversation, turns: int) -> bool:
    return conversation.ending is Ending.SATISFIED and len(conversation.replies) <= turns


def _goals(task: Task) -> Sequence[Goal]:
    return task.demonstration_goals() if task.demonstration_goals else task.goals("train")


def _prompt(task: Task, part: Demonstration) -> str | None:
    return None if part.prompt is None else task.prompts[part.prompt]


def _to_last_reply(conversation: Conversation) -> tuple[Message, ...]:
    messages = conversation.messages
    return messages if messages[-1].role == "assistant" else messages[:-1]
