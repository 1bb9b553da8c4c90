"""Processes that work through jobs side by side, and end with the process that started them.

Single-threaded processes, one an arm, use the cores of a machine better than threads do on small models.
"""

from __future__ import annotations

import errno
import multiprocessing
import os
import shutil
import signal
import threading
import traceback
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from typing import Any, Literal

from duologue.errors import DataError, DuologueError, RunError
from duologue.recipe import Table
from duologue.tasks import fault_outside

Progress = Callable[[int, int, str], None]
"""(done, total, what)"""
Watch = Callable[[str, int, int, str], None]
"""(job, done, total, what)"""
PATIENCE = 10
"""Seconds that a process without work may take to end."""


@dataclass(frozen=True)
class Job:
    """One arm's training, or the evaluation of one or several."""

    kind: Literal["train", "evaluate"]
    arms: tuple[str, ...]
    recipe: Table
    """The whole recipe; the worker takes its arm."""
    folder: str
    needs: str | None = None
    """A job that must be done first."""
    cached: bool = True
    """Whether a call to an endpoint that was answered before is answered from what is kept."""

    @property
    def name(self) -> str:
        """Like "train trained"."""
        return f"{self.kind} {', '.join(self.arms)}"


Perform = Callable[[Job, Progress], None]


def stop(job: Job, error: DuologueError) -> None:
    """Answer a failure by stopping the other jobs, too.

    Raises:
        DuologueError: the failure.
    """
    raise error


def run_jobs(
    jobs: Sequence[Job],
    perform: Perform,
    *,
    processes: int,
    threads: int,
    watch: Callable[..., None],
    failed: Callable[[Job, DuologueError], None] = stop,
) -> None:
    """Perform all jobs, each when what it needs is done; the first failure stops the others and is raised.

    Args:
        perform: a module-level function, run in the workers.
        watch: called with (job name, done, total, what).
        failed: told of a failure, in place of raising it: then the others go on, but for what needs that job.

    Raises:
        DuologueError: as the job raised it.
        RunError: a worker was killed.
    """
    if not jobs:
        return
    os.environ.update(environment(threads))
    context = multiprocessing.get_context("spawn")
    crew = [_Worker(context, perform) for _ in range(min(processes, len(jobs)))]
    try:
        _dispatch(crew, list(jobs), watch, failed, lambda: _Worker(context, perform))
    finally:
        for worker in crew:
            worker.dismiss()
        for worker in crew:
            worker.stop()


def environment(threads: int) -> dict[str, str]:
    """Two OpenMP threads on busy cores collapse; an arena of memory a thread costs tens of MB; no network."""
    return {
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "OMP_WAIT_POLICY": "PASSIVE",
        "MALLOC_ARENA_MAX": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "TRL_EXPERIMENTAL_SILENCE": "1",
        "TQDM_DISABLE": "1",
        "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    }


def _dispatch(
    crew: list[_Worker],
    waiting: list[Job],
    watch: Callable[..., None],
    failed: Callable[[Job, DuologueError], None],
    hire: Callable[[], _Worker],
) -> None:
    done: set[str] = set()
    names = {job.name for job in waiting}
    while waiting or any(worker.job for worker in crew):
        for worker in crew:
            ready = next((j for j in waiting if j.needs is None or j.needs in done or j.needs not in names), None)
            if worker.job is None and ready is not None:
                waiting.remove(ready)
                worker.begin(ready)
        busy = {worker.pipe: worker for worker in crew if worker.job}
        for pipe in wait(list(busy)):
            worker: _Worker = busy[pipe]  # type: ignore[index]
            job = worker.job
            assert job is not None, "it is busy"
            try:
                finished = worker.listen(watch)
            except DuologueError as error:
                failed(job, error)
                waiting[:] = [each for each in waiting if each.needs != job.name]
                crew[crew.index(worker)] = hire()  # whatever the failure left behind goes with its process
                worker.dismiss()
                worker.stop()
                continue
            if finished:
                done.add(finished.name)


class _Worker:
    def __init__(self, context: Any, perform: Perform) -> None:
        self.pipe, theirs = context.Pipe()
        self.job: Job | None = None
        self._process = context.Process(target=_work, args=(theirs, perform), daemon=True)
        self._start()
        theirs.close()

    def _start(self) -> None:
        """Start the process deaf to interrupts: Ctrl-C reaches all processes of a terminal, and is ours to answer."""
        resource_tracker.ensure_running()  # else starting it ends the blocking
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self._process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def begin(self, job: Job) -> None:
        self.job = job
        try:
            self.pipe.send(job)
        except BrokenPipeError:
            raise self._killed(job) from None

    def listen(self, watch: Callable[..., None]) -> Job | None:
        """Take one message; the job, if it is done."""
        job = self.job
        assert job is not None
        try:
            kind, value = self.pipe.recv()
        except (EOFError, ConnectionResetError):
            raise self._killed(job) from None
        if kind == "progress":
            watch(job.name, *value)
            return None
        self.job = None
        if kind == "failed":
            raise value
        return job

    def _killed(self, job: Job) -> RunError:
        self._process.join()
        return RunError(
            f"{job.name}: its process was killed (exit status {self._process.exitcode}), perhaps for lack of "
            "memory; the same command goes on from what is recorded; [run] processes = 1 needs less"
        )

    def dismiss(self) -> None:
        """Have the process end: one without work tidily, by itself; one at work at once, what it did is recorded."""
        if self.job is None:
            self.pipe.close()
        else:
            self._process.terminate()

    def stop(self) -> None:
        """Wait until the dismissed process is gone."""
        self._process.join(PATIENCE)
        self._process.terminate()
        self._process.join()
        self.pipe.close()


def _work(pipe: Connection, perform: Perform) -> None:
    """A worker's life: jobs until the pipe closes."""
    os.dup2(2, 1)  # what libraries print must not stand among a command's results
    # A trainer that sees several GPUs and has no launcher divides its batches among them in a way of its own.
    os.environ["CUDA_VISIBLE_DEVICES"] = os.environ.get("CUDA_VISIBLE_DEVICES", "0").partition(",")[0]
    warnings.simplefilter("ignore", FutureWarning)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    while True:
        try:
            job: Job = pipe.recv()
        except EOFError:
            return
        try:
            perform(job, lambda done, total, what: pipe.send(("progress", (done, total, what))))
        except Exception as error:
            pipe.send(("failed", explained(error, job)))
        else:
            pipe.send(("done", None))


def explained(error: Exception, job: Job) -> DuologueError:
    """What became of a job, in a sentence."""
    if isinstance(error, DuologueError):
        return error
    if _disk_is_full(error, job.folder):
        return RunError(
            f"the disk is full: {job.name} could not write in {job.folder}; free some space and give the same "
            "command again, it goes on from what is recorded"
        )
    if isinstance(error, OSError) and error.strerror:
        return RunError(f"{job.name}: {error.filename or job.folder}: {error.strerror}")
    if told := fault_outside(error):
        return DataError(f"{job.name}: {told}")
    return RunError(f"{job.name} failed: {error!r}. This is a fault of ours:\n{traceback.format_exc()}")


def _disk_is_full(error: BaseException | None, folder: str) -> bool:
    """Whether that is behind an error: libraries that write models raise their own, torch's with no word of it."""
    if error is None:
        return False
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    if os.strerror(errno.ENOSPC) in str(error):
        return True
    if isinstance(error, RuntimeError) and shutil.disk_usage(folder).free < 2**20:
        return True
    return _disk_is_full(error.__context__, folder)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
