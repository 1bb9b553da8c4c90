"""`duologue reward`: a line in, a line out, the multiturn-aware reward of each reply.

In:  {"id", "goal": {"request", "reference", "facts"?}, "messages": [{"role", "content"}…], "reply"}
Out: {"id", "value", "stderr", "samples", "parts": {metric: mean}, "usage": {"prompt", "completion"}}, and
     "error" with a sentence where there is no value.

Lines come out in their order. The output is written beside its final name and gets that name when it is
whole; a call that was cut short goes on after the last whole line.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import orjson

from duologue.background import BackgroundLoop
from duologue.conversation import Conversation, Goal, Request, parse_messages
from duologue.errors import DataError, DuologueError, RecipeError
from duologue.models.meter import Metered
from duologue.recipe import Recipe, Table
from duologue.run.wiring import Wiring, wire
from duologue.seeding import derive
from duologue.tasks import Task

AHEAD = 64
"""Lines worked on side by side."""


def score_file(recipe: Recipe, source: Path, target: Path, *, watch: Callable[[int, int], None]) -> int:
    """Score every line of `source` into `target`.

    Returns:
        The number of lines.

    Raises:
        DataError: no such file, or `target` is there already.
        RecipeError: the recipe does not say who the users are.
    """
    if not source.is_file():
        raise DataError(f"there is no input {source}: give JSON lines, one reply each")
    if target.exists():
        raise DataError(f"{target} is there already: move it away, or give another --output")
    part = target.with_name(f"{target.name}.part")
    total = sum(1 for _ in _lines(source))
    done = _whole_lines(part)
    wiring, task = _wired(recipe)
    with BackgroundLoop() as loop, part.open("ab") as out:
        scored = _Scored(wiring, task, recipe.seed)
        answers = scored.all(_lines(source, skip=done))
        while (answer := loop.run(_next(answers))) is not None:
            out.write(orjson.dumps(answer) + b"\n")
            out.flush()
            done += 1
            watch(done, total)
    part.rename(target)
    return total


def _wired(recipe: Recipe) -> tuple[Wiring, Task]:
    if len(recipe.task) != 1:
        raise RecipeError("a recipe for `duologue reward` names one [task]: its scripted users and metrics")
    wiring = wire(recipe)
    return wiring, wiring.tasks[0]


async def _next(answers: AsyncIterator[Table]) -> Table | None:
    return await anext(answers, None)


def _lines(source: Path, skip: int = 0) -> Iterator[tuple[int, bytes]]:
    """(number, line) of the lines that are not blank, after the first `skip` of them."""
    with source.open("rb") as lines:
        whole = ((number, line) for number, line in enumerate(lines, 1) if line.strip())
        for index, entry in enumerate(whole):
            if index >= skip:
                yield entry


def _whole_lines(part: Path) -> int:
    """How many lines an earlier call wrote; a cut last line is dropped."""
    if not part.exists():
        return 0
    content = part.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    part.write_bytes(whole)
    return whole.count(b"\n")


class _Scored:
    """Answers to lines, several worked on at a time, given in order."""

    def __init__(self, wiring: Wiring, task: Task, seed: int) -> None:
        self._wiring, self._task, self._seed = wiring, task, seed

    async def all(self, lines: Iterator[tuple[int, bytes]]) -> AsyncIterator[Table]:
        ahead: deque[asyncio.Task[Table]] = deque()
        for number, line in lines:
            ahead.append(asyncio.ensure_future(self.one(number, line)))
            if len(ahead) >= AHEAD:
                yield await ahead.popleft()
        while ahead:
            yield await ahead.popleft()

    async def one(self, number: int, line: bytes) -> Table:
        """The answer to one line; what is wrong with it is said in its answer."""
        name: Any = None
        try:
            row = _row(line, number)
            name = row["id"]
            return await self._score(row, number)
        except DuologueError as error:
            return _answer(name, error=str(error))

    async def _score(self, row: Table, number: int) -> Table:
        goal = _goal(row["goal"], str(row["id"]), number)
        messages = parse_messages(row["messages"], f"line {number}")
        system = [m.content for m in messages if m.role == "system"]
        prefix = Conversation(tuple(m for m in messages if m.role != "system"))
        assistant = self._wiring.assistant(self._task)
        meter = Metered(assistant.model)
        speaking = replace(assistant, model=meter, system=system[0] if system else assistant.system)
        reward = self._wiring.reward(self._task, speaking)
        seed = derive(self._seed, "reward", goal.id)
        found = await reward(goal, prefix, row["reply"], seed=seed)
        why = "; ".join(sorted(set(found.failures))) if found.value is None else None
        usage = {"prompt": meter.usage.prompt, "completion": meter.usage.completion}
        return _answer(row["id"], found.value, found.stderr, found.counted, dict(found.parts), usage, why)


def _answer(
    name: Any,
    value: float | None = None,
    stderr: float | None = None,
    samples: int = 0,
    parts: dict[str, float] | None = None,
    usage: dict[str, int] | None = None,
    error: str | None = None,
) -> Table:
    answer: Table = {"id": name, "value": value, "stderr": stderr, "samples": samples, "parts": parts or {}}
    answer["usage"] = usage or {"prompt": 0, "completion": 0}
    return {**answer, "error": error or "unknown"} if value is None else answer


def _row(line: bytes, number: int) -> Table:
    try:
        row: Any = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise DataError(f"line {number} is not JSON: {error}") from error
    if not isinstance(row, dict):
        raise DataError(f"line {number} must be an object with id, goal, messages and reply")
    table = cast(Table, row)
    kinds: dict[str, tuple[type, ...]] = {"id": (str, int), "goal": (dict,), "messages": (list,), "reply": (str,)}
    for key, kind in kinds.items():
        if not isinstance(table.get(key), kind):
            raise DataError(f'line {number}: "{key}" is missing, or not {" or ".join(k.__name__ for k in kind)}')
    return table


def _goal(table: Table, name: str, number: int) -> Goal:
    request = table.get("request")
    if isinstance(request, dict):
        given = cast(Table, request)
        text, facts = given.get("text"), given.get("facts", {})
    else:
        text, facts = request, table.get("facts", {})
    if not isinstance(text, str) or not text.strip():
        raise DataError(f"line {number}: the goal has no request: say what the user wants")
    return Goal(str(table.get("id", name)), Request(text, facts), table.get("reference"))
