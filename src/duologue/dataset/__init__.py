"""Groups of candidate replies with their rewards, and the data sets that offline training makes of them.

groups        a state, replies to it, their rewards
candidates    replies and rows of them, as a journal keeps them
states        states spread over goals, explored into a journal: what a training stage learns from
preference    pairs and best replies: what stands out of the noise

and for `duologue build`:

settings      `[build]` of a recipe
plan          which conversations are to be made
conversations whole conversations made turn by turn, with candidates at every turn
choosing      which candidate a conversation goes on with
sets          the rows of the sft, preference and prompt sets, split by goal
files         sets on disk
writing       from conversations to files, and what became of everything
published     the layout of the data sets that came with the paper
card, hub     what is told of a data set, and where it is put
"""

from __future__ import annotations

from duologue.dataset.candidates import Candidate, Row, row_of
from duologue.dataset.groups import (
    REDRAWS,
    Counting,
    Group,
    Rewarding,
    explore,
    explore_from,
    random_depth,
    reward_each,
)
from duologue.dataset.preference import Pair, PairCounts, best_replies, pairs, pooled_variance
from duologue.dataset.states import Visit, build, rows, visits

__all__ = [
    "REDRAWS",
    "Candidate",
    "Counting",
    "Group",
    "Pair",
    "PairCounts",
    "Rewarding",
    "Row",
    "Visit",
    "best_replies",
    "build",
    "explore",
    "explore_from",
    "pairs",
    "pooled_variance",
    "random_depth",
    "reward_each",
    "row_of",
    "rows",
    "visits",
]
