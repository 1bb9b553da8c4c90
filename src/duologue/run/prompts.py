"""`duologue verl`: what verl needs of a recipe, in one folder.

train.parquet, test.parquet    prompts from training and from test goals
recipe.toml                    the recipe as resolved: tasks, users, judge, metrics, look-ahead; its paths absolute
agent.yaml                     verl's `agent_loop_config_path`: the agent loop of that recipe
calls.sqlite                   what users' models said, where endpoints play them: asked again, it is known
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from duologue.dataset import Visit
from duologue.errors import NothingMeasured, RecipeError
from duologue.integrations import prompts
from duologue.integrations.partners import Split
from duologue.journal import write_atomically
from duologue.models import BUILT_IN
from duologue.recipe import Recipe
from duologue.reward import LOST_LIMIT
from duologue.run.check import check_task
from duologue.run.endpoints import opened
from duologue.run.folder import resolved, revision
from duologue.run.wiring import ADAPTIVE, with_users
from duologue.tasks.source import HUB

LOOP = "duologue.run.verl.RecipeLoop"


@dataclass(frozen=True)
class Inputs:
    """What was written."""

    folder: Path
    train: int
    """Prompts to train on."""
    test: int
    """Prompts to validate on."""
    left_out: Sequence[str]
    """Why prompts were left out, a sentence each: no user began."""


def write_inputs(recipe: Recipe, folder: Path, *, train: int, test: int, deepest: int, cached: bool = True) -> Inputs:
    """Write what verl needs of a recipe; what the folder held of it is replaced.

    Args:
        train: prompts to train on; a training of N steps visits each once where it is N times the batch.
        test: prompts to validate on, at most.
        deepest: half the prompts to train on come after 1 to `deepest` turns, played by the policy as it is then.
        cached: whether a call that was answered before is answered from the folder's `calls.sqlite`.

    Raises:
        RecipeError: the recipe cannot be used for this.
        DataError: no prompts are asked for, or a task lacks goals.
        NothingMeasured: of the prompts to train or to validate with, no user began more than a third.
        MissingDependency: Parquet cannot be written.
    """
    check_recipe(recipe)
    folder.mkdir(parents=True, exist_ok=True)
    with opened(recipe, folder / "calls.sqlite", cached=cached) as (loop, endpoints):
        tasks = [with_users(task, recipe, recipe.user, endpoints) for task in recipe.tasks()]
        systems = {task.name: recipe.assistant.system_prompt(task) for task in tasks}
        files: dict[Split, Sequence[Visit]] = {
            "train": prompts.training(tasks, train, deepest=deepest, seed=recipe.seed),
            "test": prompts.validation(tasks, test, seed=recipe.seed),
        }
        begun = {name: loop.run(prompts.rows(planned, systems, name)) for name, planned in files.items()}
    for name, (rows, left_out) in begun.items():
        _check_begun(name, len(rows), left_out)
    for name, (rows, _) in begun.items():
        prompts.write(folder / f"{name}.parquet", rows)
    path = folder / "recipe.toml"
    write_atomically(path, resolved(placed(recipe), [f"# revision: {revision()}"]))
    write_atomically(folder / "agent.yaml", agent_loop(path))
    (trained, without), (tested, without_test) = begun["train"], begun["test"]
    return Inputs(folder, len(trained), len(tested), (*without, *without_test))


def _check_begun(name: str, rows: int, left_out: Sequence[str]) -> None:
    """Refuse a set that would lack as large a share as look-aheads of which no reward is made."""
    if len(left_out) > LOST_LIMIT * (rows + len(left_out)):
        raise NothingMeasured(
            f"{name}.parquet was not written: no user began {len(left_out)} of {rows + len(left_out)} prompts, mostly: "
            f"{commonest(left_out)}. Put that right and give the same command again, with --no-cache where the same "
            "model is to be asked anew"
        )


def commonest(sentences: Sequence[str]) -> str:
    """The sentence that there are most of."""
    return Counter(sentences).most_common(1)[0][0]


def placed(recipe: Recipe) -> Recipe:
    """The recipe with absolute paths: verl's workers read it in folders of their own."""
    tasks = tuple(
        task.model_copy(update={"name": _placed_task(task.name), "path": task.path and _placed_goals(task.path)})
        for task in recipe.task
    )
    named = recipe.reward.tokenizer
    reward = recipe.reward.model_copy(update={"tokenizer": named and _placed_model(named)})
    assistant = recipe.assistant.model_copy(update={"model": _placed_model(recipe.assistant.model)})
    return recipe.model_copy(update={"task": tasks, "reward": reward, "assistant": assistant})


def _placed_model(name: str) -> str:
    return str(Path(name).absolute()) if name not in BUILT_IN and Path(name).is_dir() else name


def _placed_task(name: str) -> str:
    file, _, attribute = name.rpartition(":")
    return f"{Path(file).absolute()}:{attribute}" if file.endswith(".py") else name


def _placed_goals(path: str) -> str:
    return path if path.partition(":")[0] == HUB else str(Path(path).absolute())


def agent_loop(recipe: Path) -> str:
    """The agent loop of a recipe's file, as verl's `agent_loop_config_path` has it.

    >>> print(agent_loop(Path("/runs/recipe.toml")), end="")
    - name: duologue
      _target_: duologue.run.verl.RecipeLoop
      recipe: "/runs/recipe.toml"
    """
    return f"- name: {prompts.AGENT}\n  _target_: {LOOP}\n  recipe: {json.dumps(str(recipe.absolute()))}\n"


def check_recipe(recipe: Recipe) -> None:
    """Refuse a recipe whose reward verl's workers could not give.

    Raises:
        RecipeError: adaptive look-aheads, a budget, or what it names is not there.
    """
    if recipe.reward.samples == "adaptive":
        raise RecipeError(ADAPTIVE)
    if recipe.budget is not None:
        raise RecipeError("budget: verl's workers keep no common account of what calls cost: leave it out")
    for task in recipe.tasks():
        check_task(recipe, task)
