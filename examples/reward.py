# %% [markdown]
# # A reward in twenty lines
#
# A user leaves out where their groceries should go, and when. Three replies to them, and what each is
# worth: not how it reads, but how the conversation goes on after it.

# %%
import asyncio

import duologue

task = duologue.load_task("groceries")
assistant = duologue.load_assistant("tiny")
reward = duologue.MultiturnReward(assistant, task.user, task.metrics, samples=8, window=2)

# %% [markdown]
# A goal has a request, which is all that the simulated user knows, and a reference, which only metrics see.
# The conversation so far has one message.

# %%
order = {"item": "milk", "qty": "two", "kind": "any", "city": "boston", "time": "today", "pay": "card"}
matters = {slot: value for slot, value in order.items() if value != "any"}
said = ("item", "qty", "kind", "pay")
request = duologue.Request("you want two milk to boston today by card .", {"slots": order, "mentions": said})
goal = duologue.Goal("milk", request, reference=matters)
conversation = duologue.Conversation().said("please get me two milk by card . any kind is fine .")

# %% [markdown]
# The same seed gives the same numbers. It also gives all three replies the same user, with the same luck.

# %%
replies = {
    "asks": "which city and when ?",
    "guesses": "order : two any milk to miami friday by card .",
    "chats": "thank you so much for reaching out today .",
}


async def score_all() -> dict[str, duologue.Reward]:
    found = await asyncio.gather(*(reward(goal, conversation, reply, seed=0) for reply in replies.values()))
    return dict(zip(replies, found, strict=True))


# %%
scores = asyncio.run(score_all())
for name, score in scores.items():
    parts = "  ".join(f"{part} {value:.2f}" for part, value in score.parts.items())
    print(f"{name:8} {score.value:.2f} ± {score.stderr:.2f}   {parts}")

# %% [markdown]
# What happened after the question, once:

# %%
for message in scores["asks"].futures[0].messages:
    print(f"{message.role:>9}  {message.content}")
