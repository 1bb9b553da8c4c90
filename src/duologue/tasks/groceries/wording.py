"""What a user says: two sets of templates, one for training and one that no training ever sees.

Fields: {noun} the item with its quantity and kind; {rest} the other slots, perhaps none; {all} every slot,
the item among them; {name} a slot's name; {value} a value.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Wording:
    """The templates of one way to talk."""

    openings: tuple[str, ...]
    pieces: Mapping[str, tuple[str, ...]]
    """A slot with its value inside an opening or an answer."""
    indifferent: tuple[str, ...]
    """A slot does not matter."""
    answers: tuple[str, ...]
    again: tuple[str, ...]
    """The assistant asks what was said."""
    corrections: tuple[str, ...]
    fixes: tuple[str, ...]
    """One wrong slot inside a correction."""
    puzzled: tuple[str, ...]
    thanks: tuple[str, ...]
    farewells: tuple[str, ...]

    @property
    def templates(self) -> frozenset[str]:
        """All of them."""
        pieces = (piece for pieces in self.pieces.values() for piece in pieces)
        framed = (*self.openings, *self.answers, *self.again, *self.corrections, *self.fixes)
        return frozenset((*pieces, *framed, *self.indifferent, *self.puzzled, *self.thanks, *self.farewells))


TRAIN = Wording(
    openings=(
        "i need {noun} {rest} .",
        "please get me {noun} {rest} .",
        "hello , i want {noun} {rest} .",
        "can you send {noun} {rest} ?",
    ),
    pieces={
        "item": ("{value}", "some {value}"),
        "qty": ("{value}", "{value} of them"),
        "kind": ("{value}", "the {value} kind"),
        "city": ("to {value}", "for someone in {value}"),
        "time": ("{value}", "for {value}"),
        "pay": ("by {value}", "with {value}"),
    },
    indifferent=("any {name} is fine", "the {name} does not matter", "i do not mind the {name}"),
    answers=("{all} .", "{all} , please .", "i would like {all} ."),
    again=("i already said {value} .", "i told you , {value} ."),
    corrections=("no , {all} .", "that is wrong , {all} .", "not quite , {all} ."),
    fixes=("the {name} is {value}", "i want {value} as the {name}"),
    puzzled=("what ?", "i do not understand ."),
    thanks=("thank you .", "great , thanks ."),
    farewells=("never mind , i give up .", "forget it , bye ."),
)

UNSEEN = Wording(
    openings=(
        "hello , you can help me with {all} .",
        "i am reaching out for {all} , please .",
        "thank you , i would be happy with {all} .",
    ),
    pieces={
        "item": ("the {value}", "{value} for me"),
        "qty": ("{value} of it", "as much as {value}"),
        "kind": ("what i want is {value}", "all of it {value}"),
        "city": ("someone in {value}", "all of it to {value}"),
        "time": ("{value} please", "as of {value}"),
        "pay": ("the {value}", "i will do it with {value}"),
    },
    indifferent=("i am happy with any {name}", "send any {name}", "what {name} does not matter to me"),
    answers=("that is {all} .", "great , {all} ."),
    again=("you have it already , {value} .", "{value} , as i said ."),
    corrections=("that does not help , {all} .", "please mind , {all} ."),
    fixes=("{value} is the {name} i need", "as {name} send {value}"),
    puzzled=("what is that ?", "you told me what ?"),
    thanks=("that is fine , thank you .", "thanks , that is all i need ."),
    farewells=("i am not happy , bye .", "no more , forget that ."),
)
