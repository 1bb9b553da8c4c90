"""Whom a policy that another library trains converses with, and what its replies are worth.

A `Partners` plays a task's users up to a state, and rewards replies there. The policy is whatever the library
has, as a `ChatModel`. Nothing here knows the library.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, model_validator

from duologue.conversation import Conversation, Ending, Goal, Message, message_rows
from duologue.errors import DataError, ModelError, RecipeError, nearest
from duologue.metrics.base import Judge, Supplies
from duologue.metrics.satisfaction import lacking_judge
from duologue.models.base import Reply, Sampling, count_bytes
from duologue.models.settings import ModelName, Served, Temperature, is_address
from duologue.reward import MultiturnReward, Reward
from duologue.sandbox.settings import SandboxSettings
from duologue.simulation import Assistant, Window, reach
from duologue.tasks import Task
from duologue.users.profiles import SETS, people

if TYPE_CHECKING:
    from duologue.models.endpoint import Endpoint

Split = Literal["train", "test"]
SCRIPTED = "scripted"


class UserModel(Served):
    """Who plays users: the keys of a recipe's `[user]`, `endpoint` being an address."""

    model: ModelName = SCRIPTED
    """"scripted", the task's own rules; or a model of `endpoint`."""
    profiles: str = "train"
    thinks: bool = True
    temperature: Temperature = 1.0
    max_tokens: int = Field(default=512, gt=0)

    @model_validator(mode="after")
    def _can_be_reached(self) -> Self:
        _check_address(self, self.model != SCRIPTED)
        return self


class JudgeModel(Served):
    """Who judges: the keys of a recipe's `[judge]`, `endpoint` being an address."""

    model: str = ""
    """A model of `endpoint`; left out, nobody judges."""
    temperature: Temperature = 0.0
    max_tokens: int = Field(default=1024, gt=0)

    @model_validator(mode="after")
    def _can_be_reached(self) -> Self:
        _check_address(self, bool(self.model))
        return self


def _check_address(settings: Served, played: bool) -> None:
    if not played:
        if settings.endpoint is not None:
            raise ValueError("model: name the model that the endpoint has, or leave the endpoint out")
        return
    if settings.endpoint is None or not is_address(settings.endpoint):
        raise ValueError("endpoint: give the address of the model, like http://127.0.0.1:8000/v1")


def check_partners(task: Task, user: UserModel, judge: JudgeModel) -> None:
    """Refuse users that a task does not have, and metrics that need a judge where there is none.

    Raises:
        RecipeError: which, and what to do.
    """
    if user.model == SCRIPTED:
        task.with_profile(user.profiles)
    else:
        people(user.profiles)
    asking = None if judge.model else lacking_judge(task.metrics, users_react=user.model == SCRIPTED)
    if asking is not None:
        raise RecipeError(f'metric "{asking}" needs a judge: give judge.model and judge.endpoint, an address')


class Partners:
    """The users that a policy meets in a task, and the reward of its replies.

    Args:
        task: its goals of split "train" are the ones that `goal` finds.
        samples: look-aheads a reply (k).
        window: turns a look-ahead (w), or "full".
        user: who plays users; left out, the task's own rules.
        judge: whom judged metrics ask; left out, nobody.

    Raises:
        RecipeError: a metric that needs a judge and has none; less than one sample; no such profiles; an endpoint
            whose key the environment does not have.
    """

    def __init__(
        self,
        task: Task,
        samples: int,
        window: Window,
        *,
        user: UserModel | None = None,
        judge: JudgeModel | None = None,
    ) -> None:
        user, judge = user or UserModel(), judge or JudgeModel()
        check_partners(task, user, judge)
        self._open: list[Endpoint] = []
        self._sandbox = SandboxSettings().sandbox()
        self.task = self._played(task, user)
        self._goals = {goal.id: goal for goal in task.goals("train")}
        judging = self._judging(judge)
        self._reward = MultiturnReward(
            Assistant(Nobody()),
            self.task.plain_users,
            task.metrics,
            samples,
            window,
            turn_limit=task.turn_limit,
            supplies=Supplies(judge=judging, goals=task.goal_maker("train"), sandbox=self._sandbox),
            behaviours=task.behaviours,
        )

    def goal(self, name: str) -> Goal:
        """The goal with an id.

        Raises:
            DataError: the task has none.
        """
        if name not in self._goals:
            raise DataError(f'task "{self.task.name}" has no goal "{name}"{nearest(name, self._goals)}')
        return self._goals[name]

    async def state(self, assistant: Assistant, goal: Goal, *, depth: int, visit: int) -> Conversation:
        """A state to reply at: `depth` turns of play and one more user message, every draw fixed by the visit.

        Raises:
            ModelError: it could not be played.
        """
        state = await reach(assistant, self.task.user(goal.request, visit), depth=depth, seed=visit)
        if state.ending is Ending.FAILED:
            raise ModelError(f"goal {goal.id!r}: no state to reply at could be played: {state.reason}")
        return state

    def reward(self, assistant: Assistant) -> MultiturnReward:
        """The reward of replies after which this assistant goes on."""
        return self._reward.of(assistant)

    async def close(self) -> None:
        """Close the connections to endpoints, and end what still runs in the sandbox."""
        await self._sandbox.close()
        for endpoint in self._open:
            await endpoint.close()

    def _played(self, task: Task, settings: UserModel) -> Task:
        if settings.model == SCRIPTED:
            return task.with_profile(settings.profiles)
        from duologue.users.prompted import prompted_users

        model = self._endpoint(settings, "user").model(settings.model, role="user", stop=settings.stop)
        sampling = Sampling(settings.temperature, max_tokens=settings.max_tokens)
        players = {n: prompted_users(model, people(n), sampling=sampling, thinks=settings.thinks) for n in SETS}
        return replace(task, profiles=players).with_profile(settings.profiles)

    def _judging(self, settings: JudgeModel) -> Judge | None:
        if not settings.model:
            return None
        model = self._endpoint(settings, "judge").model(settings.model, role="judge", stop=settings.stop)
        return Judge(model, Sampling(settings.temperature, max_tokens=settings.max_tokens))

    def _endpoint(self, settings: Served, role: str) -> Endpoint:
        from duologue.models.endpoint import Endpoint

        assert settings.endpoint is not None, "settings of a model have an address"
        key = os.environ.get(settings.api_key_env) if settings.api_key_env else None
        if settings.api_key_env and not key:
            raise RecipeError(f"{role}.api_key_env: the environment has no {settings.api_key_env}: export it first")
        limits = {"in_flight": settings.in_flight, "timeout": settings.timeout}
        given: dict[str, Any] = {name: value for name, value in limits.items() if value is not None}
        self._open.append(Endpoint(settings.endpoint, key=key, **given))
        return self._open[-1]


class Nobody:
    """Stands in for a policy until there is one."""

    async def reply(self, messages: Sequence[Message], *, seed: int, sampling: Sampling) -> Reply:
        """No reply."""
        raise ModelError("no policy was given: take the reward of one, Partners.reward(assistant)")

    def count_tokens(self, text: str) -> int:
        """Tokens of a text where no tokenizer is known."""
        return count_bytes(text)


def of_split(task: Task, split: Split) -> Task:
    """The same task whose goals, whoever asks for them, are those of one split.

    >>> from duologue.tasks import load_task
    >>> task = load_task("groceries")
    >>> of_split(task, "test").goals("train") == task.goals("test")
    True
    """

    def goals(_: str) -> Sequence[Goal]:
        return task.goal_maker(split)

    return replace(task, goal_maker=goals)


def figures(reward: Reward) -> dict[str, float]:
    """What a trainer's log may show of a reward; of one that is None, only how many look-aheads there were.

    Returns:
        The metrics' unweighted means by name, `stderr` where there are two look-aheads, and how many look-aheads
        counted (`look_aheads`) and were lost (`look_aheads_lost`).
    """
    counts = {"look_aheads": float(reward.counted), "look_aheads_lost": float(len(reward.failures))}
    if reward.value is None:
        return counts
    spread = {} if reward.stderr is None else {"stderr": reward.stderr}
    return {**reward.parts, **spread, **counts}


def look_aheads(reward: Reward) -> list[dict[str, Any]]:
    """The look-aheads of a reward as a record keeps them: value, ending, why there is none, and what was said.

    The messages are those after the reply.
    """
    return [
        {
            "value": value,
            "ending": str(future.ending),
            "reason": future.reason,
            "messages": message_rows(future.messages[future.shared + 1 :]),
        }
        for value, future in zip(reward.values, reward.futures, strict=True)
    ]
