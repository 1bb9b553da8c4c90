from __future__ import annotations

import io
import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from duologue.conversation import Conversation
from duologue.errors import DuologueError, ModelError, RecipeError, RunError
from duologue.models.base import Sampling
from duologue.run import chat
from duologue.run.chat import converse_with_person, model_of
from duologue.simulation import Assistant
from duologue.tasks import load_task

TASK = load_task("groceries")


def talk(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    source: Path,
    lines: str,
    task: str | None = "groceries",
    seed: int = 0,
) -> str:
    """What the terminal shows to a person who types these lines."""
    monkeypatch.setattr(sys, "stdin", io.StringIO(lines))
    converse_with_person(str(source), task, "trained", seed)
    return capsys.readouterr().out


def test_the_person_gets_a_goal_phrases_and_replies(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], small_model: Path
) -> None:
    shown = talk(monkeypatch, capsys, small_model, "i want some milk .\n\n  \nto boston .\n/quit\nnever read\n")
    assert "Your goal: you want" in shown
    assert all(phrase in shown for phrase in TASK.phrases)
    assert "Ctrl-D" in shown and "/quit" in shown
    assert shown.count("model  ") == 2
    assert re.search(r"2 replies; success \d\.\d\d, ", shown)


def test_the_end_of_the_input_leaves(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], small_model: Path
) -> None:
    assert "1 replies" in talk(monkeypatch, capsys, small_model, "i want some milk .\n")
    assert "replies" not in talk(monkeypatch, capsys, small_model, "")


def test_a_seed_fixes_goal_and_replies(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], small_model: Path
) -> None:
    first = talk(monkeypatch, capsys, small_model, "hello\n", seed=3)
    assert talk(monkeypatch, capsys, small_model, "hello\n", seed=3) == first
    assert talk(monkeypatch, capsys, small_model, "hello\n", seed=4) != first


def test_without_a_task_there_is_no_goal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], small_model: Path
) -> None:
    monkeypatch.setattr(chat, "WITHOUT_TASK", 5)
    shown = talk(monkeypatch, capsys, small_model, "hello\n", task=None)
    assert "Your goal" not in shown and "success" not in shown


def test_a_conversation_that_outgrows_the_context_ends_with_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], small_model: Path
) -> None:
    shown = talk(monkeypatch, capsys, small_model, "milk " * 300 + "\nagain\n")
    assert "the context of" in shown
    assert "model  " not in shown


def trained_run(folder: Path, model: Path, assistant: str) -> Path:
    shutil.copytree(model, folder / "models" / "trained")
    (folder / "recipe.toml").write_text(f'name = "r"\n[task]\nname = "groceries"\n[assistant]\n{assistant}\n')
    return folder


def test_a_runs_arm_replies_as_its_recipe_says(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, small_model: Path
) -> None:
    seen: list[Assistant] = []
    monkeypatch.setattr(chat, "_talk", lambda assistant, seed: seen.append(assistant) or Conversation())
    run = trained_run(tmp_path / "run", small_model, 'prompt = "proactive"\ntemperature = 0.0\nmax_tokens = 3')
    talk(monkeypatch, capsys, run, "")
    assert seen[0].system == TASK.prompts["proactive"]
    assert seen[0].sampling == Sampling(0.0, 1.0, 3)
    with pytest.raises(DuologueError, match='under the system prompt "proactive" of a task: say --task which'):
        converse_with_person(str(run), None, "trained", 0)


def test_a_runs_arm_keeps_its_own_system_prompt_without_a_task(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, small_model: Path
) -> None:
    seen: list[Assistant] = []
    monkeypatch.setattr(chat, "_talk", lambda assistant, seed: seen.append(assistant) or Conversation())
    run = trained_run(tmp_path / "run", small_model, 'system = "be brief"\ntop_p = 0.5')
    talk(monkeypatch, capsys, run, "", task=None)
    assert (seen[0].system, seen[0].sampling.top_p) == ("be brief", 0.5)


def test_an_arm_that_was_not_trained_names_the_nearest(tmp_path: Path, small_model: Path) -> None:
    shutil.copytree(small_model, tmp_path / "run" / "models" / "single-turn")
    with pytest.raises(RecipeError, match='has no trained arm "singleturn"; did you mean "single-turn"'):
        converse_with_person(str(tmp_path / "run"), None, "singleturn", 0)
    assert model_of(str(tmp_path / "run"), "single-turn") == str(tmp_path / "run" / "models" / "single-turn")


def test_a_run_that_is_not_there_names_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "quickstart").mkdir()
    with pytest.raises(RecipeError, match=r"there is no run or model .*quickstrat; did you mean .*quickstart"):
        converse_with_person(str(tmp_path / "quickstrat"), None, "trained", 0)


def test_a_run_without_a_model_yet_says_so(tmp_path: Path) -> None:
    (tmp_path / "journal.jsonl").write_text("")
    with pytest.raises(RunError, match="has no trained model yet"):
        converse_with_person(str(tmp_path), None, "trained", 0)


def test_a_folder_that_is_no_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="has no tokenizer"):
        converse_with_person(str(tmp_path), None, "trained", 0)


def test_an_unknown_task_names_the_nearest(small_model: Path) -> None:
    with pytest.raises(DuologueError, match='no task "grocery"; did you mean "groceries"'):
        converse_with_person(str(small_model), "grocery", "trained", 0)


def read_until(terminal: int, text: str, shown: str = "", again: bytes = b"") -> str:
    """Read what a terminal shows; in silence, press a key `again`.

    A key between the prompt and the reading of the line is not seen before the next one.
    """
    until = time.monotonic() + 120
    while text not in shown and time.monotonic() < until:
        if again and not select.select([terminal], [], [], 5)[0]:
            os.write(terminal, again)
        else:
            shown += os.read(terminal, 4096).decode()
    return shown


@pytest.mark.parametrize(
    "leaving", [pytest.param(b"\x03", id="Ctrl-C"), pytest.param(b"\x04", id="Ctrl-D", marks=pytest.mark.slow)]
)
def test_at_a_terminal_a_key_leaves_at_once(small_model: Path, leaving: bytes) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "duologue", "chat", str(small_model), "--task", "groceries"]
    process = subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True, preexec_fn=take_terminal
    )
    os.close(theirs)
    read_until(ours, "you  ")
    os.write(ours, b"i want some milk .\n")
    read_until(ours, "you  ", read_until(ours, "model  ").partition("model  ")[2])
    os.write(ours, leaving)
    shown = read_until(ours, "1 replies; ", again=leaving)
    assert process.wait(timeout=60) == 0
    assert "Traceback" not in shown
    os.close(ours)


def take_terminal() -> None:
    """Make the terminal the session's own, so that its keys are signals; one that began in the background
    had Ctrl-C ignored."""
    import fcntl
    import signal
    import termios

    signal.signal(signal.SIGINT, signal.default_int_handler)

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def test_a_line_that_is_no_text_is_said_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], small_model: Path
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\xff\xfe\nmilk .\n"), encoding="utf-8"))
    converse_with_person(str(small_model), "groceries", "trained", 0)
    shown = capsys.readouterr().out
    assert "not text in UTF-8" in shown and "1 replies" in shown


def test_the_card_tells_what_the_figures_take_to_be_said_at_first() -> None:
    goal = TASK.goals("test")[0]
    assert f"Say at first only: {', '.join(goal.request.facts['mentions'])}\n" in chat.card(TASK, goal)
