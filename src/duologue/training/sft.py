"""Supervised training on conversations, through TRL's `SFTTrainer`.

Covered: whole conversations (all replies of the assistant are learned) and single replies (the last one alone);
any chat model with a template; checkpoints, and going on from the newest whole one with the same batches.
Not covered: pictures, packing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

from datasets import Dataset
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from trl import SFTConfig, SFTTrainer

from duologue.conversation import Message, message_rows
from duologue.errors import DataError, ModelError
from duologue.models.wire import spoken
from duologue.seeding import derive, generator
from duologue.training import ranks
from duologue.training.arguments import shared_arguments
from duologue.training.gathered import to_train
from duologue.training.muon import MuonWithAdamW
from duologue.training.schedule import OwnOptimizer, adamw, schedule
from duologue.training.settings import SftSettings
from duologue.training.stage import Stage, StepJournal, train_to

IGNORED = -100
"""The label of a token that is not learned, by PyTorch's convention."""


@dataclass(frozen=True, slots=True)
class Example:
    """A conversation to learn from; it ends in a reply."""

    messages: tuple[Message, ...]
    trained: Literal["all", "last"] = "all"
    """Which replies are learned."""
    system: str | None = None
    """The system prompt it stands under."""
    ids: tuple[int, ...] | None = None
    """The ids that the last reply was sampled as, its end among them, where they are known."""


@dataclass(frozen=True, slots=True)
class Row:
    """An example as a model reads it; `labels` are the ids, or IGNORED where nothing is learned."""

    input_ids: list[int]
    labels: list[int]

    @property
    def reply(self) -> list[int]:
        """What is learned."""
        return [label for label in self.labels if label != IGNORED]


def train_stage(settings: SftSettings, stage: Stage, examples: Sequence[Example]) -> None:
    """Train a stage's policy in place on the replies in `examples`; goes on from its newest checkpoint.

    Raises:
        DataError: no example is left to learn from, or less than a batch.
        ModelError: the template cannot say which tokens are the assistant's.
    """
    trainer = sft_trainer(settings, stage, examples)
    train_to(trainer.args.max_steps, trainer, stage)


def sft_trainer(settings: SftSettings, stage: Stage, examples: Sequence[Example]) -> SFTTrainer:
    """TRL's trainer on some examples, those left out that do not tokenise back or outgrow the context; all counted.

    Raises:
        DataError, ModelError: as `train_stage` does.
    """
    policy = stage.policy
    found = list(tokenised(policy.tokenizer, examples, policy.ends))
    rows = [row for row in found if row and len(row.input_ids) <= policy.context]
    seed = derive(stage.seed, "trainer")
    order = batches([len(row.input_ids) for row in rows], settings.batch, settings.epochs, seed)
    if not order:
        raise DataError(
            f"{len(rows)} of {len(examples)} examples can be learned from, less than a batch of {settings.batch}: "
            "give more examples, or set a smaller batch"
        )
    read = [rows[index] for batch in order for index in batch]
    counts = {"steps": len(order), "rows": len(rows), "left_out": len(found) - len(rows)}
    stage.record_data("examples", {**counts, "tokens": sum(len(row.input_ids) for row in read)})
    trainer = _Trainer(
        model=to_train(policy),
        args=_arguments(settings, stage, len(order)),
        train_dataset=Dataset.from_dict(
            {"input_ids": [row.input_ids for row in read], "labels": [row.labels for row in read]}
        ),
        processing_class=policy.tokenizer,
        callbacks=[StepJournal(stage, "sft", lambda _: {"reward": None})],
    )
    trainer.optimizing = partial(_optimizer, settings=settings, steps=len(order))
    return trainer


def batches(lengths: Sequence[int], size: int, epochs: int, seed: int) -> list[list[int]]:
    """Indices of rows, a batch at a time: rows of like length together, batches in random order.

    What is more than whole batches is left out, each epoch other rows. Laid out beforehand, so that a training
    that goes on after a kill reads what it would have read.
    """
    order: list[list[int]] = []
    for epoch in range(epochs):
        draw = generator(seed, "batches", epoch)
        shuffled = draw.sample(range(len(lengths)), len(lengths) - len(lengths) % size)
        pool = 32 * size
        for start in range(0, len(shuffled), pool):
            near = sorted(shuffled[start : start + pool], key=lambda index: lengths[index])
            cut = [near[at : at + size] for at in range(0, len(near), size)]
            order.extend(draw.sample(cut, len(cut)))
    return order


# ---- from conversations to ids and labels


def tokenised(tokenizer: Any, examples: Sequence[Example], ends: Collection[int]) -> Iterator[Row | None]:
    """Each example as a row; `None` where its reply does not tokenise back, or was cut.

    An example of which all replies are learned is several rows, one a reply, where the template shows a model
    earlier messages in another way than those it was to reply to (without thoughts, say).

    Args:
        ends: ids that end a reply.

    Raises:
        ModelError: the tokenizer has no chat template.
    """
    if not tokenizer.chat_template:
        raise ModelError(
            "the model's tokenizer has no chat template: name a chat model, or add a template to its folder"
        )
    for example in examples:
        if example.trained == "all":
            yield from _all_replies(tokenizer, example)
        elif example.ids is None or example.ids[-1] in ends:
            yield _last_reply(tokenizer, example)
        else:  # the template would close it with an end that was never sampled
            yield None


def _all_replies(tokenizer: Any, example: Example) -> list[Row | None]:
    if _marks(tokenizer):
        encoded = tokenizer.apply_chat_template(_chat(example), return_dict=True, return_assistant_tokens_mask=True)
        ids, mask = encoded["input_ids"], encoded["assistant_masks"]
        return [Row(ids, [token if own else IGNORED for token, own in zip(ids, mask, strict=True)])]
    _chat(example)
    replied = [at for at, message in enumerate(example.messages, start=1) if message.role == "assistant"]
    rows = [_last_reply(tokenizer, replace(example, messages=example.messages[:at], ids=None)) for at in replied]
    whole = [row for row in rows if row]
    one = len(whole) == len(rows) and all(_begins(row, whole[-1]) for row in whole)
    return [_joined(whole)] if one else rows


def _marks(tokenizer: Any) -> bool:
    """Whether a chat template marks the assistant's tokens itself."""
    return "{% generation %}" in tokenizer.chat_template or "{%- generation" in tokenizer.chat_template


def _begins(row: Row, whole: Row) -> bool:
    return whole.input_ids[: len(row.input_ids)] == row.input_ids


def _joined(rows: Sequence[Row]) -> Row:
    """The last row, each of which the next one begins with, with the labels of all."""
    labels = list(rows[-1].labels)
    for row in rows:
        labels[: len(row.labels)] = [
            label if own == IGNORED else own for label, own in zip(labels, row.labels, strict=False)
        ]
    return Row(rows[-1].input_ids, labels)


def _last_reply(tokenizer: Any, example: Example) -> Row | None:
    """A row of which the last reply is learned: as it was sampled, where that is known, thoughts included."""
    chat = _chat(example)
    prompt = tokenizer.apply_chat_template(chat[:-1], add_generation_prompt=True, return_dict=True)["input_ids"]
    if example.ids is not None:
        if not _are_read_back(tokenizer, example.ids, example.messages[-1].content):
            return None
        return Row([*prompt, *example.ids], [IGNORED] * len(prompt) + list(example.ids))
    whole = tokenizer.apply_chat_template(chat, return_dict=True)["input_ids"]
    reply = whole[len(prompt) :]
    if whole[: len(prompt)] != prompt or not reply or not _reads_back(tokenizer, reply, example):
        return None
    return Row(whole, [IGNORED] * len(prompt) + reply)


def _are_read_back(tokenizer: Any, ids: Sequence[int], text: str) -> bool:
    """Whether sampled ids are those of what was read of them: nothing in them was hidden from who read it."""
    *said, _ = ids
    written = tokenizer.decode(said, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    again = tokenizer(written, add_special_tokens=False)["input_ids"]
    return again == said and spoken(written.strip()).strip() == text.strip()


def _reads_back(tokenizer: Any, reply: list[int], example: Example) -> bool:
    text = spoken(tokenizer.decode(reply, skip_special_tokens=True).strip())
    return text.strip() == example.messages[-1].content.strip()


def _chat(example: Example) -> list[dict[str, str]]:
    if not example.messages or example.messages[-1].role != "assistant":
        raise DataError("an example to learn from must end in a reply of the assistant")
    return message_rows(example.messages, example.system)


# ---- the trainer


class _Trainer(OwnOptimizer, SFTTrainer):
    """TRL's, with the stage's optimizer."""


def _arguments(settings: SftSettings, stage: Stage, steps: int) -> SFTConfig:
    batch = settings.batch // ranks.processes()
    micro = settings.micro_batch or batch
    return SFTConfig(
        **shared_arguments(stage.folder, seed=derive(stage.seed, "trainer") % 2**31, save_steps=settings.save_steps),
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=batch // micro,
        max_steps=steps,
        max_length=None,
        max_grad_norm=settings.max_grad_norm,
        train_sampling_strategy="sequential",
        dataset_kwargs={"skip_prepare_dataset": True},
    )


def _optimizer(model: nn.Module, settings: SftSettings, steps: int) -> tuple[Optimizer, LambdaLR]:
    if settings.optimizer == "adamw":
        return adamw(model, settings, steps)
    muon = MuonWithAdamW(model, muon_learning_rate=settings.muon_learning_rate, learning_rate=settings.learning_rate)
    return muon, schedule(muon, settings, steps)
