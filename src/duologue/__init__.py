"""Duologue: train, measure, study and serve language models as partners in conversation.

A reward in four lines:

    task = duologue.load_task("groceries")
    assistant = duologue.load_assistant("tiny")
    reward = duologue.MultiturnReward(assistant, task.user, task.metrics, samples=3, window=2)
    score = await reward(goal, conversation, "Which city should it go to?", seed=0)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from duologue import trl as trl
    from duologue.conversation import (
        Conversation as Conversation,
        Ending as Ending,
        Goal as Goal,
        Message as Message,
        Reaction as Reaction,
        Request as Request,
    )
    from duologue.errors import DuologueError as DuologueError
    from duologue.metrics import Metric as Metric, Score as Score, Weighted as Weighted
    from duologue.metrics.base import Supplies as Supplies
    from duologue.models.base import ChatModel as ChatModel, Reply as Reply, Sampling as Sampling
    from duologue.models.endpoint import Endpoint as Endpoint
    from duologue.reward import MultiturnReward as MultiturnReward, Reward as Reward
    from duologue.simulation import (
        Assistant as Assistant,
        converse as converse,
        load_assistant as load_assistant,
        look_ahead as look_ahead,
    )
    from duologue.tasks import Task as Task, load_task as load_task
    from duologue.users.base import User as User, Utterance as Utterance
    from duologue.users.prompted import PromptedUser as PromptedUser, prompted_users as prompted_users

_PUBLIC = {
    "Assistant": "simulation",
    "ChatModel": "models.base",
    "Conversation": "conversation",
    "DuologueError": "errors",
    "Ending": "conversation",
    "Endpoint": "models.endpoint",
    "Goal": "conversation",
    "Message": "conversation",
    "Metric": "metrics",
    "MultiturnReward": "reward",
    "PromptedUser": "users.prompted",
    "Reaction": "conversation",
    "Reply": "models.base",
    "Request": "conversation",
    "Reward": "reward",
    "Sampling": "models.base",
    "Score": "metrics",
    "Supplies": "metrics.base",
    "Task": "tasks",
    "User": "users.base",
    "Utterance": "users.base",
    "Weighted": "metrics",
    "converse": "simulation",
    "load_assistant": "simulation",
    "load_task": "tasks",
    "look_ahead": "simulation",
    "prompted_users": "users.prompted",
}

__version__ = "0.1.0"
__all__ = [*_PUBLIC, "trl"]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name == "trl":
        return import_module("duologue.trl")
    if name in _PUBLIC:
        return getattr(import_module(f"duologue.{_PUBLIC[name]}"), name)
    raise AttributeError(f"module 'duologue' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
