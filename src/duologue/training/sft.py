"""Supervised training on conversations, through TRL's `SFTTrainer`.

Covered: whole conversations (all replies of the assistant are learned) and single replies (the last one alone);
any chat model with a template; checkpoints, and going on from the newest whole one with the same batches.
Not covered: pictures, packing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

from datasets import Dataset
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from trl import SFTConfig, SFTTrainer

from duologue.conversation import Message
from duologue.errors import DataError
from duologue.models.template import ChatTemplate
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
CUT = "the reply was cut at its limit of tokens (raise assistant.max_tokens)"
RESPELT = "the reply was not sampled in the tokens that the tokenizer gives its text"
UNREAD = "the reply cannot be read back from the chat template's text"
OUTGROWN = "it is longer than the model's context"


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


@dataclass(frozen=True, slots=True)
class LeftOut:
    """What cannot be learned from."""

    why: str


def train_stage(settings: SftSettings, stage: Stage, examples: Sequence[Example]) -> None:
    """Train a stage's policy in place on the replies in `examples`; goes on from its newest checkpoint.

    Raises:
        DataError: no example is left to learn from, or less than a batch.
        ModelError: the tokenizer has no chat template.
    """
    trainer = sft_trainer(settings, stage, examples)
    train_to(trainer.args.max_steps, trainer, stage)


def sft_trainer(settings: SftSettings, stage: Stage, examples: Sequence[Example]) -> SFTTrainer:
    """TRL's trainer on some examples; those that cannot be learned from are left out and counted.

    Raises:
        DataError, ModelError: as `train_stage` does.
    """
    policy = stage.policy
    rows, left_out = _divided(tokenised(policy.tokenizer, examples, policy.ends), policy.context)
    seed = derive(stage.seed, "trainer")
    order = batches([len(row.input_ids) for row in rows], settings.batch, settings.epochs, seed)
    if not order:
        raise DataError(_too_few(len(rows), left_out, settings.batch))
    read = [rows[index] for batch in order for index in batch]
    counts = {"steps": len(order), "rows": len(rows), "left_out": len(left_out)}
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


def _divided(found: Iterable[Row | LeftOut], context: int) -> tuple[list[Row], list[LeftOut]]:
    rows: list[Row] = []
    left_out: list[LeftOut] = []
    for each in found:
        if isinstance(each, LeftOut):
            left_out.append(each)
        elif len(each.input_ids) > context:
            left_out.append(LeftOut(OUTGROWN))
        else:
            rows.append(each)
    return rows, left_out


def _too_few(rows: int, left_out: Sequence[LeftOut], batch: int) -> str:
    advice = "give more examples, or set a smaller batch"
    if not left_out:
        return f"sft: {rows} examples are less than a batch of {batch}: {advice}"
    return (
        f"sft: {rows} of {rows + len(left_out)} examples can be learned from, less than a batch of {batch}; of the "
        f"others: {reasons(left_out)}. {f'Else {advice}' if rows else 'More examples would not help'}"
    )


def reasons(left_out: Iterable[LeftOut]) -> str:
    """Why what was left out was, the commonest first.

    >>> reasons([LeftOut("it is long"), LeftOut("it was cut"), LeftOut("it was cut")])
    'it was cut (2), it is long (1)'
    """
    return ", ".join(f"{why} ({count})" for why, count in Counter(each.why for each in left_out).most_common())


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


def tokenised(tokenizer: Any, examples: Sequence[Example], ends: Collection[int]) -> Iterator[Row | LeftOut]:
    """Each example as a row, or why it is left out.

    A reply is learned as a model would draw it: after the ids of its prompt, and up to its end. What a template
    itself marks as the assistant's is not asked, since it may begin before, or in tokens that no prompt ends in.
    An example of which all replies are learned is several rows, one a reply, where the template shows a model
    earlier messages in another way than those it was to reply to (without thoughts, say, or in other tokens).

    Args:
        ends: ids that end a reply.

    Raises:
        ModelError: the tokenizer has no chat template.
        DataError: an example does not end in a reply.
    """
    template = ChatTemplate(tokenizer)
    for example in examples:
        if not example.messages or example.messages[-1].role != "assistant":
            raise DataError("an example to learn from must end in a reply of the assistant")
        yield from _read(template, example, ends)


def _read(template: ChatTemplate, example: Example, ends: Collection[int]) -> Sequence[Row | LeftOut]:
    try:
        if example.trained == "all":
            return _all_replies(template, example, ends)
        if example.ids is not None and example.ids[-1] not in ends:
            return [LeftOut(CUT)]  # the template would close it with an end that was never sampled
        return [_last_reply(template, example, ends)]
    except DataError as refused:  # a system prompt, say, which only some demonstrations stand under
        return [LeftOut(str(refused))]


def _all_replies(template: ChatTemplate, example: Example, ends: Collection[int]) -> Sequence[Row | LeftOut]:
    replied = [at for at, message in enumerate(example.messages, start=1) if message.role == "assistant"]
    rows = [_last_reply(template, replace(example, messages=example.messages[:at], ids=None), ends) for at in replied]
    whole = [row for row in rows if isinstance(row, Row)]
    one = len(whole) == len(rows) and all(_begins(row, whole[-1]) for row in whole)
    return [_joined(whole)] if one else rows


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


def _last_reply(template: ChatTemplate, example: Example, ends: Collection[int]) -> Row | LeftOut:
    """A row of which the last reply is learned: as it was sampled, where that is known, thoughts included."""
    chat = _chat(example)
    said = chat[-1].content.strip()
    if example.ids is not None:
        if not _are_read_back(template, example.ids, said):
            return LeftOut(RESPELT)
        return _row(template.encode(chat[:-1]), example.ids)
    reply = _to_its_end(template.reply(chat), ends)
    if not reply or template.spoken([id for id in reply if id not in ends]) != said:
        return LeftOut(UNREAD)
    return _row(template.encode(chat[:-1]), reply)


def _to_its_end(reply: Sequence[int], ends: Collection[int]) -> Sequence[int]:
    """A reply without what a template writes after its end, which no model draws; all of it where it has no end."""
    return reply[: next((length for length, id in enumerate(reply, start=1) if id in ends), len(reply))]


def _row(prompt: Sequence[int], reply: Sequence[int]) -> Row:
    return Row([*prompt, *reply], [IGNORED] * len(prompt) + list(reply))


def _are_read_back(template: ChatTemplate, ids: Sequence[int], said: str) -> bool:
    """Whether sampled ids are those of what was read of them: nothing in them was hidden from who read it."""
    *sampled, _ = ids
    tokenizer = template.tokenizer
    written = tokenizer.decode(sampled, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    again = tokenizer(written, add_special_tokens=False)["input_ids"]
    return again == sampled and template.aloud(written.strip()).strip() == said


def _chat(example: Example) -> tuple[Message, ...]:
    head = () if example.system is None else (Message("system", example.system),)
    return (*head, *example.messages)


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
