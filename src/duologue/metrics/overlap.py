"""What metrics that compare texts word by word share: whose text, with what, and what unrelated texts would score.

Two texts of one language have words in common whatever they are about. What a measure gives for the same text
and the references of *other* goals, as long as the own one, is its floor; only what lies above it says anything
about the goal.
"""

from __future__ import annotations

import asyncio
import math
import re
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from duologue.conversation import Conversation, Goal
from duologue.errors import RecipeError
from duologue.metrics.base import Metric, Score
from duologue.metrics.extraction import Extractor

DOCUMENT = "the final document"

OTHERS = 8
"""References that make a floor at most."""
FEWEST = 2
"""And at least."""

UNSPACED = re.compile(
    r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"
    r"\u2e80-\u312f\u31a0-\u9fff\uf900-\ufaff\ufe30-\ufe4f\uff00-\uffef\U00020000-\U0003134f]"
)
"""A character of Thai, Lao, Burmese, Khmer, Chinese or Japanese, or of their punctuation."""

Measure = Callable[[str, str], float]
"""(text, reference) → how much of the one is in the other, 0 to 1."""


def reference_text(goal: Goal) -> str | None:
    """The text of a goal's reference: itself, or its "text"; None where it has none.

    >>> from duologue.conversation import Request
    >>> reference_text(Goal("a", Request("write a note"), {"text": "Back at five.", "title": "Note"}))
    'Back at five.'
    """
    reference: Any = goal.reference
    if isinstance(reference, Mapping):
        reference = cast("Mapping[str, Any]", reference).get("text")
    return reference if isinstance(reference, str) and reference.strip() else None


def apart(text: str) -> str:
    """A text with white space around each character of a script that sets none between words.

    >>> apart("那时 BLEU 的值")
    '那 时  BLEU 的 值'
    """
    return UNSPACED.sub(r" \g<0> ", text).strip() if UNSPACED.search(text) else text


def words(text: str) -> int:
    """The words of a text: what white space parts, and each character of a script that sets none.

    >>> words("the cat sat"), words("猫坐着")
    (3, 3)
    """
    return len(apart(text).split())


def overlap(measure: Measure, extract: Extractor, artefact: str) -> Metric:
    """`measure` of the artefact and the goal's reference: 0 to 1; 0 where the assistant gave none.

    None where the goal's reference has no text, or extraction fails.
    """

    async def score(conversation: Conversation, goal: Goal) -> Score:
        reference = reference_text(goal)
        if reference is None:
            return no_text(goal)
        return await scored(extract, conversation, goal, artefact, lambda text: measure(text, reference))

    return score


def over_floor(measure: Measure, extract: Extractor, goals: Sequence[Goal], artefact: str) -> Metric:
    """`measure` of the artefact and the goal's reference, minus the mean over other goals' references: −1 to 1.

    The others are the `OTHERS` references nearest in length, by the ratio of words. 0 is what an unrelated text of
    that length gets on average, and what no text at all gets. None where the goal's reference has no text, or
    extraction fails.

    Raises:
        RecipeError: fewer than `FEWEST` goals beside one's own have a text as their reference.
    """
    floor = Floor(goals)

    async def score(conversation: Conversation, goal: Goal) -> Score:
        reference = reference_text(goal)
        if reference is None:
            return no_text(goal)
        others = floor.of(goal.id, reference)
        if len(others) < FEWEST:
            return Score(None, f"goal {goal.id!r}: {len(others)} other goals have a reference to make a floor of")

        def above(text: str) -> float:
            return measure(text, reference) - math.fsum(measure(text, other) for other in others) / len(others)

        return await scored(extract, conversation, goal, artefact, above)

    return score


async def scored(
    extract: Extractor, conversation: Conversation, goal: Goal, artefact: str, measured: Callable[[str], float]
) -> Score:
    """What `measured` says of the artefact; 0 where there is none. Counted beside the event loop, which stays free."""
    found = await extract(conversation, goal, artefact)
    if found.why is not None:
        return Score(None, found.why)
    return Score(0.0 if found.text is None else await asyncio.to_thread(measured, found.text))


class Floor:
    """The references of a task's goals, by length.

    Raises:
        RecipeError: too few of them.
    """

    def __init__(self, goals: Sequence[Goal]) -> None:
        texts = [(goal.id, text) for goal in goals if (text := reference_text(goal)) is not None]
        if len(texts) <= FEWEST:
            raise RecipeError(
                f"a floor is the score against other goals' references, and {len(texts)} of the task's {len(goals)} "
                f"goals have a text as theirs: it takes {FEWEST + 1}. Leave the metric out; or name a [task] with "
                "such goals; in Python, give them to MultiturnReward(…, supplies=Supplies(goals=…))"
            )
        self._texts = sorted((math.log(words(text)), name, text) for name, text in texts)

    def of(self, name: str, reference: str) -> list[str]:
        """The references nearest in length to a goal's, its own and copies of it left out."""
        size = math.log(words(reference))
        middle = bisect_left(self._texts, (size,))
        # Its own may be among them, so one more from either side.
        near = self._texts[max(0, middle - OTHERS - 1) : middle + OTHERS + 1]
        others = [(abs(length - size), other, text) for length, other, text in near if other != name]
        return [text for *_, text in sorted(others) if text != reference][:OTHERS]


def no_text(goal: Goal) -> Score:
    """Why a goal without a text as its reference is not scored."""
    return Score(None, f'goal {goal.id!r}: its reference is no text, and has no "text", to compare with')
