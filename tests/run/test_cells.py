"""Which arms of a sweep are compared."""

from __future__ import annotations

from pathlib import Path

import pytest

from duologue.recipe import Recipe, load_recipe
from duologue.run.cells import compared, placed

SWEPT = """
name = "swept"
task.name = "groceries"
[[train]]
algorithm = "grpo"
[sweep]
seeds = [1]
repeated = ["grpo", "ppo"]
against = ["grpo"]
[sweep.axes.algorithm]
grpo = {}
ppo.train = [{ algorithm = "ppo" }]
rloo.train = [{ algorithm = "rloo" }]
[evaluate]
arms = ["base", "proactive", "oracle"]
family.arm = "ppo"
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    (tmp_path / "swept.toml").write_text(SWEPT)
    return load_recipe(tmp_path / "swept.toml")


def test_cells_of_different_training_seeds_are_not_compared(recipe: Recipe) -> None:
    seeds = {cell["arm"]: cell["seed"] for cell in placed(recipe.sweep, recipe.seed)["cells"]} if recipe.sweep else {}
    pairs = [pair for pair in compared(recipe) or () if set(pair) <= seeds.keys()]
    assert ("ppo-seed1", "grpo-seed1") in pairs and ("ppo", "grpo") in pairs
    assert all(seeds[arm] == seeds[against] for arm, against in pairs)


def test_the_familys_arm_meets_every_other_of_the_recipes_seed(recipe: Recipe) -> None:
    assert {against for arm, against in compared(recipe) or () if arm == "ppo"} == {
        *("base", "proactive", "oracle", "grpo", "rloo")
    }


def test_every_cell_meets_the_arms_that_are_none_but_the_oracle(recipe: Recipe) -> None:
    assert {against for arm, against in compared(recipe) or () if arm == "grpo-seed1"} == {"base", "proactive"}
    assert {against for arm, against in compared(recipe) or () if arm == "rloo"} == {"grpo", "base", "proactive"}


def test_a_recipe_without_a_sweep_keeps_the_usual_comparisons(recipe: Recipe) -> None:
    assert compared(recipe.model_copy(update={"sweep": None})) is None


def test_the_places_say_choices_and_seed(recipe: Recipe) -> None:
    assert recipe.sweep is not None
    found = placed(recipe.sweep, recipe.seed)
    assert found["axes"] == {"algorithm": ["grpo", "ppo", "rloo"]} and found["against"] == ["grpo"]
    assert found["cells"][-1] == {"arm": "ppo-seed1", "at": ["ppo"], "seed": 1}
