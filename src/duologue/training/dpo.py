"""DPO on pairs of replies with clearly different multiturn-aware rewards, through TRL.

The pairs are built once, by the stage's first policy: candidates at states that policy reaches, each looked
ahead from; the pair is chosen on one half of the look-aheads, its gap measured on the other. The same
policy, as it was before the stage, is the reference.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict
from functools import partial
from threading import RLock
from typing import Any

from datasets import Dataset, load_from_disk
from tqdm import tqdm
from trl import DPOConfig, DPOTrainer

from duologue.conversation import Message
from duologue.dataset import Pair, PairCounts, pairs
from duologue.errors import DataError
from duologue.models.loading import is_adapted
from duologue.seeding import derive
from duologue.training import ranks
from duologue.training.arguments import shared_arguments
from duologue.training.explore import build_rows, system_prompts
from duologue.training.gathered import to_train
from duologue.training.launch import splits
from duologue.training.schedule import OwnOptimizer, adamw
from duologue.training.settings import DpoSettings, PairSettings
from duologue.training.sft import Example, LeftOut, Row, batches, reasons, tokenised
from duologue.training.stage import Figures, Stage, StepJournal, train_to


def train_dpo(settings: DpoSettings, stage: Stage) -> None:
    """Build the pairs, then train the stage's policy in place on them; goes on from where it was.

    Raises:
        DataError: no pair's gap exceeds the noise, or none tokenises back.
    """
    found = build_pairs(settings, stage)
    tqdm.set_lock(RLock())  # `datasets` would make one between processes, which is left over where this one is killed
    trainer = dpo_trainer(settings, stage, found)
    train_to(trainer.args.max_steps, trainer, stage)


def _advice(counts: PairCounts) -> str:
    if 2 * counts.unscored > counts.rows:
        return "see by `duologue simulate` what fails, the user or the judge, and train anew with --restart"
    return "raise states or reward.samples"


def build_pairs(settings: DpoSettings, stage: Stage) -> list[Pair]:
    """The stage's pairs, those left out that the trainer would not read as they were sampled; all counted.

    Raises:
        DataError: there are none.
    """
    gaps, counts = pairs(
        build_rows(settings, stage), min_gap=settings.min_gap, noise=settings.noise, per_row=settings.pairs_per_state
    )
    if not gaps:
        compared = counts.rows - counts.tied - counts.unscored
        raise DataError(
            f"dpo: of {counts.rows} states none has a pair to learn from: at {compared} no gap exceeds min_gap = "
            f"{settings.min_gap:g} and noise = {settings.noise:g} standard errors, at {counts.tied} all replies are "
            f"worth the same, at {counts.unscored} some could not be scored: {_advice(counts)}"
        )
    found = _reading_back(gaps, stage)
    stage.record_data("pairs", {**asdict(counts), "left_out": len(gaps) - len(found)})
    if not found:
        raise DataError(f"dpo: none of {len(gaps)} pairs can be learned from, by their replies: {_unread(gaps, stage)}")
    return found


def _reading_back(found: Sequence[Pair], stage: Stage) -> list[Pair]:
    """The pairs of which both replies can be trained on: they ended, and their ids are known or found again."""
    both = zip(found, _rows(found, stage), strict=True)
    return [pair for pair, rows in both if not any(isinstance(row, LeftOut) for row in rows)]


def _unread(found: Sequence[Pair], stage: Stage) -> str:
    return reasons(row for rows in _rows(found, stage) for row in rows if isinstance(row, LeftOut))


def _rows(found: Sequence[Pair], stage: Stage) -> list[tuple[Row | LeftOut, Row | LeftOut]]:
    """Each pair's chosen and rejected reply as the model reads them, after the same prompt."""
    system = system_prompts(stage)

    def example(pair: Pair, text: str, ids: tuple[int, ...] | None) -> Example:
        return Example((*pair.prefix, Message("assistant", text)), "last", system[pair.task], ids)

    both = [(example(p, p.chosen, p.chosen_ids), example(p, p.rejected, p.rejected_ids)) for p in found]
    policy = stage.policy
    read = iter(tokenised(policy.tokenizer, [each for examples in both for each in examples], policy.ends))
    return list(zip(read, read, strict=True))


class PairTrainer(OwnOptimizer, DPOTrainer):
    """TRL's, with the stage's optimizer and its pairs as ids, as they were sampled.

    The chosen replies' likelihood is a mean over the tokens of a whole step. TRL takes it over those of a part,
    so that a step would not be the same in other parts, or divided among other processes.
    """

    likelihood: float
    """Its weight in a step."""

    def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:  # type: ignore[override]
        return dataset

    def weigh(self, share: float) -> None:
        """Have the likelihood of the part that comes next count `share` times."""
        if self.likelihood:
            self.loss_weights = [1.0, self.likelihood * share]


def chosen_tokens(part: Mapping[str, Any]) -> int:
    """Tokens of a part's chosen replies, which TRL's collator puts before the rejected ones."""
    chosen, _ = part["completion_mask"].chunk(2)
    return int(chosen.sum())


class _LaidOutTrainer(PairTrainer):
    """Reads the pairs in an order laid out beforehand: a training that goes on reads what it would have."""

    order: Sequence[int] = ()
    _parts = _tokens = 1
    """Of the step under way, those of all processes."""

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        return self.order

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: Any) -> Any:
        """The parts of a step."""
        parts, count = super().get_batch_samples(epoch_iterator, num_batches, device)
        every = ranks.gathered([chosen_tokens(part) for part in parts])
        self._parts, self._tokens = len(every), sum(every)
        return parts, count

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **named: Any) -> Any:
        """A part's loss; the trainer takes the mean over the parts."""
        self.weigh(chosen_tokens(inputs) * self._parts / self._tokens)
        return super().compute_loss(model, inputs, *args, **named)


def dpo_trainer(settings: DpoSettings, stage: Stage, found: Sequence[Pair]) -> DPOTrainer:
    """TRL's trainer on some pairs; the log-probabilities under the reference are computed here, once.

    Raises:
        DataError: there are fewer pairs than parts of a batch.
    """
    model = to_train(stage.policy)
    batch, micro = _batch(settings, len(found))
    lengths = [sum(len(m.content) for m in pair.prefix) + len(pair.chosen) for pair in found]
    order = batches(lengths, batch, settings.epochs, derive(stage.seed, "order"))
    trainer = _LaidOutTrainer(
        model=model,
        # With FSDP, TRL would load one, and from where the weights were first: a stage may start elsewhere.
        ref_model=deepcopy(model) if splits() and not is_adapted(model) else None,
        args=_arguments(settings, stage, micro, batch // micro // ranks.processes(), len(order)),
        train_dataset=_seen_by_all(_preferences(found, stage), stage),
        processing_class=stage.policy.tokenizer,
        callbacks=[StepJournal(stage, "dpo", _figures)],
    )
    trainer.order = [index for indices in order for index in indices]
    trainer.likelihood = settings.likelihood
    trainer.optimizing = partial(adamw, settings=settings, steps=len(order))
    return trainer


def _batch(settings: DpoSettings, found: int) -> tuple[int, int]:
    """Pairs a step, where so many were found, and those at once in a process."""
    batch, processes = min(settings.batch, found), ranks.processes()
    micro = min(settings.micro_batch or batch // processes, batch)
    if micro == 0 or batch < micro * processes:
        raise DataError(f"dpo: {found} pairs are too few for {processes} processes: raise states, or use fewer")
    return batch - batch % (micro * processes), micro


def _seen_by_all(dataset: Dataset, stage: Stage) -> Dataset:
    """A data set that has files where there are several processes: TRL's first one writes a column beside them."""
    if ranks.processes() == 1:
        return dataset
    place = stage.folder / "pairs"
    if ranks.is_first():
        shutil.rmtree(place, ignore_errors=True)
        dataset.save_to_disk(place)
    ranks.meet()
    return load_from_disk(place)  # type: ignore[return-value]


def _preferences(found: Sequence[Pair], stage: Stage) -> Dataset:
    """Pairs as ids, in the columns that TRL would make of messages."""
    columns: dict[str, list[list[int]]] = {"prompt_ids": [], "chosen_ids": [], "rejected_ids": []}
    for chosen, rejected in _rows(found, stage):
        assert isinstance(chosen, Row) and isinstance(rejected, Row), "those that cannot be trained on were left out"
        columns["prompt_ids"].append(chosen.input_ids[: -len(chosen.reply)])
        columns["chosen_ids"].append(chosen.reply)
        columns["rejected_ids"].append(rejected.reply)
    return Dataset.from_dict(columns)


def losses(settings: PairSettings) -> dict[str, Any]:
    """What TRL's config calls the loss: DPO's, and the chosen reply's own where it is to count."""
    if not settings.likelihood:
        return {}
    return {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, settings.likelihood]}


def _arguments(settings: DpoSettings, stage: Stage, micro: int, parts: int, steps: int) -> DPOConfig:
    return DPOConfig(
        **shared_arguments(stage.folder, seed=derive(stage.seed, "trainer") % 2**31, save_steps=settings.save_steps),
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=parts,
        max_steps=steps,
        learning_rate=settings.learning_rate,
        max_grad_norm=settings.max_grad_norm,
        beta=settings.beta,
        max_length=None,
        precompute_ref_log_probs=True,
        disable_dropout=True,
        **losses(settings),
    )


def _figures(logs: Mapping[str, float]) -> Figures:
    return {"reward": None, "margin": logs.get("rewards/margins"), "accuracy": logs.get("rewards/accuracies")}
