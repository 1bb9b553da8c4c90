"""Training in the processes that `accelerate launch` or torchrun started: all give the same command.

They train one arm after another, together. The first holds the run's folder, writes down what happens, and goes on
alone to the evaluation and the report; the others end with the training. They come to the training when the first
has found nothing wrong with recipe and folder: until then they wait for it.
"""

from __future__ import annotations

import gc
import os
import sys
import threading
import time
import warnings
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import replace
from functools import partial
from pathlib import Path

from duologue.errors import RecipeError
from duologue.models import local_models
from duologue.recipe import Recipe
from duologue.run.bill import budgets
from duologue.run.folder import RunFolder
from duologue.run.jobs import perform
from duologue.run.workers import Job, Watch, environment, explained
from duologue.training.launch import splits, unsplit_here
from duologue.training.settings import (
    DpoSettings,
    GrpoSettings,
    PpoSettings,
    RlooSettings,
    SftSettings,
    TrainSettings,
)


def train_together(jobs: Sequence[Job], recipe: Recipe, run: RunFolder, watch: Watch) -> None:
    """Train arms, one after another, with the other processes of this launch.

    Args:
        jobs: those of the first process are done; the others' are not looked at.

    Raises:
        MissingDependency: torch and transformers are not installed.
        DuologueError: as a job raised it.
    """
    with _joined(recipe.run.threads):
        from duologue.training import ranks

        agreed = ranks.agreed((jobs, budgets(recipe, run, ranks.processes())) if ranks.is_first() else ((), []))
        for job in agreed[0]:
            try:
                perform(_within(job, agreed[1][ranks.rank()]), partial(watch, job.name))
            except Exception as error:
                raise explained(error, job) from error


def accompany(recipe: Recipe, folder: Path) -> None:
    """Train along with the first process of this launch, as a further one; nothing is shown.

    Raises:
        DuologueError: as `train_together`.
    """
    train_together((), recipe, RunFolder(folder), _unwatched)


def _unwatched(job: str, done: int, total: int, what: str) -> None:
    """Nobody watches a process that is not the first."""


def _within(job: Job, budget: float | None) -> Job:
    return job if budget is None else replace(job, recipe={**job.recipe, "budget": budget})


@contextmanager
def _joined(threads: int) -> Generator[None]:
    """The processes together; what libraries print must not stand among a command's results."""
    os.environ.update(environment(threads))
    os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] = "false"  # it loads no weights but in the first process
    warnings.simplefilter("ignore", FutureWarning)
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    with local_models():
        import torch

        from duologue.training import ranks
    with redirect_stdout(sys.stderr), ranks.launched_together():
        if ranks.is_first() and (told := unsplit_here(torch.cuda.is_available())):
            sys.stderr.write(f"duologue: warning: {told}\n")
        yield
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()  # the evaluation is another process, and wants the memory


def _end_with(launcher: int) -> None:
    """End this process with the launcher: the system gives it another parent then."""
    while os.getppid() == launcher:
        time.sleep(0.5)
    os._exit(1)


# ---- what can be known to be wrong beforehand


def check_together(recipe: Recipe, processes: int) -> None:
    """See to it that every stage can be divided among some processes.

    Raises:
        RecipeError: one cannot.
    """
    for name in recipe.evaluate.arms:
        for index, stage in enumerate(recipe.arm(name).stages):
            for fault in (*_undivided(stage, processes), *(_unsplit(stage) if splits() else ())):
                raise RecipeError(f'arm "{name}", train.{index} ({stage.algorithm}): {fault}')


def _undivided(stage: TrainSettings, processes: int) -> Iterator[str]:
    """Why processes could not have equal parts of a stage's steps."""
    if isinstance(stage, SftSettings | DpoSettings):
        yield from _uneven("batch", stage.batch, "micro_batch", stage.micro_batch, processes)
    elif isinstance(stage, GrpoSettings | RlooSettings):
        yield from _uneven("groups", stage.groups, "micro_groups", stage.micro_groups, processes)
    else:
        yield from _uneven("groups", stage.groups, "", None, processes)


def _uneven(key: str, whole: int, micro_key: str, micro: int | None, processes: int) -> Iterator[str]:
    if whole % processes:
        yield f"{key} = {whole} cannot be divided among {processes} processes: set a multiple of {processes}"
    elif micro and whole // processes % micro:
        own = whole // processes
        yield f"{key} = {whole} leaves each of {processes} processes {own}: set {micro_key} to a divisor of {own}"


def _unsplit(stage: TrainSettings) -> Iterator[str]:
    """Why a stage could not train weights that are split among processes."""
    if isinstance(stage, PpoSettings):
        yield "PPO trains whole weights: launch it without FSDP and DeepSpeed, or take another algorithm"
    if isinstance(stage, SftSettings) and stage.optimizer == "muon":
        yield 'optimizer = "muon" takes whole matrices: launch it without FSDP and DeepSpeed, or take "adamw"'
