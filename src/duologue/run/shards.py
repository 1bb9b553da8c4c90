"""Shards: the work of a run divided by goal, for machines that know nothing of each other.

runs/NAME.2-of-8/
    shard              "2/8": what is played in this folder is the second of eight shards
    recipe.toml, journal.jsonl, calls.sqlite
    models, stages     links to those of runs/NAME, where it has any

The shard that holds a goal follows from the goal's id and the number of shards, nothing else. All
conversations about a goal are in one shard, with the seeds and journal keys that they have in the whole run.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from duologue.conversation import Goal
from duologue.errors import RecipeError, RunError
from duologue.evaluation import visits
from duologue.journal import write_atomically
from duologue.seeding import digest

MARK = "shard"
"""The file that says which shard a folder is of."""
SHARED = ("models", "stages")
"""What a shard's folder takes from the whole run's."""


@dataclass(frozen=True)
class Shard:
    """One of so many; the first is 1.

    >>> sum(Shard(index, 3).holds("goal-17") for index in (1, 2, 3))
    1
    """

    index: int
    of: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """A shard from text like "2/8".

        Raises:
            RecipeError: it is none.
        """
        found = re.fullmatch(r"([0-9]+)/([0-9]+)", text.strip())
        shard = cls(int(found[1]), int(found[2])) if found else None
        if shard is None or not 1 <= shard.index <= shard.of:
            raise RecipeError(f'"{text}" is no shard: write 2/8 for the second of eight; they begin with 1/8')
        return shard

    def __str__(self) -> str:
        return f"{self.index}/{self.of}"

    @classmethod
    def holding(cls, goal: str, of: int) -> Shard:
        """The one among so many that holds a goal, by its id."""
        return cls(int(digest(("shard", goal)), 16) % of + 1, of)

    def holds(self, goal: str) -> bool:
        """Whether a goal, by its id, is in this shard."""
        return Shard.holding(goal, self.of) == self

    def part(self, goals: Sequence[Goal], conversations: int) -> tuple[list[Goal], int]:
        """The goals of this shard, and how many of so many conversations are about them.

        Goals are visited in turn, so that many visits to these goals alone are those of the whole.
        """
        mine = [goal for goal in goals if self.holds(goal.id)]
        held = {goal.id for goal in mine}
        return mine, sum(goal.id in held for goal, _ in visits(goals, conversations))

    def folder(self, run: Path) -> Path:
        """The shard's own folder, beside the whole run's."""
        return run.with_name(f"{run.name}.{self.index}-of-{self.of}")


def all_shards(of: int) -> list[Shard]:
    """Every shard of so many."""
    return [Shard(index, of) for index in range(1, of + 1)]


def make_part(place: Path, run: Path, shard: Shard) -> None:
    """A folder to play one shard of a run in, with the run's trained models.

    Raises:
        RunError: the folder cannot be written, or is of another shard.
    """
    place.mkdir(parents=True, exist_ok=True)
    found = shard_of(place)
    if found not in (None, shard):
        raise RunError(f"{place} holds shard {found}, not {shard}: move it away")
    for name in SHARED:
        if (run / name).exists() and not (place / name).exists():
            (place / name).unlink(missing_ok=True)  # a link that leads nowhere any more
            (place / name).symlink_to((run / name).resolve())
    if found is None:
        write_atomically(place / MARK, f"{shard}\n")


def shard_of(folder: Path) -> Shard | None:
    """The shard that a folder is of; None for a whole run's.

    Raises:
        RunError: the file that says so is damaged.
    """
    mark = folder / MARK
    if not mark.exists():
        return None
    try:
        return Shard.parse(mark.read_text())
    except ValueError as error:
        raise RunError(f'{mark} is damaged: {error}; it held a line like "2/8"') from error


def to_play(folder: Path, goals: Sequence[Goal], conversations: int) -> tuple[Sequence[Goal], int]:
    """The goals whose conversations are played in a folder, and how many: all, or those of its shard."""
    shard = shard_of(folder)
    return (goals, conversations) if shard is None else shard.part(goals, conversations)


def label(shard: Shard, of: int, run: str, number: int) -> bytes:
    """What the answer to a line of `duologue reward` begins with where it is a shard's, in place of its "{".

    Args:
        of: lines of the input.
        run: 16 hexadecimal digits that stand for the recipe and the input.
        number: of the line, from 1.
    """
    return f'{{"line":{number},"of":{of},"shard":"{shard}","run":"{run}",'.encode()
