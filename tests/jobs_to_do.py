"""Jobs for worker processes, which find them by import."""

from __future__ import annotations

import errno
import multiprocessing.util
import os
import signal
import time
from pathlib import Path

from duologue.errors import DataError
from duologue.run.workers import Job, Progress


def note(job: Job, progress: Progress) -> None:
    """Write down that it was done, and when."""
    progress(1, 2, "half")
    with (Path(job.folder) / "done").open("a") as done:
        done.write(f"{job.name}\n")
    progress(2, 2, "whole")


def note_gpus(job: Job, progress: Progress) -> None:
    """Write down which GPUs there are for it."""
    (Path(job.folder) / "done").write_text(os.environ["CUDA_VISIBLE_DEVICES"])


def fail_if_trained(job: Job, progress: Progress) -> None:
    """A training fails; what does not need it would take for ever."""
    if job.kind == "train":
        raise DataError("the goals are gone")
    time.sleep(600)


def fail_in_arm_a(job: Job, progress: Progress) -> None:
    """One arm cannot be trained; the others can."""
    if job.name == "train a":
        raise DataError("the goals are gone")
    note(job, progress)


def be_killed_in_arm_a(job: Job, progress: Progress) -> None:
    """One arm takes more memory than there is."""
    if job.name == "train a":
        os.kill(os.getpid(), signal.SIGKILL)
    note(job, progress)


def be_killed(job: Job, progress: Progress) -> None:
    """As the system does when memory runs out."""
    os.kill(os.getpid(), signal.SIGKILL)


def fill_the_disk(job: Job, progress: Progress) -> None:
    """The library's error hides the system's."""
    try:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError:
        raise RuntimeError("could not serialize the weights") from None


def lack_permission(job: Job, progress: Progress) -> None:
    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), "/somewhere/else")


def have_a_fault(job: Job, progress: Progress) -> None:
    raise ZeroDivisionError("division by zero")


def be_interrupted(job: Job, progress: Progress) -> None:
    """Ctrl-C reaches every process of the terminal."""
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.1)
    note(job, progress)


def print_something(job: Job, progress: Progress) -> None:
    print("a library is chatty")
    os.write(1, b"and another one, too\n")
    note(job, progress)


def tell_when_it_ends(job: Job, progress: Progress) -> None:
    multiprocessing.util.Finalize(None, (Path(job.folder) / "ended").touch, exitpriority=0)
