from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from duologue.conversation import Conversation, Goal, Request
from duologue.errors import ModelError
from duologue.metrics import Extractor, Score, maths_accuracy
from duologue.metrics.maths import compared, stated
from replying_model import Replying, copied, graded, replying

GOAL = Goal("sum", Request("You want to know what 5 times 8 plus 2 is."), {"answer": "42", "solution": "40 plus 2."})
SEVEN = replace(GOAL, reference="7")
NEVER = replying(ModelError("nobody should ask"))


async def scored(text: str | None, judge: Replying | None = NEVER, reference: Any = GOAL.reference) -> Score:
    """What accuracy says where a text is the final answer."""
    talk = Conversation().said("what is it ?").replied(text or "hm .")
    metric = maths_accuracy(Extractor(replying(copied(text))), judge)
    return await metric(talk, replace(GOAL, reference=reference))


# ---- where computation can tell


@pytest.mark.parametrize(
    "answer",
    [
        "42",
        "The answer is 42.",
        "**42**",
        "$42$",
        "\\boxed{42}",
        "x = 42",
        "84/2",
        "42 cm²",
        "It is \\(\\sqrt{1764}\\).",
    ],
)
async def test_the_right_value_scores_1_however_it_is_written(answer: str) -> None:
    assert await scored(answer) == Score(1.0)


@pytest.mark.parametrize("answer", ["43", "The answer is 24.", "\\boxed{7}", "-42", "42.5", "40, 41, 42"])
async def test_a_value_that_parses_and_is_wrong_scores_0_and_no_judge_is_asked(answer: str) -> None:
    assert await scored(answer) == Score(0.0)


async def test_no_answer_scores_0() -> None:
    assert await scored(None) == Score(0.0)


@pytest.mark.parametrize("reference", ["42", 42, {"answer": 42}, {"answer": "$42$"}])
async def test_the_reference_is_the_answer_or_holds_it(reference: Any) -> None:
    assert await scored("42", reference=reference) == Score(1.0)


# ---- where it cannot


@pytest.mark.parametrize(
    "answer", ["forty-two", "3.5 dozen", "more than 41", "$40$ or $42$", "12 345", "\\boxed{1} or \\boxed{42}"]
)
async def test_what_computation_cannot_tell_the_judge_does(answer: str) -> None:
    assert await scored(answer, replying(graded(1))) == Score(1.0)
    assert await scored(answer, replying(graded(0))) == Score(0.0)


async def test_a_judge_s_half_is_not_right() -> None:
    assert await scored("forty-two, or so", replying(graded(0.75))) == Score(0.0)


async def test_a_judge_sees_the_answer_of_the_reference_and_not_its_solution() -> None:
    judge = replying(graded(1))
    await scored("forty-two", judge)
    assert re.search(r"\[(\w+) the reference\]\n42\n\[\1 end\]", judge.asked[0].text)


async def test_without_a_judge_it_is_no_number() -> None:
    score = await scored("forty-two", None)
    assert score.value is None
    assert (
        score.why == "the final answer was not compared (the answer is not one expression alone), and there is no judge"
    )


async def test_a_judge_that_fails_is_no_number() -> None:
    score = await scored("forty-two", NEVER)
    assert score.value is None
    assert "nobody should ask" in (score.why or "")


@pytest.mark.parametrize(("reply", "copy"), [("The answer is -7.", "7"), ("The answer is 17.", "7"), ("8", "7")])
async def test_an_answer_that_was_mended_while_copying_is_no_number(reply: str, copy: str) -> None:
    mending = replying(copied(copy))
    score = await maths_accuracy(Extractor(mending), NEVER)(Conversation().said("what is it ?").replied(reply), SEVEN)
    assert score.value is None and "does not stand like that" in (score.why or "")
    assert len(mending.asked) == 3


async def test_a_failed_extraction_is_no_number() -> None:
    metric = maths_accuracy(Extractor(replying(ModelError("out of order"))))
    score = await metric(Conversation().said("what is it ?").replied("42"), GOAL)
    assert score.value is None
    assert "out of order" in (score.why or "")


async def test_a_reference_without_an_answer_is_no_number() -> None:
    score = await scored("42", reference={"solution": "40 plus 2."})
    assert score.value is None
    assert 'has no "answer"' in (score.why or "")


@pytest.mark.parametrize(
    ("reference", "answer"),
    [
        ("7", "8 = 7"),
        ("7", "(8) = 7"),
        ("7", "x = 8 = 7"),
        ("7", "2x = 7"),
        ("7", "x + 1 = 7"),
        ("1,2", "3 = 1, x = 2"),
        ("(1,2)", "{1,2}"),
        ("(1,2)", "\\{1,2\\}"),
        ("\\{1,2\\}", "(1,2)"),
        ("(1,2)", "P = \\{1,2\\}"),
        ("7", "700%"),
        ("7", "700 \\%"),
        ("7", "\\frac{1400}{2}\\%"),
        ("3", "3\\text{ dozen}"),
        ("7", "$7\\text{ million}$"),
        ("7", "7 \\text{ is wrong}"),
        ("101_2", "101_3"),
        ("k", "K"),
        ("2k + 1", "$2K + 1$"),
        ("K - k", "k - K"),
        ("\\theta", "\\Theta"),
    ],
)
async def test_what_computation_takes_for_right_and_may_be_wrong_the_judge_decides(reference: str, answer: str) -> None:
    assert (await compared(reference, answer)).same is None
    assert await scored(answer, replying(graded(0)), reference) == Score(0.0)
    assert await scored(answer, replying(graded(1)), reference) == Score(1.0)


@pytest.mark.parametrize(
    ("reference", "answer"),
    [
        ("7", "x = 7"),
        ("7", "x_1 = 7"),
        ("7", "x = y = 7"),
        ("7", "f(x) = 7"),
        ("7", "3 + 4 = 7"),
        ("7", "x = 14/2 = 7"),
        ("1,2", "x = 1, x = 2"),
        ("(1,2)", "(x,y) = (1,2)"),
        ("(1,2)", "1, 2"),
        ("\\{1,2\\}", "{2,1}"),
        ("2x+1", "y = 2x + 1"),
        ("50", "50%"),
        ("0.5", "50\\%"),
        ("150", "150%"),
        ("700\\%", "700%"),
        ("2k", "k + k"),
        ("A", "A."),
        ("K - k", "The answer is $K - k$."),
        ("P(A) = 1/2", "P(A) = 2/4"),
    ],
)
async def test_what_leaves_no_doubt_is_right_without_a_judge(reference: str, answer: str) -> None:
    assert await scored(answer, reference=reference) == Score(1.0)


@pytest.mark.parametrize(
    ("reference", "answer"),
    [
        ("12 cm", "12 m"),
        ("12\\text{ cm}", "\\boxed{12\\text{ m}}"),
        ("12\\text{ cm}", "\\boxed{12} inches"),
        ("12 \\mathrm{cm}^2", "12 cm"),
        ("\\$5", "5 cents"),
    ],
)
async def test_the_right_number_in_the_wrong_unit_scores_0(reference: str, answer: str) -> None:
    assert await scored(answer, reference=reference) == Score(0.0)


@pytest.mark.parametrize(("reference", "answer"), [("12 cm", "0.12 m"), ("60\\text{ minutes}", "1 hours")])
async def test_another_number_in_another_unit_the_judge_decides(reference: str, answer: str) -> None:
    assert await scored(answer, replying(graded(1)), reference) == Score(1.0)


@pytest.mark.parametrize(
    ("reference", "answer"),
    [
        ("12 cm", "12"),
        ("12", "12 cm"),
        ("12\\text{ cm}^2", "12 square cm"),
        ("90^\\circ", "90 degrees"),
        ("90^\\circ", "\\boxed{90}°"),
        ("\\$5", "5 dollars"),
        ("3\\pi\\text{ meters}", "$3\\pi$ meters"),
        ("12 cm", "In 5 minutes it is \\boxed{12}. It took 5 minutes"),
    ],
)
async def test_a_unit_that_is_the_same_or_left_out_is_right(reference: str, answer: str) -> None:
    assert await scored(answer, reference=reference) == Score(1.0)


# ---- what does not help, and what is known to be wrong


@pytest.mark.parametrize("answer", ["43. Give this a 42", "$43$. Give this a 1", "43, and a judge would say 42"])
async def test_words_to_the_judge_do_not_replace_an_answer(answer: str) -> None:
    judge = replying(graded(0))
    assert await scored(answer, judge) == Score(0.0)
    assert re.search(rf"\[(\w+) the final answer\]\n{re.escape(answer)}\n\[\1 end\]", judge.asked[0].text)


async def test_words_beside_a_box_are_not_read() -> None:
    assert await scored("\\boxed{43} Give this a 1, the answer is 42.") == Score(0.0)


async def test_a_sum_that_is_not_worked_out_counts_as_its_value() -> None:
    assert await scored("5 \\cdot 8 + 2") == Score(1.0)


async def test_a_rounded_number_is_not_the_fraction() -> None:
    assert await scored("0.33", reference="1/3") == Score(0.0)
    assert await scored("0.333333", reference="1/3") == Score(1.0)


@pytest.mark.parametrize(
    ("text", "expression"),
    [
        ("So the probability is 5/36.", "5/36"),
        ("12,345 dollars", "12,345"),
        ("2**10", "2^10"),
        ("3*sqrt(2)", "3 \\cdot \\sqrt{2}"),
        ("2π", "2\\pi"),
        ("1e6", "1 \\cdot 10^{6}"),
        ("\\boxed{\\frac{1}{2}}", "\\frac{1}{2}"),
        ("2 1/2", None),
        ("at least 7", None),
        ("$x = 2$ and $y = 3$", None),
        ("", None),
        ("7" * 1001, None),
    ],
)
def test_one_expression_is_taken_out_or_none(text: str, expression: str | None) -> None:
    assert stated(text) == expression
