"""Scripted assistants: the oracle, and the good and bad habits that demonstrations are made of.

Each reads the messages and nothing else. What it must order and does not know it keeps from its last order,
or guesses.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from duologue.conversation import Conversation, Message
from duologue.models.scripted import ScriptedModel
from duologue.tasks.base import Demonstration
from duologue.tasks.groceries.goals import ANY_SHARE
from duologue.tasks.groceries.language import ANY, ASKS, ORDER, SLOTS, VALUES, Heard, listed, listen, read_user

QUESTIONS = ("{all} ?", "{all} , please ?", "please tell me , {all} ?")
PLEASANTRIES = (
    "thank you so much for reaching out today . i am very happy to help you with all of that .",
    "hello and thanks for your message . i will be glad to do it for you , no more to do .",
    "great , that is a lovely choice . it is good of you to have told me so much about it .",
)
PROMPTS = {"proactive": "always ask before you order .", "ask-missing": "ask for what is missing , then order ."}
IMPORTANT = ("qty", "city", "time")


@dataclass(frozen=True, slots=True)
class View:
    """What an assistant knows of a conversation."""

    known: Mapping[str, str]
    """Slot → value, or "any", as the user said it last."""
    heard: Sequence[Heard]
    rng: random.Random

    @property
    def missing(self) -> list[str]:
        """The slots the user has not talked about, in any order."""
        missing = [slot for slot in SLOTS if slot not in self.known]
        return self.rng.sample(missing, len(missing))

    @property
    def questions(self) -> int:
        """How many questions there were."""
        return sum(bool(heard.reading.asked) for heard in self.heard)

    @property
    def repeats(self) -> int:
        """How many of them named what the user had talked about."""
        return sum(not heard.said.isdisjoint(heard.reading.asked) for heard in self.heard)

    @property
    def last_order(self) -> Mapping[str, str] | None:
        """The last order, if there was one."""
        orders = (heard.reading.order for heard in reversed(self.heard))
        return next((order for order in orders if order is not None), None)


Style = Callable[[View], str]


def view(messages: Sequence[Message], seed: int) -> View:
    """What the messages say, a system prompt apart."""
    known: dict[str, str] = {}
    for message in messages:
        if message.role == "user":
            known.update(read_user(message.content))
    return View(known, listen(Conversation(tuple(messages))), random.Random(seed))


def order(seen: View) -> str:
    """The order at once, with guesses for what is not known."""
    values = {slot: seen.known.get(slot) or _guess(slot, seen.last_order, seen.rng) for slot in SLOTS}
    return ORDER.format_map(values)


def ask(seen: View, slots: Sequence[str]) -> str:
    """A question about slots."""
    asks = listed([seen.rng.choice(ASKS[slot]) for slot in slots])
    return seen.rng.choices(QUESTIONS, (6, 1, 1))[0].format(all=asks)


def ask_missing(seen: View) -> str:
    """Asks all that is unmentioned, three at a time, then orders."""
    missing = seen.missing
    return ask(seen, missing[:3]) if missing else order(seen)


def ask_important(seen: View) -> str:
    """Asks what usually matters, guesses the rest."""
    missing = [slot for slot in seen.missing if slot in IMPORTANT]
    return ask(seen, missing) if missing else order(seen)


def one_by_one(seen: View) -> str:
    """Asks all that is unmentioned, one at a time."""
    missing = seen.missing
    return ask(seen, missing[:1]) if missing else order(seen)


def ask_one(seen: View) -> str:
    """Asks one thing, then guesses."""
    missing = seen.missing
    return ask(seen, missing[:1]) if missing and not seen.questions else order(seen)


def redundant(seen: View) -> str:
    """Asks what was said, too."""
    missing = seen.missing
    if not seen.questions or (missing and seen.rng.random() < 0.3):
        return ask(seen, [*seen.rng.sample(sorted(seen.known), min(1, len(seen.known))), *missing[:2]])
    return ask_missing(seen)


def always_ask(seen: View) -> str:
    """Asks two or three questions before it orders, whether something is missing or not."""
    missing = seen.missing
    if missing:
        return ask(seen, missing[: seen.rng.choice((1, 2, 2, 3))])
    again = seen.questions < 2 or (seen.questions == 2 and seen.rng.random() < 0.7)
    if again and seen.repeats < 2 and seen.last_order is None:
        return ask(seen, seen.rng.sample(sorted(seen.known), min(seen.rng.choice((1, 2)), len(seen.known))))
    return order(seen)


def mixed(seen: View) -> str:
    """Another habit every turn."""
    return seen.rng.choice((order, ask_missing, ask_important, one_by_one, redundant))(seen)


def wordy(style: Style) -> Style:
    """A style after a pleasantry of some twenty words."""
    return lambda seen: f"{seen.rng.choice(PLEASANTRIES)} {style(seen)}"


def _guess(slot: str, last: Mapping[str, str] | None, rng: random.Random) -> str:
    if last is not None:
        return last.get(slot, ANY)
    return ANY if slot in ANY_SHARE and rng.random() < 0.5 else rng.choice(VALUES[slot])


def _model(style: Style) -> ScriptedModel:
    return ScriptedModel(lambda messages, seed: style(view(messages, seed)))


STYLES: dict[str, Style] = {
    "oracle": ask_missing,
    "guess": order,
    "guess-wordy": wordy(order),
    "ask-missing": ask_missing,
    "ask-missing-wordy": wordy(ask_missing),
    "ask-important": ask_important,
    "one-by-one": one_by_one,
    "ask-one": ask_one,
    "redundant": redundant,
    "mixed": mixed,
    "always-ask": always_ask,
}
SCRIPTED = {name: _model(style) for name, style in STYLES.items()}
MIXTURE = {
    "guess": 0.34,
    "guess-wordy": 0.08,
    "ask-missing": 0.10,
    "ask-missing-wordy": 0.06,
    "ask-important": 0.10,
    "one-by-one": 0.10,
    "ask-one": 0.08,
    "redundant": 0.08,
    "mixed": 0.06,
}


def _under(prompt: str | None, share: float) -> list[Demonstration]:
    return [Demonstration(style, share * weight, prompt) for style, weight in MIXTURE.items()]


DEMONSTRATIONS = (
    *_under(None, 0.82),
    Demonstration("always-ask", 0.10, "proactive"),
    Demonstration("ask-missing", 0.048, "ask-missing"),
    *_under("ask-missing", 0.032),
)
