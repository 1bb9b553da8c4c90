"""The in-process model: a row's words are its own, whoever else is in the batch and whatever was kept."""

from __future__ import annotations

import asyncio
import random
import shutil
from collections.abc import Iterator, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

import numpy as np  # noqa: E402
from tokenizers import Tokenizer, decoders, pre_tokenizers, trainers  # noqa: E402
from tokenizers.models import BPE  # noqa: E402
from transformers import (  # noqa: E402
    AutoConfig,
    AutoModelForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from duologue.conversation import Message  # noqa: E402
from duologue.errors import ContextOverflow, ModelError  # noqa: E402
from duologue.models.base import Reply, Sampling  # noqa: E402
from duologue.models.draws import draw, uniforms  # noqa: E402
from duologue.models.local import LocalModel  # noqa: E402
from duologue.models.prefixes import Prefixes  # noqa: E402

SPOKEN = "please order two ten any milk tea rice to in rome boston today now by card cash which city how many ?"
WORDS = SPOKEN.split()
SPECIAL = ["<pad>", "<|end|>", "<|user|>", "<|assistant|>", "<|system|>"]
TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|> {{ m.content | trim }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
CONTEXT = 96
SAMPLED = Sampling(max_tokens=12)
GREEDY = Sampling(temperature=0, max_tokens=12)


def build_tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=600, min_frequency=0, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([f" {word}" for word in WORDS], trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>", pad_token="<pad>")
    fast.chat_template = TEMPLATE
    return fast


def build_model(vocabulary: int, *, heads: int = 4, kv_heads: int = 1) -> LlamaForCausalLM:
    """0.2 M random parameters, large enough that its distributions are peaked."""
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=3,
        num_attention_heads=heads,
        head_dim=16,
        num_key_value_heads=kv_heads,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=1,
        pad_token_id=0,
    )
    model = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() == 2:
                weight.normal_(0, 0.25)
        # Replies end after a while.
        model.model.embed_tokens.weight[1] *= 1.5
    return model


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return build_tokenizer()


@pytest.fixture(scope="module")
def weights(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    return build_model(len(tokenizer))


@pytest.fixture
def model(weights: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> LocalModel:
    return LocalModel(weights, tokenizer)


def said(*texts: str) -> list[Message]:
    """Messages by the user and the assistant in turn."""
    return [Message("assistant" if n % 2 else "user", text) for n, text in enumerate(texts)]


def some(count: int, seed: int = 0) -> list[list[Message]]:
    """Conversations of one or three messages and different lengths."""
    draws = random.Random(seed)
    return [
        said(*(" ".join(draws.choices(WORDS, k=draws.randint(1, 14))) for _ in range(draws.choice([1, 3]))))
        for _ in range(count)
    ]


async def ask(
    model: LocalModel, conversations: Sequence[Sequence[Message]], *, first_seed: int = 0, sampling: Sampling = SAMPLED
) -> list[Reply]:
    return await asyncio.gather(
        *(model.reply(c, seed=seed, sampling=sampling) for seed, c in enumerate(conversations, first_seed))
    )


def full_logits(weights: LlamaForCausalLM, reply: Reply) -> Any:
    """Logits before each sampled token, from one ordinary forward."""
    assert reply.ids is not None and reply.prompt_ids is not None
    with torch.no_grad():
        logits = weights(torch.tensor([[*reply.prompt_ids, *reply.ids]])).logits[0]
    return logits[len(reply.prompt_ids) - 1 : -1]


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
async def test_greedy_replies_are_those_of_generate(tokenizer: PreTrainedTokenizerFast, kv_heads: int) -> None:
    weights = build_model(len(tokenizer), kv_heads=kv_heads)
    conversations = some(8)
    replies = await ask(LocalModel(weights, tokenizer), conversations, sampling=GREEDY)
    for reply in replies:
        ids = torch.tensor([reply.prompt_ids])
        expected = weights.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=12)
        assert reply.ids == tuple(expected[0, ids.shape[1] :].tolist())


async def test_log_probabilities_are_those_of_a_full_forward(model: LocalModel, weights: LlamaForCausalLM) -> None:
    replies = await ask(model, some(40))
    assert len({len(reply.ids or ()) for reply in replies}) > 3
    for reply in replies:
        expected = full_logits(weights, reply).log_softmax(-1).gather(-1, torch.tensor(reply.ids)[:, None])[:, 0]
        assert reply.logprobs == pytest.approx(expected.tolist(), abs=1e-5)


async def test_log_probabilities_are_under_the_temperature_drawn_at(
    model: LocalModel, weights: LlamaForCausalLM
) -> None:
    [reply] = await ask(model, some(1), sampling=Sampling(temperature=0.7, max_tokens=8))
    scaled = (full_logits(weights, reply) / 0.7).log_softmax(-1)
    assert reply.logprobs == pytest.approx(scaled.gather(-1, torch.tensor(reply.ids)[:, None])[:, 0].tolist(), abs=1e-5)


async def test_a_row_alone_says_what_it_says_among_fifty_others(
    weights: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    conversations = some(51)
    together = await ask(LocalModel(weights, tokenizer), conversations)
    for seed in (0, 17, 50):
        [alone] = await ask(LocalModel(weights, tokenizer), [conversations[seed]], first_seed=seed)
        assert (alone.text, alone.ids) == (together[seed].text, together[seed].ids)


@pytest.mark.parametrize("seed", range(5))
async def test_rows_that_join_and_leave_at_any_time_say_the_same(
    weights: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, seed: int
) -> None:
    conversations = some(30, seed)
    expected = await ask(LocalModel(weights, tokenizer, cache_bytes=0), conversations)
    model = LocalModel(weights, tokenizer, rows=7, cache_bytes=40_000)
    draws = random.Random(seed)

    async def later(row: int) -> Reply:
        for _ in range(draws.randint(0, 60)):
            await asyncio.sleep(0)
        return await model.reply(conversations[row], seed=row, sampling=SAMPLED)

    replies = await asyncio.gather(*map(later, draws.sample(range(30), 30)))
    by_prompt = {(reply.prompt_ids, reply.ids) for reply in replies}
    assert by_prompt == {(reply.prompt_ids, reply.ids) for reply in expected}


async def test_the_same_program_gives_the_same_numbers_bit_for_bit(
    weights: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    first, second = [await ask(LocalModel(weights, tokenizer, rows=9), some(40)) for _ in range(2)]
    assert first == second


async def play(model: LocalModel, turns: int) -> list[str]:
    """A few conversations that grow turn by turn."""
    conversations = some(6)
    for turn in range(turns):
        replies = await ask(model, conversations, first_seed=100 * turn, sampling=Sampling(max_tokens=5))
        conversations = [
            [*c, Message("assistant", reply.text), Message("user", "in rome ?")]
            for c, reply in zip(conversations, replies, strict=True)
        ]
    return [message.content for c in conversations for message in c]


async def test_kept_prefixes_change_nothing_but_the_work(
    weights: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    keeping, forgetting = LocalModel(weights, tokenizer), LocalModel(weights, tokenizer, cache_bytes=0)
    assert await play(keeping, 3) == await play(forgetting, 3)
    assert keeping.counters.asked == forgetting.counters.asked
    assert keeping.counters.prefilled < 0.7 * forgetting.counters.prefilled


async def test_identical_prompts_that_wait_together_are_read_once(model: LocalModel) -> None:
    prompts = [said("please order two milk to rome today by card")] * 6
    replies = await ask(model, prompts)
    assert len({reply.ids for reply in replies}) > 1
    assert model.counters.prefilled == len(replies[0].prompt_ids or ()) - 1


async def test_a_beginning_that_waiting_prompts_share_is_read_once(model: LocalModel) -> None:
    beginning = " ".join(WORDS[:16])
    replies = await ask(model, [said(f"{beginning} {word}") for word in WORDS[:12]])
    lengths = [len(reply.prompt_ids or ()) for reply in replies]
    assert model.counters.prefilled < lengths[0] + 12 * 4 < sum(lengths)


async def test_a_tree_of_conversations_reads_each_token_once(model: LocalModel) -> None:
    """Four groups of six candidates and a turn after each: within a tenth of the distinct tokens."""
    replies: list[Reply] = []

    async def turn(conversation: Sequence[Message], seed: int) -> list[Message]:
        replies.append(await model.reply(conversation, seed=seed, sampling=SAMPLED))
        return [*conversation, Message("assistant", replies[-1].text), Message("user", "to boston today ?")]

    async def branch(conversation: Sequence[Message], seed: int) -> None:
        await turn(await turn(conversation, seed), seed + 1)

    await asyncio.gather(*(branch(said(*texts), 10 * n) for texts in tree_roots() for n in range(6)))
    prompts = {(reply.prompt_ids or ())[:n] for reply in replies for n in range(1, len(reply.prompt_ids or ()) + 1)}
    assert model.counters.prefilled <= 1.1 * len(prompts) < 0.6 * model.counters.asked


def tree_roots() -> list[tuple[str, ...]]:
    return [(f"please order two milk to {place} today by card", "which city ?", "now") for place in WORDS[8:12]]


async def test_changed_weights_are_not_mixed_with_what_was_kept(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    weights = build_model(len(tokenizer))
    model, conversations = LocalModel(weights, tokenizer), some(4)
    await ask(model, conversations)
    with torch.no_grad():
        for weight in weights.parameters():
            weight.mul_(1.1)
    model.weights_changed()
    assert await ask(model, conversations) == await ask(LocalModel(weights, tokenizer), conversations)


async def test_a_reply_begun_before_a_change_of_weights_is_not_kept(model: LocalModel) -> None:
    asked = asyncio.ensure_future(model.reply(some(1)[0], seed=0, sampling=SAMPLED))
    await asyncio.sleep(0)
    while not model.counters.steps:
        await asyncio.sleep(0)
    model.weights_changed()
    await asked
    before = model.counters.prefilled
    await model.reply(some(1)[0], seed=0, sampling=SAMPLED)
    assert model.counters.prefilled == 2 * before


async def test_a_reply_that_reaches_its_limit_says_so(model: LocalModel) -> None:
    replies = await ask(model, some(30), sampling=Sampling(max_tokens=4))
    assert {reply.finish for reply in replies} == {"stop", "length"}
    for reply in replies:
        ids = reply.ids or ()
        assert (reply.finish == "stop") == (ids[-1] == 1)
        assert reply.usage.completion == len(ids) <= 4
        assert "<|end|>" not in reply.text


async def test_a_reply_ends_where_the_context_does(model: LocalModel) -> None:
    conversation = said(" ".join(["milk"] * (CONTEXT - 6)))
    replies = [await model.reply(conversation, seed=seed, sampling=SAMPLED) for seed in range(8)]
    room = CONTEXT - len(replies[0].prompt_ids or ())
    assert room == 3
    assert max(len(reply.ids or ()) for reply in replies) == room


async def test_a_conversation_longer_than_the_context_overflows(model: LocalModel) -> None:
    conversation = said(" ".join(["milk"] * (CONTEXT - 3)))
    with pytest.raises(ContextOverflow, match=f"has {CONTEXT} tokens, and the context of local is {CONTEXT}"):
        await model.reply(conversation, seed=0, sampling=SAMPLED)


def test_it_answers_on_one_event_loop_after_another(model: LocalModel) -> None:
    first = asyncio.run(ask(model, some(5)))
    assert asyncio.run(ask(model, some(5))) == first


def test_an_event_loop_that_stopped_half_way_leaves_nothing_behind(model: LocalModel) -> None:
    loop = asyncio.new_event_loop()
    abandoned = loop.create_task(ask(model, some(5)))
    while not model.counters.steps:
        loop.run_until_complete(asyncio.sleep(0))
    replies = asyncio.run(ask(model, some(5)))
    assert [reply.finish for reply in replies]
    for task in asyncio.all_tasks(loop):
        task.cancel()
    loop.run_until_complete(asyncio.gather(abandoned, return_exceptions=True))
    loop.close()
    assert asyncio.run(ask(model, some(5))) == replies


async def test_a_cancelled_reply_leaves_the_others_alone(model: LocalModel) -> None:
    conversations = some(6)
    expected = await ask(model, conversations)
    asked = [asyncio.ensure_future(model.reply(c, seed=s, sampling=SAMPLED)) for s, c in enumerate(conversations)]
    steps = model.counters.steps
    while model.counters.steps < steps + 2:
        await asyncio.sleep(0)
    asked[2].cancel()
    waiting = asyncio.ensure_future(model.reply(conversations[0], seed=9, sampling=SAMPLED))
    await asyncio.sleep(0)
    waiting.cancel()
    replies = await asyncio.gather(*asked, waiting, return_exceptions=True)
    assert isinstance(replies[2], asyncio.CancelledError) and isinstance(replies[6], asyncio.CancelledError)
    assert [r.ids for r in replies[:2] + replies[3:6] if isinstance(r, Reply)] == [
        r.ids for r in expected[:2] + expected[3:]
    ]


async def test_a_failing_forward_is_a_model_error_for_all_and_the_next_reply_works(
    model: LocalModel, weights: LlamaForCausalLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(weights.model.layers[1], "forward", fail)
        asked = (model.reply(c, seed=0, sampling=SAMPLED) for c in some(3))
        replies = await asyncio.gather(*asked, return_exceptions=True)
    assert [str(reply) for reply in replies] == ["local failed while it replied: RuntimeError: out of memory"] * 3
    assert all(isinstance(reply, ModelError) for reply in replies)
    assert (await model.reply(some(1)[0], seed=0, sampling=SAMPLED)).ids


async def test_a_model_with_lora_adapters_replies_with_them(tokenizer: PreTrainedTokenizerFast) -> None:
    peft = pytest.importorskip("peft")
    adapted = peft.get_peft_model(
        build_model(len(tokenizer)), peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj"])
    )
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:
                weight.normal_(0, 0.3)
    adapted.train()
    replies = await ask(LocalModel(adapted, tokenizer), some(5))
    assert adapted.training
    adapted.eval()
    for reply in replies:
        expected = full_logits(adapted, reply).log_softmax(-1).gather(-1, torch.tensor(reply.ids)[:, None])[:, 0]
        assert reply.logprobs == pytest.approx(expected.tolist(), abs=1e-5)


async def test_a_forward_replaced_on_the_instance_is_not_used(tokenizer: PreTrainedTokenizerFast) -> None:
    weights = build_model(len(tokenizer))
    expected = await ask(LocalModel(weights, tokenizer), some(3))
    weights.forward = None
    assert await ask(LocalModel(weights, tokenizer), some(3)) == expected


SIZES = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": CONTEXT,
}
FAMILIES: dict[str, dict[str, Any]] = {
    "qwen3": SIZES,
    "mistral": {**SIZES, "sliding_window": 64},
    "gemma2": {**SIZES, "final_logit_softcapping": 2.0, "sliding_window": 64},  # eager attention, and logits are capped
    "cohere": {**SIZES, "logit_scale": 3.0},  # logits are scaled
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": CONTEXT},  # positions are learned
}


@pytest.mark.parametrize("family", FAMILIES)
async def test_other_families_of_models_reply_as_their_forward_says(
    tokenizer: PreTrainedTokenizerFast, family: str
) -> None:
    torch.manual_seed(0)
    ids = {"vocab_size": len(tokenizer), "bos_token_id": None, "eos_token_id": 1, "pad_token_id": 0}
    config = AutoConfig.for_model(family, **ids, **FAMILIES[family])
    weights = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for weight in weights.parameters():
            if weight.dim() == 2:
                weight.normal_(0, 0.2)
    for reply in await ask(LocalModel(weights, tokenizer), some(6)):
        expected = full_logits(weights, reply).log_softmax(-1).gather(-1, torch.tensor(reply.ids)[:, None])[:, 0]
        assert reply.logprobs == pytest.approx(expected.tolist(), abs=1e-5)


@pytest.mark.parametrize("seed", range(20))
def test_conversations_get_the_ids_of_the_chat_template(model: LocalModel, seed: int) -> None:
    draws = random.Random(seed)
    texts = ["".join(draws.choices("abc milk é\n <|end|> 42 🥛?", k=draws.randint(0, 30))) for _ in range(3)]
    messages = [Message("system", "ask"), *said(*texts)]
    rows = [{"role": m.role, "content": m.content} for m in messages]
    expected = model.tokenizer.apply_chat_template(rows, add_generation_prompt=True, return_dict=False)
    assert model.encode(messages) == tuple(expected)


def test_a_text_counts_what_a_message_with_it_adds(model: LocalModel) -> None:
    assert model.count_tokens("which city ?") == 3
    assert model.count_tokens("") == 0


@pytest.mark.parametrize("written", ["m.content", "m.content | trim", "m.content | upper", "m.role"])
def test_texts_count_as_many_as_the_template_writes_of_them(
    weights: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, written: str
) -> None:
    changed = deepcopy(tokenizer)
    changed.chat_template = "{% for m in messages %}<|user|>{{ " + written + " }}<|end|>{% endfor %}<|assistant|>"
    model = LocalModel(weights, changed)

    def longer(text: str) -> int:
        return len(model.encode(said(text))) - len(model.encode(said("a")))

    for text in ("which city ?", "a <|end|> b", " milk  and bread ", "é\n\n42", "<|user|>"):
        assert model.count_tokens(text) - model.count_tokens("a") == longer(text)


@pytest.fixture
def folder(tmp_path: Path, weights: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> Iterator[Path]:
    place = tmp_path / "model"
    weights.save_pretrained(place)
    tokenizer.save_pretrained(place)
    yield place
    shutil.rmtree(place, ignore_errors=True)


async def test_a_saved_model_replies_as_it_did(folder: Path, model: LocalModel) -> None:
    loaded = LocalModel.load(folder, device="cpu")
    assert await ask(loaded, some(3)) == await ask(model, some(3))


@pytest.mark.parametrize(
    ("missing", "sentence"),
    [
        (["config.json"], "is not a model: it has no config.json"),
        (["tokenizer.json"], "has no tokenizer"),
        (["chat_template.jinja"], "has no chat template"),
        (["model.safetensors"], "could not be loaded"),
    ],
)
def test_a_folder_that_lacks_a_part_gets_a_sentence(folder: Path, missing: list[str], sentence: str) -> None:
    for name in missing:
        (folder / name).unlink()
    with pytest.raises(ModelError, match=sentence):
        LocalModel.load(folder, device="cpu")


def test_damaged_weights_get_a_sentence(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(ModelError, match="could not be loaded"):
        LocalModel.load(folder, device="cpu")


def test_a_folder_that_is_not_there_gets_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="there is no model at"):
        LocalModel.load(tmp_path / "nowhere")


# -- draws and kept prefixes ---------------------------------------------------------------------------------------


def test_numbers_are_uniform_and_differ_by_seed_and_position() -> None:
    seeds = np.arange(20_000, dtype=np.uint64)
    first, second = (uniforms(seeds, np.full(20_000, position)) for position in (0, 1))
    assert first.min() >= 0 and first.max() < 1
    assert np.histogram(first, 10, (0, 1))[0] == pytest.approx(np.full(10, 2000), abs=200)
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.03
    assert abs(np.corrcoef(first[1:], first[:-1])[0, 1]) < 0.03


def test_tokens_are_drawn_as_often_as_their_probability_says() -> None:
    count = 20_000
    logits = torch.tensor([0.5, 0.3, 0.2, 0.0]).log().repeat(count, 1)
    ones, numbers = np.ones(count, np.float32), uniforms(np.arange(count, dtype=np.uint64), np.zeros(count, np.int64))
    ids, logprobs = draw(logits, numbers, ones, ones)
    assert (torch.bincount(ids, minlength=4) / count).tolist() == pytest.approx([0.5, 0.3, 0.2, 0], abs=0.02)
    assert logprobs.exp().tolist() == pytest.approx(torch.tensor([0.5, 0.3, 0.2])[ids].tolist(), abs=1e-5)


def test_top_p_draws_from_the_smallest_set_that_holds_as_much() -> None:
    logits = torch.tensor([0.2, 0.5, 0.3]).log().repeat(4, 1)
    numbers = np.array([0.0, 0.6, 0.7, 0.999], np.float32)
    ids, logprobs = draw(logits, numbers, np.ones(4, np.float32), np.array([0.6, 0.6, 0.6, 1.0], np.float32))
    assert ids.tolist() == [1, 1, 2, 2]
    assert logprobs.exp().tolist() == pytest.approx([0.625, 0.625, 0.375, 0.3], abs=1e-5)


def test_greedy_and_sampled_rows_can_stand_in_one_batch() -> None:
    logits = torch.tensor([0.2, 0.5, 0.3]).log().repeat(2, 1)
    ids, _ = draw(logits, np.array([0, 0], np.float32), np.array([0, 1], np.float32), np.ones(2, np.float32))
    assert ids.tolist() == [1, 0]


def piece_of(ids: Sequence[int], start: int, stop: int) -> Any:
    return torch.tensor(ids[start:stop], dtype=torch.float32).reshape(1, 1, -1, 1, 1)


@pytest.mark.parametrize("limit", [40, 200, 10_000])
@pytest.mark.parametrize("seed", range(3))
def test_what_is_found_is_a_beginning_and_what_is_kept_stays_under_the_limit(limit: int, seed: int) -> None:
    draws = random.Random(seed)
    kept = Prefixes(limit)
    everything: list[list[int]] = []
    for _ in range(200):
        ids = draws.choices([1, 2, 3], k=draws.randint(1, 12))
        found = [int(v) for piece in kept.find(ids) for v in piece.flatten()]
        assert found == ids[: len(found)]
        if limit == 10_000:
            assert len(found) == max((shared(ids, other) for other in everything), default=0)
        kept.keep(ids, lambda start, stop, ids=ids: piece_of(ids, start, stop))
        everything.append(ids)
        assert kept.size <= limit


def shared(left: Sequence[int], right: Sequence[int]) -> int:
    return next((n for n, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), min(len(left), len(right)))


def test_what_was_used_longest_ago_goes_first() -> None:
    kept = Prefixes(limit=12)
    for ids in ([1], [2], [3]):
        kept.keep(ids, lambda start, stop, ids=ids: piece_of(ids, start, stop))
    kept.find([1])
    kept.keep([4], lambda start, stop: piece_of([4], start, stop))
    assert [bool(kept.find([n])) for n in (1, 2, 3, 4)] == [True, False, True, True]
