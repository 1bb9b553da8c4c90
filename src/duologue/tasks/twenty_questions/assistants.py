"""Scripted assistants: the oracle, and the good and bad habits that demonstrations mix.

Each reads the messages, so it can take over any conversation. Every guess agrees with what was told, where any
object does: demonstrations teach what the objects are like, whatever their manners.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

from duologue.conversation import Message
from duologue.models.scripted import ScriptedModel
from duologue.seeding import generator
from duologue.tasks.base import Demonstration
from duologue.tasks.twenty_questions.objects import (
    ALL_ATTRIBUTES,
    ALL_OBJECTS,
    ATTRIBUTES,
    OBJECTS,
    best_splits,
    members,
    splits,
)
from duologue.tasks.twenty_questions.reading import Known, Story, follow
from duologue.tasks.twenty_questions.wording import ask, guess

Style = Callable[[Story, Random], str]


def oracle(story: Story, rng: Random) -> str:
    """Asks the question that halves the possible objects best; names the one that remains."""
    best = best_splits(story.known.possible)
    return ask(rng.choice(best)) if best else guess_possible(story, rng)


def guess_possible(story: Story, rng: Random) -> str:
    """Guesses an object that agrees with what was told; failing that, one not guessed yet."""
    possible = story.known.possible or ALL_OBJECTS & ~story.known.guessed or ALL_OBJECTS
    return guess(rng.choice([i for i in range(len(OBJECTS)) if possible >> i & 1]))


def good(story: Story, rng: Random) -> str:
    """Asks one of the three questions that split best; names the object that remains."""
    useful = splits(story.known.possible)[:3]
    return ask(rng.choice(useful)) if useful else guess_possible(story, rng)


def three_questions(story: Story, rng: Random) -> str:
    """Asks up to three questions that split, then guesses."""
    return good(story, rng) if story.known.asked.bit_count() < 3 else guess_possible(story, rng)


def at_random(story: Story, rng: Random) -> str:
    """Asks whatever comes to mind, told or not; guesses now and then, or once it knows."""
    if not splits(story.known.possible) or rng.random() < 0.25:
        return guess_possible(story, rng)
    return ask(rng.randrange(len(ATTRIBUTES)))


def redundant(story: Story, rng: Random) -> str:
    """Now and then asks for what it was told; once it has asked once too often, it plays well."""
    if story.known.said and not _repeated(story) and rng.random() < 0.6:
        return ask(rng.choice(members(story.known.said)))
    return good(story, rng)


def mixed(story: Story, rng: Random) -> str:
    """A different manner at every reply."""
    return rng.choice((guess_possible, good, good, at_random))(story, rng)


def always_ask(story: Story, rng: Random) -> str:
    """Asks before it guesses even where it could know: at least one question, told or not."""
    known = story.known
    if not known.asked and not splits(known.possible):
        return ask(rng.choice(_unsaid(known) or members(ALL_ATTRIBUTES)))
    return good(story, rng)


def _repeated(story: Story) -> bool:
    return any(step.repeats for step in story.steps)


def _unsaid(known: Known) -> tuple[int, ...]:
    return members(ALL_ATTRIBUTES & ~known.said)


STYLES: dict[str, Style] = {
    "oracle": oracle,
    "guess": guess_possible,
    "good": good,
    "three-questions": three_questions,
    "random": at_random,
    "redundant": redundant,
    "mixed": mixed,
    "always-ask": always_ask,
}


def scripted(style: Style) -> ScriptedModel:
    """The model that replies in a style."""

    def script(messages: Sequence[Message], seed: int) -> str:
        return style(follow(messages), generator(seed))

    return ScriptedModel(script)


SCRIPTED = {name: scripted(style) for name, style in STYLES.items()}

MIXTURE = {"guess": 0.28, "good": 0.30, "three-questions": 0.16, "random": 0.10, "redundant": 0.08, "mixed": 0.08}
PROACTIVE, ASK_MISSING = 0.10, 0.08
"""Shares of the demonstrations that stand under a system prompt."""
OBEYED = 0.6
"""The share of demonstrations under "ask-missing" that do as it says; the others are the ordinary mixture."""

DEMONSTRATIONS = (
    *(Demonstration(style, (1 - PROACTIVE - ASK_MISSING) * share) for style, share in MIXTURE.items()),
    Demonstration("always-ask", PROACTIVE, "proactive"),
    Demonstration("good", ASK_MISSING * OBEYED, "ask-missing"),
    *(Demonstration(style, ASK_MISSING * (1 - OBEYED) * share, "ask-missing") for style, share in MIXTURE.items()),
)
