"""What a run has done so far: an append-only file, a lock, and files that appear whole or not at all.

A journal is JSON lines of `{"key", "kind", "value"}`. Several processes may append to one. A writer killed
at any moment leaves at most an unfinished last line; whoever comes next cuts it off under the lock, and
what it held is done again. A key is recorded once: the first stands, later ones are ignored (results are
functions of their seeds, so they would say the same).

Lines reach the operating system with each append, so they survive the end of the process, not a power cut.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import threading
import uuid
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, cast

import orjson

from duologue.errors import RunError

CHUNK = 1 << 20


class Entry(NamedTuple):
    """One line of a journal."""

    key: str
    kind: str
    value: dict[str, Any]


class Journal:
    """The entries of a run, in memory by key alone.

        journal = Journal(Path("runs/maths/journal.jsonl"))
        if key not in journal:
            journal.append(key, "conversation", value)

    Safe to use from several threads and, each with its own `Journal` or a forked one, several processes.

    Raises:
        RunError: the file cannot be opened, or a line in its middle is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._keys: dict[str, int] = {}
        """Where the line of each begins."""
        self._read_to = 0
        self._thread = threading.Lock()
        with self._locked() as descriptor:
            self._catch_up(descriptor)

    def append(self, key: str, kind: str, value: dict[str, Any]) -> bool:
        """Record an entry, unless its key is there already, written by this process or another.

        Returns:
            Whether it was written.

        Raises:
            RunError: the disk is full, or the file was damaged by something else. Nothing of it stays.
        """
        line = orjson.dumps({"key": key, "kind": kind, "value": value}) + b"\n"
        with self._locked() as descriptor:
            self._catch_up(descriptor)
            if key in self._keys:
                return False
            self._write(descriptor, line)
            self._keys[key] = self._read_to
            self._read_to += len(line)
            return True

    def read(self, kind: str | None = None) -> Iterator[Entry]:
        """The entries of a kind, or all, in the order of writing; one at a time in memory.

        Raises:
            RunError: a damaged line, by its number.
        """
        with self.path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if not line.endswith(b"\n"):
                    return
                entry = self._parse(line, number)
                if kind is None or entry.kind == kind:
                    yield entry

    def entry(self, key: str) -> Entry:
        """The entry of a key that is known so far, without reading any other.

        Raises:
            KeyError: it is not known.
        """
        with self.path.open("rb") as lines:
            lines.seek(self._keys[key])
            return Entry(**orjson.loads(lines.readline()))

    def keys(self, prefix: str = "") -> Iterator[str]:
        """The keys known so far that begin with `prefix`, in the order of writing."""
        return (key for key in tuple(self._keys) if key.startswith(prefix))

    def __contains__(self, key: str) -> bool:
        return key in self._keys

    def __len__(self) -> int:
        return len(self._keys)

    @contextmanager
    def _locked(self) -> Generator[int]:
        """The open file, this process's alone.

        It is opened anew each time: a lock belongs to an opened file, and a fork shares those.
        """
        with self._thread:
            try:
                descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
            except OSError as error:
                raise RunError(f"cannot open the journal {self.path}: {error.strerror}") from error
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                yield descriptor
            finally:
                os.close(descriptor)

    def _catch_up(self, descriptor: int) -> None:
        """Take in what others have appended, and cut off what a killed writer left unfinished."""
        size = os.fstat(descriptor).st_size
        if size < self._read_to:
            raise RunError(f"{self.path} was shortened while in use; stop what else writes there and start again")
        tail = b""
        while self._read_to + len(tail) < size:
            chunk = os.pread(descriptor, CHUNK, self._read_to + len(tail))
            *lines, tail = (tail + chunk).split(b"\n")
            for line in lines:
                self._take(line)
        if tail:
            os.ftruncate(descriptor, self._read_to)

    def _take(self, line: bytes) -> None:
        number = len(self._keys) + 1
        key = self._parse(line, number).key
        if key in self._keys:
            raise RunError(f'{self.path}, line {number}: repeats the key "{key}"; delete the line and start again')
        self._keys[key] = self._read_to
        self._read_to += len(line) + 1

    def _parse(self, line: bytes, number: int) -> Entry:
        try:
            entry: Any = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            self._damaged(number, str(error), error)
        match entry:
            case {"key": str(key), "kind": str(kind), "value": dict()}:
                return Entry(key, kind, cast("dict[str, Any]", entry["value"]))
            case _:
                self._damaged(number, 'it must have a "key", a "kind" and a "value"', None)

    def _damaged(self, number: int, what: str, cause: Exception | None) -> NoReturn:
        raise RunError(
            f"{self.path}, line {number} is damaged ({what}); delete the line and start again: "
            "what it held will be done anew"
        ) from cause

    def _write(self, descriptor: int, line: bytes) -> None:
        try:
            _write_all(descriptor, line)
        except OSError as error:
            os.ftruncate(descriptor, self._read_to)
            raise _unwritten(self.path, error) from error


class RunLock:
    """Keeps a second process out of a run's folder: `with RunLock(folder / "lock"): …`.

    The lock is the operating system's and goes with its process, however that ends; the file names that
    process, and is deleted when the lock is given back.

    Args:
        path: the lock's file.
        place: the folder it keeps others out of; left out, the one it lies in.

    Raises:
        RunError: on entering, where another process holds it.
    """

    def __init__(self, path: Path, place: Path | None = None) -> None:
        self.path = path
        self._place = place or path.parent
        self._descriptor: int | None = None

    def __enter__(self) -> RunLock:
        descriptor = self._locked()
        while not _is_at(self.path, descriptor):
            os.close(descriptor)  # its holder deleted it after we had opened it
            descriptor = self._locked()
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        self._descriptor = descriptor
        return self

    def __exit__(self, *raised: object) -> None:
        if self._descriptor is not None:
            self.path.unlink(missing_ok=True)
            os.close(self._descriptor)
            self._descriptor = None

    def _locked(self) -> int:
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise RunError(f"cannot lock {self.path.parent}: {error.strerror}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(descriptor, 32, 0).decode().strip() or "unknown"
            os.close(descriptor)
            raise RunError(
                f"another process is working in {self._place} (process {holder}); "
                "wait until it is done, or stop it and start again"
            ) from error
        return descriptor


def _is_at(path: Path, descriptor: int) -> bool:
    """Whether an open file is the one that a path leads to."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object that a file holds.

    Raises:
        ValueError: it holds none.
    """
    found: Any = json.loads(path.read_text())
    if not isinstance(found, dict):
        raise ValueError(f"a {type(found).__name__} where settings should be")
    return cast(dict[str, Any], found)


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file so that it is the old one or the new one at every moment, a power cut included.

    Raises:
        RunError: the disk is full, or the folder cannot be written; the old file stays.
    """
    data = content.encode() if isinstance(content, str) else content
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        try:
            _write_through(part, data)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
        _sync_folder(path.parent)
    except OSError as error:
        raise _unwritten(path, error) from error


def _write_through(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        _write_all(descriptor, data)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _unwritten(path: Path, error: OSError) -> RunError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return RunError(
            f"the disk is full: {path} could not be written; free some space and give the same command again, "
            "it goes on from what is recorded"
        )
    return RunError(f"{path} could not be written: {error.strerror}; put that right and give the same command again")
