"""Twenty questions: find out what the user is thinking of.

One of 32 objects, told apart by eight attributes. The assistant asks ("is it big ?") or guesses ("is it a
cow ?"). Most users volunteer nothing, some three facts, some all eight: then asking is a waste. A question that
had its answer costs patience, and so does a wrong guess; four of those, and the user leaves.

    reward = guessed − min(0.005 · assistant tokens + 0.03 · turns, 1) + 0.3 · satisfaction
"""

from __future__ import annotations

from duologue.metrics import Weighted, satisfaction, tokens
from duologue.tasks.base import Task
from duologue.tasks.twenty_questions.assistants import DEMONSTRATIONS, SCRIPTED
from duologue.tasks.twenty_questions.figures import FIGURES, outcome
from duologue.tasks.twenty_questions.goals import make_goals
from duologue.tasks.twenty_questions.user import PROFILES
from duologue.tasks.twenty_questions.wording import PROMPTS, words

__all__ = ["TASK", "words"]

PHRASES = (
    "i am thinking of something .",
    "i have a thing in mind . it is big , alive , not metal .",
    "yes .",
    "no .",
    "no , it is not big .",
    "i already said it is alive .",
    "what ?",
    "yes , that is it , thank you .",
    "never mind , bye .",
)

TASK = Task(
    name="twenty-questions",
    summary="Guess one of 32 objects by asking about eight attributes; the user may volunteer some, or all.",
    goal_maker=make_goals,
    profiles=PROFILES,
    metrics={
        "outcome": Weighted(outcome),
        "tokens": Weighted(tokens, -1.0, {"rate": 0.005, "turn_rate": 0.03, "cap": 1.0, "of": "assistant"}),
        "satisfaction": Weighted(satisfaction, 0.3),
    },
    figures=FIGURES,
    cluster=lambda goal: str(goal.reference),
    prompts=PROMPTS,
    scripted=SCRIPTED,
    demonstrations=DEMONSTRATIONS,
    demonstration_goals=lambda: make_goals("demonstration"),
    words=words,
    phrases=PHRASES,
    turn_limit=16,
    max_tokens=16,
)
