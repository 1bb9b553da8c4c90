"""Right or wrong of a mathematical answer: by computation where that can tell, by a judge where it cannot.

Compared is the one expression that the final answer states: what is boxed, or else the only formula in it, or else
the whole of it, apart from words that change nothing ("the answer is", units). A sentence of other words, and an
answer of several formulas, are not taken apart but left to the judge: "more than 7", "3 dozen", "7 or 8", "give this
a 1".

The judge is asked, too, where math-verify takes for right what may be wrong: an equation whose sides differ ("8 = 7",
"2x = 7"), a set in place of what has an order, a letter that stands in both cases ("k" and "K" are the same to it), a
percentage above 100 that is right only as a hundredth; and where it takes for wrong what may be right: a value in
another unit than the reference's. The same value in another unit is
wrong ("12 m" for "12 cm"); a unit that only one of the two states changes nothing.

Wrong in known ways: a sum that is not worked out counts as its value (see `duologue.metrics.equality`); a decimal
counts as a fraction only to six places; 50 % counts as 0.5 and as 50.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

from duologue.conversation import Conversation, Goal
from duologue.metrics.base import Metric, Score
from duologue.metrics.equality import LONGEST, Equality, check_installed, equal
from duologue.metrics.extraction import Extractor
from duologue.metrics.judged import accuracy
from duologue.metrics.units import unit
from duologue.models.base import ChatModel

PLAIN = re.compile(
    r"an?|answers?|are|area|cents?|choices|cm|degrees?|dollars?|equals?|exactly|feet|final|get|hence|hours?|in|inches|is|"
    r"its?|km|length|met(?:er|re)s?|minutes?|mm|number|of|outcomes|pairs|probability|result|seconds?|so|solutions?|square|"
    r"sum|the|there|therefore|thus|total|units?|value|ways|we",
    re.IGNORECASE,
)
"""Words beside an expression that leave its value as it is."""

REWRITTEN = (
    (r"(?<!\\)\\[,!;: ]|\\(?:displaystyle|left|right|limits)\b|\{,\}", ""),
    (r"(?<![\\a-zA-Z])sqrt\(([^()]*)\)|√\(([^()]*)\)", r"\\sqrt{\1\2}"),
    (r"√(\d+)", r"\\sqrt{\1}"),
    (r"(?<![\\a-zA-Z])pi(?![a-zA-Z])|π", r"\\pi "),
    (r"(?<![\\a-zA-Z])(?:[ckm]?m|in|ft)\s*(?:\^\s*\{?[23]\}?|[²³])", ""),
    (r"°", r"^\\circ "),
    (r"\*\*", "^"),
    (r"(\d)[eE]([+-]?\d+)", r"\1 \\cdot 10^{\2}"),
    (r"[*×·]", r" \\cdot "),
    (r"[−–]", "-"),
    (r"\\?\$|€|£", ""),
)
"""How expressions are written outside of LaTeX."""

AROUND = " \n\t.,:;="
"""What may stand before and after an expression."""

_MARKED = re.compile(r"\$\$(.+?)\$\$|\$([^$]+?)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)
_WORD = re.compile(r"(?<![\\a-zA-Z])[a-zA-Z]{2,}")
_NAMED = re.compile(r"\\(?:begin|end)\{\w+\}|\\(?:text|mathrm|textbf|mathbf|operatorname)\{[^{}]*\}")
_TEXT = re.compile(r"\\(?:text|mathrm|textbf)\{([^{}]*)\}")
_BASE = re.compile(r"\d\s*_")
"""A number to another base, of which math-verify reads the digits alone."""
_LETTER = r"(?:\\[a-zA-Z]+\s*(?:[A-Z]+|[a-z])?|[A-Z]+|[a-z])'*(?:_\{?\w+\}?)?(?:\s*\([^()]*\))?"
_NAME = re.compile(rf"\s*\(?\s*{_LETTER}(?:\s*,\s*{_LETTER})*\s*\)?\s*")
"""A side of an equation that has no value of its own: "x", "P(A)", "\\angle ABC", "(x, y)"."""
_SYMBOL = re.compile(rf"{_NAMED.pattern}|\\[a-zA-Z]+|[a-zA-Z]")
_SEVERAL = re.compile(r"\d\s+\d|\d\s*:\s+\d|\d\.\s")


def maths_accuracy(extract: Extractor, judge: ChatModel | None = None, artefact: str = "the final answer") -> Metric:
    """Whether the final answer has the value of the reference's: 1 or 0; 0 where the assistant gave none.

    The reference is the answer, or an object whose "answer" it is. math-verify compares; where it cannot tell, the
    judge does, and a grade below 1 is 0. One call to extract, milliseconds to compare (5 s at most), and one call to a
    judge for the rest. None where extraction fails, the reference has no answer, or nobody can tell.

    Raises:
        MissingDependency: math-verify is not installed.
    """
    check_installed()
    judged = accuracy(judge, extract.exact, artefact) if judge is not None else None

    async def score(conversation: Conversation, goal: Goal) -> Score:
        reference = reference_answer(goal)
        if reference is None:
            return Score(None, f'goal {goal.id!r}: its reference is no answer, and has no "answer", to compare with')
        found = await extract.exact(conversation, goal, artefact)
        if found.why is not None:
            return Score(None, found.why)
        if found.text is None:
            return Score(0.0)
        verdict = await compared(reference, found.text)
        if verdict.same is not None:
            return Score(float(verdict.same))
        if judged is None:
            return Score(None, f"{artefact} was not compared ({verdict.why}), and there is no judge")
        grade = await judged(conversation, replace(goal, reference=reference))
        return grade if grade.value is None else Score(float(grade.value == 1.0))

    return score


def reference_answer(goal: Goal) -> str | None:
    """The answer that a goal's reference holds, as text; None where it holds none."""
    reference: Any = goal.reference
    if isinstance(reference, Mapping):
        reference = cast("Mapping[str, Any]", reference).get("answer")
    if isinstance(reference, bool) or not isinstance(reference, str | int | float):
        return None
    return str(reference).strip() or None


async def compared(reference: str, answer: str) -> Equality:
    """Whether an answer, as one says it, has the value of the reference.

    >>> import asyncio
    >>> asyncio.run(compared("3/4", r"The probability is \\(\\frac{6}{8}\\)."))
    Equality(same=True, why='')
    >>> asyncio.run(compared("7", "It is more than 7.")).same is None
    True
    """
    if reference.strip() == answer.strip():
        return Equality(True)
    ours, theirs = stated(f"\\boxed{{{reference.strip(' $')}}}"), stated(answer)
    if ours is None or theirs is None:
        which = "the reference" if ours is None else "the answer"
        return Equality(None, f"{which} is not one expression alone")
    verdict = await equal(ours, theirs)
    units = {unit(reference), unit(answer)}
    if len(units - {None}) == 2 and verdict.same is not None:  # 12 cm are not 12 m, but 60 minutes may be 1 hour
        return Equality(False) if verdict.same else Equality(None, "its unit is another")
    doubt = await _doubt(ours, theirs) if verdict.same else None
    return Equality(None, doubt) if doubt else verdict


async def _doubt(reference: str, answer: str) -> str | None:
    """Why an answer that math-verify takes for the same may be another; None where nothing speaks for that."""
    if reference != answer and _in_both_cases(f"{reference} {answer}"):
        return "a letter stands in both cases"
    if {_brackets(reference), _brackets(answer)} == {"in order", "a set"}:
        return "one is a set, and the other is in order"
    if "=" not in reference and not all([await _holds(equation) for equation in _equations(answer)]):
        return "the sides of its equation differ"
    if "%" in answer and "%" not in reference and not await _is_share(reference, answer):
        return "it is a percentage above 100"
    return None


def _in_both_cases(expressions: str) -> bool:
    """Whether two symbols there differ in case alone."""
    symbols = set(_SYMBOL.findall(expressions))
    return len({symbol.lower() for symbol in symbols}) < len(symbols)


def _brackets(expression: str) -> str | None:
    """What the brackets around the last side say of its parts."""
    side = expression.rpartition("=")[2].strip()
    if re.fullmatch(r"\\\{.*\\\}|\{.*\}", side, re.DOTALL):
        return "a set"
    return "in order" if re.fullmatch(r"[(\[].*[)\]]", side, re.DOTALL) else None


def _equations(expression: str) -> list[str]:
    """The equations of an expression: those of a list, "x = 1, y = 2", or itself; none where there is no "="."""
    if not re.search(r"(?<![<>!:])=", expression):
        return []
    parts = expression.split(",")
    return parts if all("=" in part for part in parts) else [expression]


async def _holds(equation: str) -> bool:
    """Whether the sides of an equation that are more than a name have the same value."""
    sides = [side for side in equation.split("=") if not _NAME.fullmatch(side)]
    return all([(await equal(sides[-1], side)).same for side in sides[:-1]])


async def _is_share(reference: str, answer: str) -> bool:
    """Whether a percentage is at most 100, or has the value without its sign."""
    number = re.sub(r"\\?%", "", answer).rpartition("=")[2]
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*", number)
    return (found is not None and float(found[1]) <= 100) or bool((await equal(reference, number)).same)


def stated(text: str) -> str | None:
    """The one expression that a text states, in LaTeX; None where there is none, or several, or words that may matter.

    >>> stated("So the answer is **12 cm**."), stated(r"$x$ is small, so \\boxed{\\frac12}"), stated("7, not 8")
    ('12', '\\\\frac12', None)
    """
    if len(text) > LONGEST:
        return None
    text = re.sub(r"\*\*(.+?)\*\*|__(.+?)__|`(.+?)`", r" \1\2\3 ", text)
    boxes = set(boxed(text))
    marked = [found[found.lastindex or 0] for found in _MARKED.finditer(text)]
    if boxes:
        return _latex(boxes.pop()) if len(boxes) == 1 else None
    if marked:
        beside = _without_words(_MARKED.sub(" ", text))
        return _latex(marked[0]) if len(marked) == 1 and beside is not None and not beside.strip(AROUND) else None
    alone = _without_words(text) if len(text.split()) > 1 else text
    return None if alone is None else _latex(alone)


def _latex(expression: str) -> str | None:
    """An expression as math-verify reads it; None where it holds words, or says nothing."""
    expression = _rewritten(expression).strip(AROUND)
    bare = _NAMED.sub("", expression)
    named = (word for text in _TEXT.findall(expression) for word in _WORD.findall(text))
    if not all(map(PLAIN.fullmatch, named)) or _BASE.search(expression):
        return None
    if not bare.strip() or any(len(word) > 2 for word in _WORD.findall(bare)) or _SEVERAL.search(expression):
        return None
    return expression


def _without_words(text: str) -> str | None:
    """A text without its plain words; None where it has others."""
    text = _rewritten(text)
    if not all(PLAIN.fullmatch(word) for word in _WORD.findall(_NAMED.sub("", text))):
        return None
    return re.sub(rf"({_NAMED.pattern})|{_WORD.pattern}|\ba(?= \d)", lambda found: found[1] or " ", text)


def _rewritten(text: str) -> str:
    for pattern, replacement in REWRITTEN:
        text = re.sub(pattern, replacement, text)
    return text


def boxed(text: str) -> list[str]:
    """What stands in \\boxed{…}, braces within it included."""
    found: list[str] = []
    for begin in re.finditer(r"\\boxed\s*\{", text):
        depth = 1
        for at in range(begin.end(), len(text)):
            depth += {"{": 1, "}": -1}.get(text[at], 0)
            if depth == 0:
                found.append(text[begin.end() : at].strip())
                break
    return found
