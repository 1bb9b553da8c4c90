"""How users put things: templated English, every word and mark set apart by a space.

`TRAIN` is what models may learn from. `UNSEEN` has templates of its own, made of words that occur in `TRAIN`
or in the assistant's language, so a model that never met them can still read every word.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from random import Random
from typing import NamedTuple

from duologue.tasks.twenty_questions.objects import ATTRIBUTES, OBJECTS
from duologue.users.scripted import fixed_words


class Listing(NamedTuple):
    """How facts are told in a row: `lead`, the facts ("big", "not alive"…) joined by `joint`, `end`."""

    lead: str
    joint: str
    end: str

    def say(self, facts: Sequence[str]) -> str:
        return f"{self.lead}{self.joint.join(facts)}{self.end}"


@dataclass(frozen=True)
class Wording:
    """A user's templates; {x} is an attribute, "a cow", or either with "not" before it."""

    openings: tuple[str, ...]
    listings: tuple[Listing, ...]
    yes: tuple[str, ...]
    no: tuple[str, ...]
    yes_echo: tuple[str, ...]
    """Answers that repeat what was asked."""
    no_echo: tuple[str, ...]
    right: tuple[str, ...]
    """After the right guess."""
    already: tuple[str, ...]
    """After a question or guess that had its answer."""
    further: tuple[str, ...]
    """Appended to an answer: one more fact."""
    puzzled: tuple[str, ...]
    """After a reply that neither asks nor guesses."""
    leaving: tuple[str, ...]

    def open(self, facts: Sequence[str], rng: Random) -> str:
        """The first message, with the facts volunteered in it."""
        opening = rng.choice(self.openings)
        return f"{opening} {rng.choice(self.listings).say(facts)}" if facts else opening

    def answer(self, yes: bool, x: str, echo: bool, rng: Random) -> str:
        """The answer to "is it {x} ?"."""
        if echo:
            return rng.choice(self.yes_echo if yes else self.no_echo).format(x=x)
        return rng.choice(self.yes if yes else self.no)

    @property
    def templates(self) -> frozenset[str]:
        """All templates as texts."""
        found: set[str] = set()
        for field in fields(self):
            for template in getattr(self, field.name):
                found.add(template if isinstance(template, str) else template.say(["{x}", "{x}"]))
        return frozenset(found)


TRAIN = Wording(
    openings=(
        "i am thinking of something .",
        "i have a thing in mind .",
        "guess the thing i have in mind .",
        "what am i thinking of ?",
    ),
    listings=(Listing("it is ", " . it is ", " ."), Listing("it is ", " , ", " ."), Listing("it is ", " and ", " .")),
    yes=("yes .", "yes , it is .", "that is right ."),
    no=("no .", "no , it is not .", "that is not right ."),
    yes_echo=("yes , it is {x} .", "it is {x} , yes ."),
    no_echo=("no , it is not {x} .", "it is not {x} , no ."),
    right=("yes , it is {x} , thank you .", "that is right , it is {x} .", "yes , that is it , thank you ."),
    already=("i already said it is {x} .", "as i said , it is {x} ."),
    further=("it is {x} .", "and it is {x} ."),
    puzzled=("what ?", "sorry , what ?"),
    leaving=("never mind , bye .", "i give up , bye .", "this takes too long , bye ."),
)

UNSEEN = Wording(
    openings=(
        "guess what i have in mind .",
        "i am thinking of a thing , guess what .",
        "something i have in mind . what is it ?",
    ),
    listings=(
        Listing("", " . ", " ."),
        Listing("the thing is ", " , it is ", " ."),
        Listing("guess , it is ", " , and ", " ."),
    ),
    yes=("it is .", "yes , that is right .", "right ."),
    no=("it is not .", "no , that is not right .", "not right ."),
    yes_echo=("yes , {x} .", "right , it is {x} ."),
    no_echo=("no , not {x} .", "not {x} ."),
    right=("right , it is {x} , thank you .", "thank you , that is it .", "it is {x} , that is right ."),
    already=("it is {x} , as i said .", "it is {x} , i said that already ."),
    further=("{x} , i give you that .", "and the thing is {x} ."),
    puzzled=("what , sorry ?", "sorry ?"),
    leaving=("bye , i give up .", "sorry , never mind .", "too long , bye ."),
)

PROMPTS = {
    "proactive": "always ask before you guess .",
    "ask-missing": "ask for what is missing , then guess .",
}
"""System prompts in the world's language."""


def ask(attribute: int) -> str:
    """The question about an attribute."""
    return f"is it {ATTRIBUTES[attribute]} ?"


def guess(index: int) -> str:
    """The guess of an object."""
    return f"is it a {OBJECTS[index]} ?"


def words() -> frozenset[str]:
    """Every word and mark that this task's users, assistants and prompts use."""
    said = fixed_words([*TRAIN.templates, *UNSEEN.templates, "not"])
    replied = fixed_words([ask(0), guess(0), *PROMPTS.values()])
    return said | replied | set(ATTRIBUTES) | set(OBJECTS)
