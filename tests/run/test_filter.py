from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from duologue.conversation import Conversation, Message
from duologue.errors import DataError, RecipeError, RunError
from duologue.models.base import Reply, Sampling
from duologue.models.scripted import ScriptedModel
from duologue.recipe import Recipe, merged, parse
from duologue.run import filter as filter_module
from duologue.run.filter import score_file
from duologue.run.wiring import wire
from duologue.seeding import derive
from duologue.tasks import load_task

TASK = load_task("groceries")
PLAIN: dict[str, Any] = {
    "name": "plain",
    "task": {"name": "groceries"},
    "assistant": {"model": "scripted:oracle"},
    "reward": {"samples": 3, "window": 1},
}


def recipe(**changes: Any) -> Recipe:
    return parse(merged(PLAIN, changes), "plain.toml")


def line(index: int = 0, **changes: Any) -> dict[str, Any]:
    """A line to score: a goal of the task, its user's first message, a reply."""
    goal = TASK.goals("test")[index]
    said = asyncio.run(TASK.user(goal.request, 1).speak(Conversation(), seed=1)).text
    whole = {
        "id": f"r{index}",
        "goal": {"request": goal.request.text, "facts": dict(goal.request.facts), "reference": goal.reference},
        "messages": [{"role": "user", "content": said}],
        "reply": "which city ?" if index % 2 else "hello !",
    }
    return {**whole, **changes}


def written(folder: Path, lines: Sequence[dict[str, Any] | str]) -> Path:
    source = folder / "replies.jsonl"
    source.write_text("".join((each if isinstance(each, str) else json.dumps(each)) + "\n" for each in lines))
    return source


def scored(
    folder: Path, lines: Sequence[dict[str, Any] | str], target: str = "out.jsonl", **changes: Any
) -> list[dict[str, Any]]:
    count = score_file(recipe(**changes), written(folder, lines), folder / target, watch=lambda done, total: None)
    answers = [json.loads(each) for each in (folder / target).read_text().splitlines()]
    assert count == len(answers) == len(lines)
    return answers


# ---- the format ---------------------------------------------------------------------------------------------


def test_a_line_comes_out_as_the_format_says(tmp_path: Path) -> None:
    (answer,) = scored(tmp_path, [line()])
    assert list(answer) == ["id", "value", "stderr", "samples", "parts", "usage"]
    assert answer["id"] == "r0"
    assert isinstance(answer["value"], float) and isinstance(answer["stderr"], float)
    assert answer["samples"] == 3
    assert set(answer["parts"]) == set(TASK.metrics)
    assert set(answer["usage"]) == {"prompt", "completion", "roles"}
    assert list(answer["usage"]["roles"]) == ["assistant"]


def test_the_value_is_the_multiturn_aware_reward(tmp_path: Path) -> None:
    (answer,) = scored(tmp_path, [line(goal={**line()["goal"], "id": "mine"})], seed=5)
    wiring = wire(recipe(seed=5))
    prefix = Conversation((Message("user", line()["messages"][0]["content"]),))
    seed = derive(5, "reward", "mine")
    found = asyncio.run(wiring.reward(TASK)(TASK.goals("test")[0], prefix, line()["reply"], seed=seed))
    assert answer["value"] == found.value
    assert answer["parts"] == dict(found.parts)
    weights = {name: metric.weight for name, metric in TASK.metrics.items()}
    assert answer["value"] == pytest.approx(sum(weights[name] * part for name, part in answer["parts"].items()))


def test_one_look_ahead_has_no_standard_error(tmp_path: Path) -> None:
    (answer,) = scored(tmp_path, [line()], reward={"samples": 1})
    assert answer["stderr"] is None and answer["samples"] == 1


def test_the_order_is_kept_however_many_lines(tmp_path: Path) -> None:
    lines = [line(index % 7, id=index) for index in range(150)]
    assert [answer["id"] for answer in scored(tmp_path, lines)] == list(range(150))


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    lines = [line(index) for index in range(9)]
    scored(tmp_path, lines, "one.jsonl")
    scored(tmp_path, lines, "two.jsonl")
    assert (tmp_path / "one.jsonl").read_bytes() == (tmp_path / "two.jsonl").read_bytes()
    scored(tmp_path, lines, "other.jsonl", seed=1)
    assert (tmp_path / "one.jsonl").read_bytes() != (tmp_path / "other.jsonl").read_bytes()


def test_replies_to_one_goal_meet_the_same_luck_whatever_their_ids(tmp_path: Path) -> None:
    first, again = scored(tmp_path, [line(id="a"), line(id="b")])
    assert {**first, "id": "b"} == again


def test_a_request_may_hold_its_facts(tmp_path: Path) -> None:
    flat = line()
    goal = flat["goal"]
    request = {"text": goal["request"], "facts": goal["facts"]}
    nested = {**flat, "goal": {"id": "g", "request": request, "reference": goal["reference"]}}
    flat["goal"] = {**goal, "id": "g"}
    one, other = scored(tmp_path, [flat, nested])
    assert one == other


def test_a_goal_of_the_task_may_be_named_without_its_facts(tmp_path: Path) -> None:
    goal = TASK.goals("test")[0]
    whole = line(goal={**line()["goal"], "id": goal.id})
    by_id = line(goal={"id": goal.id, "request": goal.request.text})
    by_request = line(goal={"request": goal.request.text})
    one, other, third = scored(tmp_path, [whole, by_id, by_request])
    assert one == other == third
    assert one["value"] is not None


def test_a_system_message_speaks_to_the_assistant_alone(tmp_path: Path) -> None:
    heard: list[tuple[Message, ...]] = []

    def listens(messages: Sequence[Message], seed: int) -> str:
        heard.append(tuple(messages))
        return "which city ?"

    system = {"role": "system", "content": "be brief"}
    lines = [line(), line(messages=[system, *line()["messages"]])]
    oracle = TASK.scripted["oracle"]
    TASK.scripted["oracle"] = ScriptedModel(listens)  # type: ignore[index]
    try:
        plain, told = scored(tmp_path, lines)
    finally:
        TASK.scripted["oracle"] = oracle  # type: ignore[index]
    assert plain["value"] == told["value"]
    assert {m.content for messages in heard for m in messages if m.role == "system"} == {"be brief"}


# ---- bad lines ----------------------------------------------------------------------------------------------

GOAL = line()["goal"]
ORDER = "order : two any milk to boston today by card ."
BAD: list[tuple[dict[str, Any] | str, Any, str]] = [
    ("not json", None, "line 2 is not JSON"),
    ("", None, "line 2 is empty"),
    ("[1, 2]", None, "line 2 must be an object"),
    ({key: value for key, value in line().items() if key != "id"}, None, '"id" is missing, or not a text or a number'),
    (line(goal="milk"), "r0", '"goal" is missing, or not an object'),
    (line(goal={"reference": {}}), "r0", "the goal has no request"),
    (line(goal={**GOAL, "request": "  "}), "r0", "the goal has no request"),
    (line(goal={**GOAL, "facts": 3}), "r0", "facts must be an object"),
    (line(goal={**GOAL, "refrence": 3}), "r0", 'a goal has no "refrence"; did you mean "reference"'),
    (line(goal={"request": "milk"}), "r0", 'facts need "slots" with item, qty, kind, city, time, pay'),
    (line(goal={**GOAL, "reference": None}, reply=ORDER), "r0", 'the goal is not one of task "groceries"'),
    (line(messages=[]), "r0", "a reply is scored after a user message"),
    (line(messages="hello"), "r0", '"messages" is missing, or not a list'),
    (line(messages=[{"role": "robot", "content": "x"}]), "r0", "message 1 must have a role among"),
    (line(messages=[{"role": "user"}]), "r0", "message 1 must have a role among"),
    (
        line(messages=[*line()["messages"], {"role": "assistant", "content": "hm"}]),
        "r0",
        "a reply is scored after a user message",
    ),
    (line(reply=None), "r0", '"reply" is missing, or not a text'),
]


@pytest.mark.parametrize(("bad", "name", "sentence"), BAD)
def test_a_bad_line_is_answered_and_the_others_are_scored(
    tmp_path: Path, bad: dict[str, Any] | str, name: Any, sentence: str
) -> None:
    before, answer, after = scored(tmp_path, [line(1), bad, line(2)])
    assert list(answer) == ["id", "value", "stderr", "samples", "parts", "usage", "error"]
    assert (answer["id"], answer["value"], answer["samples"]) == (name, None, 0)
    assert sentence in answer["error"]
    assert before["value"] is not None and after["value"] is not None


def test_an_empty_reply_is_an_outcome_and_is_scored(tmp_path: Path) -> None:
    (answer,) = scored(tmp_path, [line(reply="")])
    assert answer["value"] is not None


def test_an_empty_file_gives_an_empty_file(tmp_path: Path) -> None:
    assert scored(tmp_path, []) == []


# ---- what cannot be done ------------------------------------------------------------------------------------


def test_a_missing_input_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no input .*replies.jsonl"):
        score_file(recipe(), tmp_path / "replies.jsonl", tmp_path / "out.jsonl", watch=lambda done, total: None)


def test_an_output_that_is_there_is_kept(tmp_path: Path) -> None:
    (tmp_path / "out.jsonl").write_text("precious")
    with pytest.raises(DataError, match=r"out.jsonl is there already"):
        scored(tmp_path, [line()])
    assert (tmp_path / "out.jsonl").read_text() == "precious"


def test_an_output_in_no_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no folder .*nowhere"):
        scored(tmp_path, [line()], "nowhere/out.jsonl")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"task": [{"name": "groceries"}, {"name": "twenty-questions"}]}, r"names one \[task\] at most"),
        ({"task": []}, r"without a \[task\] the goals come with the lines: give \[user\] a model"),
        ({"reward": {"metrics": {"tokns": 1.0}}}, 'no metric "tokns"; did you mean "tokens"'),
        ({"assistant": {"model": "scripted:oracel"}}, 'no scripted assistant "oracel"; did you mean "oracle"'),
        ({"reward": {"samples": "adaptive"}}, "choose between replies, they do not value one"),
        ({"assistant": {"prompt": "proactiv"}}, 'did you mean "proactive"'),
    ],
)
def test_a_recipe_that_cannot_score_is_refused_before_the_first_line(
    tmp_path: Path, changes: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(RecipeError, match=sentence):
        scored(tmp_path, [line()], **changes)
    assert [path.name for path in tmp_path.iterdir()] == ["replies.jsonl"]


# ---- going on -----------------------------------------------------------------------------------------------


class Stopped(Exception):
    """Where a test kills the filter."""


def stopped_after(folder: Path, lines: list[dict[str, Any]], count: int, **changes: Any) -> Path:
    """The unfinished output of a call that ended after some lines."""

    def watch(done: int, total: int) -> None:
        if done == count:
            raise Stopped

    with pytest.raises(Stopped):
        score_file(recipe(**changes), written(folder, lines), folder / "out.jsonl", watch=watch)
    (part,) = folder.glob("out.jsonl.*.part")
    return part


@pytest.mark.parametrize("cut", [0, 1, 30])
def test_a_call_that_was_killed_goes_on_after_the_last_whole_line(
    tmp_path: Path, cut: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [line(index) for index in range(8)]
    whole = scored(tmp_path, lines, "whole.jsonl")
    part = stopped_after(tmp_path, lines, 5)
    content = part.read_bytes()
    part.write_bytes(content[: len(content) - cut])
    numbers: list[int] = []
    one = filter_module._Scored.one
    monkeypatch.setattr(
        filter_module._Scored, "one", lambda self, number, text: numbers.append(number) or one(self, number, text)
    )
    assert scored(tmp_path, lines) == whole
    assert numbers == ([6, 7, 8] if cut == 0 else [5, 6, 7, 8])
    assert not part.exists()


def test_another_recipe_or_input_does_not_go_on_from_these_answers(tmp_path: Path) -> None:
    lines = [line(index) for index in range(4)]
    stopped_after(tmp_path, lines, 2)
    assert [answer["id"] for answer in scored(tmp_path, lines[::-1])] == ["r3", "r2", "r1", "r0"]


def test_a_second_process_on_the_same_output_is_refused(tmp_path: Path) -> None:
    lines = [line(index) for index in range(3)]
    refused: list[str] = []

    def second() -> None:
        try:
            score_file(recipe(), tmp_path / "replies.jsonl", tmp_path / "out.jsonl", watch=lambda done, total: None)
        except RunError as error:
            refused.append(str(error))

    def watch(done: int, total: int) -> None:
        if done == 1:
            other = threading.Thread(target=second)
            other.start()
            other.join()

    score_file(recipe(), written(tmp_path, lines), tmp_path / "out.jsonl", watch=watch)
    assert len(refused) == 1
    assert re.search(r"another process is writing .*out.jsonl", refused[0])


def test_a_full_disk_is_a_sentence_and_the_same_call_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [line(index) for index in range(4)]
    whole = scored(tmp_path, lines, "whole.jsonl")
    room = 2

    def write_to_a_small_disk(out: Any, text: bytes, target: Path) -> None:
        nonlocal room
        if room == 0:
            with Path("/dev/full").open("wb", buffering=0) as full:
                genuine(full, text, target)
        room -= 1
        genuine(out, text, target)

    genuine = filter_module._write_line
    with monkeypatch.context() as small, pytest.raises(RunError, match=r"No space left on device.*goes on"):
        small.setattr(filter_module, "_write_line", write_to_a_small_disk)
        scored(tmp_path, lines)
    assert scored(tmp_path, lines) == whole


class Unreachable:
    """A model whose server is gone."""

    async def reply(self, messages: Sequence[Message], *, seed: int, sampling: Sampling) -> Reply:
        from duologue.errors import ModelError

        raise ModelError("the server does not answer")

    def count_tokens(self, text: str) -> int:
        return len(text)


def test_a_failure_is_never_a_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TASK.scripted, "oracle", Unreachable())  # type: ignore[arg-type]
    (answer,) = scored(tmp_path, [line(1)])
    assert (answer["value"], answer["samples"]) == (None, 0)
    assert "the server does not answer" in answer["error"]


@pytest.mark.parametrize("places", [(0, 1), (1,)])
def test_a_system_message_stands_first_and_alone(tmp_path: Path, places: Sequence[int]) -> None:
    messages = line()["messages"]
    for place in places:
        messages.insert(place, {"role": "system", "content": "be brief ."})
    score_file(
        recipe(), written(tmp_path, [line(messages=messages), line(id=True)]), tmp_path / "out", watch=lambda *_: None
    )
    answers = [json.loads(answer)["error"] for answer in (tmp_path / "out").read_text().splitlines()]
    assert answers[0] == "line 1: a system message stands first, and there is one at most"
    assert '"id" is missing' in answers[1]
