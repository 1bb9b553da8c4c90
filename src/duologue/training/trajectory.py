"""GRPO on whole conversations with their outcome as the reward: the control for multiturn-aware rewards.

A group is some conversations about one goal, with the same user and the same luck of theirs. Each is worth R of all
of it, and every reply in it is trained on, by its sampled ids: the one exception to training on candidates alone.
What the user says bears no loss. Goals, users and their luck are those that the same stage would have on replies,
and so is the trainer.

Not covered: chat templates that later show a reply otherwise than it was sampled (without its thoughts, say). Such
a reply bears no loss and is counted as masked; where most are, this is no fair control.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

from duologue.conversation import Conversation, Ending, Message
from duologue.dataset import Group, Visit
from duologue.errors import DataError
from duologue.models.base import ChatModel, Reply, Sampling
from duologue.reward import MultiturnReward, Outcome, summarise
from duologue.seeding import derive
from duologue.simulation import Assistant, converse
from duologue.training.grpo import Rollouts, Row, grpo_trainer
from duologue.training.settings import GrpoSettings
from duologue.training.stage import Figures, Stage, train_to


def train_trajectories(settings: GrpoSettings, stage: Stage) -> None:
    """Train the stage's policy in place on whole conversations; goes on from its newest checkpoint.

    Raises:
        RecipeError: the replies are drawn greedily.
        ModelError: none of a step's conversations could be played, or none scored.
        DataError: the chat template shows the first message otherwise once there are more.
    """
    train_to(settings.steps, grpo_trainer(settings, stage, Trajectories(settings, stage)), stage)


# ---- a conversation as a row


@dataclass(frozen=True)
class Trajectory:
    """A conversation as it is trained on."""

    prompt: tuple[int, ...]
    """Up to the first reply."""
    completion: tuple[int, ...]
    """Everything after that: replies, and what the user said between them."""
    sampled: tuple[bool, ...]
    """Of each id of the completion, whether the assistant sampled it."""
    logprobs: tuple[float, ...]
    """0 where it did not."""
    replies: int
    masked: int
    """Replies that the model did not read back as the ids it had sampled: they bear no loss."""


def trajectory_of(replies: Sequence[Reply]) -> Trajectory:
    """A conversation from its replies, each with the ids that the model read before it and those it sampled.

    The last reply's prompt is the conversation as the model read it. An earlier reply bears loss if that
    begins with its prompt and its own ids: then these are the ids sampled in this very context.

    Raises:
        DataError: no replies, one without ids, or the first prompt is not how the last one begins.
    """
    if not replies or any(reply.prompt_ids is None or not reply.ids for reply in replies):
        raise DataError("a trajectory needs a reply, and every reply's ids: play it with a local model")
    whole = _read(replies[-1])
    prompt = replies[0].prompt_ids or ()
    if whole[: len(prompt)] != prompt:
        raise DataError("the chat template rewrites the first message later on: such conversations cannot be trained")
    sampled, logprobs, masked = [False] * len(whole), [0.0] * len(whole), 0
    for reply in replies:
        end = len(_read(reply))
        if whole[:end] != _read(reply):
            masked += 1
            continue
        start = len(reply.prompt_ids or ())
        sampled[start:end] = [True] * (end - start)
        logprobs[start:end] = reply.logprobs or [0.0] * (end - start)
    skip = len(prompt)
    return Trajectory(prompt, whole[skip:], tuple(sampled[skip:]), tuple(logprobs[skip:]), len(replies), masked)


def _read(reply: Reply) -> tuple[int, ...]:
    return (*(reply.prompt_ids or ()), *(reply.ids or ()))


# ---- a group


class Member:
    """One member of a group: the same model with draws of its own, whose replies are kept."""

    def __init__(self, model: ChatModel, number: int) -> None:
        self._model, self._number = model, number
        self.replies: list[Reply] = []

    async def reply(self, messages: Sequence[Message], *, seed: int, sampling: Sampling) -> Reply:
        """A reply by the model, kept."""
        seed = derive(seed, "member", self._number)
        self.replies.append(await self._model.reply(messages, seed=seed, sampling=sampling))
        return self.replies[-1]

    def count_tokens(self, text: str) -> int:
        """Tokens in a text, by the model's own measure."""
        return self._model.count_tokens(text)


@dataclass(frozen=True, slots=True)
class Conversations(Group):
    """A group of whole conversations: its prefix is their first message, its replies are their first ones."""

    trajectories: tuple[Trajectory | None, ...] = ()
    """One a conversation; None where the assistant did not get to reply."""
    outcomes: tuple[Outcome, ...] = ()
    """What each was worth."""


async def play_group(visit: Visit, assistant: Assistant, reward: MultiturnReward, size: int) -> Conversations:
    """Conversations about a goal: the user's seeds are the visit's, the same for all, and each draws for itself.

    Raises:
        DataError: as `trajectory_of` does.
    """
    members = [Member(assistant.model, number) for number in range(size)]

    async def play(member: Member) -> Outcome:
        user = visit.task.user(visit.goal.request, visit.seed)
        speaking = replace(assistant, model=member)
        played = await converse(speaking, user, seed=visit.seed, turns=visit.task.turn_limit, purpose="trajectory")
        return await reward.scorer(played, visit.goal)

    outcomes = await asyncio.gather(*map(play, members))
    replied = [(m.replies[0], outcome) for m, outcome in zip(members, outcomes, strict=True) if m.replies]
    return Conversations(
        task=visit.task.name,
        goal=visit.goal,
        visit=visit.seed,
        prefix=_first_state([outcome.future for outcome in outcomes]),
        replies=tuple(first for first, _ in replied),
        rewards=tuple(summarise([outcome]) for _, outcome in replied),
        sampled=sum(reply.usage.completion for member in members for reply in member.replies),
        trajectories=tuple(trajectory_of(member.replies) if member.replies else None for member in members),
        outcomes=tuple(outcomes),
    )


def _first_state(played: Sequence[Conversation]) -> Conversation:
    """What all began with; FAILED where none got to a reply."""
    for conversation in played:
        if conversation.replied_at:
            return conversation.truncated(conversation.replied_at[0])
    return played[-1].ended(Ending.FAILED, played[-1].reason or "the user ended it before any reply")


# ---- for TRL


class Trajectories(Rollouts):
    """TRL's `rollout_func`: plays every group's conversations and scores them."""

    async def _one(self, visit: Visit) -> Conversations:
        assistant, reward = self._stage.partners(visit.task)
        assert isinstance(reward, MultiturnReward), "a recipe with GRPO and adaptive look-aheads is refused"
        return await play_group(visit, assistant, reward, self._settings.candidates)

    def _rows(self, group: Group) -> list[Row]:
        played = cast(Conversations, group)
        both = zip(played.trajectories, played.outcomes, strict=True)
        return [self._blank() if row is None else _row(row, outcome.value) for row, outcome in both]

    def _figures(self, groups: Sequence[Group]) -> Figures:
        played = cast(Sequence[Conversations], groups)
        rows = [row for group in played for row in group.trajectories if row]
        replies = sum(row.replies for row in rows)
        return {
            **super()._figures(groups),
            "tokens": sum(group.sampled for group in played) / replies,
            "unscored": float(sum(outcome.value is None for group in played for outcome in group.outcomes)),
            "replies": float(replies),
            "masked": float(sum(row.masked for row in rows)),
        }

    def _show(self, groups: Sequence[Group], step: int) -> None:
        """Nothing: the report's trees are of candidates and their look-aheads."""


def _row(trajectory: Trajectory, reward: float | None) -> Row:
    return {
        "prompt_ids": list(trajectory.prompt),
        "completion_ids": list(trajectory.completion),
        "logprobs": list(trajectory.logprobs),
        "env_mask": [int(sampled and reward is not None) for sampled in trajectory.sampled],
        "reward": reward,
    }
