"""What a run knows of its calls to endpoints: replies already paid for, what was used, what may be spent.

    calls = Calls(Path("runs/maths/calls.sqlite"), budget=5.00)
    reply = calls.find(key, role="judge", model="gpt-x")
    if reply is None:
        await calls.reserve(worst)                  # then record or release, exactly once
        calls.record(key, reply, role="judge", model="gpt-x", seconds=1.2, cost=0.0004, reserved=worst)

Everything lies in one SQLite file that one process uses at a time. Replies wait in memory for `DELAY` seconds
at most and are then written, together with the totals they belong to, in one transaction by a thread of its
own. A process killed at any moment leaves the last transaction that was finished: at most the calls of
`DELAY` are asked for again. A power cut may take some more of the last transactions, and damages nothing
(synchronous=NORMAL in WAL mode: the log is synced before it is copied into the file).
"""

from __future__ import annotations

import threading
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from duologue.errors import RunError
from duologue.models.base import Reply
from duologue.models.budget import BILLION, Budget, billionths

if TYPE_CHECKING:
    from duologue.models.callfile import CallFile, Row

DELAY = 0.1
"""Seconds that a recorded call waits for others to be written with, at most."""


@dataclass(frozen=True, slots=True)
class Total:
    """The calls of one role to one model."""

    role: str
    model: str
    calls: int
    """Answered by the server."""
    cached: int
    """Answered with the reply to an equal call, at no cost: they are in no other field."""
    unanswered: int
    """Sent without a reply that could be used; the server may have billed them."""
    prompt: int
    """Tokens read, of the calls answered."""
    completion: int
    """Tokens written, of the calls answered."""
    seconds: float
    """Waited for the calls answered, added up."""
    cost: float
    """In the currency of the price; what calls unanswered may have cost included."""


class Calls:
    """The replies, the ledger and the budget of a run.

    `reserve`, `record` and `release` belong to one event loop at a time; `totals`, `flush` and `close` may be
    called from any thread.

    Args:
        path: the file; None keeps the ledger and the budget in memory and no reply at all.
        budget: what the calls may cost in all, in the currency of the price; what an earlier process spent is
            in it. None: no limit.
        cached: False finds and keeps no reply; the ledger and the budget are as ever.

    Raises:
        RunError: the file is in use, damaged, of another version or not ours, or cannot be opened.
    """

    def __init__(self, path: Path | None, *, budget: float | None = None, cached: bool = True) -> None:
        self._file = None if path is None else _opened(path)
        self.keeps = cached and self._file is not None
        """Whether replies are kept, and found again."""
        self._accounts = defaultdict[tuple[str, str], _Account](_Account)
        if self._file is not None:
            self._accounts |= {row[:2]: _Account(*row[2:]) for row in self._file.ledger}
        spent = sum(account.billionths for account in self._accounts.values())
        self._budget = None if budget is None else Budget(billionths(budget), spent)
        self._unwritten: dict[bytes, Reply] = {}
        self._changed = False
        self._failure: Exception | None = None
        self._timer: threading.Timer | None = None
        self._lock = threading.Lock()
        self._flushing = threading.Lock()

    def find(self, key: bytes, *, role: str, model: str) -> Reply | None:
        """The reply recorded under a key, by this process or an earlier one; counted as `Total.cached`.

        Raises:
            RunError: the file is damaged, or calls recorded before could not be written.
        """
        if self._failure is not None:
            raise RunError(str(self._failure)) from self._failure
        if not self.keeps or self._file is None:
            return None
        reply = self._unwritten.get(key) or self._file.read(key)
        if reply is not None:
            self.count_cached(role=role, model=model)
        return reply

    def count_cached(self, *, role: str, model: str) -> None:
        """Count a call that was answered with the reply to an equal one, in `Total.cached`."""
        with self._lock:
            self._accounts[role, model].cached += 1
            self._write_soon()

    async def reserve(self, worst: float) -> None:
        """Set aside what the next call may cost at most; after it comes one `record` or `release`.

        Waits, first come first served, while calls in flight hold what it needs. Cancelled, it holds nothing.

        Raises:
            BudgetSpent: no call is in flight any more, and it does not fit. Whoever waits gets it, too.
        """
        if self._budget is not None:
            await self._budget.reserve(billionths(worst))

    def record(
        self, key: bytes, reply: Reply, *, role: str, model: str, seconds: float, cost: float, reserved: float
    ) -> None:
        """Keep a reply: its text, finish and usage. The first under a key stands.

        Args:
            key: b"" keeps nothing of it, and books it alone.
            seconds: that the call took.
            cost: of the call, in the currency of the price.
            reserved: what was reserved for it, now given back.
        """
        billed = billionths(cost)
        with self._lock:
            account = self._accounts[role, model]
            account.calls += 1
            account.prompt += reply.usage.prompt
            account.completion += reply.usage.completion
            account.seconds += seconds
            account.billionths += billed
            if self.keeps and key:
                self._unwritten.setdefault(key, reply)
            self._write_soon()
        if self._budget is not None:
            self._budget.settle(billionths(reserved), billed)

    def release(self, reserved: float, *, role: str, model: str, cost: float = 0.0) -> None:
        """Give back what was reserved for a call that brought no reply, and count it as unanswered.

        Args:
            cost: what the server may have billed for it all the same.
        """
        billed = billionths(cost)
        with self._lock:
            account = self._accounts[role, model]
            account.unanswered += 1
            account.billionths += billed
            self._write_soon()
        if self._budget is not None:
            self._budget.settle(billionths(reserved), billed)

    def totals(self) -> list[Total]:
        """The calls so far, those of earlier processes included, in the order of role and model."""
        with self._lock:
            return [account.total(*of) for of, account in sorted(self._accounts.items())]

    def flush(self) -> None:
        """Write what was recorded up to now.

        Raises:
            RunError: it could not be written, the disk is full for one; what was recorded stays in memory.
        """
        if self._file is None:
            return
        with self._flushing:
            with self._lock:
                if not self._changed:
                    return
                replies = list(self._unwritten.items())
                ledger = [account.row(*of) for of, account in self._accounts.items()]
                self._changed = False
            try:
                self._file.write(replies, ledger)
            except Exception as error:
                self._changed, self._failure = True, error
                raise
            self._failure = None
            with self._lock:
                for key, _ in replies:
                    del self._unwritten[key]

    def close(self) -> None:
        """Write what was recorded and let go of the file, so that nothing is left behind; again does nothing.

        Raises:
            RunError: as `flush`; the file is closed all the same.
        """
        while timer := self._timer:
            self._timer = None
            timer.cancel()
            timer.join()
        if self._file is not None:
            try:
                self.flush()
            finally:
                self._file.close()

    def _write_soon(self) -> None:
        self._changed = True
        if self._timer is None and self._file is not None:
            self._timer = threading.Timer(DELAY, self._write_behind)
            self._timer.start()

    def _write_behind(self) -> None:
        try:
            self.flush()
        except Exception:  # kept as `_failure`: the next `find` raises it, before more is paid for
            self._timer = None
            return
        with self._lock:
            self._timer = None
            if self._changed:
                self._write_soon()


@dataclass(slots=True)
class _Account:
    """A `Total` that is being added to, its cost in billionths."""

    calls: int = 0
    cached: int = 0
    unanswered: int = 0
    prompt: int = 0
    completion: int = 0
    seconds: float = 0.0
    billionths: int = 0

    def row(self, role: str, model: str) -> Row:
        counted = self.calls, self.cached, self.unanswered, self.prompt, self.completion
        return role, model, *counted, self.seconds, self.billionths

    def total(self, role: str, model: str) -> Total:
        return Total(*self.row(role, model)[:-1], cost=self.billionths / BILLION)


def _opened(path: Path) -> CallFile:
    from duologue.models.callfile import CallFile  # here: it brings SQLite

    return CallFile(path)
