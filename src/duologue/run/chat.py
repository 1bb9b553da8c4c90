"""You are the user: a person at a terminal, a goal on a card, and a model."""

from __future__ import annotations

import asyncio
import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from duologue.conversation import Conversation, Goal
from duologue.errors import ModelError, RecipeError, RunError, nearest
from duologue.models.base import Sampling
from duologue.recipe import AssistantSettings, load_recipe
from duologue.run.wiring import load_local
from duologue.seeding import derive, generator
from duologue.simulation import Assistant
from duologue.tasks import Task, load_task

LEAVE = "/quit"
WITHOUT_TASK = 512
"""Tokens a reply at most, where neither task nor recipe says."""


def converse_with_person(source: str, task_name: str | None, arm: str, seed: int) -> None:
    """Read the person's lines from the terminal and answer them, until they leave.

    Raises:
        RecipeError: no such run, arm or task; or the arm needs a task for its system prompt.
        RunError: a run that has no model yet.
        ModelError: no model there.
    """
    task = load_task(task_name) if task_name else None
    place = model_of(source, arm)
    settings = assistant_settings(source, arm)
    system = _system(settings, task)
    sys.stderr.write(f"loading {place} …\n")
    assistant = Assistant(load_local(place), system, _sampling(settings, task))
    goal = generator(seed, "goal").choice(task.goals("test")) if task else None
    stdin: Any = sys.stdin
    if isinstance(stdin, io.TextIOWrapper):
        cast(Any, stdin).reconfigure(errors="surrogateescape")  # so that a line that is no text does not end it all
    if task and goal:
        sys.stdout.write(card(task, goal))
    sys.stdout.write(f"(say {LEAVE} or press Ctrl-D to leave)\n\n")
    conversation = _talk(assistant, seed)
    if task and goal and conversation.replies:
        sys.stdout.write(closing(task, goal, conversation))


def model_of(source: str, arm: str) -> str:
    """The model that a run's folder holds for an arm; anything else is a model itself.

    Raises:
        RecipeError: there is no such run, or arm.
        RunError: a run that has no model yet.
    """
    models = Path(source) / "models"
    if not models.is_dir():
        _refuse_lost_run(Path(source))
        return source
    arms = sorted(path.name for path in models.iterdir() if path.is_dir())
    if arm not in arms:
        raise RecipeError(f'{source} has no trained arm "{arm}"{nearest(arm, arms)}')
    return str(models / arm)


def assistant_settings(source: str, arm: str) -> AssistantSettings:
    """How an arm of a run replies; the defaults for what is no run.

    Raises:
        RecipeError: the run's recipe is not one, or has no such arm.
    """
    recipe = Path(source) / "recipe.toml"
    return load_recipe(recipe).arm(arm).assistant if recipe.exists() else AssistantSettings()


def _system(settings: AssistantSettings, task: Task | None) -> str | None:
    if task:
        return settings.system_prompt(task)
    if settings.prompt:
        raise RecipeError(f'this arm replies under the system prompt "{settings.prompt}" of a task: say --task which')
    return settings.system


def _sampling(settings: AssistantSettings, task: Task | None) -> Sampling:
    if task:
        return settings.sampling(task)
    return Sampling(
        temperature=settings.temperature, top_p=settings.top_p, max_tokens=settings.max_tokens or WITHOUT_TASK
    )


def _refuse_lost_run(source: Path) -> None:
    """A path in a folder that is there was meant as one, not as a model's id on the hub."""
    if not source.exists() and source.parent != Path() and source.parent.is_dir():
        beside = [str(path) for path in source.parent.iterdir() if path.is_dir()]
        raise RecipeError(f"there is no run or model {source}{nearest(str(source), beside)}")
    if (source / "journal.jsonl").exists():
        raise RunError(f"{source} has no trained model yet: give `duologue train` time, or chat with a model's folder")


def card(task: Task, goal: Goal) -> str:
    """What the person is to want, and some phrases that the model knows."""
    phrases = "".join(f"    {phrase}\n" for phrase in task.phrases)
    known = f"\nIt knows this small language, for instance:\n{phrases}" if phrases else ""
    return f"Your goal: {goal.request.text}\n{_opening(goal)}{known}\n"


def _opening(goal: Goal) -> str:
    """What the simulated user would say at first, where the goal has it: figures tell by it whether asking helps."""
    mentions = goal.request.facts.get("mentions")
    if not isinstance(mentions, list | tuple):
        return ""
    return f"Say at first only: {', '.join(map(str, cast(Sequence[Any], mentions)))}\n"


def _talk(assistant: Assistant, seed: int) -> Conversation:
    conversation = Conversation()
    # The loop runs while the model replies, not while the person thinks: it would keep Ctrl-C from them.
    with asyncio.Runner() as runner:
        while (line := _ask()) is not None:
            conversation = conversation.said(line)
            draw = derive(seed, "chat", len(conversation.messages))
            try:
                reply = runner.run(assistant.reply(conversation, seed=draw))
            except ModelError as error:
                sys.stdout.write(f"  ({error})\n")
                break
            conversation = conversation.replied(reply.text)
            sys.stdout.write(f"model  {reply.text}\n")
    return conversation


def _ask() -> str | None:
    """The person's next line; None when they leave."""
    while True:
        try:
            line = input("you    ").strip()
        except (EOFError, KeyboardInterrupt):
            sys.stdout.write("\n")
            return None
        if line == LEAVE:
            return None
        if any("\ud800" <= letter <= "\udfff" for letter in line):
            sys.stdout.write("  (that line was not text in UTF-8: say it again)\n")
        elif line:
            return line


def closing(task: Task, goal: Goal, conversation: Conversation) -> str:
    """What the figures of the task say of the conversation."""
    figures = {name: figure(conversation, goal) for name, figure in task.figures.items()}
    told = [f"{name} {share.count / share.base:.2f}" for name, share in figures.items() if share.base]
    return f"\n{len(conversation.replies)} replies; {', '.join(told)}\n"
