"""DPO on pairs of replies with clearly different multiturn-aware rewards, through TRL.

The pairs are built once, by the stage's first policy: candidates at states that policy reaches, each looked
ahead from; the pair is chosen on one half of the look-aheads, its gap measured on the other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from datasets import Dataset
from transformers import AutoModelForCausalLM, PrinterCallback, TrainerCallback
from trl import DPOConfig, DPOTrainer

from duologue.conversation import Message
from duologue.dataset import Pair, Row, Visit, build, pairs, rows, visits
from duologue.errors import DataError
from duologue.seeding import derive
from duologue.training.arguments import newest_checkpoint, shared_arguments
from duologue.training.schedule import adamw
from duologue.training.settings import DpoSettings, SftSettings
from duologue.training.stage import Stage


def train_dpo(settings: DpoSettings, stage: Stage) -> None:
    """Build the pairs, then train the stage's policy in place on them; goes on from where it was.

    Raises:
        DataError: no pair's gap exceeds the noise.
    """
    found, counts = pairs(
        build_rows(settings, stage), min_gap=settings.min_gap, noise=settings.noise, per_row=settings.pairs_per_state
    )
    key = f"pairs/{stage.key}"
    if key not in stage.journal:
        stage.journal.append(key, "pairs", {"arm": stage.arm, "stage": stage.name, **asdict(counts)})
    if not found:
        raise DataError(
            f"dpo: of {counts.rows} states none has a pair whose gap exceeds min_gap = {settings.min_gap} and "
            f"the noise ({counts.tied} tied, {counts.within_noise} within it): raise states or reward.samples"
        )
    _train(settings, stage, found)


def build_rows(settings: DpoSettings | SftSettings, stage: Stage) -> list[Row]:
    """Candidates with rewards at `settings.states` states; only what the journal lacks is played.

    Raises:
        DataError: more than a third of the prefixes could not be played.
    """
    planned = visits(stage.tasks, settings.states, deepest=settings.deepest, seed=derive(stage.seed, "build"))
    key = f"build/{stage.key}"
    stage.policy.weights_changed()
    was_training = stage.policy.model.training
    stage.policy.model.eval()
    stage.loop.run(_build(planned, stage, settings.candidates, key))
    stage.policy.model.train(was_training)
    found = rows(stage.journal, planned, key)
    if len(found) < len(planned) * 2 / 3:
        raise DataError(f"{stage.name}: {len(planned) - len(found)} of {len(planned)} states could not be played")
    return found


async def _build(planned: Sequence[Visit], stage: Stage, candidates: int, key: str) -> None:
    async for done in build(planned, stage.partners, candidates=candidates, journal=stage.journal, key=key):
        stage.progress(done, len(planned), "states compared")


def _train(settings: DpoSettings, stage: Stage, found: Sequence[Pair]) -> None:
    policy = stage.policy
    start = stage.folder / "start"
    if not start.exists():
        policy.save(start)
    system = {task.name: stage.partners(task)[0].system for task in stage.tasks}
    steps = settings.epochs * math.ceil(len(found) / settings.batch)
    trainer = DPOTrainer(
        model=policy.model,
        ref_model=AutoModelForCausalLM.from_pretrained(start),
        args=_arguments(settings, stage),
        train_dataset=_preferences(found, system),
        processing_class=policy.tokenizer,
        callbacks=[_Report(stage, steps)],
        optimizers=adamw(policy.model, settings, steps),
    )
    trainer.remove_callback(PrinterCallback)
    checkpoint = newest_checkpoint(stage.folder)
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    if trainer.state.global_step != steps:
        raise RuntimeError(f"trained {trainer.state.global_step} steps of {steps}")
    policy.weights_changed()


def _preferences(found: Sequence[Pair], system: Mapping[str, str | None]) -> Dataset:
    """Pairs in Hugging Face form: message lists; `system` has each task's system prompt."""

    def prompt(pair: Pair) -> list[dict[str, str]]:
        text = system[pair.task]
        head = (Message("system", text),) if text else ()
        return [{"role": m.role, "content": m.content} for m in (*head, *pair.prefix)]

    def reply(text: str) -> list[dict[str, str]]:
        return [{"role": "assistant", "content": text}]

    return Dataset.from_dict(
        {
            "prompt": [prompt(pair) for pair in found],
            "chosen": [reply(pair.chosen) for pair in found],
            "rejected": [reply(pair.rejected) for pair in found],
        }
    )


def _arguments(settings: DpoSettings, stage: Stage) -> DPOConfig:
    losses: dict[str, Any] = {}
    if settings.likelihood:
        losses = {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, settings.likelihood]}
    return DPOConfig(
        **shared_arguments(stage.folder, seed=derive(stage.seed, "trainer") % 2**31, save_steps=settings.save_steps),
        per_device_train_batch_size=settings.batch,
        num_train_epochs=settings.epochs,
        learning_rate=settings.learning_rate,
        max_grad_norm=settings.max_grad_norm,
        beta=settings.beta,
        max_length=None,
        precompute_ref_log_probs=True,
        disable_dropout=True,
        train_sampling_strategy="group_by_length",
        **losses,
    )


class _Report(TrainerCallback):
    """Journals every step and tells whoever watches."""

    def __init__(self, stage: Stage, steps: int) -> None:
        self._stage, self._steps = stage, steps

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        if not logs or "loss" not in logs:
            return
        accuracy = logs.get("rewards/accuracies")
        figures = {
            "reward": None,
            "margin": logs.get("rewards/margins"),
            "loss": logs["loss"],
            "accuracy": accuracy,
        }
        self._stage.record_step("dpo", state.global_step, self._steps, figures)
        self._stage.progress(state.global_step, self._steps, f"loss {logs['loss']:.3f}")
