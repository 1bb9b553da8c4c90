"""Chat completions as they go over the wire: the bytes of a request, and what is in an answer.

Servers differ in what they take, in how they complain, and in what they leave out. All of that is read here;
what a refusal means is in `refusals`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, ClassVar, NamedTuple, NoReturn, cast

import orjson

from duologue.conversation import Message
from duologue.errors import RequestRefused
from duologue.models.base import Reply, Sampling, Usage

NOTHING: frozenset[str] = frozenset()
"""No word of a request is left out."""

SEED_LIMIT = 2**31 - 1
"""The largest seed that every server takes: some hold it in 32 bits."""


EMPTY = ("length", "content_filter", "tool_calls")
"""How replies without content end that are replies all the same: cut in their thoughts, withheld, or said to a tool."""


class Unreadable(Exception):
    """An answer that says all is well and holds no reply; with all its words, as `Place.quote` takes them."""


@dataclass(frozen=True, slots=True)
class Query:
    """One call, as it is meant: what a server refuses of it is not known here."""

    path: ClassVar[str] = "chat/completions"
    """Where it goes, from the endpoint's address."""
    kept: ClassVar[bool] = True
    """Whether an equal one later may be answered with its reply."""

    model: str
    messages: Sequence[Message]
    seed: int
    sampling: Sampling
    stop: tuple[str, ...] = ()

    def body(self, without: Set[str] = NOTHING) -> bytes:
        """The request's JSON, in the way that a server takes that refuses some words of it.

        Args:
            without: "seed", "stop": left out; "temperature", "top_p": left out where they are 1, which is what
                leaving them out means; "max_tokens": under its newer name; "json_schema": any JSON object is
                asked for; "json_object": nothing is.

        Raises:
            RequestRefused: a message is no text that could be sent.
        """
        sampling = self.sampling
        fields: dict[str, Any] = {"model": self.model, "messages": self.messages}
        if "temperature" not in without or sampling.temperature != 1.0:
            fields["temperature"] = sampling.temperature
        if "top_p" not in without or sampling.top_p != 1.0:
            fields["top_p"] = sampling.top_p
        fields["max_completion_tokens" if "max_tokens" in without else "max_tokens"] = sampling.max_tokens
        if "seed" not in without:
            fields["seed"] = self.seed & SEED_LIMIT
        if self.stop and "stop" not in without:
            fields["stop"] = self.stop
        if sampling.format is not None and "json_object" not in without:
            fields["response_format"] = self._format(without)
        try:
            return orjson.dumps(fields)
        except TypeError as error:
            raise RequestRefused(f"a message to {self.model} cannot be sent: {error}") from error

    def read(self, body: bytes, counter: Callable[[str], int]) -> Reply:
        """The reply in an answer to it; see `read_reply`."""
        return read_reply(body, self, counter)

    def _format(self, without: Set[str]) -> dict[str, Any]:
        wanted = self.sampling.format
        if wanted is None or "json_schema" in without:
            return {"type": "json_object"}
        schema = {"name": wanted.name, "strict": True, "schema": orjson.Fragment(wanted.schema)}
        return {"type": "json_schema", "json_schema": schema}


class Answer(NamedTuple):
    """What came back."""

    status: int
    retry_after: str | None
    """The header's value."""
    body: bytes


class Complaint(NamedTuple):
    """What a server says is wrong."""

    words: str
    """For people."""
    marks: str
    """Its code, type and parameter: for programs."""

    @property
    def all(self) -> str:
        """Everything it says."""
        return f"{self.words} {self.marks}"

    def names(self, word: str) -> bool:
        """Whether it names a parameter."""
        return re.search(rf"(?<![\w-]){word}(?![\w-])", self.all) is not None


def read_complaint(body: bytes) -> Complaint:
    """What is wrong, from a body in any of the forms that servers use, plain text too."""
    try:
        found: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        return Complaint(body.decode(errors="replace"), "")
    match found:
        case {"error": dict()}:
            inner = cast("dict[str, Any]", found["error"])
        case {"error": str(words)} | {"message": str(words)} | {"detail": str(words)}:
            return Complaint(words, str(found.get("error_type", "")))
        case {"detail": list()}:
            return Complaint("; ".join(_invalid(part) for part in cast("list[Any]", found["detail"])), "")
        case _:
            return Complaint(body.decode(errors="replace"), "")
    marks = (inner.get(mark) for mark in ("code", "type", "param"))
    return Complaint(str(inner.get("message") or ""), " ".join(str(mark) for mark in marks if mark is not None))


def _invalid(part: Any) -> str:
    """One finding of FastAPI; what it quotes of the request is left out."""
    match part:
        case {"loc": list(), "msg": str(words)}:
            return f"{'.'.join(map(str, cast('list[Any]', part['loc'])))}: {words}"
        case _:
            return str(part)


def read_reply(body: bytes, query: Query, counter: Callable[[str], int]) -> Reply:
    """The reply in an answer.

    A refusal is a reply. A reply cut before its first word (a model that thought until its tokens were used
    up), or withheld by a provider's filter, is an empty one. Thoughts are left out, whether the server has set
    them apart or not. Tokens that the server does not count are counted by `counter`.

    Raises:
        Unreadable: there is none.
    """
    try:
        found: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise Unreadable(f"it answers with what is no JSON: {body.decode(errors='replace')}") from None
    try:
        choice = found["choices"][0]
        message, finish = choice["message"], choice.get("finish_reason")
        text = _text(message, finish)
    except (TypeError, KeyError, IndexError, AttributeError):
        _unreadable(found, body)
    if text is None or finish == "error":
        _unreadable(found, body)
    text = spoken(text)
    usage = found.get("usage")
    usage = cast("dict[str, Any]", usage) if isinstance(usage, dict) else {}
    prompt, completion = _count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens"))
    if prompt is None:
        prompt = sum(counter(message.content) for message in query.messages)
    if completion is None:
        completion = counter(text)
    return Reply(text, "length" if finish == "length" else "stop", Usage(prompt, completion))


def _text(message: dict[str, Any], finish: Any) -> str | None:
    content = message.get("content")
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(part["text"] for part in cast("list[Any]", content) if part["type"] == "text")
    refusal = message.get("refusal")
    if content is None and isinstance(refusal, str):
        return refusal
    return "" if content is None and finish in EMPTY else None


def _count(number: Any) -> int | None:
    return number if type(number) is int and number >= 0 else None


def _unreadable(found: Any, body: bytes) -> NoReturn:
    if isinstance(found, dict) and "error" in found:
        raise Unreadable(f"it answers with an error: {read_complaint(body).words}")
    raise Unreadable(f"its answer holds no reply: {body.decode(errors='replace')}")


def spoken(text: str) -> str:
    """A reply without its thoughts, wherever they stand in it.

    >>> spoken("<think>a city is missing</think>\\n\\nwhich city ?")
    'which city ?'
    >>> spoken("sure ! <think>a city is missing</think> which city ?")
    'sure ! which city ?'
    >>> spoken("which city ? <think>so long that it was cut")
    'which city ?'
    """
    if "think>" not in text:
        return text
    *thoughts, rest = text.split("</think>")
    said = ""
    for part in thoughts:
        shown, opened, _ = part.partition("<think>")
        said = _joined(said, shown) if opened else ""  # some templates open the first in the prompt
    return _joined(said, rest.partition("<think>")[0]).strip()


def _joined(before: str, after: str) -> str:
    """Two parts with the white space of one of them between them."""
    return before + (after if before[-1:].strip() else after.lstrip())


def cut_at(text: str, stops: Sequence[str]) -> str:
    """A text up to the first of the stops, as a server that knows them would end it.

    >>> cut_at("two . user: three", ("user:", "."))
    'two '
    """
    return text[: min((at for stop in stops if (at := text.find(stop)) >= 0), default=len(text))]


def retry_after(value: str | None) -> float | None:
    """Seconds from a `Retry-After`, which is a number or a date; None where it is neither.

    >>> retry_after("1.5"), retry_after("-3"), retry_after("soon")
    (1.5, 0.0, None)
    """
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        return _until(value)
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _until(date: str) -> float | None:
    try:
        then = parsedate_to_datetime(date)
    except ValueError:
        return None
    now = datetime.now(UTC)
    return max(0.0, ((then if then.tzinfo else then.replace(tzinfo=UTC)) - now).total_seconds())


def read_models(body: bytes) -> dict[str, dict[str, Any]]:
    """What a list of models says of each, by name; nothing where it is no such list.

    >>> read_models(b'{"data": [{"id": "small", "max_model_len": 4096}]}')
    {'small': {'id': 'small', 'max_model_len': 4096}}
    """
    try:
        found: Any = orjson.loads(body)
        return {str(model["id"]): model for model in found["data"]}
    except (orjson.JSONDecodeError, TypeError, KeyError):
        return {}
