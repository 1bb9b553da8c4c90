"""How an endpoint has done of late: whether it is worth asking again."""

from __future__ import annotations

import asyncio

from duologue.errors import DuologueError, EndpointUnusable, ModelError
from duologue.models.refusals import Place, Trouble

FAILED_LIMIT = 20
"""Calls that fail in a row before an endpoint is given up…"""
FAILED_SOONER = (3, 600.0)
"""…or so many, where all has failed for so many seconds."""
UNREACHED_LIMIT = 60.0
"""Seconds in which a server must have been reached once."""


class Standing:
    """Successes and failures of one endpoint, in the order in which they come."""

    def __init__(self, place: Place) -> None:
        self.answered = 0
        """Calls that got their reply."""
        self._place = place
        self._reached = False
        self._failed = 0
        self._failing_since: float | None = None

    def reached(self) -> None:
        """The server said something."""
        self._reached = True

    def succeeded(self) -> None:
        """A call got its reply."""
        self.answered += 1
        self._failed = 0
        self._failing_since = None

    def troubled(self, trouble: Trouble) -> None:
        """An attempt failed.

        Raises:
            EndpointUnusable: nothing was ever heard of the server, for a minute.
        """
        now = asyncio.get_running_loop().time()
        if self._failing_since is None:
            self._failing_since = now
        if not self._reached and now - self._failing_since > UNREACHED_LIMIT:
            raise EndpointUnusable(f"{self._place} was never reached: {trouble.reason}; {trouble.advice}")

    def failed(self, error: ModelError) -> DuologueError:
        """What a call that failed for good ends with: its own error, or that of the whole endpoint."""
        self._failed += 1
        least, seconds = FAILED_SOONER
        since = self._failing_since
        long = since is not None and asyncio.get_running_loop().time() - since > seconds
        if self._failed >= FAILED_LIMIT or (long and self._failed >= least):
            return EndpointUnusable(f"{self._failed} calls in a row failed; the last: {error}")
        return error
