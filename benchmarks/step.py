"""One optimisation step of GRPO, with shared prompts and with stock TRL, on the same batch.

    OMP_NUM_THREADS=1 python benchmarks/step.py --model tiny

The batch is one that training would see: groups × candidates on groceries, at states that the model itself
reaches. Timed is the loss forward, backward and the optimizer's step; playing and looking ahead are not.
The gradients of both ways are compared before the first step.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from trl import GRPOTrainer

from duologue.background import BackgroundLoop
from duologue.journal import Journal
from duologue.models.base import Sampling
from duologue.models.local import LocalModel
from duologue.reward import MultiturnReward
from duologue.simulation import Assistant
from duologue.tasks import Task, load_task
from duologue.training.grpo import grpo_trainer
from duologue.training.settings import GrpoSettings
from duologue.training.stage import Stage

WAYS = {"shared prompts": True, "stock TRL": False}
Batch = dict[str, Any]


def main() -> None:
    """Print seconds a step, their ratio, and how far the gradients are apart."""
    arguments = _arguments()
    torch.set_num_threads(1)
    policy = LocalModel.load(arguments.model)
    with tempfile.TemporaryDirectory() as folder, BackgroundLoop() as loop:
        stage = _stage(policy, loop, Path(folder))
        trainers = {way: _trainer(stage, arguments, shared) for way, shared in WAYS.items()}
        batch = _record(trainers["shared prompts"], arguments.groups * arguments.candidates)
        gradients = {way: _gradient(trainer, batch) for way, trainer in trainers.items()}
        seconds = {way: [] for way in WAYS}
        for _ in range(arguments.repeats):
            for way, trainer in trainers.items():
                seconds[way].append(_timed(lambda t=trainer: _step(t, batch)))
    _print(batch, seconds, gradients)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="tiny", help='"tiny" or a folder')
    parser.add_argument("--groups", type=int, default=40)
    parser.add_argument("--candidates", type=int, default=6)
    parser.add_argument("--repeats", type=int, default=5)
    return parser.parse_args()


def _stage(policy: LocalModel, loop: BackgroundLoop, folder: Path) -> Stage:
    task = load_task("groceries")

    def partners(task: Task) -> tuple[Assistant, MultiturnReward]:
        assistant = Assistant(policy, sampling=Sampling(max_tokens=task.max_tokens))
        return assistant, MultiturnReward(assistant, task.user, task.metrics, 1, 0)

    journal = Journal(folder / "journal.jsonl")
    return Stage("step", "0-grpo", folder, 0, [task], policy, partners, loop, journal, lambda *_: None)


def _trainer(stage: Stage, arguments: argparse.Namespace, shared: bool) -> GRPOTrainer:
    settings = GrpoSettings(
        algorithm="grpo",
        groups=arguments.groups,
        candidates=arguments.candidates,
        steps=1,
        save_steps=None,
        shared_prompts=shared,
    )
    trainer = grpo_trainer(settings, stage)
    trainer.current_gradient_accumulation_steps = 1
    return trainer


def _record(trainer: GRPOTrainer, rows: int) -> Batch:
    """A batch as TRL hands it to the loss."""
    trainer.model.train()
    rows_of_a_group = trainer.num_generations
    return trainer._generate_and_score_completions([{"prompt": str(row // rows_of_a_group)} for row in range(rows)])


def _gradient(trainer: GRPOTrainer, batch: Batch) -> torch.Tensor:
    model = trainer.model
    model.zero_grad()
    trainer.compute_loss(model, batch).backward()
    return torch.cat([weight.grad.flatten() for weight in model.parameters() if weight.grad is not None])


def _step(trainer: GRPOTrainer, batch: Batch) -> None:
    trainer.optimizer.zero_grad()
    trainer.compute_loss(trainer.model, batch).backward()
    trainer.optimizer.step()


def _timed(work: Callable[[], None]) -> float:
    began = time.thread_time()
    work()
    return time.thread_time() - began


def _print(batch: Batch, seconds: dict[str, list[float]], gradients: dict[str, torch.Tensor]) -> None:
    rows, prompt = batch["prompt_ids"].shape
    reply = batch["completion_ids"].shape[1]
    medians = {way: statistics.median(times) for way, times in seconds.items()}
    shared, stock = (gradients[way] for way in WAYS)
    table = Table(title=f"{rows} candidates, {prompt} + {reply} tokens", title_justify="left")
    for column in ("", "seconds a step", "against stock"):
        table.add_column(column, justify="left" if not column else "right")
    for way, median in medians.items():
        table.add_row(way, f"{median:.3f}", f"{medians['stock TRL'] / median:.2f} ×")
    console = Console()
    console.print(table)
    furthest, largest = (shared - stock).abs().max().item(), stock.abs().max().item()
    console.print(f"largest difference of gradients {furthest:.1e}, largest gradient {largest:.1e}")


if __name__ == "__main__":
    main()
