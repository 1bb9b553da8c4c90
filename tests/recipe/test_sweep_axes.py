"""A sweep becomes arms."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from duologue.errors import RecipeError
from duologue.recipe import Recipe, load_recipe

TABLE: dict[str, Any] = {
    "name": "swept",
    "task": {"name": "groceries"},
    "reward": {"samples": 1},
    "train": [{"algorithm": "grpo", "steps": 3}],
    "sweep": {
        "axes": {
            "reward": {"all": {}, "outcome": {"reward": {"metrics": {"outcome": 1.0}}}},
            "window": {"w0": {"reward": {"window": 0}}, "full": {"reward": {"window": "full"}}},
        }
    },
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "swept.toml"


def loaded(file: Path, changes: dict[str, Any] | None = None) -> Recipe:
    """The recipe with values put at dotted keys."""
    table = deepcopy(TABLE)
    for key, value in (changes or {}).items():
        *path, last = key.split(".")
        node = table
        for part in path:
            node = node.setdefault(part, {})
        node[last] = value
    file.write_text(tomli_w.dumps(table))
    return load_recipe(file)


def test_every_combination_of_choices_is_an_arm_evaluated_after_the_base(file: Path) -> None:
    assert loaded(file).evaluate.arms == ("base", "all-w0", "all-full", "outcome-w0", "outcome-full")


def test_a_cell_is_the_recipe_with_the_keys_of_its_choices_changed(file: Path) -> None:
    cell = loaded(file).arm("outcome-full")
    assert (cell.reward.window, cell.reward.samples, cell.reward.metrics) == ("full", 1, {"outcome": 1.0})
    assert cell.train == loaded(file).train


def test_arms_that_the_recipe_names_itself_stand_before_the_cells(file: Path) -> None:
    assert loaded(file, {"evaluate.arms": ["oracle", "base"]}).evaluate.arms[:3] == ("oracle", "base", "all-w0")


def test_further_seeds_make_further_cells_of_those_to_be_repeated(file: Path) -> None:
    recipe = loaded(file, {"sweep.seeds": [4, 5], "sweep.repeated": ["all-w0"]})
    assert recipe.evaluate.arms[5:] == ("all-w0-seed4", "all-w0-seed5")
    assert recipe.arm("all-w0-seed5").seed == 5 and recipe.arm("all-w0").seed == 0
    assert recipe.arm("all-w0-seed5").reward == recipe.arm("all-w0").reward


def test_with_none_named_all_cells_are_repeated(file: Path) -> None:
    assert len(loaded(file, {"sweep.seeds": [1]}).evaluate.arms) == 1 + 4 + 4


def test_a_number_names_an_entry_of_a_list(file: Path) -> None:
    (stage,) = loaded(file, {"sweep.axes.window.w0.train": {"0": {"candidates": 4}}}).arm("all-w0").train
    assert stage.model_dump()["candidates"] == 4 and stage.model_dump()["steps"] == 3


def test_a_recipe_as_a_run_writes_it_down_has_the_same_arms(file: Path, tmp_path: Path) -> None:
    recipe = loaded(file, {"sweep.seeds": [1], "sweep.axes.window.w0.train": {"0": {"learning_rate": 3e-4}}})
    written = tmp_path / "again.toml"
    written.write_text(tomli_w.dumps(recipe.model_dump(mode="json", exclude_none=True)))
    again = load_recipe(written)
    assert again.evaluate.arms == recipe.evaluate.arms
    assert [again.arm(name).train for name in again.evaluate.arms] == [
        recipe.arm(name).train for name in recipe.evaluate.arms
    ]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"sweep.axes.window.w0.reward.windw": 1}, 'cell all-w0: there is no key "reward.windw"; did you mean "win'),
        ({"sweep.axes.window.w0.train": {"1": {"steps": 1}}}, '"1" is not the number of one of 1 entries'),
        ({"sweep.axes.window.w0.evaluate.conversations": 5}, "axes.window.w0 changes what all cells have in common"),
        ({"sweep.axes.window.w0.seed": 5}, r"have in common \(seed\)"),
        ({"sweep.axes.window": {}}, "axes.window has no choices"),
        ({"sweep.axis": {}}, 'there is no key "sweep.axis"; did you mean "axes"'),
        ({"sweep.axes": {}}, "sweep.axes: it should have at least 1 item"),
        ({"sweep.axes.window": {"a b": {}}}, "letters, digits"),
        ({"sweep.repeated": ["all-w1"]}, 'repeated: there is no cell "all-w1"; did you mean "all-w0"'),
        ({"sweep.against": ["trained"]}, 'against: there is no cell "trained"'),
        ({"sweep.seeds": [1, 1]}, "seeds: 1 stands there twice"),
        ({"sweep.seeds": [0]}, "seeds: 0 is the recipe's own"),
        ({"sweep.axes": {"a": {"x-y": {}, "x": {}}, "b": {"z": {}, "y-z": {}}}}, 'two cells would be called "x-y-z"'),
        ({"sweep.axes": {"a": {"base": {}}}}, 'a cell would be called as the arm "base"'),
        ({"arms.all-w0.reward.window": 1}, 'a cell would be called as the arm "all-w0"'),
    ],
)
def test_what_is_wrong_with_a_sweep_is_a_sentence(file: Path, changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(RecipeError, match=rf"^\S+swept\.toml: .*{sentence}"):
        loaded(file, changes)
