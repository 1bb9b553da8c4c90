"""Every example runs as a script and prints what it promises; those that end in a task can be named by a recipe."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from duologue import load_task
from duologue.recipe import parse

EXAMPLES = Path(__file__).parent.parent / "examples"
SCRIPTS = sorted(path.stem for path in EXAMPLES.glob("*.py"))


def run(name: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, EXAMPLES / f"{name}.py"], capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_reward_shows_that_asking_leads_further_than_guessing() -> None:
    lines = run("reward")
    values = {name: float(value) for name, value in (line.split()[:2] for line in lines[:3])}
    assert values["asks"] > values["guesses"]
    assert all("±" in line and "satisfaction" in line for line in lines[:3])
    assert lines[4].strip() == "assistant  which city and when ?"


def test_own_task_plays_a_conversation_and_rewards_asking_above_guessing() -> None:
    lines = run("own_task")
    assert lines[0] == "You want a table for two at noon."
    assert lines[-3].split() == ["user", "thank", "you", "."]
    asking, guessing = (float(line.split()[0]) for line in lines[-2:])
    assert asking > guessing


def test_own_user_leaves_an_assistant_that_asks_one_by_one() -> None:
    success = {tuple(line.split()[:2]): float(line.split()[-1]) for line in run("own_user")}
    assert success["train", "one-by-one"] == success["train", "ask-missing"] == 1.0
    assert success["hurried", "one-by-one"] < success["hurried", "ask-missing"]


def test_own_metric_charges_a_preamble() -> None:
    _, short, long = run("own_metric")
    assert "wordiness 0.00" in short and "wordiness 0.42" in long
    assert float(short.split()[0]) > float(long.split()[0])


def test_own_trainer_trains_three_steps_on_the_reward() -> None:
    steps = [line for line in run("own_trainer") if line.startswith("step ")]
    assert [int(step) for step in re.findall(r"step (\d+)", "\n".join(steps))] == [1, 2, 3]


def test_no_example_is_without_its_test() -> None:
    known = set(re.findall(r'run\("(\w+)"\)', Path(__file__).read_text()))
    assert set(SCRIPTS) == known


@pytest.mark.parametrize("name", SCRIPTS)
def test_an_example_is_in_percent_cells(name: str) -> None:
    assert (EXAMPLES / f"{name}.py").read_text().startswith("# %% [markdown]\n# # ")


@pytest.mark.parametrize(
    ("name", "profiles"), [("own_task", "train"), ("own_user", "hurried"), ("own_metric", "train")]
)
def test_a_recipe_can_name_the_task_of_an_example(name: str, profiles: str) -> None:
    table = {"name": "x", "task": {"name": f"{EXAMPLES / name}.py:TASK"}, "user": {"profiles": profiles}}
    (task,) = parse(table, "recipe").tasks()
    assert task.goals("train")[0].id != task.goals("test")[0].id
    assert task.words()


def test_the_splits_of_the_example_task_share_no_goal() -> None:
    task = load_task(f"{EXAMPLES}/own_task.py:TASK")
    assert not {g.id for g in task.goals("train")} & {g.id for g in task.goals("test")}


def test_an_option_of_the_example_metric_can_be_set_in_a_recipe() -> None:
    recipe = parse(
        {
            "name": "x",
            "task": {"name": f"{EXAMPLES}/own_metric.py:TASK"},
            "reward": {"metrics": {"outcome": 1.0, "wordiness": {"weight": -1.0, "limit": 8}}},
        },
        "recipe",
    )
    (task,) = recipe.tasks()
    assert recipe.reward.of(task)["wordiness"].options == {"limit": 8}
