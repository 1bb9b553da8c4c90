"""Every exception Duologue raises on purpose, in one tree.

Each is also the standard exception a caller would expect, so old `except` clauses keep working. The text
of an error says what is wrong, where, and what to do next. The command line turns a `DuologueError` into
one sentence and its `exit_code`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class DuologueError(Exception):
    """Anything that Duologue can explain."""

    exit_code = 1


class RecipeError(DuologueError, ValueError):
    """A recipe, or a setting given on the command line, cannot be used."""

    exit_code = 2


class DataError(DuologueError, ValueError):
    """A file, a row or a goal is not of the shape it must have."""

    exit_code = 2


class ModelError(DuologueError, RuntimeError):
    """A model could not be loaded, or could not answer."""


class AbsentModel(ModelError):
    """What was named stands for no model."""

    exit_code = 2


class ContextOverflow(ModelError):
    """The conversation no longer fits into the model's context."""


class RequestRefused(ModelError):
    """A server refuses this one request, and would refuse it again."""


class EndpointUnusable(DuologueError, ConnectionError):
    """No request to an endpoint can succeed: the run ends with this, since every conversation would fail."""


class AccessDenied(EndpointUnusable):
    """A server does not accept the key, or wants one."""


class NoSuchModel(EndpointUnusable):
    """A server does not know the model, or the address is not one of a chat server."""


class BudgetSpent(DuologueError, RuntimeError):
    """The next call might cost more than what is left of the budget; what was done is kept."""


class RunError(DuologueError, RuntimeError):
    """A run folder cannot be used as asked: locked, of another recipe, damaged, or out of space."""


class NothingMeasured(RunError):
    """The work was done and what there is was written, but none of it could be measured."""


class SandboxError(DuologueError, RuntimeError):
    """A box for untrusted code does not work; it says nothing of the code, and the run ends with it."""


class MissingDependency(DuologueError, ImportError):
    """An optional library is needed; the text has the command that installs it."""


def nearest(word: str, known: Iterable[str]) -> str:
    """`; did you mean "…"?` with the known word nearest to `word`, else `; known: …`.

    >>> nearest("windows", ["samples", "window"])
    '; did you mean "window"?'
    """
    known = sorted(known)
    match = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    if match:
        return f'; did you mean "{match[0]}"?'
    return f"; known: {', '.join(known)}" if known else ""
