"""How fast replies are decoded in process, against a bare loop over the same model in the same run.

The bare loop is `model.forward` with a `DynamicCache` and the same sampler on one matrix of tokens, its
reading of the prompts included; it knows nothing of conversations, ends or neighbours. Ours is the whole of
`LocalModel.reply`: messages, chat template, queue, rows, text. Seconds are CPU seconds of one thread, which
are steadier than the clock on a machine that does other things.

    python benchmarks/generation.py
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections.abc import Sequence

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from duologue.conversation import Message
from duologue.models.base import Reply, Sampling
from duologue.models.draws import draw, uniforms
from duologue.models.local import LocalModel

PROMPT, NEW = 48, 48
TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|> {{ m.content | trim }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SPECIAL = ["<pad>", "<|end|>", "<|user|>", "<|assistant|>", "<|system|>"]
WORDS = [f"{a}{b}{c}" for a in "bdgklm" for b in "aeiou" for c in "nrstx"]


def words_tokenizer() -> PreTrainedTokenizerFast:
    """About 700 entries; every one of the words is one. No end token: both sides decode the same matrix."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=700, min_frequency=0, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([f" {word}" for word in WORDS], trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>")
    fast.chat_template = TEMPLATE
    return fast


def million(vocabulary: int) -> LlamaForCausalLM:
    """A random Llama of a million parameters."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=4,
        head_dim=64,
        num_key_value_heads=1,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=0,
    )
    return LlamaForCausalLM(config).eval()


def prompts(count: int, seed: int) -> list[list[Message]]:
    """Conversations of one message, `PROMPT` tokens each, with nothing in common."""
    words = np.random.default_rng(seed).choice(WORDS, size=(count, PROMPT - 3))
    return [[Message("user", " ".join(row))] for row in words.tolist()]


@torch.inference_mode()
def bare(model: LlamaForCausalLM, ids: np.ndarray) -> torch.Tensor:
    """`NEW` tokens after each row of `ids` `[rows, tokens]`."""
    rows = len(ids)
    seeds, ones = np.arange(rows, dtype=np.uint64), np.ones(rows, dtype=np.float32)
    cache = DynamicCache(config=model.config)
    tokens, drawn = torch.from_numpy(ids), []
    for position in range(NEW):
        logits = model(input_ids=tokens, past_key_values=cache, use_cache=True, logits_to_keep=1).logits[:, -1]
        numbers = uniforms(seeds, np.full(rows, position))
        chosen, _ = draw(logits, numbers, ones, ones)
        drawn.append(chosen)
        tokens = chosen[:, None]
    return torch.stack(drawn, 1)


def ours(model: LocalModel, conversations: Sequence[Sequence[Message]]) -> list[Reply]:
    """`NEW` tokens for each conversation."""

    async def ask() -> list[Reply]:
        sampling = Sampling(max_tokens=NEW)
        return await asyncio.gather(
            *(model.reply(messages, seed=seed, sampling=sampling) for seed, messages in enumerate(conversations))
        )

    return asyncio.run(ask())


def compare(batch: int, repeats: int) -> None:
    """Print both rates at one batch size, taken in turns, medians."""
    tokenizer = words_tokenizer()
    model = million(len(tokenizer))
    local = LocalModel(model, tokenizer)
    bares: list[float] = []
    mine: list[float] = []
    for repeat in range(repeats + 1):
        local.weights_changed()
        conversations = prompts(batch, repeat)
        ids = np.array([local.encode(messages) for messages in conversations])
        assert ids.shape == (batch, PROMPT)
        start = time.process_time()
        expected = bare(model, ids)
        middle = time.process_time()
        replies = ours(local, conversations)
        end = time.process_time()
        same = np.mean(expected.numpy() == np.array([reply.ids for reply in replies]))
        assert same > 0.9, f"only {same:.0%} of the tokens agree"
        if repeat:  # the first one warms up
            bares.append(middle - start)
            mine.append(end - middle)
    tokens = batch * (PROMPT + NEW)
    slow, fast = statistics.median(mine), statistics.median(bares)
    outside = outside_of_the_model(batch)
    print(
        f"batch {batch:>3}: bare {tokens / fast:>7,.0f} tokens/s, ours {tokens / slow:>7,.0f}, "
        f"ratio {fast / slow:.2f}; outside the forward {outside:.0f} µs a reply"
    )


def outside_of_the_model(batch: int) -> float:
    """Microseconds a reply of everything but the decoder and the output embedding."""
    tokenizer = words_tokenizer()
    local = LocalModel(million(len(tokenizer)), tokenizer)
    ours(local, prompts(batch, 0))
    conversations = prompts(batch, 1)
    taken = 0.0

    def timed(function):  # type: ignore[no-untyped-def]
        def call(*args, **kwargs):  # type: ignore[no-untyped-def]
            nonlocal taken
            start = time.process_time()
            result = function(*args, **kwargs)
            taken += time.process_time() - start
            return result

        return call

    for part in (local.model.get_decoder(), local.model.get_output_embeddings()):
        part.forward = timed(part.forward)
    start = time.process_time()
    ours(local, conversations)
    return (time.process_time() - start - taken) / batch * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, nargs="+", default=[16, 64, 256])
    parser.add_argument("--repeats", type=int, default=5)
    settings = parser.parse_args()
    torch.set_num_threads(1)
    print(f"prompts of {PROMPT} tokens, {NEW} new ones; tokens are both, a CPU second; goal: ratio 0.80 or more")
    for batch in settings.batches:
        compare(batch, settings.repeats)


if __name__ == "__main__":
    main()
