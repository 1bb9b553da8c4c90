"""Where the time of an online step goes, and what its look-aheads read twice.

    OMP_NUM_THREADS=1 python benchmarks/training.py
    OMP_NUM_THREADS=1 python benchmarks/training.py --algorithms grpo --model runs/mine --groups 8 --steps 2
    OMP_NUM_THREADS=1 python benchmarks/training.py --algorithms grpo --random 512 8 --steps 2

Each algorithm trains for a few steps on groceries, as `duologue train` does. Seconds are CPU seconds of the process,
one thread, which are steadier than the clock on a machine that does other things:

    generation   from messages to text, of prefixes, candidates and look-aheads: chat template, model, decoding
    trainer      all that is not a rollout: loss, gradients, optimizer, TRL's own work, the journal
    ours         the rest of a rollout: users, metrics, seeds, the event loop

Tokens read are those of prompts that went through the model; a token that the model itself drew is in its cache
already. What must be read at least is every beginning of a conversation once a rollout, since the weights change
after it: the nodes of the tree of all its prompts that nothing drew.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from rich.console import Console
from rich.table import Table

from duologue.background import BackgroundLoop
from duologue.conversation import Message
from duologue.journal import Journal
from duologue.models.base import Reply
from duologue.models.local import LocalModel
from duologue.recipe import Recipe, parse
from duologue.run.jobs import run_stage
from duologue.run.wiring import quieten_transformers, wire
from duologue.training.scratch import build_model
from duologue.training.settings import ScratchSettings
from duologue.training.stage import Stage

T = TypeVar("T")
SETTINGS: dict[str, dict[str, Any]] = {
    "grpo": {"learning_rate": 7e-4},
    "rloo": {"learning_rate": 7e-4, "refresh": 4},
    "ppo": {"learning_rate": 7e-4, "beta": 0.0, "minibatches": 2},
    "online-dpo": {"learning_rate": 1.5e-4},
}
SAMPLES = {"online-dpo": 2}
"""Look-aheads a reply, where it is not one: a pair is chosen on one half and measured on the other."""


Drawn = tuple[tuple[int, ...], list[int]]
"""A prompt, and what was drawn after it."""


class Watched(LocalModel):
    """Counts its CPU seconds, and keeps what it read and drew between two changes of its weights."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.generating = 0.0
        self.rollouts: list[list[Drawn]] = [[]]

    def encode(self, messages: Sequence[Message]) -> tuple[int, ...]:
        with self._timed():
            return super().encode(messages)

    def _advance(self) -> bool:
        with self._timed():
            return super()._advance()

    def said(self, prompt: Sequence[int], ids: Sequence[int], logprobs: Sequence[float]) -> Reply:
        self.rollouts[-1].append((tuple(prompt), list(ids)))
        with self._timed():
            return super().said(prompt, ids, logprobs)

    def weights_changed(self) -> None:
        self.rollouts.append([])
        super().weights_changed()

    @contextmanager
    def _timed(self) -> Iterator[None]:
        began = time.thread_time()
        yield
        self.generating += time.thread_time() - began


@dataclass
class _Node:
    below: dict[int, _Node] = field(default_factory=dict)
    read: bool = False
    drawn: bool = False


def undrawn(rollout: Sequence[Drawn]) -> int:
    """Tokens that must be read from prompts at least: each beginning once, those left out that a row drew.

    A prompt's last token is read by the step that draws the first one, and a reply's last is read by none.
    """
    root = _Node()
    for prompt, ids in rollout:
        for at, node in enumerate(_path(root, (*prompt, *ids[:-1]))):
            if at < len(prompt) - 1:
                node.read = True
            else:
                node.drawn = True
    return sum(node.read and not node.drawn for node in _below(root))


def _path(node: _Node, ids: tuple[int, ...]) -> Iterator[_Node]:
    for token in ids:
        node = node.below.setdefault(token, _Node())
        yield node


def _below(root: _Node) -> Iterator[_Node]:
    waiting = list(root.below.values())
    while waiting:
        node = waiting.pop()
        waiting.extend(node.below.values())
        yield node


class Metered(BackgroundLoop):
    """Counts the CPU seconds of what it is asked to run: a trainer waits for its rollouts meanwhile."""

    running = 0.0

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        began = time.process_time()
        try:
            return super().run(work)
        finally:
            self.running += time.process_time() - began


@dataclass(frozen=True)
class Found:
    """CPU seconds, and tokens read from prompts."""

    seconds: float
    generation: float
    rollouts: float
    read: int
    distinct: int

    @property
    def ours(self) -> float:
        """Share of a step that is neither generation nor the trainer."""
        return (self.rollouts - self.generation) / self.seconds

    @property
    def reread(self) -> float:
        """Tokens read over those that must be."""
        return self.read / self.distinct


def measure(algorithm: str, model: str, groups: int, candidates: int, steps: int) -> Found:
    """Train for `steps` steps."""
    shape = {"groups": groups, "candidates": candidates, "steps": steps, "save_steps": 1000}
    recipe = parse(_recipe(algorithm, model, shape), "benchmark")
    policy = Watched.load(model)
    with tempfile.TemporaryDirectory() as folder, Metered() as loop:
        stage = _stage(recipe, policy, loop, Path(folder))
        read, began = policy.counters.prefilled, time.process_time()
        run_stage(recipe.stages[0], stage)
        seconds = time.process_time() - began
    distinct = sum(map(undrawn, policy.rollouts))
    return Found(seconds, policy.generating, loop.running, policy.counters.prefilled - read, distinct)


def save_random(folder: str, hidden: int, layers: int) -> str:
    """A model of `tiny`'s architecture and words in other sizes, its weights random."""
    tokenizer = LocalModel.load("tiny").tokenizer
    sizes = ScratchSettings(hidden=hidden, intermediate=3 * hidden, layers=layers, heads=hidden // 64, kv_heads=2)
    LocalModel(build_model(sizes, tokenizer, seed=0), tokenizer).save(Path(folder))
    return folder


def _recipe(algorithm: str, model: str, shape: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": "training",
        "task": {"name": "groceries"},
        "assistant": {"model": model},
        "reward": {"samples": SAMPLES.get(algorithm, 1), "window": "full"},
        "train": [{"algorithm": algorithm, **SETTINGS[algorithm], **shape}],
    }


def _stage(recipe: Recipe, policy: LocalModel, loop: BackgroundLoop, folder: Path) -> Stage:
    wiring = wire(recipe, lambda *_: policy)
    journal = Journal(folder / "journal.jsonl")
    partners = partial(wiring.partners, fresh=0)
    return Stage("training", "0", folder, 0, wiring.tasks, policy, partners, loop, journal, lambda *_: None)


def main() -> None:
    """Print a row an algorithm."""
    arguments = _arguments()
    torch.set_num_threads(1)
    quieten_transformers()
    table = Table(title=f"{arguments.steps} steps, {arguments.groups} states of {arguments.candidates} replies")
    for column in ("", "a step (CPU s)", "generation", "trainer", "ours", "prompt tokens read", "÷ distinct"):
        table.add_column(column, justify="right")
    with tempfile.TemporaryDirectory() as folder:
        model = save_random(folder, *arguments.random) if arguments.random else arguments.model
        for algorithm in arguments.algorithms:
            found = measure(algorithm, model, arguments.groups, arguments.candidates, arguments.steps)
            table.add_row(
                algorithm,
                f"{found.seconds / arguments.steps:.2f}",
                f"{found.generation / found.seconds:.1%}",
                f"{1 - found.rollouts / found.seconds:.1%}",
                f"{found.ours:.1%}",
                f"{found.read:,}",
                f"{found.reread:.3f}",
            )
    Console(width=110).print(table)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--algorithms", nargs="+", choices=list(SETTINGS), default=list(SETTINGS))
    parser.add_argument("--model", default="tiny", help='"tiny" or a folder')
    parser.add_argument("--random", nargs=2, type=int, metavar=("HIDDEN", "LAYERS"), help="a random one of these sizes")
    parser.add_argument("--groups", type=int, default=40)
    parser.add_argument("--candidates", type=int, default=6)
    parser.add_argument("--steps", type=int, default=8)
    return parser.parse_args()


if __name__ == "__main__":
    main()
