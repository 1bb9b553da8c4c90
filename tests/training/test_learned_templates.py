"""Replies are learned as they will be drawn, over the chat templates that real models have."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest

from chat_templates import ENDED, KINDS, PLAIN, tokenizer
from duologue.background import BackgroundLoop
from duologue.conversation import Message
from duologue.errors import DataError
from duologue.models.local import LocalModel
from duologue.models.template import ChatTemplate
from duologue.training.scratch import build_model
from duologue.training.settings import ScratchSettings, SftSettings
from duologue.training.sft import IGNORED, Example, LeftOut, Row, tokenised, train_stage
from training_stage import a_stage

SHOWN = (
    Message("user", "order : two"),
    Message("assistant", "which city ?"),
    Message("user", "to rome"),
    Message("assistant", "order : two to rome"),
)
SETTINGS = SftSettings(algorithm="sft", batch=4, save_steps=None)


def rows(kind: str, *examples: Example) -> list[Row | LeftOut]:
    tokens = KINDS[kind]
    end = tokens.eos_token_id
    assert isinstance(end, int)
    return list(tokenised(tokens, examples, {end}))


def policy(kind: str) -> LocalModel:
    settings = ScratchSettings(hidden=32, intermediate=64, layers=1, heads=2, head_dim=16, context=256)
    return LocalModel(build_model(settings, KINDS[kind], seed=0), KINDS[kind])


@pytest.mark.parametrize("kind", KINDS)
def test_every_reply_of_a_demonstration_is_learned_after_the_prompt_that_it_will_be_drawn_after(kind: str) -> None:
    template = ChatTemplate(KINDS[kind])

    for place in (1, 3):
        (row,) = rows(kind, Example(SHOWN[: place + 1], "last"))
        assert isinstance(row, Row)
        prompt = template.encode(SHOWN[:place])
        assert tuple(row.input_ids) == (*prompt, *row.reply)
        assert template.spoken(row.reply) == SHOWN[place].content


def learned(row: Row | LeftOut) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Each run of ids with labels, after all that the model reads before it."""
    assert isinstance(row, Row)
    own = [label != IGNORED for label in row.labels]
    begins = [at for at in range(1, len(own)) if own[at] and not own[at - 1]]
    ends = [at for at in range(1, len(own) + 1) if own[at - 1] and not any(own[at : at + 1])]
    return [(tuple(row.input_ids[:b]), tuple(row.labels[b:e])) for b, e in zip(begins, ends, strict=True)]


@pytest.mark.parametrize("trained", ["all", "last"])
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_learned_but_what_would_be_drawn_after_a_prompt_up_to_its_end(
    kind: str, trained: Literal["all", "last"]
) -> None:
    template = ChatTemplate(KINDS[kind])
    places = (1, 3) if trained == "all" else (3,)

    replies = [reply for row in rows(kind, Example(SHOWN, trained)) for reply in learned(row)]

    for place, (before, reply) in zip(places, replies, strict=True):
        assert before == template.encode(SHOWN[:place])
        text = template.tokenizer.decode(reply).rpartition("</think>\n\n")[2]
        assert text == SHOWN[place].content + ENDED
        assert reply.index(template.tokenizer.eos_token_id) == len(reply) - 1


def test_an_end_that_is_no_special_token_ends_a_reply_and_is_none_of_its_text() -> None:
    tokens = tokenizer(PLAIN.replace(ENDED, "<stop>"))
    tokens.add_tokens(["<stop>"])

    (row,) = tokenised(tokens, [Example(SHOWN[:2])], {tokens.get_vocab()["<stop>"]})

    assert isinstance(row, Row) and tokens.decode(row.reply) == "which city ?<stop>"


@pytest.mark.parametrize("kind", KINDS)
def test_of_a_whole_demonstration_as_much_is_learned_as_of_its_replies_one_by_one(kind: str) -> None:
    whole = rows(kind, Example(SHOWN))
    each = rows(kind, *(Example(SHOWN[: place + 1], "last") for place in (1, 3)))

    learned = [token for row in whole if isinstance(row, Row) for token in row.reply]
    assert learned == [token for row in each if isinstance(row, Row) for token in row.reply]


@pytest.mark.parametrize("kind", KINDS)
def test_a_sampled_reply_is_learned_with_its_thoughts(kind: str) -> None:
    template = ChatTemplate(KINDS[kind])
    opened = template.text(SHOWN[:1]).endswith("<think>\n")
    text = f"{'' if opened else '<think>'}a city is missing\n</think>\n\nwhich city ?{ENDED}"
    ids = tuple(template.tokenizer(text)["input_ids"])

    (row,) = rows(kind, Example((SHOWN[0], Message("assistant", template.spoken(ids[:-1]))), "last", ids=ids))

    assert template.spoken(ids) == "which city ?"
    assert isinstance(row, Row) and tuple(row.reply) == ids


def test_demonstrations_under_a_system_prompt_that_is_refused_are_left_out_and_counted(
    tmp_path: Path, loop: BackgroundLoop
) -> None:
    stage = a_stage(tmp_path, policy("no system prompt"), loop, name="0-sft")

    train_stage(SETTINGS, stage, [*[Example(SHOWN)] * 4, *[Example(SHOWN, system="order")] * 3])

    (counts,) = [entry.value for entry in stage.journal.read("examples")]
    assert (counts["rows"], counts["left_out"]) == (4, 3)


def test_where_all_stand_under_one_that_is_refused_the_sentence_says_so(tmp_path: Path, loop: BackgroundLoop) -> None:
    stage = a_stage(tmp_path, policy("no system prompt"), loop, name="0-sft")

    with pytest.raises(DataError, match=r"by system, user: System role not supported \(5\)"):
        train_stage(SETTINGS, stage, [Example(SHOWN, system="order")] * 5)
