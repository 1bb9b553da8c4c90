"""How the user feels at the end of a conversation."""

from __future__ import annotations

from collections.abc import Mapping

from duologue.conversation import Conversation, Goal
from duologue.metrics.base import Metric, Score, Weighted
from duologue.metrics.judged import closing, graded
from duologue.models.base import ChatModel
from duologue.models.prompt import Frame


def satisfaction(judge: ChatModel | None = None) -> Metric:
    """How content the user is: 0 to 1; a scripted user says so themself, of others a judge does.

    A scripted user's is max(0, 1 − annoyance ÷ the annoyance at which they leave); a judge reads request and
    conversation. None where the user shows no reaction and there is no judge.
    """

    async def score(conversation: Conversation, goal: Goal) -> Score:
        if conversation.reaction is not None:
            return Score(conversation.reaction.satisfaction)
        if judge is None:
            return Score(
                None,
                "only users that can `react` show their reaction: leave this metric out, or give yours that method",
            )
        frame = Frame.around([goal.request.text, *(m.content for m in conversation.messages)], draw=goal.id)
        parts = {
            "asked": frame.block("what the user wanted", goal.request.text),
            "conversation": frame.transcript(conversation, closing=closing(conversation)),
        }
        return await graded(judge, "satisfaction", parts, frame, conversation, goal)

    return score


def lacking_judge(metrics: Mapping[str, Weighted], *, users_react: bool) -> str | None:
    """The name of the first metric that there is not without a judge; None where all can be had.

    Args:
        users_react: whether users show their reaction, as scripted ones do.
    """
    for name, metric in metrics.items():
        if metric.needs_judge or (metric.factory is satisfaction and not users_react):
            return name
    return None
