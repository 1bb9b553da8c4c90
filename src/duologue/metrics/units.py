"""The unit that a mathematical answer states, which math-verify leaves out.

Known are units of length, area, volume, mass, time, money and angle, and one over another. Of several numbers with
units, the first counts; of an answer in a box, what is in the box or right after it.
"""

from __future__ import annotations

import re

NAMES = {
    r"mm|millimet(?:er|re)s?": "mm",
    r"cm|centimet(?:er|re)s?": "cm",
    r"m|met(?:er|re)s?": "m",
    r"km|kilomet(?:er|re)s?": "km",
    r"in(?!\s+[a-zA-Z])|inch(?:es)?": "inch",
    r"ft|foot|feet": "foot",
    r"yds?|yards?": "yard",
    r"mi|miles?": "mile",
    r"g|grams?": "gram",
    r"kg|kilograms?": "kg",
    r"lbs?|pounds?": "pound",
    r"[lL]|lit(?:er|re)s?": "litre",
    r"m[lL]|millilit(?:er|re)s?": "ml",
    r"s|secs?|seconds?": "second",
    r"mins?|minutes?": "minute",
    r"h|hrs?|hours?": "hour",
    r"days?": "day",
    r"weeks?": "week",
    r"months?": "month",
    r"yrs?|years?": "year",
    r"dollars?|USD": "dollar",
    r"cents?|¢": "cent",
    r"euros?|EUR": "euro",
    r"degrees?|°|\^\s*\\circ": "degree",
    r"rad|radians?": "radian",
}
SIGNS = {"$": "dollar", "€": "euro", "£": "pound"}
"""What stands before a sum."""

_ANY = "|".join(NAMES)
_UNIT = re.compile(
    rf"(?:[\d)]|\\pi|π)\s*(?P<before>sq(?:uare)?|cubic)?\.?\s*(?P<unit>{_ANY})(?![a-zA-Z])"
    rf"\s*(?:\^?\s*(?P<power>[23²³]))?\s*(?:(?:/|per\b)\s*(?P<over>{_ANY})(?![a-zA-Z]))?"
)
_SUM = re.compile(r"(\\\$|[€£])\s*\d")
_POWERS = {"sq": 2, "square": 2, "2": 2, "²": 2, "cubic": 3, "3": 3, "³": 3}
_DRESS = re.compile(r"\\(?:text|mathrm|textbf|boxed)\b|\\[,;:! ()\[\]]|(?<!\\)\$|[{}*~]")
_BOX = re.compile(r"\\boxed\s*\{")

Unit = tuple[str, int, str]
"""Its name, its power, and the name of what it is divided by, or ""."""


def unit(text: str) -> Unit | None:
    """The unit of the number that a text states; None where it states none that is known.

    >>> unit("It is 12 square centimetres."), unit("\\\\boxed{12}\\\\text{ m}"), unit("60 km/h"), unit("7")
    (('cm', 2, ''), ('m', 1, ''), ('km', 1, 'hour'), None)
    """
    *_, last = _BOX.split(text)
    if last == text:
        return _first(text)
    inside, after = _parted(last)
    return _first(inside) or _read(_UNIT.match("0" + _DRESS.sub(" ", after)))


def _parted(text: str) -> tuple[str, str]:
    """What stands before the brace that closes, and after it."""
    depth = 1
    for place, sign in enumerate(text):
        depth += {"{": 1, "}": -1}.get(sign, 0)
        if depth == 0:
            return text[:place], text[place + 1 :]
    return text, ""


def _first(text: str) -> Unit | None:
    if found := _SUM.search(text):
        return SIGNS[found[1][-1]], 1, ""
    return _read(_UNIT.search(_DRESS.sub(" ", text)))


def _read(found: re.Match[str] | None) -> Unit | None:
    if found is None:
        return None
    power = _POWERS.get(found["before"] or found["power"] or "", 1)
    return _name(found["unit"]), power, _name(found["over"]) if found["over"] else ""


def _name(written: str) -> str:
    return next(name for words, name in NAMES.items() if re.fullmatch(words, written))
