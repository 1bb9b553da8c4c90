# pyright: basic
"""Messages to token ids, through a tokenizer's chat template, and back.

The template's text is split at the tokenizer's special tokens and the pieces are encoded one by one, each
remembered: conversations grow by a message at a time, so most pieces were seen before. That this gives the
tokenizer's own ids is checked once; where it does not, the tokenizer does all of it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerFast

from duologue.conversation import Message, message_rows
from duologue.errors import DataError, ModelError
from duologue.models.wire import spoken

THOUGHT = "<think>"
"""What opens a model's thoughts; some templates write it, so that a reply begins in the middle of one."""
TAGS = (THOUGHT, "</think>")
"""What is read of a reply even where it is special tokens: the thoughts between are cut out."""
UNTHOUGHT = "\n</think>\n\n"
"""How a reply goes on that gives no thought, after a prompt that opens one."""
PIECES = 65_536
"""Pieces of text remembered."""
PROMPTS = 64
"""Conversations remembered: the candidates of one state are drawn one after the other."""
SAMPLE = (Message("user", "Hello, 2 of them ?"), Message("assistant", "Which\n city ?"), Message("user", " To Rome. "))


class ChatTemplate:
    """A tokenizer with a chat template.

    Args:
        tokenizer: of transformers.
        options: what the template takes besides messages, such as `enable_thinking`.

    Raises:
        ModelError: the tokenizer has no chat template.
    """

    def __init__(self, tokenizer: Any, options: Mapping[str, Any] | None = None) -> None:
        if not tokenizer.chat_template:
            raise ModelError(
                f"the tokenizer of {tokenizer.name_or_path or 'this model'} has no chat template: "
                "use a chat model, or add a chat_template.jinja to its folder"
            )
        self.tokenizer = tokenizer
        self.options = dict(options or {})
        self._backend = tokenizer.backend_tokenizer if isinstance(tokenizer, PreTrainedTokenizerFast) else None
        self._special = _special_tokens(tokenizer)
        added = tokenizer.added_tokens_decoder.items()
        self._unread = frozenset(id for id, token in added if token.special and token.content not in TAGS)
        self._piece: Callable[[str], tuple[int, ...]] = lru_cache(PIECES)(self._encode_piece)
        self.count: Callable[[str], int] = lru_cache(PIECES)(self._count)
        self._prompt: Callable[[tuple[Message, ...]], tuple[int, ...]] = lru_cache(PROMPTS)(self._encode)
        self.fast = self._by_pieces(self.text(SAMPLE)) == self._plain(self.text(SAMPLE))
        """Whether pieces give the tokenizer's own ids."""
        self._opens_thought = self.text(SAMPLE).rstrip().endswith(THOUGHT)
        self._around = self._surroundings()
        # A template may write a space before the text; the shortest message shows the frame without it.
        self._frame = min(self._length(text) - len(text) for text in ("", "?", ".", "a"))

    def encode(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """The ids a model reads before it replies to `messages`.

        Raises:
            DataError: the template refuses these messages.
        """
        return self._prompt(tuple(messages))

    def _encode(self, messages: tuple[Message, ...]) -> tuple[int, ...]:
        return self._ids(self.text(messages))

    def _ids(self, text: str) -> tuple[int, ...]:
        return self._by_pieces(text) if self.fast else self._plain(text)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of sampled ids, stripped; special tokens left out, but for the tags around thoughts."""
        return self.tokenizer.decode([id for id in ids if id not in self._unread], skip_special_tokens=False).strip()

    def spoken(self, ids: Sequence[int]) -> str:
        """That text without the thoughts in it; nothing where a reply was cut in them."""
        return self.aloud(self.decode(ids))

    def aloud(self, text: str) -> str:
        """A reply's text without the thoughts in it, the one that the prompt opens among them."""
        return spoken((THOUGHT if self._opens_thought else "") + text)

    def text(self, messages: Sequence[Message]) -> str:
        """The template's text for `messages`, up to where the reply begins."""
        return self._rendered(messages, add_generation_prompt=True)

    def reply(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """The ids of the last of `messages`, as they would be drawn after `encode` of the others.

        Its end is among them, and after it whatever else the template closes a message with, a line break often.
        Empty where the template shows the other messages in another way once there is a reply.

        Raises:
            DataError: the template refuses these messages.
        """
        asked = messages[:-1]
        prompt, text = self.encode(asked), self._rendered(messages)
        whole = self._ids(text)
        if whole[: len(prompt)] == prompt:
            return whole[len(prompt) :]
        return self._ids(self._after(self.text(asked), text))  # the prompt's last token goes on into the reply

    def _after(self, prompt: str, text: str) -> str:
        """What `text` has after a prompt; nothing where it does not begin with it."""
        if text.startswith(prompt):
            return text[len(prompt) :]
        asked = prompt.rstrip().removesuffix(THOUGHT)
        # Some templates open a thought in the prompt, and show none of it afterwards.
        return UNTHOUGHT + text[len(asked) :] if self._opens_thought and text.startswith(asked) else ""

    def _rendered(self, messages: Sequence[Message], **wanted: bool) -> str:
        try:
            return self.tokenizer.apply_chat_template(message_rows(messages), tokenize=False, **wanted, **self.options)
        except TemplateError as error:
            roles = ", ".join(dict.fromkeys(m.role for m in messages))
            raise DataError(f"the model's chat template refuses messages by {roles}: {error}") from error

    def _count(self, text: str) -> int:
        """How many tokens a message is longer by this text."""
        return self._length(text) - self._frame if text.strip() else 0

    def _length(self, text: str) -> int:
        """Tokens of a conversation that is this one message."""
        if self._around is None or text != text.strip():
            return len(self._encode((Message("user", text),)))
        return len(self._ids(text.join(self._around)))

    def _surroundings(self) -> tuple[str, str] | None:
        """What the template writes before and after the text of a single message; None where that is not all it does.

        Rendering a template takes ten times as long as finding a text's ids in memory.
        """
        one, other = "Hello, 2 of them ?", "To\n Rome"
        before, found, after = self.text([Message("user", one)]).partition(one)
        plain = found and self.text([Message("user", other)]) == other.join((before, after))
        return (before, after) if plain else None

    def _by_pieces(self, text: str) -> tuple[int, ...]:
        ids: list[int] = []
        for piece in self._special.split(text):
            if piece:
                ids += self._piece(piece)
        return tuple(ids)

    def _plain(self, text: str) -> tuple[int, ...]:
        return tuple(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def _encode_piece(self, text: str) -> tuple[int, ...]:
        backend = self._backend
        # Whoever shares the tokenizer may have left it set to cut or pad; its own call resets that.
        if backend is None or backend.truncation is not None or backend.padding is not None:
            return self._plain(text)
        return tuple(backend.encode(text, add_special_tokens=False).ids)


def settled(template: str, options: Mapping[str, Any]) -> str:
    """A chat template with some of what it takes besides messages given once and for all.

    >>> settled("{{ enable_thinking }}", {"enable_thinking": False})
    '{% set enable_thinking = false %}{{ enable_thinking }}'
    """
    return "".join(f"{{% set {name} = {json.dumps(value)} %}}" for name, value in options.items()) + template


def _special_tokens(tokenizer: Any) -> re.Pattern[str]:
    """A pattern that splits a text at special tokens and keeps them."""
    added = {token.content for token in tokenizer.added_tokens_decoder.values()}
    if not added:
        return re.compile("(?!)")
    longest_first = sorted(added, key=len, reverse=True)
    return re.compile(f"({'|'.join(map(re.escape, longest_first))})")
