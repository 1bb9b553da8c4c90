"""The file behind `Calls`: SQLite, for one process at a time.

The lock is held from opening to closing (`locking_mode=EXCLUSIVE`), so nobody else spends from the same
budget, reads need no system call to lock, and no shared memory is needed, which network file systems lack.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from duologue.errors import RunError
from duologue.models.base import Finish, Reply, Usage

Row = tuple[str, str, int, int, int, int, int, float, int]
"""A line of the ledger: role, model, calls, cached, unanswered, prompt, completion, seconds, billionths."""

VERSION = 1
"""Of the tables (SQLite's user_version)."""

OURS = 0x44554F43
"""What a file of ours is known by: "DUOC" (SQLite's application_id)."""

WAIT = 1.0
"""Seconds to wait for whoever else holds the file, before giving up."""

CREATE = (
    "CREATE TABLE replies (key BLOB NOT NULL UNIQUE, text BLOB NOT NULL, finish TEXT NOT NULL, "
    "prompt INTEGER NOT NULL, completion INTEGER NOT NULL)",
    "CREATE TABLE ledger (role TEXT NOT NULL, model TEXT NOT NULL, calls INTEGER NOT NULL, cached INTEGER NOT NULL, "
    "unanswered INTEGER NOT NULL, prompt INTEGER NOT NULL, completion INTEGER NOT NULL, seconds REAL NOT NULL, "
    "billionths INTEGER NOT NULL, UNIQUE (role, model))",
    f"PRAGMA application_id = {OURS}",
    f"PRAGMA user_version = {VERSION}",
)
FIND = "SELECT text, finish, prompt, completion FROM replies WHERE key = ?"
KEEP = "INSERT OR IGNORE INTO replies VALUES (?, ?, ?, ?, ?)"
COUNT = "INSERT OR REPLACE INTO ledger VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"


class CallFile:
    """Replies by key, and the ledger. Safe to use from several threads.

    Raises:
        RunError: by any method, where SQLite cannot do its work; by the first, where the file is not ours.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        with self._explained():
            self._database = sqlite3.connect(path, timeout=WAIT, isolation_level=None, check_same_thread=False)
        try:
            with self._explained():
                self._prepare()
                self.ledger: list[Row] = self._database.execute("SELECT * FROM ledger").fetchall()
                """As it was when the file was opened."""
        except BaseException:
            self._database.close()
            raise

    def read(self, key: bytes) -> Reply | None:
        """The reply under a key."""
        with self._explained(), self._lock:
            row = self._database.execute(FIND, (key,)).fetchone()
        if row is None:
            return None
        text, finish, prompt, completion = cast("tuple[bytes, Finish, int, int]", row)
        return Reply(text.decode("utf-8", "surrogatepass"), finish, Usage(prompt, completion))

    def write(self, replies: Iterable[tuple[bytes, Reply]], ledger: Iterable[Row]) -> None:
        """Add replies whose keys are new, and put lines of the ledger in the place of the old: all or nothing."""
        rows = [
            (key, reply.text.encode("utf-8", "surrogatepass"), reply.finish, reply.usage.prompt, reply.usage.completion)
            for key, reply in replies
        ]
        with self._explained(), self._lock, self._transaction():
            self._database.executemany(KEEP, rows)
            self._database.executemany(COUNT, ledger)

    def close(self) -> None:
        """Fold the log into the file and let go of it; again does nothing."""
        with self._explained(), self._lock:
            self._database.close()

    def _prepare(self) -> None:
        self._database.execute("PRAGMA locking_mode = EXCLUSIVE")
        with self._transaction():
            if not self._known():
                for statement in CREATE:
                    self._database.execute(statement)
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = NORMAL")

    def _known(self) -> bool:
        """Whether the file is one of ours, and not new."""
        mark, version, schema = (self._number(of) for of in ("application_id", "user_version", "schema_version"))
        if (mark, version, schema) == (0, 0, 0):
            return False
        if mark != OURS:
            raise RunError(f"{self.path} is not a file of Duologue's calls; move it away and start again")
        if version != VERSION:
            raise RunError(
                f"{self.path} was written by another version of Duologue (its form is {version}, this one's is "
                f"{VERSION}); go on with that version, or move the file away and pay for its calls again"
            )
        return True

    def _number(self, pragma: str) -> int:
        return self._database.execute(f"PRAGMA {pragma}").fetchone()[0]

    @contextmanager
    def _transaction(self) -> Generator[None]:
        self._database.execute("BEGIN EXCLUSIVE")
        try:
            yield
            self._database.execute("COMMIT")
        finally:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")

    @contextmanager
    def _explained(self) -> Generator[None]:
        try:
            yield
        except sqlite3.DatabaseError as error:
            raise RunError(self._sentence(error)) from error

    def _sentence(self, error: sqlite3.DatabaseError) -> str:
        name: Any = vars(error).get("sqlite_errorname", "")  # absent where Python's module complains, not SQLite
        if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            return f"{self.path} is in use, by another process or a second time by this one; wait until it is free"
        if name.startswith("SQLITE_FULL"):
            return (
                f"the disk is full: {self.path} could not be written; free some space and give the same command "
                "again, it goes on from what is recorded"
            )
        if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
            return (
                f"{self.path} is damaged or not a file of Duologue's calls ({error}); move it away and give the same "
                "command again: what it held will be asked and paid for anew"
            )
        return f"{self.path} could not be used: {error}; put that right and give the same command again"
