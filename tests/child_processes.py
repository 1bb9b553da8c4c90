"""The processes that another has started, some of which may be gone before one has looked."""

from __future__ import annotations

import os

import psutil


def children(mark: str, of: int | None = None) -> list[int]:
    """Those of a process, or of this one, that have a text in their command line."""
    found: list[int] = []
    for child in psutil.Process(of or os.getpid()).children():
        try:
            if mark in " ".join(child.cmdline()):
                found.append(child.pid)
        except psutil.NoSuchProcess:
            continue
    return found


def is_running(pid: int) -> bool:
    """Whether there is such a process, and it has not ended."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
