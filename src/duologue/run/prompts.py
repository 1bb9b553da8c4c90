"""`duologue verl`: what verl needs of a recipe, in one folder.

train.parquet, test.parquet    prompts from training and from test goals
recipe.toml                    the recipe as resolved: tasks, users, judge, metrics, look-ahead
agent.yaml                     verl's `agent_loop_config_path`: the agent loop of that recipe
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from duologue.errors import RecipeError
from duologue.integrations import prompts
from duologue.journal import write_atomically
from duologue.recipe import Recipe
from duologue.run.check import check_task
from duologue.run.endpoints import opened
from duologue.run.folder import resolved, revision
from duologue.run.wiring import ADAPTIVE, with_users

LOOP = "duologue.run.verl.RecipeLoop"


@dataclass(frozen=True)
class Inputs:
    """What was written."""

    folder: Path
    train: int
    """Prompts to train on."""
    test: int
    """Prompts to validate on."""


def write_inputs(recipe: Recipe, folder: Path, *, train: int, test: int, deepest: int) -> Inputs:
    """Write what verl needs of a recipe; what the folder held of it is replaced.

    Args:
        train: prompts to train on; a training of N steps visits each once where it is N times the batch.
        test: prompts to validate on, at most.
        deepest: half the prompts to train on come after 1 to `deepest` turns, played by the policy as it is then.

    Raises:
        RecipeError: the recipe cannot be used for this.
        DataError: no prompts are asked for, or a task lacks goals.
        ModelError: a user that a model plays did not begin.
        MissingDependency: Parquet cannot be written.
    """
    check_recipe(recipe)
    folder.mkdir(parents=True, exist_ok=True)
    with opened(recipe, folder / "calls.sqlite") as (loop, endpoints):
        tasks = [with_users(task, recipe, recipe.user, endpoints) for task in recipe.tasks()]
        systems = {task.name: recipe.assistant.system_prompt(task) for task in tasks}
        files = {
            "train": prompts.training(tasks, train, deepest=deepest, seed=recipe.seed),
            "test": prompts.validation(tasks, test, seed=recipe.seed),
        }
        for name, planned in files.items():
            prompts.write(folder / f"{name}.parquet", loop.run(prompts.rows(planned, systems)))
    path = folder / "recipe.toml"
    write_atomically(path, resolved(recipe, [f"# revision: {revision()}"]))
    write_atomically(folder / "agent.yaml", agent_loop(path))
    return Inputs(folder, len(files["train"]), len(files["test"]))


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
