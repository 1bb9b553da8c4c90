"""How a scripted user feels at the end of a conversation."""

from __future__ import annotations

from duologue.conversation import Conversation, Goal
from duologue.metrics.base import Metric, Score


def satisfaction() -> Metric:
    """max(0, 1 − annoyance ÷ its limit): 0 to 1. None where the user's reaction cannot be read."""

    async def score(conversation: Conversation, goal: Goal) -> Score:
        reaction = conversation.reaction
        if reaction is None:
            return Score(None, "only scripted users show their reaction; use a judged metric")
        return Score(max(0.0, 1.0 - reaction.annoyance / reaction.limit))

    return score
