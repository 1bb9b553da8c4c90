"""What scripted users share: a language in which a space stands between all words and punctuation marks."""

from __future__ import annotations

import string
from collections.abc import Iterable

MARKS = ".,:?!"


def tokens(text: str) -> list[str]:
    """The words and punctuation marks of any text, in lower case.

    >>> tokens("Which city?")
    ['which', 'city', '?']
    """
    for mark in MARKS:
        text = text.replace(mark, f" {mark} ")
    return text.lower().split()


def spaced(text: str) -> str:
    """A filled template with single spaces, whatever its empty fields left behind."""
    return " ".join(text.split())


def fixed_words(templates: Iterable[str]) -> frozenset[str]:
    """The words of templates, without their fields.

    >>> sorted(fixed_words(["i need {what} ."]))
    ['.', 'i', 'need']
    """
    texts = (literal for template in templates for literal, *_ in string.Formatter().parse(template))
    return frozenset(word for text in texts for word in text.split())
