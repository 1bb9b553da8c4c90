"""`duologue verl`: the data sets and the agent loop's settings, without verl."""

from __future__ import annotations

import importlib
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset

from duologue.cli import main
from duologue.errors import DuologueError, MissingDependency, RecipeError
from duologue.integrations.prompts import training, validation
from duologue.recipe import Recipe, load_recipe, merged, parse
from duologue.run.prompts import write_inputs
from duologue.tasks import load_task
from endpoint_server import ServerThread
from lab_server import answer

PLAIN: dict[str, Any] = {"name": "verl", "task": {"name": "groceries"}}


def recipe(**changes: Any) -> Recipe:
    return parse(merged(PLAIN, changes), "verl.toml")


def rows(folder: Path, name: str) -> list[dict[str, Any]]:
    return Dataset.from_parquet(str(folder / f"{name}.parquet")).to_list()  # type: ignore[union-attr]


def test_every_row_names_the_agent_loop_and_says_where_to_begin(tmp_path: Path) -> None:
    write_inputs(recipe(assistant={"prompt": "proactive"}), tmp_path, train=40, test=8, deepest=2)
    task = load_task("groceries")
    goals = {goal.id for goal in task.goals("train")}
    found = rows(tmp_path, "train")
    assert len(found) == 40
    for index, row in enumerate(found):
        assert [message["role"] for message in row["prompt"]] == ["system", "user"]
        assert row["prompt"][0]["content"] == task.prompts["proactive"]
        assert row["goal"] in goals and row["agent_name"] == "duologue"
        assert row["task"] == row["data_source"] == "groceries" and row["extra_info"] == {"index": index}
    depths = Counter(row["depth"] for row in found)
    assert set(depths) == {0, 1, 2} and depths[0] > 10
    assert len({row["seed"] for row in found}) == 40


def test_validation_prompts_are_of_test_goals_and_need_no_play(tmp_path: Path) -> None:
    write_inputs(recipe(), tmp_path, train=1, test=8, deepest=2)
    goals = [goal.id for goal in load_task("groceries").goals("test")]
    found = rows(tmp_path, "test")
    assert [row["goal"] for row in found] == goals[:8]
    assert {row["depth"] for row in found} == {0}


def test_several_tasks_take_turns(tmp_path: Path) -> None:
    both = [{"name": "groceries"}, {"name": "twenty-questions"}]
    write_inputs(recipe(task=both), tmp_path, train=4, test=4, deepest=0)
    for name in ("train", "test"):
        assert [row["task"] for row in rows(tmp_path, name)] == ["groceries", "twenty-questions"] * 2


def test_the_same_recipe_gives_the_same_prompts_and_another_seed_others(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        write_inputs(recipe(seed=seed), tmp_path / name, train=8, test=2, deepest=1)
    assert rows(tmp_path / "a", "train") == rows(tmp_path / "b", "train") != rows(tmp_path / "c", "train")


def test_users_that_a_model_plays_begin_the_prompts(tmp_path: Path) -> None:
    with ServerThread(answer) as server:
        played = recipe(user={"endpoint": server.url, "model": "person"})
        write_inputs(played, tmp_path, train=2, test=1, deepest=0)
    assert all(row["prompt"][-1]["content"].strip() for row in rows(tmp_path, "train"))


def test_the_agent_loop_finds_the_recipe_as_it_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("verl.toml").write_text('name = "verl"\n[task]\nname = "groceries"\n')
    with pytest.raises(SystemExit) as done:
        main(["verl", "verl.toml", "--output", "out", "--train", "2", "--test", "2", "--set", "reward.samples=5"])
    assert done.value.code == 0
    assert "2 prompts to train on, 2 to validate on" in capsys.readouterr().out
    place = (tmp_path / "out" / "agent.yaml").read_text()
    assert f'recipe: "{tmp_path / "out" / "recipe.toml"}"' in place
    assert load_recipe(tmp_path / "out" / "recipe.toml").reward.samples == 5
    assert tomllib.loads((tmp_path / "out" / "recipe.toml").read_text())["task"][0]["name"] == "groceries"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"reward": {"samples": "adaptive"}}, "adaptive look-aheads choose"),
        ({"budget": 1.0}, "no common account"),
        ({"reward": {"metrics": {"interactivity": 1.0}}}, "judge"),
    ],
)
def test_a_reward_that_verls_workers_could_not_give_is_refused(
    tmp_path: Path, changes: dict[str, Any], told: str
) -> None:
    with pytest.raises(RecipeError, match=told):
        write_inputs(recipe(**changes), tmp_path, train=1, test=1, deepest=0)
    assert not [*tmp_path.iterdir()]


def test_a_set_without_prompts_is_refused() -> None:
    tasks = [load_task("groceries")]
    for make in (lambda: training(tasks, 0, deepest=0, seed=0), lambda: validation(tasks, 0, seed=0)):
        with pytest.raises(DuologueError, match="at least one prompt"):
            make()


def test_without_verl_its_agent_loop_says_what_to_install() -> None:
    with pytest.raises(MissingDependency, match=r"needs verl: in an environment of its own, pip install 'verl"):
        importlib.import_module("duologue.integrations.verl")
