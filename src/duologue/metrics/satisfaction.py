"""How a scripted user feels at the end of a conversation."""

from __future__ import annotations

from duologue.conversation import Conversation, Goal
from duologue.metrics.base import Metric, Score


def satisfaction() -> Metric:
    """max(0, 1 − annoyance ÷ its limit): 0 to 1. None where the user's reaction cannot be read."""

    async def score(conversation: Conversation, goal: Goal) -> Score:
        reaction = conversation.reaction
        if reaction is None:
            return Score(
                None,
                "only users that can `react` show their reaction: leave this metric out, or give yours that method",
            )
        return Score(reaction.satisfaction)

    return score
