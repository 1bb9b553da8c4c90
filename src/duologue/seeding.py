"""Seeds: every draw has its own, made from what the draw is for and never from when it happened."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable

Part = str | int | float | None


def derive(seed: int, *parts: Part) -> int:
    """A 63-bit seed from a parent seed and the names of what is drawn.

    >>> derive(0, "user", 1) == derive(0, "user", 1) != derive(0, "user", 2)
    True
    """
    return int(digest((seed, *parts)), 16) >> 1


def digest(parts: Iterable[Part]) -> str:
    """16 hexadecimal digits that stand for a sequence of texts and numbers."""
    text = "".join(f"{type(part).__name__}:{len(str(part))}:{part}" for part in parts)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def generator(seed: int, *parts: Part) -> random.Random:
    """A fresh generator for one draw, or one object's draws."""
    return random.Random(derive(seed, *parts))
