"""Where the goals of a task with data come from, and which split they are in."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from duologue import load_task
from duologue.conversation import Goal, Request, goal_row
from duologue.errors import DataError, RecipeError
from duologue.tasks.base import Task
from duologue.tasks.preparation import PIECES, Preparation
from duologue.tasks.source import Hub, Source


def sum_goal(row: Mapping[str, Any], where: str) -> Goal | None:
    """A published row has a question and an answer; those without an answer are none of the task's."""
    if "question" not in row:
        raise DataError(f"{where}: no question")
    return Goal(row["question"], Request(row["question"]), row["answer"]) if "answer" in row else None


SUMS = Source("sums", sum_goal, Hub("sums/everyday"))


def ready(name: str, **more: Any) -> dict[str, Any]:
    return {"id": name, "request": f"You want {name}.", "reference": name, **more}


def written(path: Path, *rows: dict[str, Any]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def ids(source: Source, path: str, split: str) -> list[str]:
    return [goal.id for goal in source.goals(path)(split)]


# ---- splits


def test_a_row_says_its_split(tmp_path: Path) -> None:
    path = written(tmp_path / "g.jsonl", ready("tea", split="test"), ready("rice", split="train"))
    assert (ids(SUMS, path, "train"), ids(SUMS, path, "test")) == (["rice"], ["tea"])


def test_without_a_split_the_order_of_rows_changes_nothing(tmp_path: Path) -> None:
    rows = [ready(f"goal {number}") for number in range(40)]
    one = ids(SUMS, written(tmp_path / "one.jsonl", *rows), "test")
    other = ids(SUMS, written(tmp_path / "other.jsonl", *reversed(rows)), "test")
    assert one == other[::-1] and one


def test_a_file_is_divided_one_goal_in_five(tmp_path: Path) -> None:
    path = written(tmp_path / "g.jsonl", *(ready(f"goal {number}") for number in range(500)))
    training, testing = ids(SUMS, path, "train"), ids(SUMS, path, "test")
    assert not {*training} & {*testing}
    assert len(training) + len(testing) == 500
    assert 70 <= len(testing) <= 130


def test_a_row_that_contradicts_its_file_is_refused(tmp_path: Path) -> None:
    written(tmp_path / "train.jsonl", ready("tea", split="test"))
    with pytest.raises(DataError, match=r'train.jsonl, line 1: the row says split "test", and stands among those to'):
        ids(SUMS, str(tmp_path), "train")


def test_an_unknown_split_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r'line 1: the split is "train" or "test"; it is \'dev\''):
        ids(SUMS, written(tmp_path / "g.jsonl", ready("tea", split="dev")), "train")


# ---- rows


def test_a_goal_in_its_ready_form_comes_back_as_it_was(tmp_path: Path) -> None:
    goal = Goal("tea", Request("You want tea.", {"kind": "green", "bags": 2}, ("tea", "green")), {"any": ["thing"]})
    path = written(tmp_path / "g.jsonl", {**goal_row(goal), "split": "train"})
    assert SUMS.goals(path)("train") == (goal,)


def test_published_rows_are_read_as_the_task_says_and_others_passed_over(tmp_path: Path) -> None:
    rows = [{"question": "1 + 1", "answer": "2", "split": "dev"}, {"question": "0 / 0"}]
    path = written(tmp_path / "g.jsonl", *rows)
    goals = (*SUMS.goals(path)("train"), *SUMS.goals(path)("test"))
    assert goals == (Goal("1 + 1", Request("1 + 1"), "2"),)


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ({"answer": "2"}, "line 2: no question"),
        ({"request": " "}, "line 2: the goal has no request: say what the user wants"),
        ({"request": "Tea.", "facts": 3}, "line 2: the goal's facts must be an object; they are 3"),
        ({"request": "Tea.", "pieces": ["a", ""]}, "line 2: the goal's pieces must be a list of texts"),
        ({"request": "Tea.", "id": ["a"]}, "line 2: the goal's id must be a text or a number"),
        (ready("tea", refrence="green"), r'g.jsonl, line 2: a goal has no "refrence"; did you mean "reference"\?'),
        (ready("rice"), r'line 2: goal "rice" is there already, .*line 1: give each an id of its own'),
    ],
)
def test_a_row_that_is_no_goal_is_named(tmp_path: Path, row: dict[str, Any], sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        ids(SUMS, written(tmp_path / "g.jsonl", ready("rice"), row), "train")


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ((), r"g.jsonl is empty: give a goal a line"),
        (({"question": "0 / 0"},) * 2, r'none of the 2 rows of .*g.jsonl is a goal of task "sums": it takes rows as'),
    ],
)
def test_a_file_without_a_goal_says_why(tmp_path: Path, rows: tuple[dict[str, Any], ...], sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        ids(SUMS, written(tmp_path / "g.jsonl", *rows), "train")


def test_a_published_row_that_stands_there_twice_is_one_goal(tmp_path: Path) -> None:
    row = {"question": "1 + 1", "answer": "2"}
    path = written(tmp_path / "g.jsonl", row, row)
    assert len(list(SUMS.placed(path))) == 1
    written(tmp_path / "g.jsonl", row, {**row, "answer": "3"})
    with pytest.raises(DataError, match=r'goal "1 \+ 1" is there already'):
        ids(SUMS, path, "train")


def test_a_goal_without_an_id_is_named_by_its_content(tmp_path: Path) -> None:
    path = written(tmp_path / "g.jsonl", {"request": "Tea.", "split": "train"})
    (name,) = ids(SUMS, path, "train")
    written(tmp_path / "g.jsonl", {"request": "Tea.", "split": "test"})
    assert ids(SUMS, path, "test") == [name]


def test_published_rows_that_need_a_model_say_which_command(tmp_path: Path) -> None:
    sums = Source("sums", sum_goal, prepare=Preparation(PIECES.prompt, PIECES.form, PIECES.completed, needed=True))
    path = written(tmp_path / "g.jsonl", {"question": "1 + 1", "answer": "2"})
    with pytest.raises(DataError, match=r"line 1 is a row as it was published.*`duologue goals sums --path .*g.jsonl"):
        ids(sums, path, "train")


def test_a_source_without_a_published_form_wants_requests(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r'line 1: the goal has no "request"'):
        ids(Source("own"), written(tmp_path / "g.jsonl", {"question": "1 + 1"}), "train")


# ---- where they come from


def test_nothing_is_read_before_goals_are_asked_for() -> None:
    goals = SUMS.goals("nowhere.jsonl")
    with pytest.raises(DataError, match=r"there are no goals at nowhere.jsonl"):
        goals("train")


def test_a_file_that_changed_is_read_again(tmp_path: Path) -> None:
    path = written(tmp_path / "g.jsonl", ready("tea", split="train"))
    before = (ids(SUMS, path, "train"), SUMS.digest(path))
    written(tmp_path / "g.jsonl", ready("green tea", split="train"))
    after = (ids(SUMS, path, "train"), SUMS.digest(path))
    assert (before[0], after[0]) == (["tea"], ["green tea"])
    assert before[1] != after[1]


def test_the_digest_stands_for_the_goals_not_for_where_or_how_they_are_written(tmp_path: Path) -> None:
    one = written(tmp_path / "one.jsonl", ready("tea", split="train"))
    other = tmp_path / "other.json"
    other.write_text(json.dumps([ready("tea", split="train")], indent=1))
    assert SUMS.digest(one) == SUMS.digest(str(other))
    assert SUMS.digest(one) != SUMS.digest(written(tmp_path / "two.jsonl", ready("tea", split="test")))


def test_without_a_path_the_goals_are_our_own() -> None:
    task = load_task("document-chat")
    assert task.goals("train") and task.goals("test")


def test_a_task_without_goals_of_its_own_says_how_to_give_some() -> None:
    with pytest.raises(DataError, match=r'task "own" has no goals of its own: give it some, path = "goals.jsonl"'):
        load_task("own").goals("train")


def test_a_task_that_makes_its_goals_refuses_a_path() -> None:
    with pytest.raises(RecipeError, match=r'task "groceries" makes its goals itself: leave the path \(g.jsonl\) out'):
        load_task("groceries", "g.jsonl")


def test_a_task_reads_the_goals_at_its_path(tmp_path: Path) -> None:
    path = written(tmp_path / "g.jsonl", ready("tea", split="train"))
    task: Task = load_task("own", path)
    assert [goal.id for goal in task.goals("train")] == ["tea"]
    with pytest.raises(DataError, match=r'no goals to test on: give it some, their rows with "split": "test"'):
        task.goals("test")


# ---- the hub: the `datasets` library reads a folder of the same name in the place of a repository


@dataclass
class Repository:
    """A data set of everyday sums, and where its files are to lie."""

    name: str
    folder: Path

    def source(self, split: str | None = None) -> Source:
        return Source("sums", sum_goal, Hub(self.name, split=split))


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.chdir(tmp_path)
    repository = Repository(f"sums/{tmp_path.name}", tmp_path / "sums" / tmp_path.name)
    repository.folder.mkdir(parents=True)
    return repository


SUM = {"question": "1 + 1", "answer": "2"}


def test_the_hubs_splits_are_kept(hub: Repository) -> None:
    written(hub.folder / "train.jsonl", SUM)
    written(hub.folder / "test.jsonl", {"question": "2 + 2", "answer": "4"})
    for path in ("hub", f"hub:{hub.name}"):
        assert (ids(hub.source(), path, "train"), ids(hub.source(), path, "test")) == (["1 + 1"], ["2 + 2"])


def test_a_set_of_one_split_is_divided_by_goal(hub: Repository) -> None:
    written(hub.folder / "train.jsonl", *({"question": f"{n} + 1", "answer": str(n + 1)} for n in range(100)))
    training, testing = ids(hub.source(), "hub", "train"), ids(hub.source(), "hub", "test")
    assert len(training) + len(testing) == 100 and 5 <= len(testing) <= 40


def test_a_set_with_other_splits_names_the_one_with_all_rows(hub: Repository) -> None:
    (hub.folder / "README.md").write_text(
        "---\nconfigs:\n- config_name: default\n  data_files:\n"
        "  - split: v1\n    path: one.jsonl\n  - split: v2\n    path: two.jsonl\n---\n"
    )
    written(hub.folder / "one.jsonl", SUM)
    written(hub.folder / "two.jsonl", {**SUM, "answer": "two"})
    assert [placed.goal.reference for placed in hub.source("v2").placed("hub")] == ["two"]
    with pytest.raises(DataError, match=r"has neither a train nor a test split; it has v1, v2"):
        ids(hub.source(), "hub", "train")


def test_a_set_that_cannot_be_had_says_what_to_do() -> None:
    pytest.importorskip("datasets")
    with pytest.raises(DataError, match=r"the data set no-one/nothing cannot be had from the hub .* or download it"):
        ids(SUMS, "hub:no-one/nothing", "train")


def test_a_task_without_a_published_set_wants_a_name() -> None:
    with pytest.raises(DataError, match=r'task "own" has no published data set: name one, like "hub:owner/name"'):
        ids(Source("own"), "hub", "train")
