# %% [markdown]
# # Your own metric
#
# A metric is an async function of a conversation and its goal. It is made by a factory, whose parameters are
# the options a recipe may set. This one charges replies for words that nobody needs.

# %%
from __future__ import annotations

import asyncio
from dataclasses import replace

import duologue
from duologue import Conversation, Goal, Metric, Score, Weighted


# %%
def wordiness(limit: int = 12) -> Metric:
    """Words beyond `limit` in the longest reply ÷ `limit`, at most 1. None where nothing was replied."""

    async def score(conversation: Conversation, goal: Goal) -> Score:
        if not conversation.replies:
            return Score(None, "there is no reply to measure")
        longest = max(len(reply.split()) for reply in conversation.replies)
        return Score(min(max(longest - limit, 0) / limit, 1.0))

    return score


# %% [markdown]
# A number, or `None` with a reason: what cannot be judged is left out and counted, and never becomes a zero.
# With a weight, the metric is part of a task's reward. A recipe takes the task as
# `name = "examples/own_metric.py:TASK"` and may then say `wordiness = { weight = -1.0, limit = 8 }` under
# `[reward.metrics]`.

# %%
GROCERIES = duologue.load_task("groceries")
TASK = replace(GROCERIES, metrics={**GROCERIES.metrics, "wordiness": Weighted(wordiness, -0.5)})

# %% [markdown]
# The same question with and without a preamble.

# %%
if __name__ == "__main__":
    assistant = duologue.Assistant(TASK.scripted["oracle"])
    reward = duologue.MultiturnReward(assistant, TASK.user, TASK.metrics, samples=2)
    goal = TASK.goals("train")[0]
    first = asyncio.run(TASK.user(goal.request, 0).speak(Conversation(), seed=0))
    conversation = Conversation().said(first.text)
    print(first.text)
    for reply in ("which city ?", "hello and thanks for your message , i will be glad to help . which city ?"):
        found = asyncio.run(reward(goal, conversation, reply, seed=0))
        print(f"{found.value:5.2f}  wordiness {found.parts['wordiness']:.2f}  {reply}")
