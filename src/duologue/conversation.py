"""Goals, messages and conversations: the values that everything else passes on.

All are frozen. Whoever continues a conversation makes a new one, so branching is free.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Literal, NamedTuple, cast

import orjson

from duologue.errors import DataError, nearest
from duologue.seeding import digest

Role = Literal["system", "user", "assistant"]
ROLES: tuple[str, ...] = ("system", "user", "assistant")


@dataclass(frozen=True, slots=True)
class Message:
    """One utterance."""

    role: Role
    content: str


class Ending(StrEnum):
    """How a conversation ended."""

    OPEN = "open"
    """Not ended: it can be continued."""
    SATISFIED = "satisfied"
    """The user got what they wanted and said so."""
    LEFT = "left"
    """The user gave up."""
    WINDOW = "window"
    """A look-ahead's window, or the turn limit, cut it; or the user had nothing more to say."""
    OVERFLOW = "overflow"
    """It outgrew the assistant's context: an outcome, and scored."""
    FAILED = "failed"
    """Trouble on the road: never scored."""


@dataclass(frozen=True, slots=True)
class Reaction:
    """What a scripted user thinks of the conversation as it stands: a pure function of it."""

    satisfied: bool
    annoyance: float
    """0 and up; the user leaves at `limit`."""
    limit: float
    leaving: bool

    @property
    def satisfaction(self) -> float:
        """max(0, 1 − annoyance ÷ limit): 0 to 1."""
        return max(0.0, 1.0 - self.annoyance / self.limit)


class Turn(NamedTuple):
    """One user message and the reply to it (`None` where the user had the last word)."""

    user: str
    reply: str | None


@dataclass(frozen=True, slots=True)
class Conversation:
    """Messages so far and how they ended.

    A system prompt is not part of it: it belongs to the assistant, and users never see it.

    >>> asked = Conversation().said("some bread , please .").replied("how many ?")
    >>> asked.turns
    (Turn(user='some bread , please .', reply='how many ?'),)
    >>> asked.said("two .") == asked
    False
    """

    messages: tuple[Message, ...] = ()
    ending: Ending = Ending.OPEN
    reason: str | None = None
    """Why, where `ending` is FAILED or OVERFLOW."""
    shared: int = 0
    """How many of the first messages it shares with its siblings; a look-ahead's branches there."""
    cut: tuple[int, ...] = ()
    """Indices of replies that hit the limit on tokens."""
    reaction: Reaction | None = None
    """A scripted user's reaction to the last reply, where the user has one."""

    def said(self, content: str, *, ending: Ending = Ending.OPEN) -> Conversation:
        """The conversation after one more user message."""
        messages = (*self.messages, Message("user", content))
        return replace(self, messages=messages, ending=ending, reaction=None)

    def replied(self, content: str, *, cut: bool = False) -> Conversation:
        """The conversation after one more reply; `cut` where it hit the limit on tokens."""
        cuts = (*self.cut, len(self.messages)) if cut else self.cut
        messages = (*self.messages, Message("assistant", content))
        return replace(self, messages=messages, cut=cuts, reaction=None)

    def ended(self, ending: Ending, reason: str | None = None) -> Conversation:
        """The conversation with its ending set."""
        return replace(self, ending=ending, reason=reason)

    def truncated(self, length: int) -> Conversation:
        """The open conversation of the first `length` messages."""
        return Conversation(self.messages[:length], cut=tuple(i for i in self.cut if i < length))

    @property
    def replies(self) -> tuple[str, ...]:
        """What the assistant said, in order."""
        return tuple(self.messages[i].content for i in self.replied_at)

    @property
    def replied_at(self) -> tuple[int, ...]:
        """The indices of the replies among the messages."""
        return tuple(i for i, m in enumerate(self.messages) if m.role == "assistant")

    @property
    def turns(self) -> tuple[Turn, ...]:
        """User messages with the replies to them."""
        turns: list[Turn] = []
        for message in self.messages:
            if message.role == "user":
                turns.append(Turn(message.content, None))
            elif turns and turns[-1].reply is None:
                turns[-1] = Turn(turns[-1].user, message.content)
        return tuple(turns)

    @property
    def digest(self) -> str:
        """16 hexadecimal digits that stand for the messages."""
        return digest(part for m in self.messages for part in (m.role, m.content))


@dataclass(frozen=True, slots=True)
class Request:
    """All that a user may see of a goal."""

    text: str
    facts: Mapping[str, Any] = field(default_factory=dict[str, Any])
    pieces: tuple[str, ...] = ()
    """The request in parts, as one would tell them one at a time, what one says first before the others."""


@dataclass(frozen=True, slots=True)
class Goal:
    """What one user wants. Metrics alone see the reference."""

    id: str
    request: Request
    reference: Any = None

    def __post_init__(self) -> None:
        if not self.request.text.strip():
            raise DataError(f"goal {self.id!r} has no request: give it a text that says what the user wants")


def message_rows(messages: Iterable[Message], system: str | None = None) -> list[dict[str, str]]:
    """Messages as `[{"role", "content"}…]`, after the system prompt where there is one.

    >>> message_rows([Message("user", "hello")], system="be brief")
    [{'role': 'system', 'content': 'be brief'}, {'role': 'user', 'content': 'hello'}]
    """
    head = [] if system is None else [Message("system", system)]
    return [{"role": message.role, "content": message.content} for message in (*head, *messages)]


def parse_messages(rows: Any, where: str) -> tuple[Message, ...]:
    """Messages from `[{"role", "content"}…]`.

    Raises:
        DataError: not a list, or a row without a known role or a text, naming `where` it stands.
    """
    if not isinstance(rows, Sequence) or isinstance(rows, str):
        raise DataError(f'{where}: messages must be a list of {{"role", "content"}}')
    return tuple(_parse_message(row, f"{where}: message {i + 1}") for i, row in enumerate(cast("Sequence[Any]", rows)))


def _parse_message(row: Any, where: str) -> Message:
    fields: Mapping[str, Any] = cast("Mapping[str, Any]", row) if isinstance(row, Mapping) else {}
    role, content = fields.get("role"), fields.get("content")
    if role not in ROLES or not isinstance(content, str):
        raise DataError(f"{where} must have a role among {', '.join(ROLES)} and a text as content")
    return Message(role, content)


IN_REQUEST = ("text", "facts", "pieces")
IN_GOAL = ("id", "request", "reference", "split")
"""The keys of a goal's ready form."""


def goal_row(goal: Goal) -> dict[str, Any]:
    """A goal in its ready form, from which `parse_goal` makes it again.

    >>> goal_row(Goal("tea", Request("you want tea"), reference="green"))
    {'id': 'tea', 'request': {'text': 'you want tea', 'facts': {}, 'pieces': []}, 'reference': 'green'}
    """
    request = {"text": goal.request.text, "facts": dict(goal.request.facts), "pieces": list(goal.request.pieces)}
    return {"id": goal.id, "request": request, "reference": goal.reference}


def parse_goal(row: Mapping[str, Any], where: str) -> Goal:
    """A goal from its ready form: `{"id", "request": {"text", "facts", "pieces"}, "reference"}`.

    The request may be a text, with its facts and pieces beside it. A goal without an id is named by its content. Its
    "split" is for whoever reads a file of them.

    Raises:
        DataError: no request, a part that is not what it should be, or one of no known name, naming `where` it stands.
    """
    parts = _request(row, where)
    text, facts, pieces = (parts.get(key) for key in IN_REQUEST)
    if not isinstance(text, str) or not text.strip():
        raise DataError(f"{where}: the goal has no request: say what the user wants")
    if facts is not None and not isinstance(facts, Mapping):
        raise DataError(f"{where}: the goal's facts must be an object; they are {facts!r}")
    known = dict(cast("Mapping[str, Any]", facts or {}))
    return Goal(_name(row, where), Request(text, known, _pieces(pieces, where)), row.get("reference"))


def _request(row: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    """The parts of a row's request, wherever they stand in it."""
    given = row.get("request")
    if not isinstance(given, Mapping):
        _check_keys(row, (*IN_GOAL, "facts", "pieces"), f"{where}: a goal")
        return {**row, "text": given}
    parts = cast("Mapping[str, Any]", given)
    _check_keys(row, IN_GOAL, f"{where}: a goal whose request is an object")
    _check_keys(parts, IN_REQUEST, f"{where}: a goal's request")
    return parts


def _check_keys(row: Mapping[str, Any], known: Sequence[str], what: str) -> None:
    """Refuse what nothing would read; a null says nothing."""
    unknown = next((key for key, value in row.items() if key not in known and value is not None), None)
    if unknown is not None:
        raise DataError(f'{what} has no "{unknown}"{nearest(unknown, known)}')


def _name(row: Mapping[str, Any], where: str) -> str:
    """What a goal is called: by its row, or else by all that the row says, whichever split that is in."""
    name = row.get("id")
    if name is None:
        content = {key: value for key, value in row.items() if key not in ("id", "split")}
        return digest([orjson.dumps(content, default=str, option=orjson.OPT_SORT_KEYS).decode()])
    if not isinstance(name, str | int) or isinstance(name, bool) or name == "":
        raise DataError(f"{where}: the goal's id must be a text or a number; it is {name!r}")
    return str(name)


def _pieces(rows: Any, where: str) -> tuple[str, ...]:
    pieces = cast("list[Any]", rows) if isinstance(rows, list) else []
    if (rows is not None and rows != pieces) or not all(isinstance(each, str) and each.strip() for each in pieces):
        raise DataError(f"{where}: the goal's pieces must be a list of texts, none of them empty; they are {rows!r}")
    return tuple(pieces)
