"""What an evaluation reads off a conversation, and the metric of its outcome; all from the texts alone."""

from __future__ import annotations

from duologue.conversation import Conversation, Goal
from duologue.metrics.base import Metric, Score
from duologue.tasks.base import Figure, Share
from duologue.tasks.twenty_questions.objects import ATTRIBUTES, OBJECT_INDEX, splits
from duologue.tasks.twenty_questions.reading import Move, Step, follow

ABSENT = Share(0.0, 0.0)


def outcome() -> Metric:
    """1 if the object was guessed, else 0."""

    async def score(conversation: Conversation, goal: Goal) -> Score:
        return Score(success(conversation, goal).count)

    return score


def success(conversation: Conversation, goal: Goal) -> Share:
    """Whether the object was guessed."""
    right = Move(True, OBJECT_INDEX[goal.reference])
    return Share(float(any(step.move == right for step in _steps(conversation))))


def success_none(conversation: Conversation, goal: Goal) -> Share:
    """Success where no facts were volunteered."""
    return success(conversation, goal) if _volunteered(goal) == 0 else ABSENT


def success_partial(conversation: Conversation, goal: Goal) -> Share:
    """Success where some facts were volunteered, but not all."""
    return success(conversation, goal) if 0 < _volunteered(goal) < len(ATTRIBUTES) else ABSENT


def success_complete(conversation: Conversation, goal: Goal) -> Share:
    """Success where all facts were volunteered."""
    return success(conversation, goal) if _volunteered(goal) == len(ATTRIBUTES) else ABSENT


def asks_when_missing(conversation: Conversation, goal: Goal) -> Share:
    """Whether the first reply asks about an attribute, where facts are missing."""
    return _asks_first(conversation) if _volunteered(goal) < len(ATTRIBUTES) else ABSENT


def asks_when_complete(conversation: Conversation, goal: Goal) -> Share:
    """Whether the first reply asks about an attribute, where all were volunteered."""
    return _asks_first(conversation) if _volunteered(goal) == len(ATTRIBUTES) else ABSENT


def asks_indifferent(conversation: Conversation, goal: Goal) -> Share:
    """The share of questions about an attribute whose answer was determined before.

    Determined: told by the user, or the same for all objects that agree with what was told and were not
    guessed. A ratio of sums over conversations.
    """
    asked = [step for step in _steps(conversation) if step.move is not None and not step.move.guess]
    return Share(float(sum(_determined(step) for step in asked)), float(len(asked)))


def repeats(conversation: Conversation, goal: Goal) -> Share:
    """The share of questions and guesses that repeat: guessed before, or the attribute's value was told before.

    A ratio of sums over conversations.
    """
    moves = [step for step in _steps(conversation) if step.move is not None]
    return Share(float(sum(step.repeats for step in moves)), float(len(moves)))


FIGURES: dict[str, Figure] = {
    "success": success,
    "success_none": success_none,
    "success_partial": success_partial,
    "success_complete": success_complete,
    "asks_when_missing": asks_when_missing,
    "asks_when_complete": asks_when_complete,
    "asks_indifferent": asks_indifferent,
    "repeats": repeats,
}


def _steps(conversation: Conversation) -> tuple[Step, ...]:
    return follow(conversation.messages).steps


def _volunteered(goal: Goal) -> int:
    return len(goal.request.facts["volunteered"])


def _asks_first(conversation: Conversation) -> Share:
    steps = _steps(conversation)
    move = steps[0].move if steps else None
    return Share(float(move is not None and not move.guess))


def _determined(step: Step) -> bool:
    return step.move is not None and (step.repeats or step.move.target not in splits(step.known.possible))
