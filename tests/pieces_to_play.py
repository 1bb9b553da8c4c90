"""Pieces for the workers of a cluster, which find them by import."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from duologue.errors import ModelError
from duologue.journal import Journal
from duologue.run.scale import Piece, Played, play_piece

BEFORE = 3
"""Conversations that a worker records before it is killed."""


def play_and_be_killed_once(piece: Piece) -> Played:
    """The first worker to come here is killed in the middle of its shard."""
    mark = Path(piece.run) / "killed"
    try:
        mark.touch(exist_ok=False)
    except FileExistsError:
        return play_piece(piece)
    genuine, written = Journal.append, 0

    def append(self: Journal, key: str, kind: str, value: dict[str, Any]) -> bool:
        nonlocal written
        if written == BEFORE:
            mark.write_text(str(piece.shard))
            os.kill(os.getpid(), signal.SIGKILL)
        written += kind == "conversation"
        return genuine(self, key, kind, value)

    Journal.append = append
    return play_piece(piece)


def play_and_be_killed(piece: Piece) -> Played:
    """Whoever comes here is killed."""
    os.kill(os.getpid(), signal.SIGKILL)
    return play_piece(piece)


def be_refused(piece: Piece) -> Played:
    raise ModelError("the server does not answer")


def have_a_fault(piece: Piece) -> Played:
    raise ZeroDivisionError("division by zero")


def play_another_recipe(piece: Piece) -> Played:
    """As a worker with another version of a task would."""
    return play_piece(Piece(**{**vars(piece), "recipe": {**piece.recipe, "seed": 99}}))


def listening() -> set[str]:
    """Where something on this machine waits for connections: ADDRESS:PORT in hexadecimal."""
    rows = [row.split() for table in ("tcp", "tcp6") for row in Path(f"/proc/net/{table}").read_text().splitlines()]
    return {row[1] for row in rows if row[3] == "0A"}
