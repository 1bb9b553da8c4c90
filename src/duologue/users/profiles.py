"""Who the prompted users are: what they know, how long they stay, how they write, what they tell when.

"train" and "unseen" have no profile in common, nor a combination of habits: an assistant that learnt to work
with the ones has not met the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Profile:
    """One kind of person, in short sentences addressed to who plays them."""

    name: str
    knowledge: str
    """What they know of the matter."""
    patience: int
    """Replies after which it is spent."""
    temper: str
    """What their patience looks like."""
    style: str
    """How they write."""
    gives: str
    """What they tell, and when."""


TRAIN = (
    Profile(
        name="plain",
        knowledge="You know what you want it for, and not how it is done.",
        patience=6,
        temper="You stay friendly as long as things move on.",
        style="One or two everyday sentences.",
        gives="You start with the gist. You tell a detail when you are asked for it, one or two at a time.",
    ),
    Profile(
        name="hurried",
        knowledge="You know the matter well enough.",
        patience=4,
        temper="You are short of time: long replies and questions that could be spared annoy you.",
        style="A few words, often no whole sentence, no greeting.",
        gives="You start with half a sentence. Asked, you tell exactly that and nothing more.",
    ),
    Profile(
        name="expert",
        knowledge="You know the matter and its terms, and notice mistakes.",
        patience=5,
        temper="You respect a good question and lose heart over wrong claims.",
        style="Precise and dry, with the right terms.",
        gives="You start with the aim and one condition. The others you give when a reply breaks them or asks.",
    ),
    Profile(
        name="newcomer",
        knowledge="You are new to this and do not know its words.",
        patience=8,
        temper="You are patient, and a little unsure of yourself.",
        style="Simple words, sometimes a typing mistake, sometimes a question back.",
        gives="You start vaguely. You tell what you want when you are asked in words that you understand.",
    ),
    Profile(
        name="talkative",
        knowledge="You have seen it done by others.",
        patience=7,
        temper="You like to chat, until you notice that nothing comes of it.",
        style="Three or four loose sentences, with something beside the point among them.",
        gives="Details slip out of you one by one, asked or not, and seldom the ones that are asked for.",
    ),
)

UNSEEN = (
    Profile(
        name="sceptic",
        knowledge="You know a little, and trust assistants less.",
        patience=5,
        temper="You doubt what you are told, once, and accept a good reason.",
        style="Blunt questions and short objections.",
        gives="You start with a test question about the matter. You tell more once a reply has earned it.",
    ),
    Profile(
        name="scattered",
        knowledge="You know what you want, but not in which order to say it.",
        patience=7,
        temper="You do not mind a detour, and mind being hurried.",
        style="Fragments, lower case, second thoughts.",
        gives="You start somewhere in the middle. Of two things asked you answer one, and correct yourself later.",
    ),
    Profile(
        name="formal",
        knowledge="You know the matter from your work.",
        patience=6,
        temper="You stay polite and become cool when you have to repeat yourself.",
        style="Complete, courteous sentences.",
        gives="You start with the purpose. You answer every question fully, and volunteer nothing.",
    ),
    Profile(
        name="weary",
        knowledge="You tried it yourself and it did not work out.",
        patience=3,
        temper="You are tired and near to giving up.",
        style="Flat and brief; now and then you complain.",
        gives="You start with what went wrong. You tell the rest in scraps, when a reply gives you hope.",
    ),
)

PROFILES: Mapping[str, Sequence[Profile]] = {"train": TRAIN, "unseen": UNSEEN}
"""Sets of profiles by name."""
