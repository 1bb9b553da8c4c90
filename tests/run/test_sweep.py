"""Sweeps of two rewards × two windows, each cell trained for two steps in this process."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from duologue.cli import main
from duologue.errors import DuologueError, ModelError, RecipeError
from duologue.journal import Journal
from duologue.recipe import Recipe, load_recipe
from duologue.run import commands, evaluate, sweep as sweeps
from duologue.run.commands import Watch
from duologue.run.sweep import Swept, sweep
from duologue.run.workers import Job, stop

CELLS = ("all-w0", "all-w1", "outcome-w0", "outcome-w1")
TABLE: dict[str, Any] = {
    "name": "swept",
    "task": {"name": "groceries"},
    "reward": {"samples": 1},
    "train": [{"algorithm": "grpo", "groups": 2, "candidates": 2, "steps": 2, "save_steps": 1}],
    "sweep": {
        "against": ["all-w0"],
        "axes": {
            "reward": {"all": {}, "outcome": {"reward": {"metrics": {"outcome": 1.0}}}},
            "window": {"w0": {"reward": {"window": 0}}, "w1": {"reward": {"window": 1}}},
        },
    },
    "evaluate": {"arms": ["base"], "conversations": 4, "decoding": ["sampled"], "family": {"arm": "all-w1"}},
}
TIMES = ("seconds", "rollout_seconds")


@contextmanager
def in_this_process() -> Generator[list[str]]:
    """Jobs are done at once, in their order; their names are kept."""
    done: list[str] = []

    def run_jobs(
        todo: Sequence[Job],
        perform: Callable[..., None],
        *,
        watch: Watch,
        failed: Callable[[Job, DuologueError], None] = stop,
        **_: Any,
    ) -> None:
        for job in todo:
            done.append(job.name)
            try:
                perform(job, lambda *progress, name=job.name: watch(name, *progress))
            except DuologueError as error:
                failed(job, error)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(commands, "run_jobs", run_jobs)
        patch.setattr(sweeps, "run_jobs", run_jobs)
        yield done


@pytest.fixture(autouse=True)
def jobs() -> Generator[list[str]]:
    with in_this_process() as done:
        yield done


@pytest.fixture(scope="module")
def whole_sweep(tmp_path_factory: pytest.TempPathFactory, small_model: Path) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    with in_this_process():
        swept(recipe_of(folder, {**TABLE, "assistant": {"model": str(small_model)}}), folder / "run")
    return folder / "run"


@pytest.fixture
def run(whole_sweep: Path, tmp_path: Path) -> Path:
    """A sweep that is done, to go on with."""
    shutil.copytree(whole_sweep, tmp_path / "run")
    return tmp_path / "run"


def figures(run: Path) -> dict[str, Any]:
    return json.loads((run / "evaluation.json").read_text())


@pytest.fixture
def recipe(tmp_path: Path, small_model: Path) -> Recipe:
    return recipe_of(tmp_path, {**TABLE, "assistant": {"model": str(small_model)}})


def recipe_of(folder: Path, table: dict[str, Any]) -> Recipe:
    path = folder / "swept.toml"
    path.write_text(tomli_w.dumps(table))
    return load_recipe(path)


def unwatched(job: str, done: int, total: int, what: str) -> None:
    pass


def swept(recipe: Recipe, run: Path, watch: Watch = unwatched) -> Swept:
    return sweep(recipe, run, watch=watch)


def entries(run: Path) -> list[tuple[str, str, Any]]:
    """The journal, sorted, without times."""
    found = [
        (key, kind, {name: part for name, part in value.items() if name not in TIMES})
        for key, kind, value in Journal(run / "journal.jsonl").read()
    ]
    return sorted(found, key=lambda entry: entry[0])


def of_one_window(small_model: Path, outcome: dict[str, Any] | None = None) -> dict[str, Any]:
    """A sweep of two cells, `all` and `outcome`."""
    axes = {"reward": {"all": {}, "outcome": {"reward": {"metrics": {"outcome": 1.0}}, **(outcome or {})}}}
    evaluation = {**TABLE["evaluate"], "family": {"arm": "outcome"}}
    assistant = {"model": str(small_model)}
    return {**TABLE, "assistant": assistant, "sweep": {"axes": axes}, "evaluate": evaluation}


@pytest.fixture
def broken(tmp_path: Path, small_model: Path) -> Recipe:
    """The cell `outcome` starts from a model that is not there."""
    return recipe_of(tmp_path, of_one_window(small_model, {"assistant": {"model": str(tmp_path / "nowhere")}}))


def test_every_cell_is_an_arm_of_one_run(whole_sweep: Path) -> None:
    evaluation = figures(whole_sweep)
    assert set(evaluation["arms"]) == {"base", *CELLS}
    assert {path.name for path in (whole_sweep / "models").iterdir()} == set(CELLS)
    assert [cell["arm"] for cell in evaluation["sweep"]["cells"]] == list(CELLS)
    assert len(list(Journal(whole_sweep / "journal.jsonl").read("conversation"))) == 4 * (1 + len(CELLS))


def test_all_cells_are_evaluated_by_the_recipes_own_reward(whole_sweep: Path) -> None:
    played = [entry.value for entry in Journal(whole_sweep / "journal.jsonl").read("conversation")]
    of_cells = [value for value in played if value["arm"].startswith("outcome")]
    assert of_cells and all(value["figures"]["reward"][0] != value["parts"]["outcome"] for value in of_cells)


def test_a_sweep_that_was_stopped_leaves_the_journal_of_one_that_was_not(
    recipe: Recipe, whole_sweep: Path, tmp_path: Path
) -> None:
    def stop_in_the_second(job: str, done: int, total: int, what: str) -> None:
        if job == "train outcome-w1" and done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        swept(recipe, tmp_path / "stopped", stop_in_the_second)
    assert len(list((tmp_path / "stopped").glob("models/*"))) < len(CELLS), "it was stopped before its end"
    swept(recipe, tmp_path / "stopped")
    assert entries(tmp_path / "stopped") == entries(whole_sweep)
    assert figures(tmp_path / "stopped")["differences"] == figures(whole_sweep)["differences"]


def test_the_same_command_on_a_whole_sweep_does_nothing_twice(recipe: Recipe, run: Path) -> None:
    journal = (run / "journal.jsonl").read_bytes()
    swept(recipe, run)
    assert (run / "journal.jsonl").read_bytes() == journal


def test_a_cell_that_fails_costs_itself_alone_and_is_named(broken: Recipe, tmp_path: Path) -> None:
    found = swept(broken, tmp_path / "run")
    assert set(found.failures) == {"outcome"}
    assert isinstance(found.failures["outcome"], ModelError) and "nowhere" in str(found.failures["outcome"])
    assert set(found.evaluation["arms"]) == {"base", "all"}
    assert "Without figures, for they are not trained: outcome." in (tmp_path / "run" / "report.html").read_text()


def test_no_hypothesis_is_about_a_cell_that_failed(broken: Recipe, tmp_path: Path) -> None:
    differences = swept(broken, tmp_path / "run").evaluation["differences"]
    assert differences and all(row["holm"] is None for row in differences)


def test_the_same_command_tries_again_what_failed(broken: Recipe, small_model: Path, tmp_path: Path) -> None:
    swept(broken, tmp_path / "run")
    found = swept(recipe_of(tmp_path, of_one_window(small_model)), tmp_path / "run")
    assert not found.failures and set(found.evaluation["arms"]) == {"base", "all", "outcome"}


def test_a_sweep_of_which_every_cell_fails_fails(tmp_path: Path) -> None:
    axes = {"model": {"none": {"assistant": {"model": str(tmp_path / "nowhere")}}}}
    with pytest.raises(ModelError, match="nowhere"):
        swept(recipe_of(tmp_path, {**TABLE, "sweep": {"axes": axes}, "evaluate": {}}), tmp_path / "run")


def test_a_cell_that_cannot_work_is_refused_before_anything_starts(
    recipe: Recipe, tmp_path: Path, jobs: list[str]
) -> None:
    dpo = {"train": [{"algorithm": "dpo"}]}  # its pairs need two look-aheads a reply
    table = {**TABLE, "sweep": {"axes": {"algorithm": {"grpo": {}, "dpo": dpo}}}, "evaluate": {"conversations": 4}}
    with pytest.raises(RecipeError, match=r'arm "dpo".*set reward.samples to 2 or more'):
        swept(recipe_of(tmp_path, table), tmp_path / "run")
    assert jobs == [] and not (tmp_path / "run").exists()


def test_a_recipe_without_a_sweep_is_refused(recipe: Recipe, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r'"swept" has no \[sweep\]: add \[sweep.axes.NAME\]'):
        swept(recipe.model_copy(update={"sweep": None}), tmp_path / "run")


def test_more_conversations_keep_the_grid(recipe: Recipe, run: Path) -> None:
    more = recipe.model_copy(update={"evaluate": recipe.evaluate.model_copy(update={"conversations": 6})})
    evaluation = evaluate(more, run, watch=unwatched)
    assert evaluation["arms"]["all-w1"]["groceries"]["train"]["success"]["n"] == 6
    assert [cell["arm"] for cell in evaluation["sweep"]["cells"]] == list(CELLS)
    assert ">The grid<" in (run / "report.html").read_text()


def test_the_command_shows_the_grid_names_what_failed_and_fails(
    broken: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert broken.name == "swept"
    with pytest.raises(SystemExit) as stopped:
        main(["sweep", str(tmp_path / "swept.toml"), "--runs", str(tmp_path / "runs")])
    told = capsys.readouterr()
    assert stopped.value.code == 1
    assert "success" in told.out and "report:" in told.out
    assert "duologue: not trained: outcome: " in told.err and "nowhere" in told.err
