"""The ablations that come with the project ask what they say they ask."""

from __future__ import annotations

from pathlib import Path

import pytest

from duologue.recipe import Recipe, load_recipe
from duologue.run.check import check

ABLATIONS = sorted((Path(__file__).parents[2] / "recipes" / "ablations").glob("*.toml"))


def ablation(name: str) -> Recipe:
    return next(load_recipe(path) for path in ABLATIONS if path.stem == name)


@pytest.mark.parametrize("path", ABLATIONS, ids=lambda path: path.stem)
def test_every_cell_could_be_trained_and_evaluated(path: Path) -> None:
    recipe = load_recipe(path)
    check(recipe, recipe.evaluate.arms)
    assert recipe.sweep is not None and all(recipe.arm(cell.arm).stages for cell in recipe.sweep.cells(recipe.seed))


def test_rewards_meet_windows_with_one_look_ahead_and_three_seeds_on_the_diagonal() -> None:
    recipe = ablation("reward-window")
    assert recipe.sweep is not None
    cells = recipe.sweep.cells(recipe.seed)
    (task,) = recipe.tasks()
    arms = [recipe.arm(cell.arm) for cell in cells if cell.seed == recipe.seed]
    parts = {(tuple(arm.reward.of(task)), arm.reward.window) for arm in arms}
    assert len(parts) == len(arms) == 16 and {arm.reward.samples for arm in arms} == {1}
    assert {window for _, window in parts} == {0, 1, 2, "full"}
    assert {cell.at for cell in cells if cell.seed != recipe.seed} == set(zip(*recipe.sweep.axes.values(), strict=True))
    assert len({cell.seed for cell in cells}) == 3


def test_a_part_of_the_reward_has_the_weight_and_the_rates_of_the_whole() -> None:
    recipe = ablation("reward-window")
    (task,) = recipe.tasks()
    quality = recipe.arm("quality-w2").reward.of(task)
    assert {name: (part.weight, part.in_force) for name, part in quality.items()} == {
        name: (task.metrics[name].weight, task.metrics[name].in_force) for name in ("tokens", "satisfaction")
    }


def test_samples_differ_at_two_turns_and_in_nothing_else() -> None:
    recipe = ablation("samples")
    arms = [recipe.arm(name) for name in ("k1", "k3", "k8")]
    assert [arm.reward.samples for arm in arms] == [1, 3, 8]
    assert {arm.reward.window for arm in arms} == {2} and len({arm.train for arm in arms}) == 1


def test_every_algorithm_there_is_meets_the_others() -> None:
    from duologue.training.settings import ALGORITHMS

    recipe = ablation("algorithms")
    assert recipe.sweep is not None
    first = [cell.arm for cell in recipe.sweep.cells(recipe.seed) if cell.seed == recipe.seed]
    assert {recipe.arm(arm).train[0].algorithm for arm in first} == set(ALGORITHMS)
    assert len({cell.seed for cell in recipe.sweep.cells(recipe.seed)}) == 3
