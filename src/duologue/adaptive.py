"""Adaptive look-aheads: more of them where it is still open which reply is the best and which the worst.

Every candidate starts with `START` look-aheads. After each round, one more goes to the leader and the trailer, and
to either's closest rival where that one is near, until leader l and trailer t are apart or have had `MOST`:

    (m_l − m_t) ÷ (s √(2/n))  ≥  b ÷ n,      n = 2 ÷ (1/n_l + 1/n_t),   b = 2.65 (C − 1)^0.84

with m the means, n the look-aheads and s the spread of a look-ahead (`_spread`). On the left is the difference in
standard errors. Fewer of them are asked for the more look-aheads were spent: what is not apart by then is hardly
worth more. (A test that stops at a boundary, after Wald, Ann. Math. Stat. 16, 1945; leader, trailer and rivals as in
"top two" selection, Russo, Oper. Res. 68, 2020.) It asks whether the best is better than the worst, not whether
they are the very best and worst: that is what makes few look-aheads enough. The numbers were fitted with
`benchmarks/adaptive.py`: a candidate takes 3.9 look-aheads on average where noise is twice the signal, 3 to 3.8
where it is below the signal, 4.5 to 5.5 where all replies are worth the same.

What is asked for depends on the state's own values alone, so neither the order in which look-aheads finish nor
a run that was stopped in between changes it. Stopping on the data biases the means: these look-aheads choose a
pair, and those that measure its gap (`Choice.fresh`) took no part in the choice.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from duologue.conversation import Conversation, Goal
from duologue.errors import RecipeError
from duologue.models.base import Reply
from duologue.reward import LOST_LIMIT, MultiturnReward, Outcome, Reward, summarise
from duologue.simulation import Assistant
from duologue.statistics import FLAT

START = 2
"""Look-aheads of every candidate before any is left out."""
ALIKE = 4
"""Look-aheads of every candidate before all are taken to be alike where all values are equal."""
MOST = 16
"""Look-aheads of a candidate that choose; the sample numbers from here on measure."""
FRESH = 4
"""Look-aheads of either reply of a pair that measure its gap."""
NEAR = 0.12
"""Share of b within which a rival of the leader or the trailer is looked ahead from, too."""
PRIOR = 3
"""Degrees of freedom that each of two guesses counts for in s: see `_spread`."""
USUAL = 0.4
"""The spread of a look-ahead that is guessed at first: of rewards that run from about 0 to about 1."""

Values = Sequence[float | None]
"""A candidate's look-aheads in the order of their sample numbers, None where one was lost."""
LookAhead = Callable[[int, int], Awaitable[float | None]]
"""(candidate, sample number) → a look-ahead's value."""


# ---- The rule ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Standing:
    """Where a candidate stands: its place in the state, and what its look-aheads that counted say."""

    place: int
    may_win: bool
    count: int
    mean: float
    squares: float
    """Σ squared deviations from the mean."""


def boundary(candidates: int) -> float:
    """b: how far apart leader and trailer must be, as `_lead` measures it."""
    return 2.65 * (candidates - 1) ** 0.84


def still_open(values: Sequence[Values], may_win: Sequence[bool]) -> list[int]:
    """The candidates that need one more look-ahead; none where the state is decided.

    Args:
        values: what is known, `START` look-aheads a candidate or more.
        may_win: whether a candidate may be the best; any may be the worst.
    """
    running = _standings(values, may_win)
    ends = _ends(running)
    if ends is None:
        return []
    spread = _spread(running)
    if spread <= FLAT:
        return [c.place for c in running if len(values[c.place]) < ALIKE]
    leader, trailer = ends
    enough = boundary(len(values))
    if _lead(leader, trailer, spread) >= enough:
        return []
    behind = [(_lead(leader, c, spread), c) for c in running if c.may_win and c is not leader]
    before = [(_lead(c, trailer, spread), c) for c in running if c is not trailer]
    rivals = [min(of, key=lambda entry: entry[0]) for of in (behind, before) if of]
    asked = {leader.place, trailer.place, *(c.place for lead, c in rivals if lead <= NEAR * enough)}
    return sorted(place for place in asked if len(values[place]) < MOST)


def best_and_worst(values: Sequence[Values], may_win: Sequence[bool]) -> tuple[int, int] | None:
    """The places of the best candidate and of the worst; None where no reply is better than another."""
    whole = [c for c in _standings(values, may_win) if _lost(values[c.place]) <= LOST_LIMIT * len(values[c.place])]
    ends = _ends(whole)
    return (ends[0].place, ends[1].place) if ends and ends[0].mean > ends[1].mean else None


def _standings(values: Sequence[Values], may_win: Sequence[bool]) -> list[_Standing]:
    """Those that have not lost too much; one lost look-ahead alone does not end a candidate's race."""
    found: list[_Standing] = []
    for place, (row, wins) in enumerate(zip(values, may_win, strict=True)):
        counted = [value for value in row if value is not None]
        if counted and _lost(row) <= max(1, LOST_LIMIT * len(row)):
            mean = math.fsum(counted) / len(counted)
            squares = math.fsum((value - mean) ** 2 for value in counted)
            found.append(_Standing(place, wins, len(counted), mean, squares))
    return found


def _lost(row: Values) -> int:
    return sum(value is None for value in row)


def _ends(running: Sequence[_Standing]) -> tuple[_Standing, _Standing] | None:
    """Leader and trailer; the first of several that are equal."""
    winners = [c for c in running if c.may_win]
    if not winners or len(running) < 2:
        return None
    return max(winners, key=lambda c: c.mean), min(running, key=lambda c: c.mean)


def _lead(one: _Standing, other: _Standing, spread: float) -> float:
    """By how many standard errors one candidate is ahead of another, times n."""
    n = 2 / (1 / one.count + 1 / other.count)
    return (one.mean - other.mean) / (spread * math.sqrt(2 / n)) * n


def _spread(running: Sequence[_Standing]) -> float:
    """s: the spread about the candidates' means, pooled, and drawn towards two guesses.

    Where look-aheads succeed or fail, a few that agree by chance look like no noise at all. So the spread of all
    values, whatever candidate they are of, counts too, and so does the usual one, but as no more than twice the
    spread of all: rewards in another unit, or without noise, do not wait for it. The factor makes up for what a
    spread of few values is off by: one too small ends a race too early.
    """
    count = sum(c.count for c in running)
    freedom = count - len(running)
    if count < 2:
        return math.inf
    middle = math.fsum(c.count * c.mean for c in running) / count
    squares = math.fsum(c.squares for c in running)
    total = (squares + math.fsum(c.count * (c.mean - middle) ** 2 for c in running)) / (count - 1)
    guesses = total + min(USUAL**2, 4 * total)
    return math.sqrt((squares + PRIOR * guesses) / (freedom + 2 * PRIOR) * (1 + 2 / (freedom + PRIOR)))


async def race(look_ahead: LookAhead, may_win: Sequence[bool]) -> list[list[float | None]]:
    """Look ahead until it is decided who is best and who is worst; the values by candidate."""
    values: list[list[float | None]] = [[] for _ in may_win]
    if len(values) < 2 or not any(may_win):
        return values
    asked = [(place, sample) for place in range(len(values)) for sample in range(START)]
    while asked:
        found = await asyncio.gather(*(look_ahead(place, sample) for place, sample in asked))
        for (place, _), value in zip(asked, found, strict=True):
            values[place].append(value)
        asked = [(place, len(values[place])) for place in still_open(values, may_win)]
    return values


# ---- Replies ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Choice:
    """A state's best and worst reply."""

    pair: tuple[int, int] | None
    """Their places among the distinct replies, the best first; None where none is better than another."""
    fresh: tuple[tuple[float | None, ...], tuple[float | None, ...]] = ((), ())
    """Both replies' values in look-aheads that took no part in the choice; the same sample, the same user's luck."""


class AdaptiveReward:
    """Compares a state's replies by adaptive look-aheads.

    Args:
        reward: what looks ahead and scores; its own number of samples is not used.
        fresh: look-aheads of either reply of the pair that measure its gap; 0 where nobody asks for it.

    Raises:
        RecipeError: a single fresh look-ahead, which has no spread, or less than none.
    """

    def __init__(self, reward: MultiturnReward, fresh: int = FRESH) -> None:
        if fresh < 0 or fresh == 1:
            raise RecipeError(f"a gap is measured on two fresh look-aheads or more; fresh is {fresh}")
        self.reward = reward
        self.fresh = fresh

    @property
    def assistant(self) -> Assistant:
        """Who continues the conversations."""
        return self.reward.assistant

    def of(self, assistant: Assistant) -> AdaptiveReward:
        """The same comparison for the replies of another assistant."""
        return AdaptiveReward(self.reward.of(assistant), self.fresh)

    async def __call__(
        self, goal: Goal, conversation: Conversation, replies: Sequence[Reply], *, seed: int
    ) -> tuple[tuple[Reward, ...], Choice]:
        """The replies' rewards, in their order, by the look-aheads that chose; and the choice.

        Equal replies are one candidate. The better reply is a whole one: an end that was cut is not to be learned.
        A reply without another to compare it with is not looked ahead from.
        """
        distinct = {(reply.text, reply.finish): reply for reply in replies}
        candidates = list(distinct.values())
        outcomes: dict[tuple[int, int], Outcome] = {}

        async def look_ahead(place: int, sample: int) -> float | None:
            outcome = await self.reward.outcome(goal, conversation, candidates[place], seed=seed, sample=sample)
            outcomes[place, sample] = outcome
            return outcome.value

        may_win = [reply.finish != "length" for reply in candidates]
        values = await race(look_ahead, may_win)
        made = [summarise([outcomes[place, s] for s in range(len(row))]) for place, row in enumerate(values)]
        by_reply = dict(zip(distinct, made, strict=True))
        choice = await self._measured(look_ahead, best_and_worst(values, may_win))
        return tuple(by_reply[reply.text, reply.finish] for reply in replies), choice

    async def _measured(self, look_ahead: LookAhead, pair: tuple[int, int] | None) -> Choice:
        if pair is None:
            return Choice(None)
        found = await asyncio.gather(*(look_ahead(place, MOST + s) for place in pair for s in range(self.fresh)))
        return Choice(pair, (tuple(found[: self.fresh]), tuple(found[self.fresh :])))
