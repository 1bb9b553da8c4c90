"""What is read of a reply's ids, over the chat templates that real models have."""

from __future__ import annotations

import pytest
from transformers import PreTrainedTokenizerFast

from chat_templates import ENDED, KINDS, NO_SYSTEM, OPENING, PLAIN, THOUGHTS, tokenizer
from duologue.conversation import Message
from duologue.errors import DataError
from duologue.models.template import ChatTemplate

ASKED = Message("user", "to rome")
TAGS = pytest.mark.parametrize("special", [(), THOUGHTS], ids=["tags are ordinary", "tags are special"])
THOUGHTFUL = [
    ("<think>\na city is missing\n</think>\n\nwhich city ?", "which city ?"),
    ("<think>\na city is miss", ""),
    ("which city ? <think>a city is missing</think> to rome ?", "which city ? to rome ?"),
    ("which city ? <think>a city is miss", "which city ?"),
    ("<think>a city</think><think>is missing</think>which city ?", "which city ?"),
]


def said(tokens: PreTrainedTokenizerFast, text: str) -> str:
    return ChatTemplate(tokens).spoken(tokens(text, add_special_tokens=False)["input_ids"])


@TAGS
@pytest.mark.parametrize(("text", "heard"), THOUGHTFUL)
def test_thoughts_are_not_spoken_whatever_tokens_they_stand_between(
    special: tuple[str, ...], text: str, heard: str
) -> None:
    assert said(tokenizer(PLAIN, special=special), text) == heard


@TAGS
@pytest.mark.parametrize(
    ("text", "heard"), [("a city is missing\n</think>\n\nwhich city ?", "which city ?"), ("a city is miss", "")]
)
def test_a_thought_that_the_prompt_opens_is_not_spoken(special: tuple[str, ...], text: str, heard: str) -> None:
    assert said(tokenizer(OPENING, special=special), text) == heard


@TAGS
def test_other_special_tokens_are_not_spoken(special: tuple[str, ...]) -> None:
    assert said(tokenizer(PLAIN, special=special), f"which city ?{ENDED}<|turn|>") == "which city ?"


@pytest.mark.parametrize("kind", KINDS)
def test_the_ids_of_a_reply_stand_after_the_prompts_and_say_it(kind: str) -> None:
    template = ChatTemplate(KINDS[kind])

    reply = template.reply((ASKED, Message("assistant", "which city ?")))

    assert template.spoken(reply) == "which city ?"
    assert template.tokenizer.eos_token_id in reply
    drawn = template.tokenizer.decode([*template.encode((ASKED,)), *reply])
    assert drawn.startswith(template.text((ASKED,))) and drawn.count("<think>") == drawn.count("</think>")


def test_a_refused_role_is_named() -> None:
    with pytest.raises(DataError, match="refuses messages by system, user: System role not supported"):
        ChatTemplate(tokenizer(NO_SYSTEM)).encode((Message("system", "order"), ASKED))
