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
    every = [goal(*combination) for combination in product(SIZES, TIMES, ("size", "time"))]
    return [each for index, each in enumerate(every) if (index % 5 == 0) == (split == "test")]


def goal(size: str, time: str, says: str) -> Goal:
    request = Request(f"You want a table for {size} at {time}.", {"size": size, "time": time, "says": says})
    return Goal(f"table-{size}-{time}-{says}", request, reference=(size, time))


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
        return Utterance(f"for {facts['size']} at {facts['time']} .")

    def react(self, conversation: Conversation) -> Reaction:
        wanted = (self.request.facts["size"], self.request.facts["time"])
        bookings = [booked(reply) for reply in conversation.replies]
        wrong = sum(found not in (None, wanted) for found in bookings)
        annoyance = 2.0 * wrong + max(bookings.count(None) - 1, 0)
        satisfied = bookings[-1:] == [wanted]
        return Reaction(satisfied, annoyance, limit=2.0, leaving=annoyance >= 2.0 and not satisfied)


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


# %% [markdown]
# **The task.** `words` is the vocabulary of a model made from nothing; any other model has its own.


# %%
def words() -> frozenset[str]:
    said = "booked : a table for at , please . thank you never mind how many what time ?"
    return frozenset([*said.split(), *SIZES, *TIMES])


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
    words=words,
    turn_limit=6,
    max_tokens=16,
)

# %% [markdown]
# **Try it.** One conversation, then the reward of asking and of guessing in the same place.

# %%
if __name__ == "__main__":
    import duologue

    assistant = duologue.Assistant(TASK.scripted["oracle"])
    wanted = TASK.goals("test")[0]
    user = TASK.user(wanted.request, 0)
    played = asyncio.run(duologue.converse(assistant, user, seed=0))
    print(wanted.request.text)
    for message in played.messages:
        print(f"{message.role:>9}  {message.content}")

    reward = duologue.MultiturnReward(assistant, TASK.user, TASK.metrics, samples=2, window=2)
    opening = duologue.Conversation(played.messages[:1])
    for reply in ("at what time ?", "booked : a table for two at nine ."):
        score = asyncio.run(reward(wanted, opening, reply, seed=0))
        print(f"{score.value:5.2f}  {reply}")
