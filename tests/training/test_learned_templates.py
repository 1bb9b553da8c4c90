"""Replies are learned as they will be drawn, over the chat templates that real models have."""

from __future__ import annotations

from pathlib import Path

import pytest

from chat_templates import ENDED, KINDS
from duologue.background import BackgroundLoop
from duologue.conversation import Message
from duologue.errors import DataError
from duologue.models.local import LocalModel
from duologue.models.template import ChatTemplate
from duologue.training.scratch import build_model
from duologue.training.settings import ScratchSettings, SftSettings
from duologue.training.sft import Example, LeftOut, Row, tokenised, train_stage
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
    return list(tokenised(tokens, examples, {tokens.eos_token_id}))


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
