# %% [markdown]
# # Your own task
#
# A guest wants a table at a restaurant, for so many people at such a time, and says only one of the two. A
# task is a family of goals, a user who wants one of them, and the metrics that judge a conversation. This
# file is all there is to it: a recipe takes it as `name = "examples/own_task.py:TASK"`.

# %%
from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from duologue import Conversation, Ending, Goal, Message, Metric, Reaction, Request, Score, Task, Utterance, Weighted
from duologue.metrics import satisfaction, tokens
from duologue.models.scripted import ScriptedModel
from duologue.tasks import Share

SIZES = ("two", "three", "four", "five", "six")
TIMES = ("noon", "one", "seven", "eight", "nine")

# %% [markdown]
# **Goals.** A request is all that the user may see; the reference is for metrics alone. The two splits share
# no goal, and are the same at every call.


# %%
def goals(split: str) -> list[Goal]:
    every = [
        Goal(f"table-{size}-{time}-{says}", Request(f"You want a table for {size} at {time}.", facts), (size, time))
        for size, time, says in product(SIZES, TIMES, ("size", "time"))
        for facts in [{"size": size, "time": time, "says": says}]
    ]
    return [goal for index, goal in enumerate(every) if (index % 5 == 0) == (split == "test")]


# %% [markdown]
# **The user.** It holds no state: what it says follows from its request, the conversation and the seed. So a
# look-ahead can start anywhere. `react` is what metrics may ask it about the last reply, at no cost.


# %%
def booked(reply: str) -> tuple[str, str] | None:
    """(size, time) of a reply like "booked : a table for two at seven ."."""
    words = reply.split()
    found = [[word for word in words if word in known] for known in (SIZES, TIMES)]
    return (found[0][0], found[1][0]) if "booked" in words and all(found) else None


@dataclass(frozen=True)
class Guest:
    request: Request

    async def speak(self, conversation: Conversation, *, seed: int) -> Utterance:
        facts = self.request.facts
        if not conversation.replies:
            said = f"for {facts['size']}" if facts["says"] == "size" else f"at {facts['time']}"
            return Utterance(f"a table {said} , please .")
        reaction = self.react(conversation)
        if reaction.satisfied:
            return Utterance("thank you .", Ending.SATISFIED)
        if reaction.leaving:
            return Utterance("never mind .", Ending.LEFT)
        if "?" in conversation.replies[-1]:
            return Utterance(f"for {facts['size']} at {facts['time']} .")
        return Utterance("that is not what i want .")

    def react(self, conversation: Conversation) -> Reaction:
        right = [booked(reply) == (self.request.facts["size"], self.request.facts["time"]) for reply in _of(conversation)]
        questions = sum("?" in reply for reply in conversation.replies)
        annoyance = len(right) - sum(right) - min(questions, 1)
        satisfied = right[-1:] == [True]
        return Reaction(satisfied, annoyance, limit=2.0, leaving=annoyance >= 2 and not satisfied)


def _of(conversation: Conversation) -> Sequence[str]:
    return conversation.replies


# %% [markdown]
# **What is good.** A metric is made by a factory. A figure is what an evaluation reads off a conversation
# besides the reward: a share of a count and a base.


# %%
def outcome() -> Metric:
    """1 if the last booking is the one that was wanted, else 0."""

    async def score(conversation: Conversation, goal: Goal) -> Score:
        return Score(success(conversation, goal).count)

    return score


def success(conversation: Conversation, goal: Goal) -> Share:
    bookings = [found for reply in conversation.replies if (found := booked(reply))]
    return Share(float(bookings[-1:] == [goal.reference]))


# %% [markdown]
# **Assistants that need no model**, to try it out, and as a reference line (`oracle`) in every table.


# %%
def ask(messages: Sequence[Message], seed: int) -> str:
    said = " ".join(m.content for m in messages if m.role == "user").split()
    size, time = ([word for word in said if word in known] for known in (SIZES, TIMES))
    if not size:
        return "for how many ?"
    if not time:
        return "at what time ?"
    return f"booked : a table for {size[0]} at {time[0]} ."


def guess(messages: Sequence[Message], seed: int) -> str:
    return ask([*messages, Message("user", f"{SIZES[seed % 5]} {TIMES[seed % 5]}")], seed)


# %%
TASK = Task(
    name="tables",
    summary="Book a table for a guest who says for how many, or when, but not both.",
    goal_maker=goals,
    profiles={"train": lambda request, seed: Guest(request)},
    metrics={
        "outcome": Weighted(outcome),
        "tokens": Weighted(tokens, -1.0, {"rate": 0.005, "of": "assistant"}),
        "satisfaction": Weighted(satisfaction, 0.3),
    },
    figures={"success": success},
    scripted={"oracle": ScriptedModel(ask), "guess": ScriptedModel(guess)},
    words=lambda: frozenset("booked : a table for at , please . thank you never mind that is not what i want".split())
    | {*SIZES, *TIMES, "how", "many", "time", "?"},
    turn_limit=6,
    max_tokens=16,
)

# %% [markdown]
# **Try it.** One conversation, then the reward of asking and of guessing in the same place.

# %%
if __name__ == "__main__":
    import duologue

    assistant = duologue.Assistant(TASK.scripted["oracle"])
    goal = TASK.goals("test")[0]
    user = TASK.user(goal.request, 0)
    played = asyncio.run(duologue.converse(assistant, user, seed=0))
    print(goal.request.text)
    for message in played.messages:
        print(f"{message.role:>9}  {message.content}")

    reward = duologue.MultiturnReward(assistant, TASK.user, TASK.metrics, samples=2, window=2)
    opening = duologue.Conversation(played.messages[:1])
    for reply in ("at what time ?", "booked : a table for two at nine ."):
        score = asyncio.run(reward(goal, opening, reply, seed=0))
        print(f"{score.value:5.2f}  {reply}")
