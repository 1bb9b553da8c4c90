"""`duologue verl`: the data sets and the agent loop's settings, without verl."""

from __future__ import annotations

import importlib
import shutil
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from datasets import Dataset

from duologue.cli import main
from duologue.dataset import REDRAWS
from duologue.errors import DuologueError, MissingDependency, NothingMeasured, RecipeError
from duologue.integrations.prompts import training, validation
from duologue.models import BUILT_IN
from duologue.recipe import Recipe, load_recipe, merged, parse
from duologue.run.prompts import placed, write_inputs
from duologue.tasks import load_task
from duologue.users.prompted import ATTEMPTS as DRAWS
from endpoint_server import Asked, Script, ServerThread
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
        assert (
            row["task"] == row["data_source"] == "groceries"
            and row["split"] == "train"
            and row["extra_info"] == {"index": index}
        )
    depths = Counter(row["depth"] for row in found)
    assert set(depths) == {0, 1, 2} and depths[0] > 10
    assert len({row["seed"] for row in found}) == 40


def test_validation_prompts_are_of_test_goals_and_need_no_play(tmp_path: Path) -> None:
    write_inputs(recipe(), tmp_path, train=1, test=8, deepest=2)
    goals = [goal.id for goal in load_task("groceries").goals("test")]
    found = rows(tmp_path, "test")
    assert [row["goal"] for row in found] == goals[:8]
    assert {row["depth"] for row in found} == {0} and {row["split"] for row in found} == {"test"}


def test_several_tasks_take_turns(tmp_path: Path) -> None:
    both = [{"name": "groceries"}, {"name": "twenty-questions"}]
    write_inputs(recipe(task=both), tmp_path, train=4, test=4, deepest=0)
    for name in ("train", "test"):
        assert [row["task"] for row in rows(tmp_path, name)] == ["groceries", "twenty-questions"] * 2


def test_the_same_recipe_gives_the_same_prompts_and_another_seed_others(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        write_inputs(recipe(seed=seed), tmp_path / name, train=8, test=2, deepest=1)
    assert rows(tmp_path / "a", "train") == rows(tmp_path / "b", "train") != rows(tmp_path / "c", "train")


def played(url: str) -> Recipe:
    """Users behind an endpoint."""
    return recipe(user={"endpoint": url, "model": "person"}, reward={"metrics": {"tokens": -1.0}})


def test_users_that_a_model_plays_begin_the_prompts(tmp_path: Path) -> None:
    with ServerThread(answer) as server:
        write_inputs(played(server.url), tmp_path, train=2, test=1, deepest=0)
    assert all(row["prompt"][-1]["content"].strip() for row in rows(tmp_path, "train"))


def refusing(first: int) -> Script:
    """The lab, whose person has nothing of use to say the first times."""
    asked: list[Asked] = []

    async def said(question: Asked) -> Any:
        asked.append(question)
        return "i would rather not ." if len(asked) <= first else await answer(question)

    return said


def test_where_a_user_does_not_begin_another_does(tmp_path: Path) -> None:
    with ServerThread(refusing(DRAWS)) as server:
        made = write_inputs(played(server.url), tmp_path / "a", train=1, test=1, deepest=0)
    with ServerThread(answer) as server:
        write_inputs(played(server.url), tmp_path / "b", train=1, test=1, deepest=0)
    assert (made.train, made.test, made.left_out) == (1, 1, ())
    seeds = [{row["seed"] for name in ("train", "test") for row in rows(tmp_path / at, name)} for at in "ab"]
    assert len(seeds[0] - seeds[1]) >= 1


def test_a_prompt_that_nobody_begins_is_left_out_and_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async def mostly(asked: Asked) -> Any:
        is_lost = any(goals[0].request.text in message["content"] for message in asked.body["messages"])
        return "i would rather not ." if is_lost else await answer(asked)

    goals = load_task("groceries").goals("test")
    with ServerThread(mostly) as server:
        (tmp_path / "verl.toml").write_text(
            tomli_w.dumps(played(server.url).model_dump(mode="json", exclude_none=True))
        )
        command = [
            "verl",
            str(tmp_path / "verl.toml"),
            "--output",
            str(tmp_path / "out"),
            "--train",
            "2",
            "--test",
            "3",
        ]
        with pytest.raises(SystemExit) as done:
            main(command)
    assert done.value.code == 0
    told = capsys.readouterr()
    assert "2 prompts to train on, 2 to validate on" in told.out
    assert "no user began: 1, mostly:" in told.err
    found = rows(tmp_path / "out", "test")
    assert [row["goal"] for row in found] == [goal.id for goal in goals[1:3]]
    assert [row["extra_info"]["index"] for row in found] == [0, 1]


def test_a_set_that_nobody_begins_is_an_error_and_is_not_remembered_without_the_cache(tmp_path: Path) -> None:
    refused = DRAWS * (REDRAWS + 1) * 3  # every draw of every user of 2 prompts to train on and 1 to validate on
    with ServerThread(refusing(refused)) as server:
        for _ in range(2):
            with pytest.raises(NothingMeasured, match=r"no user began 2 of 2 prompts, mostly: .*--no-cache"):
                write_inputs(played(server.url), tmp_path, train=2, test=1, deepest=0)
        made = write_inputs(played(server.url), tmp_path, train=2, test=1, deepest=0, cached=False)
    assert (made.train, made.test) == (2, 1)


def test_where_more_than_a_third_would_be_left_out_nothing_is_written(tmp_path: Path) -> None:
    goals = load_task("groceries").goals("test")

    async def half(asked: Asked) -> Any:
        is_lost = any(
            goal.request.text in message["content"] for goal in goals[:2] for message in asked.body["messages"]
        )
        return "i would rather not ." if is_lost else await answer(asked)

    with ServerThread(half) as server, pytest.raises(NothingMeasured, match=r"test.parquet .* 2 of 4 prompts"):
        write_inputs(played(server.url), tmp_path, train=2, test=4, deepest=0)
    assert [file.name for file in tmp_path.iterdir() if file.suffix != ".sqlite"] == []


def test_paths_of_the_recipe_hold_in_other_folders_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("goals.jsonl").write_text(
        "".join(f'{{"id": "{i}", "request": "tea", "split": "{s}"}}\n' for i, s in enumerate(("train", "test")))
    )
    Path("my_task.py").write_text(
        "from dataclasses import replace\nfrom duologue.tasks import load_task\n"
        'TASK = replace(load_task("groceries"), name="mine")\n'
    )
    shutil.copytree(BUILT_IN["tiny"], "counter")
    shutil.copytree(BUILT_IN["tiny"], "policy")
    both = [{"name": "own", "path": "goals.jsonl"}, {"name": "my_task.py:TASK"}]
    counted = {"tokenizer": "counter", "metrics": {"tokens": -1.0}}
    with ServerThread(answer) as server:
        person = {"endpoint": server.url, "model": "person"}
        mine = recipe(task=both, reward=counted, user=person, assistant={"model": "policy"})
        write_inputs(mine, Path("out"), train=2, test=2, deepest=0)
    monkeypatch.chdir("/")
    read = load_recipe(tmp_path / "out" / "recipe.toml")
    assert [len(task.all_goals) > 0 for task in read.tasks()] == [True, True]
    assert (read.reward.tokenizer, read.assistant.model) == (str(tmp_path / "counter"), str(tmp_path / "policy"))


@pytest.mark.parametrize(
    ("task", "tokenizer"), [({"name": "document-chat", "path": "hub"}, "tiny"), ({"name": "groceries"}, "some/id")]
)
def test_what_is_no_path_stays_as_it_is(task: dict[str, Any], tokenizer: str) -> None:
    given = recipe(task=task, reward={"tokenizer": tokenizer})
    assert placed(given) == given


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
