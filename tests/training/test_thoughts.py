"""A model that thinks before it speaks: nobody is shown its thoughts, and they are trained on."""

from __future__ import annotations

from pathlib import Path

import pytest

from duologue.background import BackgroundLoop
from duologue.conversation import Message
from duologue.models.base import Sampling
from duologue.models.local import LocalModel
from duologue.run.wiring import load_local
from duologue.training.settings import SftSettings
from duologue.training.sft import Example, Row, tokenised, train_stage
from small_model import save_small_qwen
from training_stage import a_stage

ASKED = (Message("user", "milk ?"),)
SAID, THOUGHT = "which city ?", "<think>\na city is missing\n</think>\n\n"
SFT = SftSettings(algorithm="sft", batch=4, epochs=60, learning_rate=2e-2, warmup=2, save_steps=None)


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_small_qwen(tmp_path_factory.mktemp("qwen") / "model")


@pytest.fixture(scope="module")
def thinker(qwen: Path, tmp_path_factory: pytest.TempPathFactory) -> LocalModel:
    """A policy that was trained to think."""
    policy = load_local(qwen)
    ids = (*policy.tokenizer(THOUGHT + SAID)["input_ids"], policy.tokenizer.eos_token_id)
    sampled = Example((*ASKED, Message("assistant", SAID)), "last", ids=ids)
    with BackgroundLoop() as loop:
        train_stage(SFT, a_stage(tmp_path_factory.mktemp("stage"), policy, loop, name="0-sft"), [sampled] * 4)
    return policy


async def test_a_thought_is_among_a_replys_ids_and_not_in_its_text(thinker: LocalModel) -> None:
    reply = await thinker.reply(ASKED, seed=0, sampling=Sampling(temperature=0, max_tokens=200))

    assert reply.text == SAID
    assert thinker.tokenizer.decode(reply.ids) == f"{THOUGHT}{SAID}<|im_end|>"
    assert reply.usage.completion == len(reply.ids or ())


async def test_a_reply_that_was_cut_in_its_thoughts_is_empty(thinker: LocalModel) -> None:
    reply = await thinker.reply(ASKED, seed=0, sampling=Sampling(temperature=0, max_tokens=6))

    assert (reply.text, reply.finish) == ("", "length")
    assert len(reply.ids or ()) == 6


async def test_a_thought_that_the_template_opens_is_one(thinker: LocalModel, qwen: Path) -> None:
    opening = load_local(qwen)
    opening.tokenizer.chat_template += "{% if add_generation_prompt %}{{ '<think>\\n' }}{% endif %}"
    opened = LocalModel(thinker.model, opening.tokenizer)

    whole = await opened.reply(ASKED, seed=0, sampling=Sampling(temperature=0, max_tokens=200))
    cut = await opened.reply(ASKED, seed=0, sampling=Sampling(temperature=0, max_tokens=3))

    assert "<think>" not in opened.tokenizer.decode(whole.ids)
    assert "</think>" not in whole.text and "missing" not in whole.text
    assert cut.text == ""


def test_a_template_can_be_told_not_to_think_and_stays_so_when_saved(qwen: Path, tmp_path: Path) -> None:
    told = load_local(qwen, {"enable_thinking": False})
    told.save(tmp_path / "told")

    for model in (told, load_local(tmp_path / "told")):
        assert model.tokenizer.decode(model.encode(ASKED)).endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")
    assert load_local(qwen).tokenizer.decode(load_local(qwen).encode(ASKED)).endswith("<|im_start|>assistant\n")


@pytest.mark.parametrize("template", [None, {"enable_thinking": False}], ids=["thinking", "not thinking"])
def test_every_reply_of_a_demonstration_is_learned_under_its_template(
    qwen: Path, template: dict[str, bool] | None
) -> None:
    policy = load_local(qwen, template)
    shown = (*ASKED, Message("assistant", SAID), Message("user", "boston"), Message("assistant", "a milk ?"))

    rows = [row for row in tokenised(policy.tokenizer, [Example(shown)], policy.ends) if isinstance(row, Row)]

    learned = [policy.tokenizer.decode(row.reply) for row in rows]
    assert [text.removeprefix("<think>\n\n</think>\n\n").strip() for text in learned] == [
        f"{SAID}<|im_end|>",
        "a milk ?<|im_end|>",
    ]
    for row, before in zip(rows, (1, 3), strict=True):
        prompt = tuple(row.input_ids[: -len(row.reply)])
        assert prompt == policy.encode(shown[:before])
