from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from duologue.errors import ModelError, RunError
from duologue.journal import Journal
from duologue.recipe import Recipe, overridden, parse
from duologue.run import folder
from duologue.run.folder import RunFolder, changes, fingerprint, stage_settings

TABLE: dict[str, Any] = {
    "name": "plain",
    "task": {"name": "groceries"},
    "reward": {"samples": 2},
    "train": [{"algorithm": "sft", "states": 4}, {"algorithm": "grpo", "steps": 2}],
    "evaluate": {"arms": ["base", "single-turn", "trained"]},
}


def recipe(*overrides: str) -> Recipe:
    table = TABLE
    for override in overrides:
        table = overridden(table, override)
    return parse(table, "plain.toml")


def begun(path: Path, *overrides: str, finished: bool = False) -> RunFolder:
    """A folder in which every stage was begun, or in which every arm is trained, too."""
    run = RunFolder(path)
    run.begin(recipe(*overrides), restart=False)
    for name in ("single-turn", "trained"):
        for stage, settings in stage_settings(recipe(*overrides).arm(name)).items():
            work = run.record_stage(name, stage, settings)
        if finished:
            (work / "model").mkdir()
            run.finish_model(name, work / "model")
    return run


def refusal(run: RunFolder, *overrides: str) -> str:
    with pytest.raises(RunError) as refused:
        run.begin(recipe(*overrides), restart=False)
    return str(refused.value)


def test_the_same_recipe_goes_on(tmp_path: Path) -> None:
    run = begun(tmp_path / "plain", finished=True)
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    run.begin(recipe(), restart=False)
    assert {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()} == before


def test_a_command_that_fails_before_any_work_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(ModelError), RunFolder(tmp_path / "plain").opened(recipe(), restart=False):
        raise ModelError("there is no such model")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_anything_of_its_own_is_not_taken_away(tmp_path: Path) -> None:
    note = tmp_path / "plain" / "mine" / "empty.txt"
    note.parent.mkdir(parents=True)
    note.touch()
    with pytest.raises(ModelError), RunFolder(tmp_path / "plain").opened(recipe(), restart=False):
        raise ModelError("there is no such model")
    assert note.exists()


def test_a_command_that_fails_later_leaves_its_work_and_no_lock(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "plain")
    with pytest.raises(ModelError), run.opened(recipe(), restart=False):
        Journal(run.journal).append("key", "kind", {})
        raise ModelError("it ran out of memory")
    assert list(tmp_path.iterdir()) == [run.path]
    assert {path.name for path in run.path.iterdir()} == {"recipe.toml", "journal.jsonl"}


def test_the_resolved_recipe_is_written_down_with_the_revision(tmp_path: Path) -> None:
    run = begun(tmp_path / "plain", "reward.window=1")
    text = (run.path / "recipe.toml").read_text()
    assert text.startswith("# git revision: ")
    assert parse(tomllib.loads(text), "again") == recipe("reward.window=1")


def test_another_recipe_names_the_stages_and_the_key_that_changed(tmp_path: Path) -> None:
    run = begun(tmp_path / "plain")
    sentence = refusal(run, "reward.samples=3")
    assert "reward.samples was 2 and is now 3" in sentence
    stages = "single-turn/0-sft, single-turn/1-grpo, trained/0-sft, trained/1-grpo"
    assert f"these stages would be redone: {stages}." in sentence
    assert "--name NEW" in sentence and "--restart" in sentence


def test_a_change_of_one_stage_names_the_later_ones_alone(tmp_path: Path) -> None:
    run = begun(tmp_path / "plain")
    sentence = refusal(run, "train.1.steps=9")
    assert "train.1.steps was 2 and is now 9" in sentence
    assert "1-grpo" in sentence and "0-sft" not in sentence


def test_a_change_that_no_trained_arm_has_conflicts_with_none(tmp_path: Path) -> None:
    run = begun(tmp_path / "plain")
    assert "single-turn" not in refusal(run, "reward.window=1")


def test_changing_the_evaluation_alone_keeps_the_training(tmp_path: Path) -> None:
    run = begun(tmp_path / "plain", finished=True)
    run.begin(
        recipe("evaluate.conversations=9", 'evaluate.arms=["base","trained","oracle"]', "run.processes=1"),
        restart=False,
    )
    run.begin(recipe("evaluate.users.unseen.profiles=unseen"), restart=False)
    assert run.model("trained").is_dir()


@pytest.mark.parametrize(
    "override",
    [
        *("task.test=5", "train.0.micro_batch=8"),
        *("train.1.save_steps=1", "train.1.micro_groups=20", "train.1.shared_prompts=false"),
    ],
)
def test_what_no_result_of_a_stage_depends_on_may_change(tmp_path: Path, override: str) -> None:
    run = begun(tmp_path / "plain", finished=True)
    run.begin(recipe(override), restart=False)
    for name in ("single-turn", "trained"):
        assert stage_settings(recipe(override).arm(name)) == stage_settings(recipe().arm(name))


def model_folder(path: Path, weights: bytes = b"weights") -> str:
    path.mkdir(exist_ok=True)
    (path / "model.safetensors").write_bytes(weights)
    return f"assistant.model={path}"


def test_other_weights_under_the_same_name_are_another_start(tmp_path: Path) -> None:
    run = begun(tmp_path / "plain", model := model_folder(tmp_path / "model"), finished=True)
    run.begin(recipe(model), restart=False)
    model_folder(tmp_path / "model", b"other weights")
    assert "start was '" in refusal(run, model)


def test_a_start_that_was_not_recorded_is_another_one(tmp_path: Path) -> None:
    run = begun(tmp_path / "plain", finished=True)
    path = run.stage("trained", "0-sft") / "settings.json"
    settings = json.loads(path.read_text())
    path.write_text(json.dumps({key: value for key, value in settings.items() if key != "start"}))
    assert f"start was None and is now '{settings['start']}'" in refusal(run)


def test_the_revisions_are_those_that_worked_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def heads() -> list[str]:
        text = (run.path / "recipe.toml").read_text()
        assert parse(tomllib.loads(text), "again") == recipe()
        return [line for line in text.splitlines() if line.startswith("#")]

    monkeypatch.setattr(folder, "revision", lambda: "one")
    run = begun(tmp_path / "plain")
    assert heads() == ["# git revision: one"]
    for _ in range(2):
        monkeypatch.setattr(folder, "revision", lambda: "two")
        run.begin(recipe(), restart=False)
        assert heads() == ["# git revision: one", "# continued at two"]
    settings = json.loads((run.stage("trained", "0-sft") / "settings.json").read_text())
    assert settings["revision"] == "one"


def test_a_stage_that_was_removed_is_named(tmp_path: Path) -> None:
    run = begun(tmp_path / "plain")
    assert "has no stage 1-grpo any more" in refusal(run, 'train=[{algorithm="sft",states=4}]')


def test_a_stage_that_was_added_after_the_model_was_finished_is_named(tmp_path: Path) -> None:
    run = begun(tmp_path / "plain", finished=True)
    longer = 'train=[{algorithm="sft",states=4},{algorithm="grpo",steps=2},{algorithm="dpo"}]'
    sentence = refusal(run, longer)
    assert "trained/2-dpo" in sentence and "was not trained with" in sentence


def test_a_stage_that_is_added_before_that_is_the_next_one(tmp_path: Path) -> None:
    run = begun(tmp_path / "plain")
    longer = 'train=[{algorithm="sft",states=4},{algorithm="grpo",steps=2},{algorithm="dpo"}]'
    run.begin(recipe(longer), restart=False)
    written = parse(tomllib.loads((run.path / "recipe.toml").read_text()), "again")
    assert [stage.algorithm for stage in written.stages] == ["sft", "grpo", "dpo"]


def test_restart_moves_the_old_folder_aside_each_time(tmp_path: Path) -> None:
    run = begun(tmp_path / "plain")
    run.begin(recipe("reward.samples=3"), restart=True)
    run.begin(recipe("reward.samples=4"), restart=True)
    aside = sorted(path for path in tmp_path.iterdir() if path != run.path)
    assert len(aside) == 2
    assert not (run.path / "stages").exists()
    kept = [tomllib.loads((path / "recipe.toml").read_text())["reward"]["samples"] for path in aside]
    assert sorted(kept) == [2, 3]


def test_what_a_restart_moved_aside_comes_back_where_no_work_was_begun(tmp_path: Path) -> None:
    run = begun(tmp_path / "plain", finished=True)
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    with pytest.raises(ModelError), run.opened(recipe("reward.samples=3"), restart=True):
        Journal(run.journal)
        raise ModelError("it does not fit into memory")
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("content", ["", "{", '{"reward": {', "\x00\x00"])
def test_damaged_settings_are_named(tmp_path: Path, content: str) -> None:
    run = begun(tmp_path / "plain")
    (run.stage("trained", "0-sft") / "settings.json").write_text(content)
    assert "trained/0-sft/settings.json is damaged" in refusal(run)


def test_settings_of_another_shape_are_named(tmp_path: Path) -> None:
    run = begun(tmp_path / "plain")
    (run.stage("trained", "0-sft") / "settings.json").write_text("[1]")
    assert "trained/0-sft/settings.json is damaged" in refusal(run)


def test_nothing_is_written_where_the_recipe_is_refused(tmp_path: Path) -> None:
    run = begun(tmp_path / "plain")
    before = (run.path / "recipe.toml").read_text()
    refusal(run, "seed=7")
    assert (run.path / "recipe.toml").read_text() == before


def test_a_stages_settings_are_written_once(tmp_path: Path) -> None:
    run = begun(tmp_path / "plain")
    run.record_stage("trained", "0-sft", {"other": 1})
    assert "other" not in json.loads((run.stage("trained", "0-sft") / "settings.json").read_text())


def test_changes_are_sentences() -> None:
    old = {"reward": {"window": 2}, "train": [{"steps": 1}], "seed": 0}
    new = {"reward": {"window": 0}, "train": [{"steps": 2}], "seed": 0}
    assert list(changes(old, new)) == ["reward.window was 2 and is now 0", "train.0.steps was 1 and is now 2"]
    assert list(changes(old, old)) == []


def test_a_fingerprint_does_not_depend_on_the_order_of_keys() -> None:
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1}) != fingerprint({"a": 1, "b": 3})


def test_the_revision_of_another_projects_repository_is_not_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    said = {"rev-parse": "/somewhere/else", "describe": "0123456789ab"}
    monkeypatch.setattr(folder, "_git", lambda command, *_: said[command])
    assert folder.revision().startswith("version ")
    said["rev-parse"] = str(Path(folder.__file__).parents[3])
    assert folder.revision() == "0123456789ab"
