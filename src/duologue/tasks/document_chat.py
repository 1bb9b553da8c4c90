"""Document chat: write a text together with a user who knows what it is to say, and not how.

(CollabLLM's MediumDocEdit-Chat.) The reference is an article that was published; metrics alone see it. The user has
a *summary* of it: the points to make, for whom, in which tone, how long. A user who knew the article could hand it
over, and what is measured would be copying.

The published rows are articles with `title` and `text`; `duologue goals` has a model make the summaries, once.
"""

from __future__ import annotations

from dataclasses import replace

from duologue.conversation import Goal, Request
from duologue.errors import DataError
from duologue.metrics import Weighted, interactivity, tokens
from duologue.metrics.bleu import bleu
from duologue.models.prompt import prompt
from duologue.models.structured import Form
from duologue.seeding import digest
from duologue.tasks.base import Task
from duologue.tasks.preparation import Preparation, Words
from duologue.tasks.rows import Fields
from duologue.tasks.source import Hub, Source
from duologue.users.presented import PRESENTED

SHORTEST, LONGEST = 60, 500
"""Words of an article that is a goal: less is no article, more takes a conversation too long."""


class Summary(Form):
    """What someone wants who has not read the text."""

    summary: Words
    points: list[Words]
    audience: Words
    tone: Words
    length: Words
    pieces: list[Words]


def article(row: Fields, where: str) -> Goal | None:
    """A published article, its title in the place of the request that it has not yet."""
    title, text = row.get("title"), row.get("text")
    if not isinstance(title, str) or not isinstance(text, str):
        raise DataError(f'{where}: an article has a "title" and a "text"; this row has {", ".join(row) or "nothing"}')
    if not SHORTEST <= len(text.split()) <= LONGEST:
        return None
    return Goal(digest((title, text)), Request(title.strip() or "(without a title)"), text)


def summarised(goal: Goal, made: Summary) -> Goal:
    """The goal of a user who knows the summary alone."""
    facts = {"points": made.points, "audience": made.audience, "tone": made.tone, "length": made.length}
    return replace(goal, request=Request(made.summary, facts, tuple(made.pieces)))


SOURCE = Source(
    name="document-chat",
    read=article,
    reads=f"articles of {SHORTEST} to {LONGEST} words",
    hub=Hub("Kamaljp/medium_articles"),
    prepare=Preparation("summary", Summary, summarised, needed=True),
)

TASK = Task(
    name="document-chat",
    summary="Write a text with a user who knows its points, audience, tone and length, and not its wording.",
    goal_maker=SOURCE.goals(),
    source=SOURCE,
    profiles=PRESENTED,
    metrics={
        "bleu": Weighted(bleu),
        "tokens": Weighted(tokens, -1.0, {"rate": 1e-4, "since": "branch"}),
        "interactivity": Weighted(interactivity),
    },
    prompts={"proactive": prompt("duologue.tasks", "proactive").template},
    turn_limit=10,
    max_tokens=1024,
)
