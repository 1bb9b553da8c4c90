"""A small chat model made from nothing: tokenizer, chat template, and a Llama whose initialisation lets it learn.

What comes out is an ordinary transformers folder; nothing in it is special but its size.

    tokenizer = build_tokenizer(["which city ?", "to boston today"])
    model = build_model(ScratchSettings(), tokenizer, seed=0)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import sqrt
from typing import Any

import torch
from tokenizers import Regex, Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel, Sequence as Steps, Split
from tokenizers.trainers import BpeTrainer
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from duologue.errors import RecipeError
from duologue.models.local import LocalModel
from duologue.seeding import derive
from duologue.tasks.base import Task
from duologue.training.settings import ScratchSettings

PAD, END = "<|pad|>", "<|end|>"
ROLE_TOKENS = ("<|system|>", "<|user|>", "<|assistant|>")

# Every message starts with a space, so that its first word is the same token as anywhere else.
TEMPLATE = """\
{%- for message in messages -%}
{%- if message['role'] == 'assistant' -%}
<|assistant|>{% generation %}{{ ' ' + (message['content'] | trim) }}<|end|>{% endgeneration %}
{%- else -%}
{{- '<|' + message['role'] + '|> ' + (message['content'] | trim) }}<|end|>
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}<|assistant|>{%- endif -%}
"""

# A word with inner hyphens or apostrophes, a run of other marks, or white space: words and marks take one space along.
PIECES = r" ?[\p{L}\p{N}]+(?:['\-_][\p{L}\p{N}]+)*| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


def build_tokenizer(words: Iterable[str], *, context: int = 512) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer in which every word, with the space before it, is one token.

    Args:
        words: texts; each is split at white space. The order makes no difference.
        context: the length that the tokenizer reports as its model's.

    Returns:
        A tokenizer with a chat template; any text survives encoding and decoding unchanged.
    """
    known = sorted({f" {word}" for text in words for word in text.split()})
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = Steps(
        [Split(Regex(PIECES), "isolated"), ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = ByteLevelDecoder()
    trainer = BpeTrainer(
        vocab_size=100 * len(known) + 1000,
        min_frequency=0,
        special_tokens=[PAD, END, *ROLE_TOKENS],
        initial_alphabet=ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(known, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=list(ROLE_TOKENS),
        chat_template=TEMPLATE,
        padding_side="left",
        clean_up_tokenization_spaces=False,
        model_max_length=context,
    )


def build_model(settings: ScratchSettings, tokenizer: Any, seed: int) -> LlamaForCausalLM:
    """A Llama with fresh weights for a tokenizer; equal seeds give equal weights."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=settings.hidden,
        intermediate_size=settings.intermediate,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        num_key_value_heads=settings.kv_heads,
        head_dim=settings.head_dim,
        max_position_embeddings=settings.context,
        rope_parameters={"rope_type": "default", "rope_theta": settings.rope_theta},
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = LlamaForCausalLM(config)
    _initialise(model, settings, seed)
    _sample_by_default(model, tokenizer)
    return model


@torch.no_grad()
def _initialise(model: LlamaForCausalLM, settings: ScratchSettings, seed: int) -> None:
    """Normal weights of variance 1/fan-in, quieter where a layer writes to the residual stream.

    The customary standard deviation of 0.02 starts a model this narrow too quietly: it does not learn to copy.
    """
    generator = torch.Generator().manual_seed(seed % 2**63)
    for name, weight in model.named_parameters():
        if weight.ndim != 2:
            continue
        std = settings.embedding_std if "embed_tokens" in name else 1 / sqrt(weight.shape[1])
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            std /= sqrt(2 * settings.layers)
        weight.normal_(0.0, std, generator=generator)


def _sample_by_default(model: LlamaForCausalLM, tokenizer: Any) -> None:
    generation = model.generation_config
    generation.do_sample = True
    generation.temperature = 1.0
    generation.top_k = 0
    generation.top_p = 1.0
    generation.pad_token_id = tokenizer.pad_token_id
    generation.eos_token_id = tokenizer.eos_token_id


# ---- making one


def new_model(tasks: Sequence[Task], architecture: ScratchSettings | None, *, seed: int) -> LocalModel:
    """A model that knows nothing yet: a tokenizer for the tasks' words, and fresh weights.

    Raises:
        RecipeError: a task without a language of its own.
    """
    settings = architecture or ScratchSettings()
    for task in tasks:
        if not task.words():
            raise RecipeError(f'task "{task.name}" has no list of words: a model from nothing needs one')
    words = {word for task in tasks for word in task.words()}
    said = [*words, *(text for task in tasks for text in (*task.prompts.values(), *task.phrases))]
    tokenizer = build_tokenizer(said, context=settings.context)
    return LocalModel(build_model(settings, tokenizer, derive(seed, "weights")), tokenizer, name="new")
