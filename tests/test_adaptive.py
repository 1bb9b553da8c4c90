"""Adaptive look-aheads: more where the ranking is open, none where it is not, the gap measured apart."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from duologue.adaptive import ALIKE, FRESH, MOST, START, AdaptiveReward, best_and_worst, boundary, race, still_open
from duologue.errors import ModelError, RecipeError
from duologue.metrics import Weighted
from duologue.models.base import Reply
from duologue.reward import LOST_LIMIT, MultiturnReward
from scripted_world import GOAL, OPENING, Babbler, Chatterer, babbling, luck, shuffled

VALUE = st.one_of(st.none(), st.floats(-10, 10))
TABLES = st.integers(2, 6).flatmap(
    lambda count: st.lists(st.lists(VALUE, min_size=MOST, max_size=MOST), min_size=count, max_size=count)
)


def raced(table: Sequence[Sequence[float | None]], may_win: Sequence[bool] | None = None) -> list[list[float | None]]:
    """The values that a race asks of a table."""

    async def look_ahead(place: int, sample: int) -> float | None:
        return table[place][sample]

    return asyncio.run(race(look_ahead, may_win or [True] * len(table)))


def noisy(*expected: float, noise: float, seed: int) -> list[list[float]]:
    draws = random.Random(seed)
    return [[mean + draws.gauss(0, noise) for _ in range(MOST)] for mean in expected]


# Who gets more


def test_replies_that_are_far_apart_take_no_more_than_the_first_look_aheads() -> None:
    assert [len(row) for row in raced(noisy(0.0, 1.0, noise=0.01, seed=0))] == [START, START]


def test_replies_that_are_close_take_more() -> None:
    counts = [[len(row) for row in raced(noisy(0.0, 0.1, noise=1.0, seed=seed))] for seed in range(200)]
    assert all(one == other for one, other in counts)
    assert sum(one > START for one, _ in counts) > 50
    assert max(one for one, _ in counts) <= MOST


@pytest.mark.parametrize("count", [2, 6])
def test_where_noise_is_twice_the_signal_half_of_eight_look_aheads_are_enough(count: int) -> None:
    draws = random.Random(count)
    truths = [[draws.gauss(0, 0.25) for _ in range(count)] for _ in range(600)]
    played = [raced(noisy(*truth, noise=0.5, seed=seed)) for seed, truth in enumerate(truths)]
    assert sum(len(row) for values in played for row in values) / (600 * count) == pytest.approx(3.9, abs=0.25)
    pairs = [best_and_worst(values, [True] * count) for values in played]
    right = sum(truth[pair[0]] > truth[pair[1]] for truth, pair in zip(truths, pairs, strict=True) if pair) / 600
    assert right > {2: 0.73, 6: 0.94}[count]


def test_a_reply_in_the_middle_is_left_alone() -> None:
    table = [[1.1, 0.7], [0.5, 0.4], [0.2, -0.4]]
    assert still_open(table, [True] * 3) == [0, 2]


def test_a_close_rival_of_the_best_is_looked_ahead_from_too() -> None:
    table = [[1.1, 0.7], [1.0, 0.78], [0.2, -0.4]]
    assert still_open(table, [True] * 3) == [0, 1, 2]


def test_more_replies_must_be_further_apart() -> None:
    assert [boundary(c) for c in range(2, 9)] == sorted(boundary(c) for c in range(2, 9))


def test_replies_all_of_whose_values_are_equal_are_taken_to_be_alike_before_long() -> None:
    values = raced([[0.5] * MOST] * 3)
    assert [len(row) for row in values] == [ALIKE] * 3
    assert best_and_worst(values, [True] * 3) is None


@pytest.mark.parametrize("unit", [0.001, 1.0, 1000.0])
def test_replies_far_apart_are_so_in_any_unit_of_the_reward(unit: float) -> None:
    table = [[value * unit for value in row] for row in noisy(0.0, 1.0, noise=0.01, seed=0)]
    assert max(len(row) for row in raced(table)) <= START + 1


def test_a_small_difference_between_replies_that_seem_to_have_no_noise_is_looked_at_again() -> None:
    assert still_open([[1.0, 1.01], [0.9, 0.91]], [True] * 2) == [0, 1]


def test_a_lone_reply_is_compared_with_none() -> None:
    assert raced([[1.0] * MOST]) == [[]]
    assert best_and_worst([[]], [True]) is None


@given(TABLES)
@settings(deadline=None)
def test_no_reply_takes_fewer_than_the_first_look_aheads_or_more_than_the_most(table: list[list[float | None]]) -> None:
    assert all(START <= len(row) <= MOST for row in raced(table))


@given(TABLES, st.integers(0, 2**32))
@settings(deadline=None, max_examples=50)
def test_the_order_in_which_look_aheads_finish_makes_no_difference(table: list[list[float | None]], order: int) -> None:
    pauses = shuffled(order)

    async def slow(place: int, sample: int) -> float | None:
        for _ in range(pauses()):
            await asyncio.sleep(0)
        return table[place][sample]

    assert asyncio.run(race(slow, [True] * len(table))) == raced(table)


# Who is best, who is worst


def test_the_best_and_the_worst_are_those_of_the_highest_and_the_lowest_mean() -> None:
    assert best_and_worst([[1.0, 2.0], [5.0, 5.0, 5.0], [0.0, 1.0]], [True] * 3) == (1, 2)


def test_a_cut_reply_may_be_the_worst_and_never_the_best() -> None:
    assert best_and_worst([[9.0, 9.0], [1.0, 1.0], [0.0, 0.0]], [False, True, True]) == (1, 2)
    assert best_and_worst([[9.0, 9.0], [1.0, 1.0]], [True, False]) == (0, 1)
    assert best_and_worst([[9.0, 9.0], [1.0, 1.0]], [False, True]) is None


def test_where_no_reply_is_whole_nothing_is_looked_ahead_from() -> None:
    assert raced([[1.0] * MOST, [0.0] * MOST], [False, False]) == [[], []]


# What was lost


def test_one_lost_look_ahead_does_not_end_a_replys_race() -> None:
    values = raced([[None, *[1.0, 1.1] * MOST], [0.0, 0.1] * MOST])
    assert best_and_worst(values, [True] * 2) == (0, 1)
    assert len(values[0]) > START


def test_a_reply_that_loses_its_look_aheads_is_left_out_soon() -> None:
    values = raced([[None] * MOST, *noisy(0.0, 1.0, noise=0.01, seed=1)])
    assert len(values[0]) == START
    assert best_and_worst(values, [True] * 3) == (2, 1)


@given(TABLES)
@settings(deadline=None)
def test_nobody_is_best_or_worst_who_lost_more_than_a_third(table: list[list[float | None]]) -> None:
    values = raced(table)
    pair = best_and_worst(values, [True] * len(table))
    assert all(values[place].count(None) <= LOST_LIMIT * len(values[place]) for place in pair or ())


# Replies


def adaptive(model: Babbler | None = None, fresh: int = FRESH, user: Chatterer | None = None) -> AdaptiveReward:
    user = user or Chatterer(last=3)
    return AdaptiveReward(MultiturnReward(babbling(model), lambda r, s: user, {"luck": Weighted(luck)}), fresh)


REPLIES = [Reply("apple"), Reply("bread"), Reply("apple"), Reply("cheese"), Reply("cheese", finish="length")]


async def test_replies_meet_the_look_aheads_that_the_reward_alone_would_give() -> None:
    reward = adaptive()
    rewards, choice = await reward(GOAL, OPENING, REPLIES, seed=3)
    assert rewards[0] is rewards[2]
    for reply, found in zip(REPLIES, rewards, strict=True):
        for sample, value in enumerate(found.values):
            assert (await reward.reward.outcome(GOAL, OPENING, reply, seed=3, sample=sample)).value == value
    assert choice.pair is not None


async def test_the_gap_is_measured_on_look_aheads_that_did_not_choose() -> None:
    reward = adaptive()
    rewards, choice = await reward(GOAL, OPENING, REPLIES, seed=3)
    distinct = [REPLIES[0], REPLIES[1], REPLIES[3], REPLIES[4]]
    assert choice.pair is not None
    assert all(len(found.values) <= MOST for found in rewards)
    for place, fresh in zip(choice.pair, choice.fresh, strict=True):
        again = [
            await reward.reward.outcome(GOAL, OPENING, distinct[place], seed=3, sample=MOST + s) for s in range(FRESH)
        ]
        assert list(fresh) == [outcome.value for outcome in again]


async def test_nothing_is_measured_where_nobody_asks_for_it() -> None:
    _, choice = await adaptive(fresh=0)(GOAL, OPENING, REPLIES, seed=3)
    assert choice.pair is not None
    assert choice.fresh == ((), ())


async def test_a_cut_reply_is_not_chosen() -> None:
    for seed in range(10):
        _, choice = await adaptive()(GOAL, OPENING, [Reply("apple", finish="length"), Reply("bread")], seed=seed)
        assert choice.pair in (None, (1, 0))


async def test_a_lone_reply_costs_nothing() -> None:
    model = Babbler()
    rewards, choice = await adaptive(model)(GOAL, OPENING, [Reply("apple")] * 4, seed=3)
    assert model.read == []
    assert choice.pair is None
    assert [found.values for found in rewards] == [()] * 4


async def test_lost_look_aheads_are_none_in_the_values() -> None:
    model = Babbler(error=ModelError("refused"), fails=lambda seed: seed % 6 == 0)
    rewards, _ = await adaptive(model)(GOAL, OPENING, REPLIES, seed=3)
    assert any(None in found.values for found in rewards)
    assert all(found.values.count(None) == len(found.failures) for found in rewards)


@pytest.mark.parametrize("wrong", [-1, 1])
def test_a_gap_without_a_spread_is_refused(wrong: Any) -> None:
    with pytest.raises(RecipeError, match="two fresh look-aheads or more"):
        adaptive(fresh=wrong)
