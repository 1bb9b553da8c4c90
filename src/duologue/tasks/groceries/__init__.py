"""Groceries: an order with six slots, of which the user says some and does not mind others.

The assistant asks, or orders at once:

    user       hello , i want two milk to boston . any kind is fine .
    assistant  when and which payment ?
    user       today and by card .
    assistant  order : two any milk to boston today by card .
    user       thank you .

`language` reads messages, `wording` has the users' templates, `user` the users, `assistants` the scripted
assistants, `figures` what a conversation is judged by.
"""

from __future__ import annotations

from functools import cache

from duologue.metrics import Weighted, satisfaction, tokens
from duologue.tasks.base import Task
from duologue.tasks.groceries.assistants import DEMONSTRATIONS, PLEASANTRIES, PROMPTS, QUESTIONS, SCRIPTED
from duologue.tasks.groceries.figures import FIGURES, outcome
from duologue.tasks.groceries.goals import goals
from duologue.tasks.groceries.language import ANY, ASKS, NAMES, ORDER, SLOT_OF, TOPICS
from duologue.tasks.groceries.user import PROFILES
from duologue.tasks.groceries.wording import TRAIN, UNSEEN
from duologue.users.scripted import fixed_words

PHRASES = (
    "i need two milk to boston today by card .",
    "hello , i want some bread .",
    "any kind is fine .",
    "the payment does not matter .",
    "to chicago , please .",
    "i already said friday .",
    "no , the city is denver .",
    "thank you .",
)


@cache
def words() -> frozenset[str]:
    """Every word and mark that anyone says in this task."""
    asks = [phrase for phrases in ASKS.values() for phrase in phrases]
    said = fixed_words([*TRAIN.templates, *UNSEEN.templates, *PHRASES])
    replied = fixed_words([ORDER, *asks, *QUESTIONS, *PLEASANTRIES, *PROMPTS.values(), ", and"])
    return said | replied | {ANY} | set(SLOT_OF) | set(TOPICS) | set(NAMES.values())


TASK = Task(
    name="groceries",
    summary="Order groceries for a user who leaves things out: ask for what is missing, and for nothing else.",
    goal_maker=goals,
    profiles=PROFILES,
    metrics={
        "outcome": Weighted(outcome),
        "tokens": Weighted(tokens, -1.0, {"rate": 0.005, "turn_rate": 0.03, "of": "assistant"}),
        "satisfaction": Weighted(satisfaction, 0.3),
    },
    figures=FIGURES,
    prompts=PROMPTS,
    scripted=SCRIPTED,
    demonstrations=DEMONSTRATIONS,
    words=words,
    phrases=PHRASES,
    turn_limit=12,
    max_tokens=40,
)
