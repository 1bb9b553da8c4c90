"""The tasks that a recipe can name: ours, an entry point's, or a file's."""

from __future__ import annotations

import importlib.util
import sys
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from duologue.errors import RecipeError, nearest
from duologue.seeding import digest
from duologue.tasks.base import Demonstration, Figure, Share, Task

TASKS: dict[str, str] = {
    "groceries": "duologue.tasks.groceries:TASK",
    "twenty-questions": "duologue.tasks.twenty_questions:TASK",
}


def load_task(name: str) -> Task:
    """A task by name: ours, an entry point of group `duologue.tasks`, or "my_task.py:task".

    Raises:
        RecipeError: no such task, file or attribute; or what stands there is no Task.

    >>> load_task("grocery")
    Traceback (most recent call last):
    duologue.errors.RecipeError: there is no task "grocery"; did you mean "groceries"?
    """
    file, colon, attribute = name.rpartition(":")
    if colon and file.endswith(".py"):
        found = _from_file(Path(file), attribute, name)
    elif name in TASKS:
        module, attribute = TASKS[name].split(":")
        found = getattr(import_module(module), attribute)
    else:
        plugins = {point.name: point for point in entry_points(group="duologue.tasks")}
        if name not in plugins:
            raise RecipeError(f'there is no task "{name}"{nearest(name, [*TASKS, *plugins])}')
        found = plugins[name].load()
    if not isinstance(found, Task):
        raise RecipeError(f'"{name}" is not a Task but a {type(found).__name__}')
    return found


def _from_file(path: Path, attribute: str, name: str) -> Any:
    own = f"duologue_task_{digest([str(path.resolve())])}"
    spec = importlib.util.spec_from_file_location(own, path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise RecipeError(f'task "{name}": there is no file {path}')
    module = importlib.util.module_from_spec(spec)
    sys.modules[own] = module  # where dataclasses look up the names in their annotations
    spec.loader.exec_module(module)
    if not hasattr(module, attribute):
        known = [key for key, value in vars(module).items() if isinstance(value, Task)]
        raise RecipeError(f'task "{name}": {path} has no "{attribute}"{nearest(attribute, known)}')
    return getattr(module, attribute)


__all__ = ["TASKS", "Demonstration", "Figure", "Share", "Task", "load_task"]
