# %% [markdown]
# # Your own user
#
# A behaviour is a user around another user. This one leaves when it has been asked often enough, whatever
# it was asked. Nothing of the task changes but who the assistant meets; a recipe takes it as
# `name = "examples/own_user.py:TASK"` with `profiles = "hurried"` under `[user]` or `[evaluate.users.hurried]`.

# %%
from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

import duologue
from duologue.seeding import derive
from duologue.tasks.groceries.user import GroceriesUser

# %% [markdown]
# A user is whatever has `speak`. It counts nothing while it talks: how often it was asked is read off the
# conversation, so a conversation can be continued from anywhere, by anyone, in any order.


# %%
@dataclass(frozen=True)
class Hurried:
    """Leaves at the second question."""

    user: GroceriesUser

    async def speak(self, conversation: duologue.Conversation, *, seed: int) -> duologue.Utterance:
        if self.react(conversation).leaving:
            return duologue.Utterance("forget it , bye .", duologue.Ending.LEFT)
        return await self.user.speak(conversation, seed=seed)

    def react(self, conversation: duologue.Conversation) -> duologue.Reaction:
        """What metrics may know about the last reply; a behaviour passes on what it does not change."""
        questions = sum("?" in reply for reply in conversation.replies)
        reaction = self.user.react(conversation)
        return replace(reaction, leaving=reaction.leaving or (questions > 1 and not reaction.satisfied))


# %% [markdown]
# The maker is given a request and a seed, which draws the user's habits. It never sees a reference.

# %%
GROCERIES = duologue.load_task("groceries")
TASK = replace(
    GROCERIES,
    profiles={**GROCERIES.profiles, "hurried": lambda request, seed: Hurried(GroceriesUser(request))},
)


# %% [markdown]
# Two scripted assistants meet both kinds of users, a hundred goals each: one asks three things at a time,
# the other one by one.


# %%
async def success(style: str, profile: str, count: int = 100) -> float:
    task = TASK.with_profile(profile)
    assistant = duologue.Assistant(task.scripted[style])
    total = 0.0
    for goal in task.goals("test")[:count]:
        seed = derive(0, goal.id)
        played = await duologue.converse(assistant, task.user(goal.request, seed), seed=seed)
        total += task.figures["success"](played, goal).count
    return total / count


# %%
if __name__ == "__main__":
    for profile in ("train", "hurried"):
        for style in ("ask-missing", "one-by-one"):
            print(f"{profile:8} {style:12} success {asyncio.run(success(style, profile)):.2f}")
