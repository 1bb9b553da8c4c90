"""Small tokenizers, each with a chat template of a kind that real models have."""

from __future__ import annotations

from collections.abc import Sequence

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

ENDED = "<|end|>"
MARKS = ("<|pad|>", "<|turn|>", ENDED)
THOUGHTS = ("<think>", "</think>")
WORDS = "\n\nwhich city ?\n\nto rome\n\norder : two\n\na city is missing\n\n"

TURN = "'<|turn|>' + m.role + '\n'"
PLAIN = (
    f"{{% for m in messages %}}{{{{ {TURN} + m.content + '{ENDED}\n' }}}}{{% endfor %}}"
    "{% if add_generation_prompt %}{{ '<|turn|>assistant\n' }}{% endif %}"
)
NO_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}" + PLAIN
SPACED = PLAIN.replace("m.role + '\n'", "m.role + '\n\n'").replace("assistant\n", "assistant\n\n")
"""Two line breaks before a message, which are one token with those that it may begin with."""
MARKED = (
    "{% for m in messages %}{{ '<|turn|>' + m.role }}{% if m.role == 'assistant' %}"
    f"{{% generation %}}{{{{ '\n\n' + m.content + '{ENDED}\n' }}}}{{% endgeneration %}}"
    f"{{% else %}}{{{{ '\n\n' + m.content + '{ENDED}\n' }}}}{{% endif %}}{{% endfor %}}"
    "{% if add_generation_prompt %}{{ '<|turn|>assistant\n\n' }}{% endif %}"
)
"""Marks of what is the assistant's, which begin within the prompt and go on after the reply's end."""
MARKED_LATER = MARKED.replace("{% generation %}{{ '\n\n' + ", "{{ '\n\n' }}{% generation %}{{ ")
"""Marks that begin where the prompt ends in the text, and within one of its tokens."""
OPENING = PLAIN.replace("assistant\n", "assistant\n<think>\n")
"""The prompt opens a thought, and nothing is seen of it afterwards."""
SHOWING = OPENING.replace(
    "+ m.content", "+ ('<think>\n\n</think>\n\n' if loop.last and m.role == 'assistant' else '') + m.content"
)
"""The prompt opens a thought, and the last reply is shown with one."""


def tokenizer(template: str, *, special: Sequence[str] = ()) -> PreTrainedTokenizerFast:
    """A tokenizer of bytes, some words, and line breaks with words; tags around thoughts are tokens of their own.

    Args:
        special: those of the tags that are special tokens.
    """
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        min_frequency=0,
        special_tokens=list(MARKS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator([WORDS] * 4, trainer)
    bpe.add_tokens([AddedToken(tag, special=False, normalized=False) for tag in THOUGHTS if tag not in special])
    bpe.add_special_tokens([AddedToken(tag, special=True, normalized=False) for tag in special])
    return PreTrainedTokenizerFast(tokenizer_object=bpe, pad_token=MARKS[0], eos_token=ENDED, chat_template=template)


KINDS = {
    "plain": tokenizer(PLAIN),
    "thoughts in special tokens": tokenizer(PLAIN, special=THOUGHTS),
    "no system prompt": tokenizer(NO_SYSTEM),
    "line breaks that merge": tokenizer(SPACED),
    "marks that hold more than the reply": tokenizer(MARKED),
    "marks where line breaks merge": tokenizer(MARKED_LATER),
    "a prompt that opens a thought": tokenizer(OPENING),
    "a prompt that opens a thought in special tokens": tokenizer(OPENING, special=THOUGHTS),
    "a prompt that opens a thought which is shown": tokenizer(SHOWING),
}
