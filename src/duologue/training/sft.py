"""Supervised training on conversations, through TRL's `SFTTrainer`.

Covered: whole conversations (all replies of the assistant are learned) and single replies (the last one alone);
any chat model with a template; checkpoints, and going on from the newest whole one with the same batches.
Not covered: pictures, packing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from datasets import Dataset
from transformers import (
    PreTrainedModel,
    PrinterCallback,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from trl import SFTConfig, SFTTrainer

from duologue.conversation import Message
from duologue.errors import DataError, ModelError
from duologue.seeding import derive, generator
from duologue.training.arguments import newest_checkpoint, shared_arguments
from duologue.training.muon import MuonWithAdamW
from duologue.training.schedule import schedule
from duologue.training.settings import SftSettings
from duologue.training.stage import Stage

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
    """The ids that the last reply was sampled as, where they are known."""


@dataclass(frozen=True, slots=True)
class Row:
    """An example as a model reads it; `labels` are the ids, or IGNORED where nothing is learned."""

    input_ids: list[int]
    labels: list[int]


@dataclass(frozen=True, slots=True)
class StepReport:
    """One update."""

    step: int
    steps: int
    loss: float
    tokens: int
    """Read so far, padding left out."""
    seconds: float
    """Since this process began to train."""


@dataclass(frozen=True, slots=True)
class SftResult:
    """What a training did."""

    steps: int
    rows: int
    left_out: int
    """Examples whose reply does not tokenise back, or that outgrow the context."""
    tokens: int
    """In the rows that were read, padding left out; every epoch counts."""
    seconds: float
    """Of this process's part in it."""


OnStep = Callable[[StepReport], None]


def train_sft(
    model: Any,
    tokenizer: Any,
    examples: Sequence[Example],
    settings: SftSettings,
    *,
    folder: Path,
    seed: int,
    on_step: OnStep | None = None,
    resume: bool = True,
) -> SftResult:
    """Train `model` in place on the replies in `examples`.

    Args:
        folder: where checkpoints go.
        on_step: told about every update.
        resume: go on from the newest whole checkpoint in `folder`, if there is one.

    Raises:
        DataError: no example is left to learn from, or less than a batch.
        ModelError: the template cannot say which tokens are the assistant's.
    """
    began = time.monotonic()
    context = getattr(model.config, "max_position_embeddings", None)
    rows = [row for row in tokenised(tokenizer, examples) if row and (not context or len(row.input_ids) <= context)]
    order = batches([len(row.input_ids) for row in rows], settings.batch, settings.epochs, seed)
    if not order:
        raise DataError(
            f"{len(rows)} of {len(examples)} examples can be learned from, less than a batch of {settings.batch}: "
            "give more examples, or set a smaller batch"
        )
    read = [rows[index] for batch in order for index in batch]
    trainer = _trainer(model, tokenizer, read, len(order), settings, folder=folder, seed=seed, on_step=on_step)
    checkpoint = newest_checkpoint(folder) if resume else None
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    if trainer.state.global_step != len(order):
        raise ModelError(f"the trainer stopped after {trainer.state.global_step} of {len(order)} steps")
    tokens = sum(len(row.input_ids) for row in read)
    return SftResult(len(order), len(rows), len(examples) - len(rows), tokens, time.monotonic() - began)


def batches(lengths: Sequence[int], size: int, epochs: int, seed: int) -> list[list[int]]:
    """Indices of rows, a batch at a time: rows of like length together, batches in random order.

    What is left over at the end of an epoch is dropped. Laid out beforehand, so that a training that goes on
    after a kill reads what it would have read.
    """
    order: list[list[int]] = []
    for epoch in range(epochs):
        draw = generator(seed, "batches", epoch)
        shuffled = draw.sample(range(len(lengths)), len(lengths))
        pool = 32 * size
        for start in range(0, len(shuffled), pool):
            near = sorted(shuffled[start : start + pool], key=lambda index: lengths[index])
            cut = [near[at : at + size] for at in range(len(near) % size, len(near), size)]
            order.extend(draw.sample(cut, len(cut)))
    return order


# ---- from conversations to ids and labels


def tokenised(tokenizer: Any, examples: Sequence[Example]) -> Iterator[Row | None]:
    """Each example as a row; `None` where its reply does not tokenise back.

    Raises:
        ModelError: the tokenizer has no chat template, or one without generation marks where they are needed.
    """
    if not tokenizer.chat_template:
        raise ModelError(
            "the model's tokenizer has no chat template: name a chat model, or add a template to its folder"
        )
    for example in examples:
        yield _last_reply(tokenizer, example) if example.trained == "last" else _all_replies(tokenizer, example)


def _all_replies(tokenizer: Any, example: Example) -> Row:
    if "{% generation %}" not in tokenizer.chat_template and "{%- generation" not in tokenizer.chat_template:
        raise ModelError(
            "the model's chat template does not mark the assistant's tokens ({% generation %}), so not all replies "
            'of a conversation can be learned: use trained = "last", or add the marks to the template'
        )
    encoded = tokenizer.apply_chat_template(_chat(example), return_dict=True, return_assistant_tokens_mask=True)
    ids, mask = encoded["input_ids"], encoded["assistant_masks"]
    return Row(ids, [token if own else IGNORED for token, own in zip(ids, mask, strict=True)])


def _last_reply(tokenizer: Any, example: Example) -> Row | None:
    chat = _chat(example)
    prompt = tokenizer.apply_chat_template(chat[:-1], add_generation_prompt=True, return_dict=True)["input_ids"]
    whole = tokenizer.apply_chat_template(chat, return_dict=True)["input_ids"]
    reply = whole[len(prompt) :]
    if whole[: len(prompt)] != prompt or not reply or not _reads_back(tokenizer, reply, example):
        return None
    return Row(whole, [IGNORED] * len(prompt) + reply)


def _reads_back(tokenizer: Any, reply: list[int], example: Example) -> bool:
    if example.ids is not None:
        return tuple(reply[: len(example.ids)]) == example.ids
    return tokenizer.decode(reply, skip_special_tokens=True).strip() == example.messages[-1].content.strip()


def _chat(example: Example) -> list[dict[str, str]]:
    if not example.messages or example.messages[-1].role != "assistant":
        raise DataError("an example to learn from must end in a reply of the assistant")
    system = [{"role": "system", "content": example.system}] if example.system is not None else []
    return [*system, *({"role": m.role, "content": m.content} for m in example.messages)]


# ---- the trainer


class _Reports(TrainerCallback):
    """Tells `on_step` about every logged step."""

    def __init__(self, on_step: OnStep) -> None:
        self._on_step = on_step
        self._began = time.monotonic()

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        if logs and "loss" in logs:
            seconds = time.monotonic() - self._began
            tokens = int(logs.get("num_tokens", 0))
            self._on_step(StepReport(state.global_step, state.max_steps, logs["loss"], tokens, seconds))


def _trainer(
    model: Any,
    tokenizer: Any,
    rows: Sequence[Row],
    steps: int,
    settings: SftSettings,
    *,
    folder: Path,
    seed: int,
    on_step: OnStep | None,
) -> SFTTrainer:
    micro = settings.micro_batch or settings.batch
    if settings.batch % micro:
        raise DataError(
            f"a batch of {settings.batch} cannot be cut into parts of {micro}: micro_batch must divide batch"
        )
    config = SFTConfig(
        **shared_arguments(folder, seed=seed % 2**31, save_steps=settings.save_steps),
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=settings.batch // micro,
        max_steps=steps,
        max_length=None,
        max_grad_norm=settings.max_grad_norm,
        train_sampling_strategy="sequential",
        dataset_kwargs={"skip_prepare_dataset": True},
    )
    dataset = Dataset.from_dict({"input_ids": [row.input_ids for row in rows], "labels": [row.labels for row in rows]})
    optimizer = _optimizer(model, settings)
    trainer = SFTTrainer(
        model=model,
        args=config,
        train_dataset=dataset,
        processing_class=tokenizer,
        callbacks=[_Reports(on_step)] if on_step else [],
        optimizers=(optimizer, schedule(optimizer, settings, steps)),
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def _optimizer(model: PreTrainedModel, settings: SftSettings) -> torch.optim.Optimizer:
    if settings.optimizer == "muon":
        return MuonWithAdamW(
            model, muon_learning_rate=settings.muon_learning_rate, learning_rate=settings.learning_rate
        )
    return torch.optim.AdamW(model.parameters(), lr=settings.learning_rate, betas=(0.9, 0.95), weight_decay=0.0)


def train_stage(settings: SftSettings, stage: Stage, examples: Sequence[Example]) -> None:
    """Train a stage's policy in place on examples; goes on from its newest checkpoint."""
    done = train_sft(
        stage.policy.model,
        stage.policy.tokenizer,
        examples,
        settings,
        folder=stage.folder,
        seed=derive(stage.seed, "trainer"),
        on_step=lambda report: _record(stage, report),
    )
    key = f"examples/{stage.key}"
    if key not in stage.journal:
        stage.journal.append(key, "examples", {"arm": stage.arm, "stage": stage.name, **asdict(done)})
    stage.policy.weights_changed()


def _record(stage: Stage, report: StepReport) -> None:
    figures = {"reward": None, "loss": report.loss, "tokens": float(report.tokens), "seconds": report.seconds}
    stage.record_step("sft", report.step, report.steps, figures)
    stage.progress(report.step, report.steps, f"loss {report.loss:.3f}")
