"""What counts as a copy of the assistant's words. A rule gives the text that is taken; None where it is no copy.

- `of_words`, for documents: nine of ten words stand there, each beside a neighbour that it has in the copy. What is
  shorter than ten words stands in one message as it is.
- `exact`, for answers: letter by letter in one message, and no part of a longer number, word or formula.
- `of_program`, for programs: one whole code block of one message; of a message without any, whole lines. Where a later
  message has all of it anew, that one.

White space at the ends of lines, and around, is no part of a text.

Not guarded against: the wrong one of several answers that stand there ("6, 7 or 8"), a document whose signs and
punctuation were mended, lines left out before or after a program that stands in no code block. "It is 7!" is taken for
an exclamation, and "7!" alone, or before more of a formula, for a factorial.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

INVENTED = 0.1
"""Share of a document's words that need not stand in the replies: a mended typo, a number that joins two parts."""
FEW = 10
"""Fewer words than this have none to spare."""

Copied = Callable[[str, Sequence[str]], str | None]
"""(what the model copied, the replies) → the text that is taken; None where it is no copy."""


def exact(text: str, replies: Sequence[str]) -> str | None:
    """A text that stands in one reply letter by letter, and is no part of a longer number, word or formula.

    >>> exact("7 apples", ["So you get 7 apples."])
    '7 apples'
    >>> exact("7", ["It is -7."]), exact("7", ["It is 17."]), exact("7", ["It is 7/2."])
    (None, None, None)
    """
    wanted = _trimmed(text)
    return wanted if wanted and any(_stands(wanted, _trimmed(reply)) for reply in replies) else None


# ---- documents


def of_words(text: str, replies: Sequence[str]) -> str | None:
    """A text in the words of the replies, which may be put together of several.

    >>> of_words("the keys are under the mat", ["Look: the keys are under the mat."])
    'the keys are under the mat'
    >>> of_words("the mat is under the keys", ["Look: the keys are under the mat."]) is None
    True
    """
    words, spaced = _words(text), " ".join(text.split())
    said = [" ".join(reply.split()) for reply in replies]
    if len(words) < FEW:
        return text if spaced and any(_stands(spaced, each) for each in said) else None
    if any(spaced in each for each in said):
        return text
    return text if _strange(words, [_words(reply) for reply in replies]) <= INVENTED * len(words) else None


def _strange(words: Sequence[str], replies: Sequence[Sequence[str]]) -> int:
    """Words that the replies do not have, or not as often, or beside neither of their neighbours."""
    invented = Counter(words) - Counter(word for reply in replies for word in reply)
    known = {pair for reply in replies for pair in pairwise(reply)}
    beside = [False, *(pair in known for pair in pairwise(words)), False]
    return max(invented.total(), sum(not (before or after) for before, after in pairwise(beside)))


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


# ---- programs

_BLOCK = re.compile(
    r"^(?P<indent>[ \t]*)(?P<fence>`{3,}|~{3,})(?P<kind>[^\n`]*)\n(?P<code>.*?)(?:^[ \t]*(?P=fence)[`~]*[ \t]*$|\Z)",
    re.DOTALL | re.MULTILINE,
)
"""A code block, the end of the text being its end where nothing else is."""
PYTHON = ("python", "py", "python3")
"""What a block of Python is called, if anything."""


def only_program(replies: Sequence[str]) -> str | None:
    """The one code block of the last reply that has any.

    None where it has several, there is none, or it does not say that it is Python and those of other replies do.

    >>> only_program(["```python\\nprint(1)\\n```", "Does that help?"])
    'print(1)'
    """
    found = [blocks for reply in replies if (blocks := _blocks(reply))]
    if not found or len(found[-1]) > 1 or (not _named(found[-1]) and any(map(_named, found))):
        return None
    return found[-1][0].code


def programs(reply: str) -> list[str]:
    """What stands in a reply's code blocks that may be Python: those that say so, or else those that say nothing."""
    return [block.code for block in _blocks(reply)]


class _Block(NamedTuple):
    kind: str
    code: str


def _blocks(reply: str) -> list[_Block]:
    found = [_Block(_kind(block["kind"]), _code(block)) for block in _BLOCK.finditer(_unix(reply))]
    there = [block for block in dict.fromkeys(found) if block.code.strip()]
    return [block for block in there if block.kind in PYTHON] or [block for block in there if not block.kind]


def _named(blocks: Sequence[_Block]) -> bool:
    return bool(blocks[0].kind)


def of_program(text: str, replies: Sequence[str]) -> str | None:
    """A program of the replies, as it stands there; what a later reply has anew and complete, from that reply.

    Lines outside of code blocks are none where code blocks hold more than they do.

    >>> of_program("x = 1", ["```\\nx = 1\\n```\\nor\\n```\\nx = 2\\n```"])
    'x = 1'
    >>> of_program("x = 3", ["```\\nx = 1\\n```\\nor\\n```\\nx = 2\\n```"]) is None
    True
    """
    wanted = _trimmed(programs(text)[0] if _BLOCK.fullmatch(_unix(text).strip()) and programs(text) else text)
    if not wanted:
        return None
    for place, reply in reversed([*enumerate(replies)]):
        blocks = programs(reply)
        found = next((block for block in blocks if _trimmed(block) == wanted), None)
        if found is not None or (not blocks and _in_whole_lines(wanted, _trimmed(reply))):
            is_part = found is None and not _holds_any(wanted, replies)
            return None if is_part else _latest(wanted if found is None else found, replies[place + 1 :])
    return None


def _latest(program: str, later: Sequence[str]) -> str | None:
    """A program, or what took its place in later replies; None where several did at a time."""
    for reply in reversed(later):
        if anew := [block for block in programs(reply) if _holds(block, program)]:
            return anew[0] if len(anew) == 1 else None
    return program


def _holds_any(program: str, replies: Sequence[str]) -> bool:
    """Whether a program has all that one in the code blocks has; true where there are none."""
    blocks = [block for reply in replies for block in programs(reply)]
    return not blocks or any(_holds(program, block) for block in blocks)


def _holds(program: str, other: str) -> bool:
    """Whether a program is complete, and defines all that another does."""
    names = _defined(other)
    return bool(names) and names <= _defined(program) and _LEFT_OUT.search(program) is None


_LEFT_OUT = re.compile(r"^[ \t]*(?:#.*)?(?:\.{3}|…)", re.MULTILINE)
"""A line that stands for others: "# … as before"."""


def _defined(program: str) -> set[str]:
    """The functions and classes of a program, or its variables where it has none; nothing where it is not Python."""
    try:
        body = ast.parse(program).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return set()
    made = {each.name for each in body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)}
    targets = (target for each in body if isinstance(each, ast.Assign) for target in each.targets)
    return made or {target.id for target in targets if isinstance(target, ast.Name)}


def _kind(info: str) -> str:
    found = re.search(r"[\w+#-]+", info)
    return found[0].lower() if found else ""


def _code(block: re.Match[str]) -> str:
    """A block's lines, without the indentation that its fence has, too."""
    lines = block["code"].removesuffix("\n").split("\n")
    return "\n".join(re.sub(rf"^[ \t]{{0,{len(block['indent'])}}}", "", line) for line in lines)


def _in_whole_lines(text: str, reply: str) -> bool:
    """Whether a text is lines of a reply from the first letter to the last, or stands there between `…`."""
    return re.search(rf"(?:^|(?<=`)){re.escape(text)}(?:$|(?=`))", reply, re.MULTILINE) is not None


# ---- a text within another

_COMMAND = r"(?:[dt]?frac|sqrt|pi|cdot|times|div|pm|mp|[bp]?mod|choose|over|log|ln|exp|sin|cos|tan|[lg]eq?|[lg]t|neq?)"
_SCALE = r"(?:hundred|thousand|[mbtr]+illion|dozen|halves|thirds|quarters|percent|per cent|squared|cubed|factorial)s?\b"
_SPACE = r"[ \t\u00a0\u2009\u202f]"
_BEFORE = re.compile(
    r"\d[.,:'’]$|\d[ \t]*\*{1,2}$|[^\W_]_+\{?$|[-‐‑−–+±∓/·×÷^√∛][ \t]*(?:\\boxed|[$({\\])*$|"
    r"\\(?!boxed|fbox|text|math)[a-zA-Z]+(?:\{[^{}]*\}|\[[^\[\]]*\])*[{\[]$|~~$|[^\W\d_]\($|"
    rf"\\{_COMMAND}[ \t]*[({{]?$|(?:[<≤≥≠]=?|>=|[<>!]=|(?<![-=])>)[ \t]*[$({{]*$|"
    r"\b(?:minus|negative|plus|divided by|square root of|at (?:least|most)|(?:more|less|fewer|greater) than)[ \t]+$",
    re.IGNORECASE,
)
"""What stands before a part of a longer number or formula: a sign, a decimal point, a command and its brace, a word."""
_AFTER = re.compile(
    r"[.,:]\d|['’]\d|_+[^\W_]|\*{1,2}\d|[ \t]*\\?%|!+(?:[ \t]*[=/·×÷^+−*]|[\w$})\]\\.,;])|"
    r"(?:[)}\]$]|\\\))*[ \t]*(?:[/·×÷^√][ \t]*[\w\\({$]|\*{1,2}\d|[-‐‑−–+±][ \t]*[\d\\(√$])|"
    rf"[ \t]*(?:\\{_COMMAND}(?![a-zA-Z])|[≤≥≠]|!=|[<>](?!/?\w+[ \t]*/?>))|"
    rf"[)}}\]$]*{_SPACE}*(?:\\text\{{)?{_SPACE}*{_SCALE}|{_SPACE}+(?:and (?:an? |one |\d)|or (?:more|less|fewer)\b)|"
    r"[ \t]+(?:plus|minus|times|over|divided by|mod|modulo|choose|to the)[ \t]+[-\d\\(]",
    re.IGNORECASE,
)
_BULLET = re.compile(r"(?:^|\n)[ \t]*[-+–>][ \t]+$|<\w+>$")
"""Signs that are none: of a list, of a quotation, of HTML."""
_GROUP = re.compile(rf"\d{_SPACE}\d")
"""Two numbers that may be one: "7 000", "7 1/2"."""
_TALK = re.compile(r"[^\W\d_]{2}")
"""Without a word before it on its line, a "!" is no exclamation."""


def _stands(text: str, within: str) -> bool:
    return any(_is_whole(text, within, place) for place in _places(text, within))


def _places(text: str, within: str) -> Iterator[int]:
    place = within.find(text)
    while place >= 0:
        yield place
        place = within.find(text, place + 1)


def _is_whole(text: str, within: str, place: int) -> bool:
    """Whether the text at a place is no part of a longer number, word or formula."""
    before, after = within[max(0, place - 80) : place], within[place + len(text) :][:80]
    if _joined(before[-1:], text[0]) or _joined(text[-1], after[:1]):
        return False
    if _GROUP.fullmatch(before[-2:] + text[0]) or _GROUP.fullmatch(text[-1] + after[:2]):
        return False
    if after.startswith("!") and _TALK.search(before.rpartition("\n")[2]) is None:
        return False
    return (_BEFORE.search(before) is None or _BULLET.search(before) is not None) and _AFTER.match(after) is None


def _joined(left: str, right: str) -> bool:
    return bool(re.fullmatch(r"[^\W_]{2}", left + right))


def _trimmed(text: str) -> str:
    """A text without white space at the ends of its lines, and without empty lines around it."""
    return "\n".join(line.rstrip() for line in _unix(text).split("\n")).strip()


def _unix(text: str) -> str:
    return text.replace("\r\n", "\n")
