"""A task as an environment of verifiers v1, which prime-rl trains in.

    from duologue.integrations.verifiers import ChatHarness, ConversationEnv, ConversationTaskset

    class GroceriesTaskset(ConversationTaskset):
        TASK = "groceries"

    __all__ = ["ChatHarness", "ConversationEnv", "GroceriesTaskset"]

That is a whole package for `vf-eval` and for prime-rl; docs/verifiers.md tells how they are called.

An episode is one state and several replies to it: the policy and a user converse up to the state, the policy
replies `candidates` times, and each reply's trace gets its multiturn-aware reward. The replies of an episode are
compared with each other, so that they share prefix and luck wherever the episode is played. Nothing but the
replies is on the record to train on: prefix and look-aheads are played by the same agent (its harness, its model
as it stands, its sampling) outside the episode, and their tokens are booked under `extra_usage`.

A trace is trainable from the moment that its reward is written down, and not before: a reply that could not be
scored has none, and trainers and figures leave it out. Where no reply could be scored, or the episode ended early,
the episode failed and its traces with it, with the reason.
"""

# verifiers lives in an environment of its own, so that its types are unknown here.
# pyright: standard, reportMissingImports=false

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from duologue.dataset import reward_each, visits
from duologue.errors import ModelError
from duologue.integrations.partners import (
    JudgeModel,
    Partners,
    Split,
    UserModel,
    check_partners,
    figures,
    look_aheads,
    of_split,
)
from duologue.integrations.verifiers_agent import ChatHarness as ChatHarness, Policy, prompt_of, reply_of, unsaid, vf
from duologue.reward import Reward
from duologue.simulation import Assistant
from duologue.tasks import Task, load_task

REWARD = "multiturn_reward"


# ---- states


class ConversationData(vf.TaskData):
    """A state to reply at, by the draws that lead to it. The goal itself stays with the environment."""

    goal: str = ""
    """The id of one of the task's goals."""
    visit: int = 0
    """Fixes the user's profile and every draw of user and look-aheads."""
    depth: int = 0
    """Turns before the state."""


class Scored(vf.State):
    """What a reply is worth; None before it was measured."""

    reward: Any = None


class ConversationTask(vf.Task[ConversationData, Scored]):
    """A state to reply at."""

    @property
    def key(self) -> str:
        """The same in every run and at every place in the taskset."""
        return str(self.data.id)


class ConversationTasksetConfig(vf.TasksetConfig):
    """Which states there are."""

    path: str | None = None
    """Goals in place of the task's own: a file, a folder, or "hub:owner/name"."""
    split: Split = "train"
    """Whose goals: those to train or to test on."""
    count: int = Field(1000, ge=1)
    """How many states."""
    deepest: int = Field(0, ge=0)
    """Half the states come after 1 to so many turns, the others after the user's first message."""
    seed: int = 0


class ConversationTaskset(vf.Taskset[ConversationTask, ConversationTasksetConfig]):
    """The states of a task; a subclass names the task."""

    TASK: str | Task = "groceries"
    """A Duologue task: a name that recipes can use, or the task itself."""

    @property
    def conversations(self) -> Task:
        """The task, its goals those of the split."""
        task, path = load_task(self.TASK) if isinstance(self.TASK, str) else self.TASK, self.config.path
        return of_split(task if path is None else task.with_goals(path), self.config.split)

    def load(self) -> Iterator[ConversationTask]:
        """The states, each told by its draws alone."""
        task = self.conversations
        for visit in visits([task], self.config.count, deepest=self.config.deepest, seed=self.config.seed):
            name = f"{task.name}/{visit.goal.id}/{visit.seed}"
            data = ConversationData(id=name, goal=visit.goal.id, visit=visit.seed, depth=visit.depth)
            yield ConversationTask(data, self.config.task)


# ---- episodes


class ConversationEnvConfig(vf.EnvConfig):
    """How an episode goes."""

    assistant: vf.AgentConfig = vf.AgentConfig(runtime=vf.SubprocessConfig())
    """Who replies: the policy."""
    candidates: int = Field(8, ge=1)
    """Replies to each state: the group that a trainer compares."""
    samples: int = Field(3, ge=1)
    """Look-aheads a reply (k)."""
    window: Annotated[int, Field(ge=0)] | Literal["full"] = 2
    """Turns a look-ahead (w), or "full"."""
    user: UserModel = UserModel()
    """Who plays users; by default the task's own rules."""
    judge: JudgeModel = JudgeModel()
    """Whom judged metrics ask."""
    max_concurrent_agents: int | None = Field(None, ge=1)
    """Replies of one episode that are drawn at a time, those of look-aheads among them; None for no limit."""

    @model_validator(mode="after")
    def _suits_the_task(self) -> Self:
        # verifiers makes one by defaults alone before it reads what was given.
        if "taskset" in self.model_fields_set and self.taskset.id:
            taskset = vf.load_taskset(self.taskset)
            if not isinstance(taskset, ConversationTaskset):
                raise ValueError(f"taskset: {self.taskset.id} has no conversations: name one of a ConversationTaskset")
            check_partners(taskset.conversations, self.user, self.judge)
        return self


class ConversationEnv(vf.Env[ConversationEnvConfig]):
    """One state, several replies, and what each is worth."""

    partners: Partners | None = None

    async def start(self) -> None:
        """Get users and judge ready."""
        config = self.config
        self.partners = Partners(
            self.taskset.conversations, config.samples, config.window, user=config.user, judge=config.judge
        )

    async def stop(self) -> None:
        """Close the connections to users and judge."""
        if self.partners is not None:
            await self.partners.close()

    async def setup(self, agents: vf.Agents) -> None:
        """Nothing is to be trained on yet."""
        agents.assistant.trainable = False

    async def run(self, task: vf.Task, agents: vf.Agents) -> None:
        """Play to the state, reply, and look ahead from each reply that there is."""
        traces: list[vf.Trace] = []
        try:
            await self._play(task, agents.assistant, traces)
        except BaseException as error:  # a deadline arrives as a cancellation
            early = ModelError("the episode was ended before its replies had rewards")
            _fail(traces, error if isinstance(error, Exception) else early)
            raise

    async def finalize(self, task: vf.Task, episode: vf.Episode) -> None:
        """Write down what each reply is worth; one without a reward is not trained on.

        Raises:
            ModelError: no reply could be scored; every trace failed then, so that none of them is a 0 in a mean.
        """
        rewards: list[Reward | None] = [trace.state.reward for trace in episode.traces]
        unscored = sum(reward is None or reward.value is None for reward in rewards)
        for trace, reward in zip(episode.traces, rewards, strict=True):
            _record(trace, reward, unscored / len(rewards))
        if unscored == len(rewards):
            error = _none_scored(episode.traces)
            _fail(episode.traces, error)
            raise error

    def complete(self, episode: vf.Episode) -> bool:
        """Whether any reply has its reward: a resumed run plays the others again."""
        return any(trace.rewards.get(REWARD) is not None for trace in episode.traces)

    async def _play(self, task: vf.Task, agent: vf.Agent, traces: list[vf.Trace]) -> None:
        assert self.partners is not None, "episodes are run between start and stop"
        policy = Policy(agent, self.config.max_concurrent_agents)
        assistant = Assistant(policy, task.data.system_prompt)
        goal, visit = self.partners.goal(task.data.goal), task.data.visit
        prefix = await self.partners.state(assistant, goal, depth=task.data.depth, visit=visit)
        drawn = await self._replies(agent, task.with_data(prompt=list(prompt_of(prefix.messages))), traces)
        for trace in drawn:
            if trace.ok and (lost := unsaid(trace)) is not None:
                trace.record_error(lost)
        spoken = [trace for trace in drawn if trace.ok]
        replies = [reply_of(trace) for trace in spoken]
        rewards = await reward_each(self.partners.reward(assistant), goal, prefix, replies, seed=visit)
        for trace, reward in zip(spoken, rewards, strict=True):
            trace.state.reward = reward
        drawn[0].extra_usage.extend(policy.usage)

    async def _replies(self, agent: vf.Agent, task: vf.Task, traces: list[vf.Trace]) -> Sequence[vf.Trace]:
        """The traces of the replies; `traces` has each from its beginning."""
        async with asyncio.TaskGroup() as together:
            drawn = [
                together.create_task(agent.run(task, on_trace=traces.append)) for _ in range(self.config.candidates)
            ]
        return [each.result() for each in drawn]


def _record(trace: vf.Trace, reward: Reward | None, unscored: float) -> None:
    trace.record_metric("unscored", unscored)
    if reward is not None:
        trace.record_metrics(figures(reward))
        trace.info["look_aheads"] = look_aheads(reward)
        trace.info["lost"] = list(reward.failures)
    if reward is not None and reward.value is not None:
        trace.record_reward(REWARD, reward.value)
        trace.agent.trainable = True


def _none_scored(traces: Sequence[vf.Trace]) -> ModelError:
    told = [why for trace in traces for why in (*(e.message for e in trace.errors), *trace.info.get("lost", ()))]
    return ModelError(f"none of {len(traces)} replies could be scored; the last reason: {told[-1]}")


def _fail(traces: Sequence[vf.Trace], error: Exception) -> None:
    """Traces that went well fail with their episode."""
    for trace in traces:
        if trace.ok:
            trace.record_error(error)
