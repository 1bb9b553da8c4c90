"""What is a copy of the assistant's words, and what was mended, cut or supplied."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from duologue.metrics.copying import exact, of_program, of_words, only_program

LETTER = "Dear Ann, the keys that you asked me about are under the mat beside the back door. Yours, Bo"
PROGRAM = "def busy(blocks):\n    for start, end in blocks:\n        if start < end:\n            yield start"


# ---- answers

BESIDE = [
    *("7 1/2", "7 000", "7\u00a0000", "7'000", "7’000", "1'7", "√7", "∛7", "7√2", "±7", "\\pm 7", "‑7", "minus 7"),
    *("Negative 7", "7! = 5040", "$7!$", "7!/2", "7 million", "7 dozen", "$7$ million", "7\\text{ million}"),
    *("7 percent", "7 squared", "7 and a half", "7 and 1/2", "(7)^2", "(7)/2", "7)/2", "\\boxed{7}^2", "$7$/2"),
    *("sqrt(7)", "log(7)", "\\sqrt 7", "\\log 7", "\\ln(7)", "7\\frac12", "7 \\frac{1}{2}", "7\\sqrt2", "7\\pi"),
    *("{7 \\choose 2}", "7 mod 2", "7 times 2", "7 over 2", "7 plus 2", "x < 7", "x ≤ 7", ">= 7", "≠ 7", "7 < x"),
    *("at least 7", "more than 7", "7 or more", "~~7~~ 8"),
]
"""Numbers and formulas that 7 is a part of."""


@pytest.mark.parametrize(
    ("copy", "reply"),
    [
        ("7", "The answer is 7."),
        ("7", "**7**"),
        ("7", "- 7\n- 8"),
        ("7", "x = 7"),
        ("7", "$7$, so 7"),
        ("7", "\\boxed{7}"),
        ("7", "_7_ it is"),
        ("-7", "It is -7."),
        ("5 - 12 = -7", "5 - 12 = -7"),
        ("7", "It was -7, and now it is 7."),
        ("7 km/h", "that makes 7 km/h"),
        ("\\frac{1}{2}", "\\boxed{\\frac{1}{2}}"),
        ("$7$", "so \\(x\\) is $7$ here"),
        ("3 apples\n2 pears", "You get\n3 apples  \r\n2 pears\r\n"),
        ("Ann's", "it is Ann's."),
        ("7", "The answer is 7!"),
        ("7", "It is **7**!"),
        ("7", "> 7 it is"),
        ("7", "so => 7 <br> it is"),
        ("7", "it happens 7 times"),
        ("7", "Step 1: 7"),
        ("7", "first 2\n7"),
        ("7 1/2", "it is 7 1/2."),
        ("7!", "7! = 5040"),
        ("√7", "so √7"),
    ],
)
def test_an_answer_that_stands_there_as_it_is_is_a_copy(copy: str, reply: str) -> None:
    assert exact(f"\n{copy} ", ["nothing yet", reply]) == copy


@pytest.mark.parametrize(
    ("copy", "reply"),
    [
        ("7", "The answer is -7."),
        ("7", "The answer is − 7."),
        ("7", "x = -$7"),
        ("7", "-\\boxed{7}"),
        ("7", "The answer is 17."),
        ("1", "The answer is 17."),
        ("7", "The answer is 3.7"),
        ("3", "The answer is 3.7"),
        ("007", "That is 1,007 metres."),
        ("7", "7/2"),
        ("2", "7/2"),
        ("7", "7 \\cdot 2"),
        ("7", "7^2"),
        ("7", "2*7"),
        ("7", "7%"),
        ("7", "7 \\%"),
        ("7", "7 + \\sqrt{3}"),
        ("7", "\\sqrt{7}"),
        ("7", "\\frac{1}{7}"),
        ("7", "x_7"),
        ("7", "7x"),
        ("mat", "the matter"),
        ("3 + 4", "3 - 4"),
        ("a < b", "a <= b"),
        ("1, 2", "2, 1"),
        ("7", "six and one"),
        *[("7", f"It is {more}") for more in BESIDE],
        ("1/2", "It is 7 1/2."),
        ("000", "It is 7 000."),
        ("7", "7!"),
        ("7", "x = 7! ways"),
        ("", "7"),
    ],
)
def test_a_part_of_a_longer_number_word_or_formula_and_what_was_mended_is_none(copy: str, reply: str) -> None:
    assert exact(copy, [reply]) is None


def test_an_answer_is_not_put_together_of_two_messages() -> None:
    assert exact("3 apples, 2 pears", ["3 apples,", "2 pears"]) is None
    assert exact("3 apples\n2 pears", ["3 apples", "2 pears"]) is None


@given(st.text(max_size=30), st.text(max_size=60))
def test_what_is_taken_stands_in_a_reply(copy: str, reply: str) -> None:
    for rule in (exact, of_program):
        taken = rule(copy, [reply])
        assert taken is None or taken in "\n".join(line.rstrip() for line in reply.replace("\r\n", "\n").split("\n"))


@given(st.text(min_size=1).filter(str.strip))
def test_a_whole_reply_is_a_copy_of_itself(reply: str) -> None:
    assert exact(reply, [reply]) is not None
    assert of_words(reply, [reply]) is not None


# ---- documents


@pytest.mark.parametrize(
    "copy",
    [
        LETTER,
        LETTER.replace(". ", ".\n\n"),
        LETTER.replace("mat", "rug"),
        LETTER.replace("that you asked me about ", ""),
        "are under the mat",
    ],
)
def test_a_document_may_mend_a_word_and_leave_some_out(copy: str) -> None:
    assert of_words(copy, ["To whom?", f"Gladly:\n{LETTER}\nBetter?"]) == copy


@pytest.mark.parametrize(
    "copy",
    [
        " ".join(reversed(LETTER.split())),
        " ".join(sorted(LETTER.split())),
        LETTER + " Come whenever you like",
        f"{LETTER} {LETTER}",
        "the mat is under the keys",
        "at",
    ],
)
def test_the_same_words_in_another_order_and_more_words_are_no_copy_of_a_document(copy: str) -> None:
    assert of_words(copy, [f"Gladly:\n{LETTER}\nBetter?"]) is None


def test_a_document_is_put_together_of_several_messages() -> None:
    begun, changed = LETTER.removesuffix("Yours, Bo"), "End it thus: Love and kisses, Bo"
    joined = f"{begun}Love and kisses, Bo"
    assert of_words(joined, [LETTER, changed]) == joined


# ---- programs


def fenced(code: str, kind: str = "python", fence: str = "```") -> str:
    return f"{fence}{kind}\n{code}\n{fence}"


@pytest.mark.parametrize(
    ("replies", "program"),
    [
        ([f"There:\n\n{fenced(PROGRAM)}\n\nBetter?"], PROGRAM),
        ([fenced(PROGRAM, "")], PROGRAM),
        ([fenced(PROGRAM, "Python3 title=busy.py")], PROGRAM),
        ([fenced(PROGRAM, fence="~~~")], PROGRAM),
        ([fenced("x = '''\n```\n'''", fence="````")], "x = '''\n```\n'''"),
        ([fenced("x = 1"), fenced("x = 2"), "Better?"], "x = 2"),
        ([f"{fenced('pip install x', 'sh')}\n{fenced('x = 1')}\n{fenced('1', '')}"], "x = 1"),
        ([fenced("x = 1"), fenced("pip install x", "sh")], "x = 1"),
        ([f"{fenced('x = 1')}\n{fenced('x = 1')}"], "x = 1"),
        (["1. So:\n   ```python\n   if x:\n       y = 1\n   ```"], "if x:\n    y = 1"),
        (["```python\nx = (1 +"], "x = (1 +"),
        (["```python\r\nx = 1\r\ny = 2\r\n```\r\n"], "x = 1\ny = 2"),
        ([fenced("x = 1\n")], "x = 1\n"),
    ],
)
def test_the_only_code_block_of_the_last_message_with_any_is_the_program(replies: list[str], program: str) -> None:
    assert only_program(replies) == program


@pytest.mark.parametrize(
    "replies",
    [
        [],
        ["x = 1"],
        [fenced("x = 1"), f"{fenced('x = 2')}\n{fenced('x = 3')}"],
        [fenced("")],
        [fenced("ls", "sh")],
        [fenced("x = 1"), f"It says\n{fenced('1', '')}"],
    ],
)
def test_where_there_are_several_or_none_or_one_in_doubt_a_model_is_asked(replies: list[str]) -> None:
    assert only_program(replies) is None


TWO = f"First\n{fenced(PROGRAM)}\nor\n{fenced('x = 2')}"


@pytest.mark.parametrize("copy", [PROGRAM, f"\n{PROGRAM}\n", fenced(PROGRAM), PROGRAM.replace(":\n", ":  \n")])
def test_a_whole_block_is_a_copy_of_a_program(copy: str) -> None:
    assert of_program(copy, [TWO]) == PROGRAM


@pytest.mark.parametrize(
    "copy",
    [
        PROGRAM.replace("<", "<="),
        PROGRAM.replace("    ", "  "),
        PROGRAM.rpartition("\n")[0],
        f"{PROGRAM}\nx = 2",
        f"{PROGRAM} + 1",
        PROGRAM.removesuffix("start"),
        "",
        "```python\n```",
    ],
)
def test_a_program_that_was_mended_cut_or_put_together_is_no_copy(copy: str) -> None:
    assert of_program(copy, [TWO]) is None


@pytest.mark.parametrize(
    ("copy", "replies", "program"),
    [
        ("x = 1", [fenced("x = 1"), fenced("x = 2")], "x = 2"),
        (PROGRAM, [fenced(PROGRAM), fenced(f"{PROGRAM}, 1"), "Better?"], f"{PROGRAM}, 1"),
        (PROGRAM, [fenced(f"{PROGRAM}, 1"), fenced(PROGRAM)], PROGRAM),
        (PROGRAM, [fenced(PROGRAM), f"Use it:\n{fenced('print(busy([]))')}\n{fenced('y = busy([])')}"], PROGRAM),
        (PROGRAM, [fenced(PROGRAM), fenced("def busy(blocks):\n    # ... as before\n    return []")], PROGRAM),
        (PROGRAM, [fenced(PROGRAM), fenced("def busy(blocks:")], PROGRAM),
        (PROGRAM, [fenced(PROGRAM), TWO.replace("start, end", "a, b")], PROGRAM.replace("start, end", "a, b")),
        (PROGRAM, [fenced(PROGRAM), f"{fenced(PROGRAM + ', 1')}\nor\n{fenced(PROGRAM + ', 2')}"], None),
        ("x = 1", ["Do not write:\nx = 1\nThat is wrong.", fenced("x = 2")], "x = 2"),
        ("x = 1", [fenced(PROGRAM), "Do not write:\nx = 1\nThat is wrong."], None),
        ("That is wrong.", [fenced(PROGRAM), "Do not write:\nx = 1\nThat is wrong."], None),
        (f"{PROGRAM}, 1", [fenced(PROGRAM), f"Take this:\n{PROGRAM}, 1"], f"{PROGRAM}, 1"),
    ],
)
def test_what_a_later_message_has_anew_and_complete_takes_its_place(
    copy: str, replies: list[str], program: str | None
) -> None:
    assert of_program(copy, replies) == program


def test_outside_of_code_blocks_a_program_is_whole_lines() -> None:
    reply = f"Take this:\n\n{PROGRAM} \n\nor `lambda blocks: blocks`."
    assert of_program(PROGRAM, [reply]) == PROGRAM
    assert of_program("lambda blocks: blocks", [reply]) == "lambda blocks: blocks"
    assert of_program(PROGRAM.removesuffix(" start"), [reply]) is None
    assert of_program("blocks", [reply]) is None
