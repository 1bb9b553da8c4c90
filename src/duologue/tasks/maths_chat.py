"""Maths chat: solve a problem whose conditions come to light in conversation.

(CollabLLM's MATH-Chat: the problems of level 5 in MATH, Hendrycks et al., 2021.) Users hold conditions back at first:
they tell the request in `pieces`, or a model that plays them gives them when asked. Judged is the final answer.

Published rows have `problem`, `solution`, `level` and `type`; those of other levels, and those whose solution boxes no
answer, are left out. They have no pieces: `duologue goals` has a model make them, once.
"""

from __future__ import annotations

from duologue.conversation import Goal, Request
from duologue.errors import DataError
from duologue.metrics import Weighted, interactivity, maths_accuracy, tokens
from duologue.metrics.maths import boxed
from duologue.models.prompt import prompt
from duologue.seeding import digest
from duologue.tasks.base import Task
from duologue.tasks.preparation import PIECES
from duologue.tasks.rows import Fields
from duologue.tasks.source import Hub, Source
from duologue.users.presented import PRESENTED

LEVELS = ("Level 5", "5", 5)
"""How published rows write the hardest level."""


def problem(row: Fields, where: str) -> Goal | None:
    """A published problem; its answer is what its solution boxes last."""
    text, solution = row.get("problem"), row.get("solution")
    if not isinstance(text, str) or not isinstance(solution, str):
        there = ", ".join(row) or "nothing"
        raise DataError(f'{where}: a problem has a "problem" and a "solution"; this row has {there}')
    found = boxed(solution)
    if row.get("level", LEVELS[0]) not in LEVELS or not found or not text.strip():
        return None
    return Goal(digest((text,)), Request(text.strip()), {"answer": found[-1], "solution": solution})


SOURCE = Source(
    name="maths-chat",
    read=problem,
    reads="problems of level 5 whose solution boxes an answer",
    hub=Hub("lighteval/MATH-Hard"),
    prepare=PIECES,
)

TASK = Task(
    name="maths-chat",
    summary="Solve a hard problem with a user who holds back its conditions at first.",
    goal_maker=SOURCE.goals(),
    source=SOURCE,
    profiles=PRESENTED,
    metrics={
        "accuracy": Weighted(maths_accuracy),
        "tokens": Weighted(tokens, -1.0, {"rate": 5e-4}),
        "interactivity": Weighted(interactivity),
    },
    prompts={"proactive": prompt("duologue.tasks", "proactive").template},
    turn_limit=10,
    max_tokens=1024,
)
