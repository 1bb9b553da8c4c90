from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from duologue.conversation import Conversation, Goal
from duologue.errors import DataError
from duologue.metrics import Extractor, maths_accuracy
from duologue.metrics.maths import compared
from duologue.simulation import converse
from duologue.tasks import load_task
from duologue.tasks.maths_chat import TASK, problem
from replying_model import copied, replying
from scripted_world import babbling

ROW = {
    "problem": "What is $1+1$?",
    "solution": "First \\boxed{1}, then $1+1=\\boxed{\\frac{4}{2}}$.",
    "level": "Level 5",
    "type": "Algebra",
}


@pytest.mark.parametrize("goal", TASK.all_goals, ids=lambda goal: goal.id)
async def test_a_goal_s_own_answer_is_found_right_without_a_judge(goal: Goal) -> None:
    answer = goal.reference["answer"]
    metric = maths_accuracy(Extractor(replying(copied(f"\\boxed{{{answer}}}"))))
    assert (await metric(Conversation().said("?").replied(f"\\boxed{{{answer}}}"), goal)).value == 1.0
    assert (await compared(answer, f"{answer}+1")).same is False


async def test_the_user_holds_conditions_back_at_first() -> None:
    goal = TASK.goals("test")[0]
    conversation = await converse(babbling(), TASK.user(goal.request, 0), seed=0)
    said = [turn.user for turn in conversation.turns]
    assert said == list(goal.request.pieces)
    assert said[0] != goal.request.text


def test_a_published_problem_is_a_goal_whose_answer_is_boxed_last() -> None:
    goal = problem(ROW, "row 1")
    assert goal is not None
    assert goal.request.text == "What is $1+1$?"
    assert goal.reference == {"answer": "\\frac{4}{2}", "solution": ROW["solution"]}
    assert problem(dict(ROW), "row 2") == goal


@pytest.mark.parametrize("change", [{"level": "Level 4"}, {"solution": "It is 2."}, {"problem": " "}])
def test_easier_problems_and_those_without_an_answer_are_left_out(change: dict[str, str]) -> None:
    assert problem(ROW | change, "row 1") is None


@pytest.mark.parametrize("level", ["Level 5", "5", 5])
def test_the_hardest_level_may_be_written_as_a_number(level: str | int) -> None:
    assert problem(ROW | {"level": level}, "row 1") == problem(dict(ROW), "row 1") is not None


def test_a_file_of_easier_problems_says_so(tmp_path: Path) -> None:
    (tmp_path / "math.jsonl").write_bytes(orjson.dumps(ROW | {"level": 4}))
    with pytest.raises(DataError, match=r"none of the 1 rows of .*: it takes problems of level 5 whose solution boxes"):
        load_task("maths-chat", tmp_path / "math.jsonl").goals("train")


def test_a_row_of_another_kind_names_its_place() -> None:
    with pytest.raises(DataError, match='row 7: a problem has a "problem" and a "solution"; this row has question'):
        problem({"question": "1+1?"}, "row 7")


def test_a_file_of_published_rows_can_be_played(tmp_path: Path) -> None:
    rows = [ROW | {"problem": f"What is {number} + 1?"} for number in range(20)]
    (tmp_path / "math.jsonl").write_bytes(b"\n".join(orjson.dumps(row) for row in rows))
    task = load_task("maths-chat", tmp_path / "math.jsonl")
    assert len(task.all_goals) == 20
    assert task.with_profile("full").user(task.goals("train")[0].request, 0)
