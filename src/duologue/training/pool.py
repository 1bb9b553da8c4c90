"""A pool of states that the current policy plays anew every few steps, and the replies drawn at them.

A state is visited once, so a pool holds those of all steps until the next one is played. It is journalled as it
is played: a training that goes on after a kill finds the states that its steps were to have, though the policy
that played them is gone. The replies, and the look-aheads from them, are always the policy's as it is. Several
processes play a pool together, each a share of it; each draws the replies at the states that it trains on.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from duologue.conversation import Conversation, Ending, message_rows, parse_messages
from duologue.dataset import REDRAWS, Counting, Group, Visit, explore_from, visits
from duologue.models.local import evaluating
from duologue.seeding import derive
from duologue.simulation import reach
from duologue.training import ranks
from duologue.training.figures import figures_of, record_trees, refuse_lost
from duologue.training.settings import PoolSettings
from duologue.training.stage import Figures, Stage


@dataclass(frozen=True)
class State:
    """A conversation that waits for a reply, or FAILED where it could not be played."""

    visit: Visit
    seed: int
    """The visit's, or that of the last time it was drawn again."""
    prefix: Conversation
    sampled: int
    """Tokens that the assistant said for it, those of what was drawn again among them."""


class Pool:
    """The states of a stage, step by step.

    Args:
        purpose: what the visits' seeds are derived from.
    """

    def __init__(self, settings: PoolSettings, stage: Stage, purpose: str) -> None:
        self._settings, self._stage = settings, stage
        count = settings.groups * settings.steps
        seed = derive(stage.seed, purpose)
        self.planned: list[Visit] = visits(stage.tasks, count, deepest=settings.deepest, seed=seed)
        self.figures: Figures = {}
        """Of the newest step."""
        self._first = -1
        self._states: Sequence[State] = ()

    def explored(self, numbers: Sequence[int]) -> list[Group]:
        """This process's states of one step with replies to them, drawn and rewarded with the policy as it is.

        Args:
            numbers: of the states, from 0 over all steps.

        Raises:
            ModelError: none of the states could be played, or none of the candidates scored.
        """
        started = time.monotonic()
        self._stage.policy.weights_changed()
        with evaluating(self._stage.policy.model):
            groups = self._stage.loop.run(self._explore(numbers))
        of_all = ranks.gathered(groups)
        refuse_lost(of_all)
        self.figures = {**figures_of(of_all, self._stage.tasks), "rollout_seconds": time.monotonic() - started}
        record_trees(of_all, numbers[0] // self._settings.groups, self._settings.steps, self._stage)
        return groups

    async def _explore(self, numbers: Sequence[int]) -> list[Group]:
        size = self._settings.groups * self._settings.refresh
        first = numbers[0] - numbers[0] % size
        if first != self._first:
            self._first, self._states = first, await self._pool(first, self.planned[first : first + size])
        return list(await asyncio.gather(*(self._replied(self._states[number - first]) for number in numbers)))

    async def _replied(self, state: State) -> Group:
        task, goal, candidates = state.visit.task, state.visit.goal, self._settings.candidates
        assistant, reward = self._stage.partners(task)
        group = await explore_from(assistant, task, reward, goal, state.prefix, candidates=candidates, seed=state.seed)
        return replace(group, sampled=group.sampled + state.sampled)

    async def _pool(self, first: int, planned: Sequence[Visit]) -> Sequence[State]:
        """The states from one number on until the next pool: as they were played, or played now."""
        key = f"pool/{self._stage.key}/{first:06d}"
        journal = self._stage.journal
        recorded = ranks.agreed(journal.entry(key).value["states"] if key in journal else None)
        if recorded is None:
            played = await asyncio.gather(*(self._played(visit) for visit in ranks.share(planned)))
            recorded = ranks.joined([_to_json(state) for state in played])
            if ranks.is_first():
                journal.append(key, "pool", {"states": recorded})
        return [_from_json(visit, value) for visit, value in zip(planned, recorded, strict=True)]

    async def _played(self, visit: Visit) -> State:
        """A visit's state; one that cannot be played is drawn again, as `explore` does."""
        counting = Counting(*self._stage.partners(visit.task))
        state = await _reached(counting, visit, visit.seed)
        for redraw in range(1, REDRAWS + 1):
            if state.prefix.ending is not Ending.FAILED:
                break
            state = await _reached(counting, visit, derive(visit.seed, "redraw", redraw))
        return state


async def _reached(counting: Counting, visit: Visit, seed: int) -> State:
    user = visit.task.user(visit.goal.request, seed)
    prefix = await reach(counting.assistant, user, depth=visit.depth, seed=seed)
    return State(visit, seed, prefix, counting.sampled)


def _to_json(state: State) -> dict[str, Any]:
    prefix = state.prefix
    failed = prefix.reason if prefix.ending is Ending.FAILED else None
    return {
        **{"seed": state.seed, "prefix": message_rows(prefix.messages), "cut": list(prefix.cut), "failed": failed},
        "sampled_tokens": state.sampled,
    }


def _from_json(visit: Visit, value: dict[str, Any]) -> State:
    prefix = Conversation(parse_messages(value["prefix"], "a pool's state"), cut=tuple(value["cut"]))
    if value["failed"] is not None:
        prefix = prefix.ended(Ending.FAILED, value["failed"])
    return State(visit, value["seed"], prefix, value["sampled_tokens"])
