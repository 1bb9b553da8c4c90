"""Where the goals of a task come from that has data behind it.

- Nothing asked for: our own goals, `goals/NAME.jsonl` of this package.
- A file or a folder (`duologue.tasks.rows`), its rows in the ready form of `duologue.conversation.parse_goal`, or
  as they were published.
- "hub", or "hub:owner/name": the published set, or another of its layout, through the `datasets` library.

Nothing is read before goals are asked for, and the network is used for the hub alone. A goal belongs to the split
that its row, its file or the hub says; else one goal in five is for testing, by the hash of its id, so that rows
of one goal cannot part and another order of rows changes nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from duologue.conversation import Goal, goal_row, parse_goal
from duologue.errors import DataError
from duologue.seeding import digest
from duologue.tasks.preparation import Preparation
from duologue.tasks.rows import SPLITS, Fields, Row, files_at, rows_at, rows_of_hub

if TYPE_CHECKING:
    from duologue.sandbox import Sandbox

HUB = "hub"
TESTING = 5
"""One goal in so many is for testing, where nothing else is said."""

Reader = Callable[[Fields, str], Goal | None]
"""(published row, where it stands) → its goal; None for a row that is none of the task's. Raises DataError."""

Check = Callable[[Goal, "Sandbox"], Awaitable[str | None]]
"""(goal, where programs run) → why it cannot be judged here; None where it can. Raises SandboxError."""


class Hub(NamedTuple):
    """A published data set."""

    name: str
    """"owner/name"."""
    subset: str | None = None
    """Its configuration, where it has several."""
    split: str | None = None
    """The split that holds all rows, where it has other splits than train and test."""


class Placed(NamedTuple):
    """A goal, the split it is in, and whether it came in the ready form."""

    goal: Goal
    split: str
    where: str
    ready: bool


@dataclass(frozen=True, slots=True)
class Source:
    """The goals behind a task."""

    name: str
    """The task's; of its own goals, too."""
    read: Reader | None = None
    """How a published row becomes a goal; None where there is no published form."""
    hub: Hub | None = None
    prepare: Preparation[Any] | None = None
    """What a model adds to a goal, with `duologue goals`."""
    check: Check | None = None
    """What `duologue goals` asks of each goal before: published rows are none without, and who fails it is left out."""
    reads: str = "rows as they were published"
    """Which of those it has goals of, where `read` passes others over."""

    def goals(self, path: str | None = None) -> Callable[[str], Sequence[Goal]]:
        """What `Task.goal_maker` is: "train" or "test" → the goals there.

        It raises DataError: nothing there, a row that is none (naming its place), rows that are all passed over, or an
        id given twice; and
        MissingDependency where a library that reads it is missing.
        """
        return lambda split: _read(self, path, _state(path))[split]

    def digest(self, path: str) -> str:
        """16 hexadecimal digits that stand for the goals at a path, their order and their splits.

        Raises:
            DataError, MissingDependency: as `goals`.
        """
        return _digest(self, path, _state(path))

    def placed(self, path: str | None = None) -> Iterator[Placed]:
        """The goals at a path as they are read, each once, also those that a model has yet to prepare.

        Raises:
            DataError, MissingDependency: as `goals`.
        """
        known: dict[str, Placed] = {}
        rows = 0
        for row in self._rows(path):
            rows += 1
            found = self._placed(row)
            if found is None or _is_again(found, known.get(found.goal.id)):
                continue
            known[found.goal.id] = found
            yield found
        if not known:
            raise DataError(self._nothing(path, rows))

    def _nothing(self, path: str | None, rows: int) -> str:
        if not rows:
            return f'{path} is empty: give a goal a line, like {{"id": "tea", "request": "You want…"}}'
        return f'none of the {rows} rows of {path} is a goal of task "{self.name}": it takes {self.reads}'

    def _rows(self, path: str | None) -> Iterator[Row]:
        if path is None:
            with resources.as_file(self._packaged()) as file:
                yield from rows_at(file)
        elif path == HUB or path.startswith(f"{HUB}:"):
            yield from rows_of_hub(*self._on_hub(path))
        else:
            yield from rows_at(Path(path))

    def _packaged(self) -> Any:
        file = resources.files("duologue.tasks").joinpath("goals", f"{self.name}.jsonl")
        if not file.is_file():
            raise DataError(
                f'task "{self.name}" has no goals of its own: give it some, path = "goals.jsonl" under [task], each '
                'line like {"id": "tea", "request": "You want…", "reference": "…"}'
            )
        return file

    def _on_hub(self, path: str) -> Hub:
        name = path.removeprefix(HUB).removeprefix(":")
        if not name and self.hub is None:
            raise DataError(f'task "{self.name}" has no published data set: name one, like "hub:owner/name"')
        return self.hub if self.hub and name in ("", self.hub.name) else Hub(name)

    def _placed(self, row: Row) -> Placed | None:
        ready = "request" in row.fields
        if not ready and self.read is None:
            raise DataError(f'{row.where}: the goal has no "request": say what the user wants')
        goal = parse_goal(row.fields, row.where) if ready or self.read is None else self.read(row.fields, row.where)
        return None if goal is None else Placed(goal, _split(goal, row), row.where, ready)


def _split(goal: Goal, row: Row) -> str:
    said = row.fields.get("split") if "request" in row.fields else None
    if said not in (*SPLITS, None):
        raise DataError(f'{row.where}: the split is "train" or "test"; it is {said!r}')
    if said and row.split and said != row.split:
        raise DataError(f'{row.where}: the row says split "{said}", and stands among those to {row.split} on')
    return said or row.split or drawn_split(goal.id)


def drawn_split(name: str) -> str:
    """The split of a goal where nothing says it: "test" for one in five, by the hash of its id.

    >>> sum(drawn_split(f"goal {number}") == "test" for number in range(1000))
    189
    """
    return "test" if int(digest(("split", name)), 16) % TESTING == 0 else "train"


def _is_again(found: Placed, before: Placed | None) -> bool:
    """Whether a published row stands there twice; a goal of ours may not."""
    if before is None:
        return False
    if not found.ready and found.goal == before.goal:
        return True
    raise DataError(
        f'{found.where}: goal "{found.goal.id}" is there already, {before.where}: give each an id of its own'
    )


# ---- read once a process, as long as the files stay as they are

State = tuple[tuple[str, int, int], ...]
"""(file, time, size) of what is read."""


def _state(path: str | None) -> State:
    if path is None or path == HUB or path.startswith(f"{HUB}:"):
        return ()
    stats = ((file, file.stat()) for file, _ in files_at(Path(path)))
    return tuple((str(file.resolve()), stat.st_mtime_ns, stat.st_size) for file, stat in stats)


@lru_cache(maxsize=8)
def _read(source: Source, path: str | None, state: State) -> Mapping[str, Sequence[Goal]]:
    found: dict[str, list[Goal]] = {split: [] for split in SPLITS}
    for goal, split, where, ready in source.placed(path):
        if not ready and (lack := _lack(source)):
            raise DataError(
                f'{where} is a row as it was published, and task "{source.name}" needs more: {lack}, '
                f"with `duologue goals {source.name} --path {path} …`, and give the file that this writes"
            )
        found[split].append(goal)
    return {split: tuple(goals) for split, goals in found.items()}


def _lack(source: Source) -> str | None:
    """What has to be done with published rows before they are goals; None where nothing has."""
    if source.prepare is not None and source.prepare.needed:
        return "have a model prepare it"
    return None if source.check is None else "see whether it can be judged here"


@lru_cache(maxsize=8)
def _digest(source: Source, path: str, state: State) -> str:
    goals = _read(source, path, state)
    return digest(_lines((split, goal) for split in SPLITS for goal in goals[split]))


def _lines(goals: Iterable[tuple[str, Goal]]) -> Iterator[str]:
    rows = ({"split": split, **goal_row(goal)} for split, goal in goals)
    return (orjson.dumps(row, default=str, option=orjson.OPT_SORT_KEYS).decode() for row in rows)
