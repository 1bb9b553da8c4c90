"""Supervised training: what is learned of a conversation, and that a killed training goes on as if it had not been."""

from __future__ import annotations

import copy
import re
from pathlib import Path

import pytest
import torch
from hypothesis import given, strategies as st

from duologue.background import BackgroundLoop
from duologue.conversation import Message
from duologue.errors import DataError, ModelError
from duologue.models.local import LocalModel
from duologue.training.schedule import schedule
from duologue.training.scratch import build_model, build_tokenizer
from duologue.training.settings import ScratchSettings, SftSettings
from duologue.training.sft import (
    CUT,
    IGNORED,
    OUTGROWN,
    RESPELT,
    UNREAD,
    Example,
    LeftOut,
    Row,
    batches,
    tokenised,
    train_stage,
)
from training_stage import Killed, a_stage, kill_at, steps, timeless, weights

TOKENIZER = build_tokenizer(["i need milk . which city ? boston order : to"])
ENDS = {TOKENIZER.eos_token_id}
SETTINGS = SftSettings(algorithm="sft", batch=4, epochs=2, learning_rate=3e-3, warmup=2, save_steps=3)
MESSAGES = (
    Message("user", "i need milk ."),
    Message("assistant", "which city ?"),
    Message("user", "boston ."),
    Message("assistant", "order : milk to boston ."),
)


def model() -> LocalModel:
    settings = ScratchSettings(hidden=32, intermediate=64, layers=2, heads=2, head_dim=16, context=64)
    return LocalModel(build_model(settings, TOKENIZER, seed=0), TOKENIZER)


def examples(count: int = 20) -> list[Example]:
    cities = [Message("user", "boston . " * (1 + index % 3)) for index in range(count)]
    return [Example((MESSAGES[0], MESSAGES[1], city, MESSAGES[3])) for city in cities]


def learned(row: Row | LeftOut) -> str:
    assert isinstance(row, Row)
    return TOKENIZER.decode([label for label in row.labels if label != IGNORED])


def test_all_replies_are_learned_and_nothing_that_the_user_says() -> None:
    (row,) = tokenised(TOKENIZER, [Example(MESSAGES, system="order")], ENDS)

    assert learned(row) == " which city ?<|end|> order : milk to boston .<|end|>"


def test_of_the_last_reply_alone_only_that_one_is_learned() -> None:
    (row,) = tokenised(TOKENIZER, [Example(MESSAGES, trained="last")], ENDS)

    assert learned(row) == " order : milk to boston .<|end|>"


def test_both_ways_read_the_same_ids() -> None:
    whole, last = tokenised(TOKENIZER, [Example(MESSAGES), Example(MESSAGES, trained="last")], ENDS)

    assert isinstance(whole, Row) and isinstance(last, Row)
    assert whole.input_ids == last.input_ids


def test_a_reply_is_learned_as_it_was_sampled_with_the_thoughts_that_nobody_was_shown() -> None:
    sampled = (*TOKENIZER.encode("<think> milk </think> order :"), TOKENIZER.eos_token_id)

    (row,) = tokenised(TOKENIZER, [Example((MESSAGES[0], Message("assistant", "order :")), "last", ids=sampled)], ENDS)

    assert isinstance(row, Row) and tuple(row.reply) == sampled


def test_a_reply_that_does_not_tokenise_back_or_was_cut_is_left_out() -> None:
    sampled = (*TOKENIZER.encode(" order :"), TOKENIZER.eos_token_id)
    matching = Example((MESSAGES[0], Message("assistant", "order :")), "last", ids=sampled)
    otherwise = Example((MESSAGES[0], Message("assistant", "order :")), "last", ids=(sampled[0], *sampled))
    cut = Example((MESSAGES[0], Message("assistant", "order :")), "last", ids=sampled[:-1])
    hidden = Example((MESSAGES[0], Message("assistant", "order <|end|> :")), "last")

    rows = list(tokenised(TOKENIZER, [matching, otherwise, hidden, cut], ENDS))

    assert isinstance(rows[0], Row)
    assert rows[1:] == [LeftOut(RESPELT), LeftOut(UNREAD), LeftOut(CUT)]


def test_what_is_left_out_is_counted(tmp_path: Path, loop: BackgroundLoop) -> None:
    endless = Example((Message("user", "milk " * 100), MESSAGES[1]))
    stage = a_stage(tmp_path, model(), loop, name="0-sft")

    train_stage(SETTINGS, stage, [*examples(8), endless])

    ((key, counts),) = [(entry.key, entry.value) for entry in stage.journal.read("examples")]
    assert key == "examples/trained/0-sft"
    assert (counts["rows"], counts["left_out"], counts["steps"]) == (8, 1, 4)


def test_a_template_without_marks_gives_the_same_rows() -> None:
    bare = copy.deepcopy(TOKENIZER)
    bare.chat_template = re.sub(r"{% (end)?generation %}", "", TOKENIZER.chat_template)

    for example in (Example(MESSAGES), Example(MESSAGES, system="order")):
        assert list(tokenised(bare, [example], ENDS)) == list(tokenised(TOKENIZER, [example], ENDS))


def test_where_earlier_replies_are_shown_in_another_way_each_is_learned_in_a_row_of_its_own() -> None:
    hiding = copy.deepcopy(TOKENIZER)
    hiding.chat_template = (
        "{% for m in messages %}<|{{ m.role }}|>"
        "{% if m.role == 'assistant' and loop.last %}<think></think>{% endif %} {{ m.content }}<|end|>{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>{% endif %}"
    )

    rows = list(tokenised(hiding, [Example(MESSAGES)], ENDS))

    assert [learned(row) for row in rows] == [
        "<think></think> which city ?<|end|>",
        "<think></think> order : milk to boston .<|end|>",
    ]


def test_a_tokenizer_without_a_template_is_explained() -> None:
    bare = build_tokenizer(["milk"])
    bare.chat_template = None

    with pytest.raises(ModelError, match="no chat template"):
        list(tokenised(bare, [Example(MESSAGES)], ENDS))


def test_an_example_without_a_reply_is_refused() -> None:
    with pytest.raises(DataError, match="must end in a reply"):
        list(tokenised(TOKENIZER, [Example(MESSAGES[:1])], ENDS))


def test_too_few_examples_are_refused(tmp_path: Path, loop: BackgroundLoop) -> None:
    with pytest.raises(DataError, match="less than a batch of 4"):
        train_stage(SETTINGS, a_stage(tmp_path, model(), loop), examples(3))


def test_where_nothing_can_be_learned_from_it_is_said_why(tmp_path: Path, loop: BackgroundLoop) -> None:
    endless = Example((Message("user", "milk " * 100), MESSAGES[1]))
    cut = Example((MESSAGES[0], MESSAGES[1]), "last", ids=(5, 6))

    with pytest.raises(DataError, match=re.escape(f"{OUTGROWN} (5), {CUT} (3). More examples would not help")):
        train_stage(SETTINGS, a_stage(tmp_path, model(), loop), [*[endless] * 5, *[cut] * 3])


def test_a_part_of_a_batch_must_divide_it() -> None:
    with pytest.raises(ValueError, match="must divide batch = 4"):
        SftSettings(algorithm="sft", batch=4, micro_batch=3)


@given(st.lists(st.integers(1, 50), max_size=80), st.integers(1, 9), st.integers(1, 3), st.integers(0, 3))
def test_an_epoch_reads_whole_batches_of_different_rows(lengths: list[int], size: int, epochs: int, seed: int) -> None:
    order = batches(lengths, size, epochs, seed)
    per_epoch = len(lengths) // size

    assert len(order) == epochs * per_epoch
    for epoch in range(epochs):
        read = [row for batch in order[epoch * per_epoch : (epoch + 1) * per_epoch] for row in batch]
        assert len(read) == len(set(read)) == per_epoch * size


def test_over_some_epochs_every_row_is_read() -> None:
    lengths = list(range(11))

    order = batches(lengths, 4, 12, 0)

    assert {row for batch in order for row in batch} == set(lengths)


def test_rows_of_like_length_are_read_together() -> None:
    lengths = [index % 40 for index in range(256)]

    spread = [max(lengths[i] for i in batch) - min(lengths[i] for i in batch) for batch in batches(lengths, 8, 1, 0)]

    assert max(spread) <= 1


def test_the_learning_rate_rises_holds_and_falls() -> None:
    settings = SftSettings(algorithm="sft", learning_rate=1.0, warmup=10, hold=0.5, floor=0.1)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    rates = schedule(optimizer, settings, 100)
    seen: list[float] = []

    for _ in range(101):
        seen.append(rates.get_last_lr()[0])
        optimizer.step()
        rates.step()

    assert [seen[step] for step in (0, 9, 50, 75, 100)] == pytest.approx([0.1, 1.0, 1.0, 0.55, 0.1])


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_killed_training_goes_on_to_the_same_weights_and_journal(
    tmp_path: Path, loop: BackgroundLoop, optimizer: str
) -> None:
    settings = SETTINGS.model_copy(update={"optimizer": optimizer})
    whole = a_stage(tmp_path / "whole", model(), loop, name="0-sft")
    train_stage(settings, whole, examples())
    with pytest.raises(Killed):
        train_stage(settings, a_stage(tmp_path / "x", model(), loop, name="0-sft", progress=kill_at(8)), examples())

    again = a_stage(tmp_path / "x", model(), loop, name="0-sft")
    train_stage(settings, again, examples())

    torch.testing.assert_close(weights(again), weights(whole), rtol=1e-5, atol=1e-6)
    assert timeless(again) == timeless(whole)
    assert [step["step"] for step in steps(again)] == list(range(1, 11))


def test_a_checkpoint_that_was_cut_short_is_passed_over(tmp_path: Path, loop: BackgroundLoop) -> None:
    with pytest.raises(Killed):
        train_stage(SETTINGS, a_stage(tmp_path, model(), loop, progress=kill_at(8)), examples())
    (tmp_path / "checkpoint-6" / "trainer_state.json").write_text('{"cut')

    told: list[int] = []
    again = a_stage(tmp_path, model(), loop, progress=lambda done, *_: told.append(done))
    train_stage(SETTINGS, again, examples())

    assert told[0] == 4


def test_training_lowers_the_loss(tmp_path: Path, loop: BackgroundLoop) -> None:
    stage = a_stage(tmp_path, model(), loop)

    train_stage(SETTINGS.model_copy(update={"epochs": 6}), stage, examples())

    recorded = steps(stage)
    assert recorded[-1]["loss"] < 0.5 * recorded[0]["loss"]
    assert recorded[-1]["step"] == recorded[-1]["steps"] == 30
