from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

import pytest

from duologue.cli import app, main, terminal
from duologue.metrics import METRICS
from duologue.tasks import TASKS, load_task

RECIPE = """
name = "small"
[task]
name = "groceries"
[assistant]
model = "scripted:oracle"
[evaluate]
arms = ["base"]
conversations = 3
decoding = ["sampled"]
"""
COMMANDS = sorted(str(command.name or command.callback.__name__) for command in app.registered_commands)  # type: ignore[union-attr]


@pytest.fixture
def recipe(tmp_path: Path) -> str:
    path = tmp_path / "small.toml"
    path.write_text(RECIPE)
    return str(path)


@pytest.fixture
def runs(tmp_path: Path) -> list[str]:
    return ["--runs", str(tmp_path / "runs")]


def exit_code(arguments: Sequence[str]) -> int:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    return int(stop.value.code or 0)


def refused(capsys: pytest.CaptureFixture[str], arguments: Sequence[str], code: int = 2) -> str:
    """The sentence on stderr of a command that cannot be done."""
    assert exit_code(arguments) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err
    assert err.startswith("duologue: ")
    return err


def refused_loudly(capsys: pytest.CaptureFixture[str], arguments: Sequence[str]) -> str:
    """The last sentence on stderr of a command whose input is wrong, and which said before what it does."""
    assert exit_code(arguments) == 2
    *_, last = capsys.readouterr().err.splitlines()
    assert last.startswith("duologue: ")
    return last


# ---- help ---------------------------------------------------------------------------------------------------


def test_every_command_of_the_issue_is_there() -> None:
    assert {"train", "simulate", "reward", "evaluate", "report", "chat", "tasks", "metrics"} <= set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_command_has_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code([command, "--help"]) == 0
    assert f"Example: duologue {command}" in " ".join(capsys.readouterr().out.split())


def test_the_help_documents_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(["--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "First try: duologue train recipes/quickstart.toml" in shown
    assert "0 done, 1 failed, 2 wrong input, 130 interrupted" in shown


def test_the_package_runs_as_a_module() -> None:
    done = subprocess.run([sys.executable, "-m", "duologue", "tasks", "--json"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert {"groceries", "twenty-questions"} <= set(json.loads(done.stdout))


# ---- wrong input --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", ["trian", "train", "train a.toml --setting x", "reward a.toml", "chat"])
def test_a_command_that_is_none_is_refused(arguments: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(arguments.split()) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_a_missing_recipe_is_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "there is no recipe" in refused(capsys, ["train", str(tmp_path / "none.toml")])


@pytest.mark.parametrize(
    ("override", "right"),
    [
        ("reward.sample=3", 'did you mean "samples"'),
        ("task.name=grocery", 'did you mean "groceries"'),
        ("assistant.prompt=proactiv", 'did you mean "proactive"'),
        ('evaluate.arms=["bas"]', 'did you mean "base"'),
        ("assistant.model=scripted:oracel", 'did you mean "oracle"'),
        ("user.profiles=unsen", 'did you mean "unseen"'),
        ("reward.metrics.tokns=1", 'did you mean "tokens"'),
        ("samples", "write it as key=value"),
    ],
)
@pytest.mark.parametrize("command", ["train", "evaluate", "simulate"])
def test_a_wrong_key_or_value_names_the_right_one(
    command: str, override: str, right: str, recipe: str, runs: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert right in refused(capsys, [command, recipe, "--set", override, *runs])


@pytest.mark.parametrize("name", ["../up", 'a"b', ""])
def test_a_name_that_is_no_folder_is_refused(
    name: str, recipe: str, runs: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert "it names a folder" in refused(capsys, ["train", recipe, "--name", name, *runs])


@pytest.mark.parametrize("command", ["chat", "export"])
@pytest.mark.parametrize(
    ("source", "right"),
    [
        ("{folder}/runs/quickstrat", 'did you mean "{folder}/runs/quickstart"'),
        ("{folder}/runs/quickstart", 'has no trained arm "trained"'),
        ("{folder}/no/such/folder", "there is no model at {folder}/no/such/folder"),
        ("{folder}/empty", "has no tokenizer"),
    ],
)
def test_a_run_or_model_that_is_none_is_wrong_input(
    command: str, source: str, right: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "runs" / "quickstart" / "models" / "single-turn").mkdir(parents=True)
    (tmp_path / "empty").mkdir()
    options = ["--output", str(tmp_path / "out")] if command == "export" else []

    told = refused_loudly(capsys, [command, source.format(folder=tmp_path), *options])

    assert right.format(folder=tmp_path) in told


def test_a_report_on_a_folder_that_is_no_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "holds no finished run" in refused(capsys, ["report", str(tmp_path)], code=1)
    assert "holds no finished run" in refused(capsys, ["report", str(tmp_path / "none")], code=1)


def test_a_report_on_damaged_figures_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "evaluation.json").write_text("{")
    assert "evaluation.json is not JSON" in refused(capsys, ["report", str(tmp_path)])


def test_a_reward_without_input_is_refused(recipe: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["reward", recipe, "--input", str(tmp_path / "none.jsonl"), "--output", str(tmp_path / "out.jsonl")]
    assert "there is no input" in refused(capsys, arguments)


def test_a_chat_with_nobody_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "there is no run or model" in refused(capsys, ["chat", str(tmp_path / "none")])


def test_an_evaluation_before_training_is_refused(
    recipe: str, runs: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    trained = ["--set", 'train=[{algorithm="grpo"}]', "--set", "assistant.model=tiny"]
    sentence = refused(capsys, ["evaluate", recipe, *trained, "--set", 'evaluate.arms=["single-turn"]', *runs], code=1)
    assert "single-turn: not trained yet" in sentence and "duologue train" in sentence


def test_a_folder_that_cannot_be_written_is_a_sentence(
    recipe: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert str(tmp_path / "file") in refused(capsys, ["train", recipe, "--runs", str(tmp_path / "file" / "in")], code=1)


def test_an_interrupt_is_a_sentence(
    recipe: str, runs: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("duologue.run.train", interrupted)
    assert "the same command goes on" in refused(capsys, ["train", recipe, *runs], code=130)


def test_an_interrupt_while_the_command_line_is_loaded_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "typer.py").write_text("raise KeyboardInterrupt")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-m", "duologue", "--help"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "duologue: interrupted\n")


# ---- what comes out -----------------------------------------------------------------------------------------


def test_train_shows_a_table_and_where_the_report_is(
    recipe: str, runs: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(["train", recipe, *runs, "--name", "other"]) == 0
    out, err = capsys.readouterr()
    assert "groceries" in out and "success" in out and "other/report.html" in out.replace("\n", "")
    assert err == ""


def test_json_is_the_evaluation_and_nothing_else(
    recipe: str, runs: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(["evaluate", recipe, *runs, "--json"]) == 0
    out, _ = capfd.readouterr()

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    evaluation = json.loads(out, parse_constant=refuse)
    assert evaluation == json.loads((tmp_path / "runs" / "small" / "evaluation.json").read_text())
    assert evaluation["arms"]["base"]["groceries"]["train"]["success"]["n"] == 3


def test_simulate_prints_transcripts_or_json_lines_or_writes_them(
    recipe: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(["simulate", recipe, "--count", "2"]) == 0
    assert capsys.readouterr().out.count("assistant") >= 2
    assert exit_code(["simulate", recipe, "--count", "2", "--json"]) == 0
    out = capsys.readouterr().out
    rows = [json.loads(line) for line in out.splitlines()]
    assert len(rows) == 2 and rows[0]["task"] == "groceries"
    assert exit_code(["simulate", recipe, "--count", "2", "--output", str(tmp_path / "played.jsonl")]) == 0
    assert capsys.readouterr().out == ""
    assert (tmp_path / "played.jsonl").read_text() == out


@pytest.mark.parametrize(
    ("option", "right"),
    [(["--arm", "orcale"], 'did you mean "oracle"'), (["--split", "dev"], "known: train, test")],
)
def test_simulate_names_an_unknown_arm_or_split(
    option: list[str], right: str, recipe: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert right in refused(capsys, ["simulate", recipe, *option])


def test_reward_scores_a_file(recipe: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    goal = load_task("groceries").goals("test")[0]
    said = [{"role": "user", "content": goal.request.text}]
    line = {"id": 1, "goal": {"request": goal.request.text}, "messages": said, "reply": "which city ?"}
    (tmp_path / "in.jsonl").write_text(f"{json.dumps(line)}\nnonsense\n")
    arguments = ["reward", recipe, "--input", str(tmp_path / "in.jsonl"), "--output", str(tmp_path / "out.jsonl")]
    assert exit_code(arguments) == 0
    out, err = capsys.readouterr()
    assert out == "" and "2 lines answered" in err
    values = [json.loads(answer)["value"] for answer in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert values[0] is not None and values[1] is None
    assert "is there already" in refused(capsys, arguments)


class Plugin:
    """An entry point of another package."""

    name = "their-groceries"

    def load(self) -> object:
        from duologue.tasks import load_task

        return load_task("groceries")


def test_tasks_of_other_packages_are_listed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in ("importlib.metadata.entry_points", "duologue.tasks.entry_points"):
        monkeypatch.setattr(place, lambda group: [Plugin()])
    assert exit_code(["tasks", "--json"]) == 0
    assert list(json.loads(capsys.readouterr().out)) == [*TASKS, "their-groceries"]


def test_a_tasks_own_metrics_stand_below_everybodys(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(["metrics", "--json"]) == 0
    listed = list(json.loads(capsys.readouterr().out))
    own = listed[len(METRICS) :]
    assert listed[: len(METRICS)] == [*METRICS]
    assert {"groceries: outcome", "twenty-questions: outcome"} <= {*own}
    assert all(name.partition(": ")[0] in TASKS for name in own)


def test_the_parts_of_a_recipes_reward_are_shown_with_what_they_inherit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "plain.toml").write_text('name = "plain"\n[task]\nname = "groceries"\n')
    command = ["metrics", str(tmp_path / "plain.toml"), "--set", "reward.metrics.tokens={weight = -2.0, cap = 0.5}"]
    assert exit_code(command) == 0
    task, part = capsys.readouterr().out.splitlines()
    assert task == "groceries"
    shown = tomllib.loads(part.strip())["tokens"]
    assert (shown["weight"], shown["cap"], shown["rate"], shown["since"]) == (-2.0, 0.5, 0.005, "branch")
    assert exit_code([*command, "--json"]) == 0
    options = {key: value for key, value in shown.items() if key != "weight"}
    assert json.loads(capsys.readouterr().out) == {"groceries": {"tokens": {"weight": -2.0, "options": options}}}


def test_goals_of_the_input_have_metrics_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "plain.toml").write_text('name = "plain"\n[reward.metrics]\ninteractivity = 1.0\n')
    assert exit_code(["metrics", str(tmp_path / "plain.toml")]) == 0
    assert capsys.readouterr().out == "goals of the input\n    interactivity = { weight = 1.0 }\n"


@pytest.mark.parametrize("command", ["tasks", "metrics"])
def test_what_a_recipe_can_name_is_listed(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code([command]) == 0
    text = capsys.readouterr().out
    assert exit_code([command, "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert listed and all(name in text for name in listed)
    assert all(entry["summary"] for entry in listed.values())


# ---- tasks of one's own -------------------------------------------------------------------------------------


MINIMAL = re.findall(r"```python\n(.*?)```", (Path(__file__).parents[1] / "docs/tasks.md").read_text(), re.DOTALL)[0]
METRIC = "return Score(float(any(goal.reference in reply for reply in conversation.replies)))"


def own_task(folder: Path, text: str) -> list[str]:
    assert METRIC in MINIMAL
    (folder / "own.py").write_text(text)
    return ["--set", f"task.name={folder}/own.py:TASK", "--set", "assistant.model=tiny"]


@pytest.mark.parametrize("command", ["simulate", "evaluate"])
def test_the_least_task_of_the_docs_can_be_played(
    command: str, recipe: str, runs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code([command, recipe, *runs, *own_task(tmp_path, MINIMAL)]) == 0
    assert "reward" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("x = (", "own.py, line 1: SyntaxError"),
        ("\n1/0", "own.py, line 2: ZeroDivisionError: division by zero"),
        ("import nothere", "own.py, line 1: ModuleNotFoundError"),
        ("import sys\nsys.exit(3)", "own.py, line 2: SystemExit: 3"),
        (MINIMAL.replace("}[split]", "}[split * 2]"), "own.py, line 6: KeyError: 'traintrain'"),
        (MINIMAL.replace(METRIC, "return 1 / 0"), "own.py, line 24: ZeroDivisionError: division by zero"),
    ],
)
def test_a_fault_in_ones_own_task_names_file_and_line(
    text: str, place: str, recipe: str, runs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert place in refused(capsys, ["simulate", recipe, *runs, *own_task(tmp_path, text)])


def test_conversations_without_reward_are_told_after_the_tables(
    recipe: str, runs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = own_task(tmp_path, MINIMAL.replace(METRIC, 'return Score(None, "no idea")'))
    assert exit_code(["evaluate", recipe, *runs, *own]) == 1
    out, err = capsys.readouterr()
    assert "words · users: train · sampled: 3 of 3 have no reward, mostly: named: no idea" in out.splitlines()
    assert err.startswith("duologue: nothing was measured")


def test_conversations_that_outgrew_the_context_are_told() -> None:
    cell = {"arm": "base", "task": "words", "users": "train", "decoding": "greedy", "count": 7}
    (line,) = terminal.troubles({"lost": [], "greedy": {"lost": []}, "outgrown": [cell]})
    assert line == "words · users: train · greedy: 7 conversations of base outgrew the model's context and ended there"
