"""Whole runs in this process: trained for two steps, played a few times."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from duologue.errors import DataError, DuologueError, ModelError, RecipeError, RunError
from duologue.journal import Journal
from duologue.recipe import Recipe, overridden, parse
from duologue.report.folder import open_folder
from duologue.run import commands
from duologue.run.commands import evaluate, report, simulate, train
from duologue.run.workers import Job
from duologue.training.settings import TrainSettings
from duologue.training.stage import Stage
from small_model import save_small_model

TABLE: dict[str, Any] = {
    "name": "small",
    "task": {"name": "groceries"},
    "reward": {"samples": 2, "window": 1},
    "train": [{"algorithm": "grpo", "groups": 2, "candidates": 3, "steps": 2, "save_steps": 1}],
    "evaluate": {"arms": ["base", "trained"], "conversations": 4, "decoding": ["sampled"]},
}
SCRIPTED = ("train=[]", "assistant.model=scripted:oracle", 'evaluate.arms=["base","oracle"]')


def unwatched(job: str, done: int, total: int, what: str) -> None:
    pass


@contextmanager
def in_this_process() -> Generator[list[str]]:
    """Jobs are done at once, in their order; their names are kept."""
    done: list[str] = []

    def run_jobs(jobs: Sequence[Job], perform: Callable[..., None], *, watch: Callable[..., None], **_: Any) -> None:
        for job in jobs:
            done.append(job.name)
            perform(job, lambda *progress, name=job.name: watch(name, *progress))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(commands, "run_jobs", run_jobs)
        yield done


@pytest.fixture(autouse=True)
def jobs() -> Generator[list[str]]:
    with in_this_process() as done:
        yield done


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory: pytest.TempPathFactory, small_model: Path) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "small"
    with in_this_process():
        train(recipe(small_model), folder, watch=unwatched)
    return folder


@pytest.fixture
def run(whole_run: Path, tmp_path: Path) -> Path:
    """A run that is done, to go on with."""
    shutil.copytree(whole_run, tmp_path / "small")
    return tmp_path / "small"


def recipe(model: Path | None, *overrides: str) -> Recipe:
    table = TABLE
    for override in (*([f"assistant.model={model}"] if model else []), *overrides):
        table = overridden(table, override)
    return parse(table, "small.toml")


def keys(run: Path, kind: str) -> list[str]:
    return sorted(entry.key for entry in Journal(run / "journal.jsonl").read(kind))


def counts(evaluation: dict[str, Any], users: str = "train") -> dict[str, int]:
    return {arm: cells["groceries"][users]["success"]["n"] for arm, cells in evaluation["arms"].items()}


# ---- a run --------------------------------------------------------------------------------------------------


def test_a_run_leaves_what_the_folder_is_said_to_hold(whole_run: Path) -> None:
    assert {path.name for path in whole_run.iterdir()} == {
        *("recipe.toml", "journal.jsonl", "stages", "models", "evaluation.json", "report.html")
    }
    assert {path.name for path in (whole_run / "models").iterdir()} == {"trained"}
    assert len(keys(whole_run, "step")) == 2
    assert len(keys(whole_run, "conversation")) == 8
    assert not list(whole_run.glob("stages/*/*/checkpoint-*"))


def test_an_evaluation_says_what_the_training_took(whole_run: Path) -> None:
    evaluation = json.loads((whole_run / "evaluation.json").read_bytes())
    ((stage,),) = evaluation["training"].values()
    steps = [entry.value for entry in Journal(whole_run / "journal.jsonl").read("step")]
    assert (stage["stage"], stage["updates"]) == ("0-grpo", 2)
    assert stage["sampled_tokens"] == sum(step["sampled_tokens"] for step in steps) > 0
    assert stage["seconds"] == sum(step["seconds"] for step in steps) > 0


def test_the_same_command_on_a_whole_run_does_nothing_twice(run: Path, small_model: Path) -> None:
    journal, figures = (run / "journal.jsonl").read_bytes(), (run / "evaluation.json").read_bytes()
    train(recipe(small_model), run, watch=unwatched)
    assert (run / "journal.jsonl").read_bytes() == journal
    assert (run / "evaluation.json").read_bytes() == figures


def test_more_conversations_play_the_missing_ones_alone(run: Path, small_model: Path) -> None:
    before = set(keys(run, "conversation"))
    evaluation = evaluate(recipe(small_model, "evaluate.conversations=6"), run, watch=unwatched)
    assert counts(evaluation) == {"base": 6, "trained": 6}
    after = set(keys(run, "conversation"))
    assert before < after and len(after - before) == 4
    assert len(keys(run, "step")) == 2


def test_fewer_conversations_give_the_figures_of_a_run_that_had_so_few(
    run: Path, small_model: Path, tmp_path: Path
) -> None:
    fewer = recipe(small_model, "evaluate.conversations=2", 'evaluate.arms=["base"]')
    afterwards = evaluate(fewer, run, watch=unwatched)
    at_once = evaluate(fewer, tmp_path / "other", watch=unwatched)
    assert afterwards == at_once
    assert counts(afterwards) == {"base": 2}


def test_an_arm_of_the_recipes_own_is_trained_played_and_looked_at(tmp_path: Path, small_model: Path) -> None:
    short = {"short": {"train": [{**TABLE["train"][0], "steps": 1}]}}
    evaluation = {**TABLE["evaluate"], "arms": ["base", "short"], "conversations": 2}
    own = parse(
        {**recipe(small_model).model_dump(mode="json", exclude_unset=True), "arms": short, "evaluate": evaluation},
        "small.toml",
    )
    assert counts(train(own, tmp_path / "small", watch=unwatched)) == {"base": 2, "short": 2}
    (row,) = simulate(own, "short", tmp_path / "small", count=1, split="test", watch=unwatched)
    assert row["messages"]


def test_other_users_are_played_beside_the_first(run: Path, small_model: Path) -> None:
    evaluation = evaluate(recipe(small_model, "evaluate.users.unseen.profiles=unseen"), run, watch=unwatched)
    assert counts(evaluation) == counts(evaluation, "unseen") == {"base": 4, "trained": 4}


def test_a_journal_whose_last_line_was_cut_gives_the_same_figures(run: Path, small_model: Path) -> None:
    journal, figures = run / "journal.jsonl", json.loads((run / "evaluation.json").read_text())
    entries = keys(run, "conversation")
    journal.write_bytes(journal.read_bytes()[:-40])
    assert evaluate(recipe(small_model), run, watch=unwatched) == figures
    assert keys(run, "conversation") == entries


def test_a_damaged_line_in_the_middle_is_named(run: Path, small_model: Path) -> None:
    lines = (run / "journal.jsonl").read_bytes().splitlines(keepends=True)
    lines[1] = b'{"key": "ste\n'
    (run / "journal.jsonl").write_bytes(b"".join(lines))
    with pytest.raises(RunError, match=r"journal.jsonl, line 2 is damaged.*delete the line"):
        evaluate(recipe(small_model), run, watch=unwatched)


def test_another_reward_is_refused_and_restart_moves_the_run_aside(run: Path, small_model: Path) -> None:
    other = recipe(small_model, "reward.window=0", "train.0.steps=1", "evaluate.conversations=1")
    with pytest.raises(RunError, match=r"reward.window was 1 and is now 0.*redone: trained/0-grpo.*--restart"):
        train(other, run, watch=unwatched)
    train(other, run, restart=True, watch=unwatched)
    (aside,) = (path for path in run.parent.iterdir() if path.name.startswith("small."))
    assert len(keys(aside, "step")) == 2
    assert len(keys(run, "step")) == 1


def test_another_number_of_held_out_goals_keeps_the_training_and_the_conversations(
    run: Path, small_model: Path
) -> None:
    before = {kind: keys(run, kind) for kind in ("step", "conversation")}
    evaluation = train(recipe(small_model, "task.test=2", "evaluate.conversations=2"), run, watch=unwatched)
    assert counts(evaluation) == {"base": 2, "trained": 2}
    assert {kind: keys(run, kind) for kind in before} == before


def test_the_report_shows_the_conversations_of_the_last_evaluation_alone(run: Path, small_model: Path) -> None:
    first = keys(run, "conversation")
    evaluation = evaluate(
        recipe(small_model, "reward.metrics.outcome=1.0", 'evaluate.arms=["base"]'), run, watch=unwatched
    )
    second = [key for key in keys(run, "conversation") if key not in first]
    assert len(second) == 4 and all(key.startswith(tuple(evaluation["keys"])) for key in second)
    assert not any(key.startswith(tuple(evaluation["keys"])) for key in first)
    shown = {tuple(record["figures"]["reward"]) for record in open_folder(run).records("conversation")}
    written = {
        tuple(entry.value["figures"]["reward"])
        for entry in Journal(run / "journal.jsonl").read("conversation")
        if entry.key in second
    }
    assert len(list(open_folder(run).records("conversation"))) == 4 and shown == written


def test_a_model_that_was_changed_since_is_refused(tmp_path: Path, small_model: Path, run: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(small_model, model)
    train(recipe(model, "train.0.steps=1", "evaluate.conversations=1"), tmp_path / "own", watch=unwatched)
    (model / "tokenizer_config.json").write_text((model / "tokenizer_config.json").read_text() + " ")
    with pytest.raises(RunError, match=r"start was '\w+' and is now '\w+'.*redone: trained/0-grpo"):
        train(recipe(model, "train.0.steps=1", "evaluate.conversations=1"), tmp_path / "own", watch=unwatched)


def test_checkpoints_that_a_kill_left_beside_a_whole_model_are_deleted(run: Path, small_model: Path) -> None:
    work = run / "stages" / "trained" / "0-grpo"
    (run / "models" / "trained").rename(work / "model")
    (work / "checkpoint-2").mkdir()
    train(recipe(small_model), run, watch=unwatched)
    assert (run / "models" / "trained").is_dir()
    assert list(work.glob("checkpoint-*")) == []


STAGES = (
    'train=[{algorithm="sft",data="demonstrations",conversations={groceries=240},batch=8,learning_rate=1e-2,'
    'warmup=2,save_steps=4},{algorithm="dpo",states=24,candidates=4,deepest=1,min_gap=0.0,noise=0.0,epochs=4,batch=2,'
    "warmup=1,save_steps=2}]"
)


class Killed(BaseException):
    """Stands for the end of the process."""


def kill_at(step: int, what: str) -> Callable[[str, int, int, str], None]:
    def watch(job: str, done: int, total: int, told: str) -> None:
        if job == "train trained" and done == step and told.startswith(what):
            raise Killed

    return watch


def timeless(run: Path) -> list[tuple[str, dict[str, Any]]]:
    """What a journal says, times left out."""
    entries = (entry for entry in Journal(run / "journal.jsonl").read())
    told = [(e.key, {name: value for name, value in e.value.items() if name != "seconds"}) for e in entries]
    return sorted(told, key=lambda entry: entry[0])


@pytest.mark.parametrize("samples", ["2", "adaptive"])
def test_sft_and_dpo_that_were_killed_leave_the_journal_and_model_of_a_whole_run(
    tmp_path: Path, small_model: Path, samples: str
) -> None:
    options = ('evaluate.arms=["trained"]', "evaluate.conversations=2", f"reward.samples={samples}")
    staged = recipe(small_model, STAGES, *options)
    train(staged, tmp_path / "whole", watch=unwatched)
    for watch in (kill_at(6, "loss"), kill_at(9, "states compared"), kill_at(3, "loss")):
        with pytest.raises(Killed):
            train(staged, tmp_path / "broken", watch=watch)
    train(staged, tmp_path / "broken", watch=unwatched)
    algorithms = {value["algorithm"] for key, value in timeless(tmp_path / "whole") if key.startswith("train/")}
    assert algorithms == {"sft", "dpo"}
    assert timeless(tmp_path / "broken") == timeless(tmp_path / "whole")
    weights = "models/trained/model.safetensors"
    assert (tmp_path / "broken" / weights).read_bytes() == (tmp_path / "whole" / weights).read_bytes()


def test_progress_is_told_by_job(tmp_path: Path) -> None:
    told: list[tuple[Any, ...]] = []
    train(recipe(None, *SCRIPTED), tmp_path / "small", watch=lambda *progress: told.append(progress))
    assert told == [("evaluate base", 4, 4, "conversations"), ("evaluate oracle", 4, 4, "conversations")]


def test_scripts_alone_need_no_model(tmp_path: Path, jobs: list[str]) -> None:
    evaluation = evaluate(recipe(None, *SCRIPTED), tmp_path / "small", watch=unwatched)
    assert jobs == ["evaluate base", "evaluate oracle"]
    assert evaluation["arms"]["oracle"]["groceries"]["train"]["success"]["mean"] == 1.0


# ---- what cannot be done ------------------------------------------------------------------------------------


def test_evaluating_before_training_says_what_to_do_first(tmp_path: Path, small_model: Path) -> None:
    with pytest.raises(RunError, match=r"trained: not trained yet in .*small: train first"):
        evaluate(recipe(small_model), tmp_path / "small", watch=unwatched)
    assert not (tmp_path / "small").exists()


def test_training_without_an_arm_to_train_is_refused(tmp_path: Path, small_model: Path) -> None:
    with pytest.raises(RecipeError, match=r'no arm to train among evaluate.arms \(base, oracle\): add "trained"'):
        train(recipe(small_model, 'evaluate.arms=["base","oracle"]'), tmp_path / "small", watch=unwatched)
    assert list(tmp_path.iterdir()) == []


def test_simulating_an_arm_before_its_training_says_so(tmp_path: Path, small_model: Path) -> None:
    with pytest.raises(RunError, match=r'arm "trained" is not trained yet in .*small'):
        list(simulate(recipe(small_model), "trained", tmp_path / "small", count=1, split="test", watch=unwatched))


def test_a_second_command_on_the_same_run_is_refused(tmp_path: Path) -> None:
    refused: list[str] = []

    def second() -> None:
        try:
            train(recipe(None, *SCRIPTED), tmp_path / "small", watch=unwatched)
        except RunError as error:
            refused.append(str(error))

    def watch(job: str, done: int, total: int, what: str) -> None:
        if not refused:
            other = threading.Thread(target=second)
            other.start()
            other.join()

    train(recipe(None, *SCRIPTED), tmp_path / "small", watch=watch)
    assert len(refused) == 1
    assert f"another process is working in {tmp_path / 'small'} (process " in refused[0]


def test_a_recipe_that_cannot_run_leaves_no_folder(tmp_path: Path, jobs: list[str]) -> None:
    with pytest.raises(RecipeError, match='no user profiles "unsen"'):
        train(recipe(None, *SCRIPTED, "user.profiles=unsen"), tmp_path / "small", watch=unwatched)
    assert jobs == [] and list(tmp_path.iterdir()) == []


def model_without(what: str, small_model: Path, folder: Path) -> Path:
    shutil.copytree(small_model, folder)
    if what == "model":
        shutil.rmtree(folder)
    for path in folder.glob({"tokenizer": "tokenizer*", "chat template": "chat_template*"}.get(what, "nothing")):
        path.unlink()
    if what == "weights":
        (folder / "model.safetensors").write_bytes(b"broken")
    if what == "config":
        (folder / "config.json").write_text("{")
    return folder


@pytest.mark.parametrize(
    ("what", "sentence"),
    [
        ("model", "there is no model"),
        ("tokenizer", "has no tokenizer"),
        ("chat template", "has no chat template"),
        ("weights", "could not be loaded"),
        ("config", "could not be loaded"),
    ],
)
def test_a_model_folder_that_is_not_whole_is_named(tmp_path: Path, small_model: Path, what: str, sentence: str) -> None:
    broken = model_without(what, small_model, tmp_path / "broken")
    with pytest.raises(ModelError, match=sentence):
        train(recipe(broken), tmp_path / "small", watch=unwatched)
    assert not (tmp_path / "small").exists(), "no stage was begun: other settings may take its place"


def test_what_a_later_stage_could_not_do_is_said_before_the_first_is_trained(tmp_path: Path, small_model: Path) -> None:
    stages = [{"algorithm": "grpo"}, {"algorithm": "grpo", "lora": {"targets": ["q_prj"]}}]
    wrong = parse({**TABLE, "assistant": {"model": str(small_model)}, "train": stages}, "small.toml")

    with pytest.raises(RecipeError, match='ends in "q_prj"; did you mean "q_proj"'):
        train(wrong, tmp_path / "small", watch=unwatched)

    assert not (tmp_path / "small").exists()


def test_weights_that_are_not_finite_are_no_model(
    tmp_path: Path, small_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoil(settings: TrainSettings, stage: Stage) -> None:
        next(stage.policy.model.parameters()).data.fill_(float("nan"))

    monkeypatch.setattr("duologue.run.jobs.run_stage", spoil)

    with pytest.raises(ModelError, match="the trained weights are not finite: lower learning_rate"):
        train(recipe(small_model), tmp_path / "small", watch=unwatched)

    assert not list(tmp_path.rglob("*.safetensors"))


def test_messages_longer_than_the_models_context_are_a_sentence(tmp_path: Path) -> None:
    narrow = save_small_model(tmp_path / "narrow", context=8)
    with pytest.raises(DuologueError, match=r"the conversation has \d+ tokens, and the context of .*narrow is 8"):
        train(recipe(narrow, 'evaluate.arms=["trained"]'), tmp_path / "small", watch=unwatched)


def test_a_full_disk_is_a_sentence_and_the_same_command_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import duologue.journal as journal_module

    small = recipe(None, *SCRIPTED)
    genuine, room = journal_module._write_all, 3

    def write_to_a_small_disk(descriptor: int, data: bytes) -> None:
        nonlocal room
        room -= data.startswith(b'{"key"')
        if room < 0:
            with Path("/dev/full").open("wb", buffering=0) as full:
                genuine(full.fileno(), data)
        genuine(descriptor, data)

    with monkeypatch.context() as disk, pytest.raises(RunError, match=r"the disk is full: .*goes on"):
        disk.setattr(journal_module, "_write_all", write_to_a_small_disk)
        train(small, tmp_path / "small", watch=unwatched)
    assert len(keys(tmp_path / "small", "conversation")) == 3
    resumed = train(small, tmp_path / "small", watch=unwatched)
    assert resumed == train(small, tmp_path / "other", watch=unwatched)


def test_a_folder_that_is_no_run_has_no_report(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="holds no finished run"):
        report(tmp_path)


# ---- simulate -----------------------------------------------------------------------------------------------


def test_conversations_are_simulated_in_the_goals_order(tmp_path: Path) -> None:
    scripted = recipe(None, *SCRIPTED)
    played = list(simulate(scripted, "oracle", tmp_path, count=3, split="test", watch=unwatched))
    goals = [goal.id for goal in scripted.tasks()[0].goals("test")[:3]]
    assert [row["goal"] for row in played] == goals
    assert all(row["ending"] == "satisfied" and row["messages"][0]["role"] == "user" for row in played)
    told: list[tuple[Any, ...]] = []
    again = simulate(scripted, "oracle", tmp_path, count=3, split="test", watch=lambda *progress: told.append(progress))
    assert list(again) == played
    assert told == [("simulate oracle", done, 3, "conversations") for done in (1, 2, 3)]


@pytest.mark.parametrize(
    ("arm", "split", "sentence"),
    [("orcale", "test", 'no arm "orcale"; did you mean "oracle"'), ("oracle", "dev", 'no split "dev"; known: train')],
)
def test_an_unknown_arm_or_split_is_named(tmp_path: Path, arm: str, split: str, sentence: str) -> None:
    with pytest.raises(DuologueError, match=sentence):
        list(simulate(recipe(None, *SCRIPTED), arm, tmp_path, count=1, split=split, watch=unwatched))


def test_what_a_refused_stage_is_told_to_change_may_be_changed(tmp_path: Path, small_model: Path) -> None:
    few = {"algorithm": "sft", "data": "demonstrations", "conversations": {"groceries": 6}, "batch": 16}
    own = recipe(small_model).model_dump(mode="json", exclude_unset=True)
    with pytest.raises(DataError, match=r"6 examples are less than a batch of 16: .* set a smaller batch"):
        train(parse({**own, "train": [few]}, "small.toml"), tmp_path / "small", watch=unwatched)
    train(parse({**own, "train": [{**few, "batch": 4}]}, "small.toml"), tmp_path / "small", watch=unwatched)


def test_an_evaluation_does_not_move_a_trained_model_away(run: Path, small_model: Path) -> None:
    with pytest.raises(RunError, match="--restart would move"):
        evaluate(recipe(small_model), run, restart=True, watch=unwatched)
    assert (run / "models" / "trained").is_dir()
