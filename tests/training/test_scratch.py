"""A model made from nothing: its tokenizer, its first weights, and that it learns groceries in a minute."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl.chat_template_utils import has_generation_markers, is_chat_template_stop_token_trained

from duologue.background import BackgroundLoop
from duologue.errors import RecipeError
from duologue.models.base import Sampling
from duologue.models.local import LocalModel
from duologue.seeding import derive
from duologue.simulation import Assistant, converse
from duologue.tasks import load_task
from duologue.tasks.groceries import words
from duologue.training.demonstrations import stage_examples
from duologue.training.scratch import build_model, build_tokenizer, new_model
from duologue.training.settings import ScratchSettings, SftSettings
from duologue.training.sft import train_stage
from training_stage import a_stage

TOKENIZER = build_tokenizer(words())
SMALL = ScratchSettings(hidden=32, intermediate=64, layers=2, heads=2, head_dim=16, context=256)


@given(st.text())
def test_any_text_survives_encoding_and_decoding(text: str) -> None:
    assert TOKENIZER.decode(TOKENIZER.encode(text)) == text


def test_every_word_of_the_language_is_one_token() -> None:
    assert [word for word in sorted(words()) if len(TOKENIZER.encode(f" {word}")) != 1] == []


def test_the_order_of_the_words_makes_no_difference() -> None:
    backwards = build_tokenizer(sorted(words(), reverse=True))

    assert backwards.get_vocab() == TOKENIZER.get_vocab()


def test_the_template_frames_messages_and_marks_what_the_assistant_says() -> None:
    chat = [
        {"role": "system", "content": "always ask before you order ."},
        {"role": "user", "content": "i need two milk ."},
        {"role": "assistant", "content": "which city ?"},
    ]

    encoded = TOKENIZER.apply_chat_template(chat, return_dict=True, return_assistant_tokens_mask=True)
    learned = [token for token, own in zip(encoded["input_ids"], encoded["assistant_masks"], strict=True) if own]

    assert TOKENIZER.decode(encoded["input_ids"]) == (
        "<|system|> always ask before you order .<|end|><|user|> i need two milk .<|end|>"
        "<|assistant|> which city ?<|end|>"
    )
    assert TOKENIZER.decode(learned) == " which city ?<|end|>"
    assert len(learned) == 4


def test_trl_finds_the_marks_and_that_the_end_is_learned() -> None:
    assert has_generation_markers(TOKENIZER.chat_template)
    assert is_chat_template_stop_token_trained(TOKENIZER)


def test_padding_is_not_the_end() -> None:
    assert TOKENIZER.pad_token_id != TOKENIZER.eos_token_id


def test_equal_seeds_give_equal_weights() -> None:
    first, again, other = (build_model(SMALL, TOKENIZER, seed).state_dict() for seed in (1, 1, 2))

    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["model.embed_tokens.weight"], other["model.embed_tokens.weight"])


def test_the_first_weights_are_neither_too_quiet_nor_too_loud() -> None:
    model = build_model(ScratchSettings(), TOKENIZER, 0)
    layer = model.model.layers[0]

    assert model.model.embed_tokens.weight.std().item() == pytest.approx(0.08, rel=0.05)
    assert layer.mlp.up_proj.weight.std().item() == pytest.approx(128**-0.5, rel=0.05)
    assert layer.mlp.down_proj.weight.std().item() == pytest.approx((384 * 2 * 4) ** -0.5, rel=0.05)


def test_the_usual_size_stays_under_two_million_parameters() -> None:
    assert build_model(ScratchSettings(), TOKENIZER, 0).num_parameters() < 2_000_000


def test_a_saved_model_comes_back_as_it_was_and_samples(tmp_path: Path) -> None:
    model = build_model(SMALL, TOKENIZER, 0)
    LocalModel(model, TOKENIZER).save(tmp_path / "model")

    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")

    state = loaded.state_dict()
    assert all(torch.equal(weight, state[name]) for name, weight in model.state_dict().items())
    assert tokenizer.chat_template == TOKENIZER.chat_template
    assert tokenizer("  two  milk\n")["input_ids"] == TOKENIZER("  two  milk\n")["input_ids"]
    assert (loaded.generation_config.do_sample, loaded.generation_config.temperature) == (True, 1.0)
    assert loaded.generation_config.pad_token_id == TOKENIZER.pad_token_id


def test_an_unknown_setting_is_refused() -> None:
    with pytest.raises(ValueError, match="hiden"):
        ScratchSettings.model_validate({"hiden": 64})


def test_a_new_model_knows_the_words_of_its_tasks() -> None:
    task = load_task("groceries")

    made = new_model([task], SMALL, seed=0)

    assert [word for word in task.words() if len(made.tokenizer.encode(f" {word}")) != 1] == []


def test_a_task_without_words_cannot_have_a_model_made_for_it() -> None:
    task = replace(load_task("groceries"), words=lambda: ())

    with pytest.raises(RecipeError, match="no list of words"):
        new_model([task], SMALL, seed=0)


@pytest.mark.slow
def test_half_a_minute_of_demonstrations_teaches_groceries(tmp_path: Path, loop: BackgroundLoop) -> None:
    task = load_task("groceries")
    settings = SftSettings(
        algorithm="sft",
        data="demonstrations",
        conversations={"groceries": 2800},
        batch=16,
        learning_rate=3e-3,
        optimizer="muon",
        hold=0.33,
        save_steps=None,
    )
    made = new_model([task], None, seed=0)

    train_stage(settings, a_stage(tmp_path, made, loop), stage_examples([task], settings, 0))

    assert asyncio.run(_success_on_complete_requests(made, goals=100)) >= 0.8


async def _success_on_complete_requests(model: LocalModel, *, goals: int) -> float:
    task = load_task("groceries")
    complete = [goal for goal in task.goals("test") if len(goal.request.facts["mentions"]) == 6][:goals]
    assistant = Assistant(model, sampling=Sampling(max_tokens=task.max_tokens))
    played = await asyncio.gather(
        *(
            converse(assistant, task.user(goal.request, derive(0, goal.id)), seed=derive(0, goal.id))
            for goal in complete
        )
    )
    shares = [task.figures["success"](each, goal) for each, goal in zip(played, complete, strict=True)]
    return sum(share.count for share in shares) / len(shares)
