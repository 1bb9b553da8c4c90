"""The hypotheses of an evaluation, and which arms are compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Family:
    """The hypotheses that are tested together, fixed before the data (Holm): `arm` against each other arm.

    Every difference has its p; those of the family have Holm's beside it. Sampled and greedy conversations
    are a family each.
    """

    arm: str = "trained"
    metrics: tuple[str, ...] = ("success", "reward")
    users: tuple[str, ...] = ("train", "unseen")
    base: str = "base"
    """The arm that every other is compared with, too, and where the shares of the oracle begin."""
    oracle: str = "oracle"
    """The reference line; no hypothesis is about it."""
    pairs: tuple[tuple[str, str], ...] | None = None
    """(arm, against), where other arms are compared than these rules say; the hypotheses are those about `arm`."""


def contrasts(arms: Sequence[str], family: Family) -> list[tuple[str, str]]:
    """(arm, against): the family's arm against each other, then each other against the base; or the family's pairs."""
    if family.pairs is not None:
        return [pair for pair in family.pairs if set(pair) <= set(arms)]
    contrasts = [(family.arm, other) for other in arms if other != family.arm] if family.arm in arms else []
    if family.base in arms:
        contrasts += [(other, family.base) for other in arms if other not in (family.base, family.arm)]
    return contrasts
