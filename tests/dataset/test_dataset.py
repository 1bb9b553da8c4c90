from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from duologue.adaptive import AdaptiveReward, Choice
from duologue.conversation import Conversation, Ending, Goal, Message, Request
from duologue.dataset import (
    REDRAWS,
    Candidate,
    Group,
    Pair,
    Row,
    Visit,
    best_replies,
    build,
    explore,
    pairs,
    pooled_variance,
    random_depth,
    reward_each,
    row_of,
    rows,
    visits,
)
from duologue.errors import ContextOverflow, DataError, ModelError
from duologue.journal import Entry, Journal
from duologue.metrics import Weighted
from duologue.models.base import Reply, Sampling, Usage
from duologue.reward import MultiturnReward, Reward
from duologue.seeding import derive
from duologue.simulation import Assistant
from duologue.tasks import Task
from scripted_world import Babbler, Chatterer, length, luck, pause, prefix, shuffled

GOALS = tuple(Goal(f"g{i}", Request(f"buy {i} apples")) for i in range(5))


def row(*candidates: tuple[str, Sequence[float | None]], goal: str = "g", cut: Sequence[str] = ()) -> Row:
    made = tuple(Candidate(text, tuple(values), text in cut) for text, values in candidates)
    return Row("groceries", goal, 0, (Message("user", "hello"),), made)


def task_of(user: Chatterer | None = None, name: str = "small") -> Task:
    return Task(
        name=name,
        summary="",
        goal_maker=lambda split: GOALS,
        profiles={"train": lambda request, seed: user or Chatterer(last=3)},
        metrics={"luck": Weighted(luck), "length": Weighted(length)},
    )


def partners_of(model: Any, samples: int = 2) -> Any:
    def partners(task: Task) -> tuple[Assistant, MultiturnReward]:
        assistant = Assistant(model)
        return assistant, MultiturnReward(assistant, task.user, task.metrics, samples, 1)

    return partners


# ---- pairs --------------------------------------------------------------------------------------------------


def test_the_pair_is_chosen_on_one_half_and_its_gap_measured_on_the_other() -> None:
    #                       chooses     measures
    found, counts = pairs(
        [row(("best", (3.0, 3.0, 2.0, 2.0)), ("worst", (0.0, 0.0, 1.0, 1.5)), ("mid", (1.0, 1.0, 9.0, 9.0)))],
        min_gap=0.0,
        noise=0.0,
    )
    assert found == [Pair("groceries", (Message("user", "hello"),), "best", "worst", gap=0.75)]
    assert (counts.rows, counts.kept, counts.tied, counts.within_noise) == (1, 1, 0, 0)


def test_a_choice_that_the_other_half_does_not_confirm_is_within_noise() -> None:
    found, counts = pairs([row(("a", (3.0, 1.0)), ("b", (0.0, 2.0)))], min_gap=0.0, noise=0.0)
    assert found == []
    assert counts.within_noise == 1


def test_a_gap_must_exceed_the_least_gap() -> None:
    one = [row(("a", (1.0, 1.0)), ("b", (0.5, 0.5)))]
    assert len(pairs(one, min_gap=0.49, noise=0.0)[0]) == 1
    assert len(pairs(one, min_gap=0.5, noise=0.0)[0]) == 0


def test_a_gap_must_exceed_the_noise_of_the_paired_difference() -> None:
    # Differences 4, 0, 2, 2 in one row, 0.1 in every look-ahead of the other: variance 8/3 and 0, pooled 8/6;
    # the standard error of a mean of two is sqrt(8/12) = 0.816.
    wide = row(("a", (4.0, 0.0, 2.0, 2.0)), ("b", (0.0,) * 4))
    narrow = row(("c", (0.1,) * 4), ("d", (0.0,) * 4), goal="h")
    found, counts = pairs([wide, narrow], min_gap=0.0, noise=1.0)
    assert [pair.chosen for pair in found] == ["a"]
    assert counts.within_noise == 1
    assert [pair.chosen for pair in pairs([wide, narrow], min_gap=0.0, noise=2.5)[0]] == []
    assert [pair.chosen for pair in pairs([narrow], min_gap=0.0, noise=2.5)[0]] == ["c"]


def test_luck_that_both_replies_met_is_no_noise() -> None:
    shared = random.Random(0).choices((-10.0, 10.0), k=6)
    one = row(("a", [value + 1.0 for value in shared]), ("b", shared))
    (pair,) = pairs([one], min_gap=0.0, noise=1.0)[0]
    assert pair.gap == pytest.approx(1.0)


def test_several_pairs_a_row_take_best_with_worst_and_second_with_last_but_one() -> None:
    four = row(("a", (4.0, 4.0)), ("b", (3.0, 3.0)), ("c", (2.0, 2.0)), ("d", (1.0, 1.0)))
    found, _ = pairs([four], min_gap=0.0, noise=0.0, per_row=2)
    assert [(pair.chosen, pair.rejected) for pair in found] == [("a", "d"), ("b", "c")]
    assert len(pairs([four], min_gap=0.0, noise=0.0, per_row=9)[0]) == 2


def test_identical_texts_never_pair() -> None:
    found, counts = pairs([row(("same", (3.0, 3.0)), ("same", (0.0, 0.0)))], min_gap=0.0, noise=0.0)
    assert found == []
    assert counts.tied == 1


def test_equal_candidates_are_tied() -> None:
    assert pairs([row(("a", (1.0, 2.0)), ("b", (1.0, 0.0)))], min_gap=0.0, noise=0.0)[1].tied == 1
    assert pairs([row(("alone", (1.0, 2.0)))], min_gap=0.0, noise=0.0)[1].tied == 1
    assert pairs([row()], min_gap=0.0, noise=0.0)[1].tied == 1


def test_a_lost_look_ahead_leaves_both_replies_of_its_pair() -> None:
    one = row(("a", (5.0, 5.0, 5.0, 2.0, None, 2.0)), ("b", (0.0, 0.0, 0.0, 1.0, 9.0, 1.0)))
    (pair,) = pairs([one], min_gap=0.0, noise=0.0)[0]
    assert pair.gap == 1.0


def test_a_reply_that_lost_more_than_a_third_of_its_look_aheads_is_not_trained_on() -> None:
    lossy = row(("a", (9.0, 9.0, None, None)), ("b", (1.0, 1.0, 1.0, 1.0)), ("c", (0.0, 0.0, 0.0, 0.0)))
    (pair,) = pairs([lossy], min_gap=0.0, noise=0.0)[0]
    assert (pair.chosen, pair.rejected) == ("b", "c")
    assert [reply.text for _, reply in best_replies([lossy])] == ["b"]


def test_a_cut_reply_may_be_rejected_and_is_never_chosen() -> None:
    best_is_cut = row(("a", (9.0, 9.0)), ("b", (1.0, 1.0)), ("c", (0.0, 0.0)), cut=["a"])
    assert [(p.chosen, p.rejected) for p in pairs([best_is_cut], min_gap=0.0, noise=0.0)[0]] == [("b", "c")]
    worst_is_cut = row(("a", (9.0, 9.0)), ("b", (1.0, 1.0)), cut=["b"])
    assert [(p.chosen, p.rejected) for p in pairs([worst_is_cut], min_gap=0.0, noise=0.0)[0]] == [("a", "b")]
    assert [reply.text for _, reply in best_replies([best_is_cut])] == ["b"]


def test_one_look_ahead_cannot_choose_and_measure() -> None:
    with pytest.raises(DataError, match="two look-aheads"):
        pairs([row(("a", (1.0,)), ("b", (0.0,)))], min_gap=0.0, noise=0.0)


def noise_alone(seed: int, count: int, *, samples: int = 6, difference: float = 0.0) -> list[Row]:
    """Rows of six replies; the first is better than the others by `difference`."""
    draws = random.Random(seed)
    made: list[Row] = []
    for number in range(count):
        shared = [draws.gauss(0, 1) for _ in range(samples)]
        candidates = [
            (str(i), [luck + draws.gauss(0, 1) + (difference if i == 0 else 0.0) for luck in shared]) for i in range(6)
        ]
        made.append(row(*candidates, goal=str(number)))
    return made


def test_under_no_true_difference_the_measured_gap_is_unbiased_and_few_pairs_pass() -> None:
    made = noise_alone(seed=1, count=2000)
    every = pairs(made, min_gap=-100.0, noise=-100.0)[0]
    mean = sum(pair.gap for pair in every) / len(every)
    # A gap is a mean of three differences of variance 2; its mean over 2000 has a standard error of 0.018.
    assert len(every) == 2000
    assert abs(mean) < 3 * 0.0183
    kept = pairs(made, min_gap=0.1, noise=1.0)[1].kept
    assert kept / 2000 < 0.16  # a normal draw exceeds one standard error in 15.9 %


def test_the_gap_on_the_choosing_half_would_have_found_a_difference_in_noise() -> None:
    made = noise_alone(seed=1, count=500)
    turned = [replace(r, candidates=tuple(replace(c, values=c.values[:3] * 2) for c in r.candidates)) for r in made]
    assert pairs(turned, min_gap=0.1, noise=1.0)[1].kept / 500 > 0.85


def test_a_true_difference_is_found() -> None:
    found, counts = pairs(noise_alone(seed=2, count=300, difference=5.0), min_gap=0.1, noise=1.0)
    assert counts.kept > 290
    assert all(pair.chosen == "0" for pair in found)


@given(st.randoms(use_true_random=False))
def test_the_order_of_rows_makes_no_difference(order: random.Random) -> None:
    made = noise_alone(seed=3, count=12, samples=4)
    mixed = list(made)
    order.shuffle(mixed)
    one, other = pairs(made, min_gap=0.1, noise=1.0, per_row=2), pairs(mixed, min_gap=0.1, noise=1.0, per_row=2)
    assert sorted(one[0], key=repr) == sorted(other[0], key=repr)
    assert one[1] == other[1]


def test_the_pooled_variance_is_that_within_groups() -> None:
    assert pooled_variance([[1.0, 3.0], [100.0, 104.0]]) == 5.0
    assert pooled_variance([[1.0], [5.0], []]) == 0.0
    assert pooled_variance([[1.0, 3.0], [9.0]]) == 2.0


def test_the_best_reply_of_equal_ones_is_none() -> None:
    assert best_replies([row(("a", (1.0, 1.0)), ("b", (1.0, 1.0)))]) == []
    assert best_replies([row(("a", (1.0, 1.0)))]) == []
    assert best_replies([row()]) == []


# ---- groups -------------------------------------------------------------------------------------------------


async def test_candidates_equal_by_text_share_one_reward() -> None:
    model = Babbler(text="apple")
    assistant, reward = partners_of(model, samples=3)(task := task_of())
    group = await explore(assistant, task, reward, GOALS[0], depth=0, candidates=4, seed=7)
    assert len(group.replies) == 4
    assert all(found is group.rewards[0] for found in group.rewards)
    assert len(model.read) == 4 + 3
    assert [c.text for c in row_of(group).candidates] == ["apple"]


async def test_a_cut_reply_and_a_whole_one_of_the_same_text_are_two() -> None:
    _, reward = partners_of(Babbler())(task_of())
    replies = [Reply("apple"), Reply("apple", finish="length"), Reply("apple")]
    whole, cut, again = await reward_each(reward, GOALS[0], prefix(0), replies, seed=1)
    assert whole is again
    assert whole is not cut


async def test_a_cut_candidate_and_a_whole_one_of_the_same_text_keep_their_rewards() -> None:
    replies = (Reply("apple", ids=(1, 9)), Reply("apple", finish="length", ids=(1,)), Reply("apple", ids=(1, 8)))
    rewards = tuple(Reward(value, None, (value,), {}, (), ()) for value in (1.0, 0.0, 1.0))
    group = Group("small", GOALS[0], 7, prefix(0), replies, rewards)

    whole, cut = row_of(group).candidates

    assert (whole.text, whole.values, whole.cut, whole.ids) == ("apple", (1.0,), False, (1, 9))
    assert (cut.text, cut.values, cut.cut, cut.ids) == ("apple", (0.0,), True, (1,))


async def test_a_prefix_that_failed_gives_a_group_with_its_reason() -> None:
    task = task_of(Chatterer(fails=lambda seed: True))
    assistant, reward = partners_of(Babbler())(task)
    group = await explore(assistant, task, reward, GOALS[0], depth=2, candidates=3, seed=7)
    assert group.failed == "the user's model: no answer from the user's server"
    assert (group.replies, group.rewards) == ((), ())


async def test_candidates_that_cannot_be_drawn_give_a_group_with_its_reason() -> None:
    task = task_of()
    model = Babbler(error=ModelError("the server went away"))
    assistant, reward = partners_of(model)(task)
    group = await explore(assistant, task, reward, GOALS[0], depth=0, candidates=3, seed=7)
    assert group.failed == "the assistant's model: the server went away"
    assert len(model.seeds) == len(set(model.seeds)) == 3 * (1 + REDRAWS)


async def test_a_state_that_cannot_be_played_is_drawn_again_with_another_user() -> None:
    task = task_of()
    met: list[int] = []
    broken = Chatterer(fails=lambda seed: True)

    def user(request: Request, seed: int) -> Chatterer:
        met.append(seed)
        return broken if seed == 7 else Chatterer(last=3)

    task = replace(task, profiles={"train": user})
    assistant, reward = partners_of(Babbler())(task)
    group = await explore(assistant, task, reward, GOALS[0], depth=0, candidates=3, seed=7)
    assert group.failed is None
    assert (met[0], group.visit) == (7, derive(7, "redraw", 1))


class Short:
    """A model whose context holds so many messages, the reply left out."""

    def __init__(self, messages: int) -> None:
        self._messages, self._model = messages, Babbler()

    async def reply(self, messages: Sequence[Message], *, seed: int, sampling: Sampling) -> Reply:
        if len(messages) > self._messages:
            raise ContextOverflow(f"{len(messages)} messages are too long")
        return await self._model.reply(messages, seed=seed, sampling=sampling)

    def count_tokens(self, text: str) -> int:
        return self._model.count_tokens(text)


async def test_a_prefix_without_room_for_a_reply_is_taken_back_to_one_with_room() -> None:
    task = task_of(Chatterer())
    assistant, reward = partners_of(Short(3))(task)
    group = await explore(assistant, task, reward, GOALS[0], depth=2, candidates=3, seed=7)
    assert group.failed is None
    assert [m.role for m in group.prefix.messages] == ["user", "assistant", "user"]
    assert group.prefix.ending is Ending.OPEN
    assert len(group.replies) == 3


async def test_a_first_message_without_room_for_a_reply_is_a_state_that_failed() -> None:
    task = task_of(Chatterer())
    assistant, reward = partners_of(Short(0))(task)
    group = await explore(assistant, task, reward, GOALS[0], depth=0, candidates=3, seed=7)
    assert group.failed == "the assistant's model: 1 messages are too long"


def test_half_the_states_are_first_turns() -> None:
    depths = [random_depth(seed, 4) for seed in range(2000)]
    assert 0.45 < sum(depth == 0 for depth in depths) / 2000 < 0.55
    assert set(depths) == {0, 1, 2, 3, 4}
    assert {random_depth(seed, 0) for seed in range(20)} == {0}


def test_visits_take_the_tasks_in_turn_and_every_goal_before_any_twice() -> None:
    tasks = [task_of(name="one"), task_of(name="two")]
    planned = visits(tasks, 20, deepest=2, seed=3)
    assert [visit.task.name for visit in planned] == ["one", "two"] * 10
    first = [visit.goal.id for visit in planned if visit.task.name == "one"]
    assert sorted(first[:5]) == sorted(first[5:]) == [goal.id for goal in GOALS]
    assert len({visit.seed for visit in planned}) == 20
    assert visits(tasks, 20, deepest=2, seed=3) == planned
    assert visits(tasks, 8, deepest=2, seed=3) == planned[:8]


def test_a_row_is_read_back_as_it_was_written() -> None:
    one = row(("a", (1.0, None)), ("b", (0.25, 3.0)), cut=["b"])
    assert Row.from_json(one.to_json()) == one


# ---- adaptive look-aheads -----------------------------------------------------------------------------------


def chosen(
    pair: tuple[int, int] | None, better: Sequence[float | None] = (), worse: Sequence[float | None] = ()
) -> Row:
    """A row of adaptive look-aheads: unequal numbers of values, the pair's gap measured on fresh ones."""
    one = row(("a", (9.0, 8.0)), ("b", (5.0, 7.0, 9.0, 8.0)), ("c", (0.0, 1.0, 2.0)))
    return replace(one, choice=Choice(pair, (tuple(better), tuple(worse))))


def test_adaptive_look_aheads_choose_and_fresh_ones_measure() -> None:
    (pair,), counts = pairs([chosen((1, 2), (1.0, None, 3.0), (0.5, 9.0, 0.5))], min_gap=0.0, noise=0.0, per_row=3)
    assert (pair.chosen, pair.rejected, pair.gap) == ("b", "c", 1.5)
    assert (counts.kept, counts.tied, counts.within_noise) == (1, 0, 0)


def test_a_choice_that_fresh_look_aheads_do_not_confirm_is_within_noise() -> None:
    found, counts = pairs([chosen((1, 2), (1.0, 0.0), (0.0, 1.5))], min_gap=0.0, noise=0.0)
    assert found == []
    assert counts.within_noise == 1


def test_the_noise_of_an_adaptive_pair_is_that_of_its_fresh_look_aheads() -> None:
    # Differences 4, 0: variance 8, standard error of their mean 2, which is the gap.
    one = chosen((1, 2), (4.0, 0.0), (0.0, 0.0))
    assert len(pairs([one], min_gap=0.0, noise=0.99)[0]) == 1
    assert len(pairs([one], min_gap=0.0, noise=1.01)[0]) == 0


def test_a_row_in_which_nothing_was_chosen_or_measured_is_tied() -> None:
    assert pairs([chosen(None), chosen((1, 2), (None,), (1.0,))], min_gap=0.0, noise=0.0)[1].tied == 2


def test_an_adaptive_pair_that_was_never_measured_is_refused() -> None:
    with pytest.raises(DataError, match="fresh ones"):
        pairs([chosen((1, 2))], min_gap=0.0, noise=0.0)


def test_the_best_reply_of_an_adaptive_row_is_the_one_chosen() -> None:
    assert [reply.text for _, reply in best_replies([chosen((1, 2)), chosen(None)])] == ["b"]


@pytest.mark.parametrize("one", [chosen((1, 2), (1.0, None), (0.5, 2.0)), chosen(None)])
def test_an_adaptive_row_is_read_back_as_it_was_written(one: Row, tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    journal.append("key", "row", one.to_json())
    (entry,) = journal.read("row")
    assert Row.from_json(entry.value) == one


def adaptively(model: Any) -> Any:
    """Partners whose rewards are adaptive."""

    def partners(task: Task) -> tuple[Assistant, AdaptiveReward]:
        assistant = Assistant(model)
        return assistant, AdaptiveReward(MultiturnReward(assistant, task.user, task.metrics, window=1))

    return partners


async def test_a_group_carries_what_adaptive_look_aheads_chose() -> None:
    assistant, reward = adaptively(Babbler())(task := task_of())
    group = await explore(assistant, task, reward, GOALS[0], depth=0, candidates=6, seed=7)
    one = row_of(group)
    assert one.choice == group.choice
    assert one.choice is not None and one.choice.pair is not None
    best, worst = (one.candidates[place] for place in one.choice.pair)
    means = [mean for c in one.candidates if (mean := c.mean(range(len(c.values)))) is not None]
    assert (best.mean(range(len(best.values))), worst.mean(range(len(worst.values)))) == (max(means), min(means))


async def test_an_adaptive_build_that_was_cut_short_makes_the_rows_of_one_that_was_not(tmp_path: Path) -> None:
    planned = plan(12)
    entries: list[list[Any]] = []
    for name, stops in (("whole", (None,)), ("parts", (2, 7, None))):
        for stop_at in stops:
            journal = Journal(tmp_path / f"{name}.jsonl")
            model = Babbler(pauses=shuffled(stop_at or 0))
            await built(planned, model, journal, stop_at=stop_at, partners=adaptively(model))
        entries.append(timeless(Journal(tmp_path / f"{name}.jsonl")))
    assert len(entries[0]) == 12
    assert entries[0] == entries[1]


# ---- building -----------------------------------------------------------------------------------------------


def plan(count: int, task: Task | None = None) -> list[Visit]:
    return visits([task or task_of()], count, deepest=2, seed=1)


async def built(
    planned: Sequence[Visit], model: Any, journal: Journal, *, stop_at: int | None = None, partners: Any = None
) -> list[int]:
    steps: list[int] = []
    partners = partners or partners_of(model)
    work = build(planned, partners, candidates=3, journal=journal, key="build/dpo/0-dpo", concurrency=4)
    async for done in work:
        steps.append(done)
        if done == stop_at:
            await work.aclose()  # type: ignore[attr-defined]
            break
    return steps


def timeless(journal: Journal) -> list[Entry]:
    """All entries by key, without the seconds they took."""
    return sorted(e._replace(value={k: v for k, v in e.value.items() if k != "seconds"}) for e in journal.read())


async def test_building_journals_a_row_for_every_visit(tmp_path: Path) -> None:
    planned = plan(10)
    journal = Journal(tmp_path / "journal.jsonl")
    assert await built(planned, Babbler(), journal) == list(range(1, 11))
    made = rows(journal, planned, "build/dpo/0-dpo")
    assert [(r.goal, r.visit) for r in made] == [(v.goal.id, v.seed) for v in planned]


async def test_a_build_that_was_cut_short_goes_on_and_asks_nothing_twice(tmp_path: Path) -> None:
    planned = plan(12)
    whole, parts = Babbler(), Babbler()
    journal = Journal(tmp_path / "whole.jsonl")
    await built(planned, whole, journal)
    assert await built(planned, whole, journal) == []
    first = Journal(tmp_path / "parts.jsonl")
    await built(planned, parts, first, stop_at=5)
    recorded = len(first)
    again = Babbler()
    second = Journal(tmp_path / "parts.jsonl")
    assert (await built(planned, again, second))[-1] == 12
    assert timeless(second) == timeless(journal)
    fresh = Journal(tmp_path / "rest.jsonl")
    rest = [v for v in planned if f"build/dpo/0-dpo/{v.goal.id}/{v.seed}" not in set(list(first.keys())[:recorded])]
    counted = Babbler()
    await built(rest, counted, fresh)
    assert len(again.read) == len(counted.read)


class Verbose(Babbler):
    """Says two tokens a reply."""

    async def reply(self, messages: Sequence[Message], *, seed: int, sampling: Sampling) -> Reply:
        said = await super().reply(messages, seed=seed, sampling=sampling)
        return replace(said, usage=Usage(completion=2))


async def test_a_group_counts_the_tokens_of_prefix_candidates_and_look_aheads() -> None:
    model = Verbose()
    assistant, reward = partners_of(model)(task := task_of())
    group = await explore(assistant, task, reward, GOALS[0], depth=1, candidates=3, seed=7)
    assert len(model.read) > 3 + len(group.prefix.replies) > 3
    assert group.sampled == 2 * len(model.read)


async def test_a_state_that_is_drawn_again_counts_what_was_in_vain() -> None:
    model, user = Verbose(), Chatterer(fails=lambda seed: len(user.heard) % 2 == 0)
    assistant, reward = partners_of(model)(task := task_of(user))
    group = await explore(assistant, task, reward, GOALS[0], depth=2, candidates=3, seed=7)
    assert group.failed and group.sampled == 2 * (1 + REDRAWS)


async def test_what_rows_cost_adds_up_to_all_that_was_sampled_and_to_the_time_it_took(tmp_path: Path) -> None:
    model, journal = Verbose(), Journal(tmp_path / "journal.jsonl")
    began = time.monotonic()
    await built(plan(10), model, journal)
    took = time.monotonic() - began
    costs = [(entry.value["sampled_tokens"], entry.value["seconds"]) for entry in journal.read("row")]
    assert sum(tokens for tokens, _ in costs) == 2 * len(model.read)
    assert all(tokens for tokens, _ in costs)
    assert 0 < sum(seconds for _, seconds in costs) <= took


async def test_the_order_of_completion_makes_no_difference(tmp_path: Path) -> None:
    entries: list[list[Any]] = []
    for seed in (1, 2):
        journal = Journal(tmp_path / f"{seed}.jsonl")
        await built(plan(10), Babbler(pauses=shuffled(seed)), journal)
        entries.append(timeless(journal))
    assert entries[0] == entries[1]


async def test_few_tasks_are_alive_however_long_the_plan(tmp_path: Path) -> None:
    most = 0

    class Counting(Babbler):
        async def reply(self, messages: Sequence[Message], *, seed: int, sampling: Sampling) -> Reply:
            nonlocal most
            most = max(most, len(asyncio.all_tasks()))
            await pause(lambda: 2)
            return await super().reply(messages, seed=seed, sampling=sampling)

    await built(plan(400), Counting(), Journal(tmp_path / "journal.jsonl"))
    assert most < 100


async def test_an_error_stops_a_build_and_leaves_nothing_running(tmp_path: Path) -> None:
    model = Babbler(error=ValueError("a fault"), fails=lambda seed: seed % 5 == 0, pauses=shuffled(1))
    with pytest.raises(ValueError, match="a fault"):
        await built(plan(40), model, Journal(tmp_path / "journal.jsonl"))
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_state_that_failed_is_recorded_and_is_no_row(tmp_path: Path) -> None:
    failing = task_of(Chatterer(fails=lambda seed: True))
    planned = plan(3, failing)
    journal = Journal(tmp_path / "journal.jsonl")
    assert await built(planned, Babbler(), journal) == [1, 2, 3]
    assert rows(journal, planned, "build/dpo/0-dpo") == []
    assert [bool(entry.value["failed"]) for entry in journal.read("lost row")] == [True] * 3


async def test_a_state_that_failed_is_explored_again_and_one_that_did_not_is_not(tmp_path: Path) -> None:
    healthy = plan(3)
    journal = Journal(tmp_path / "journal.jsonl")
    await built(plan(3, task_of(Chatterer(fails=lambda seed: True))), Babbler(), journal)
    assert await built(healthy, Babbler(), journal) == [1, 2, 3]
    assert len(rows(journal, healthy, "build/dpo/0-dpo")) == 3
    assert await built(healthy, Babbler(), journal) == []


def test_the_reached_prefix_never_ends_in_a_reply() -> None:
    group_prefix = asyncio.run(_prefix_of(depth=3))
    assert group_prefix.messages[-1].role == "user"


async def _prefix_of(depth: int) -> Conversation:
    task = task_of(Chatterer(last=2))
    assistant, reward = partners_of(Babbler())(task)
    return (await explore(assistant, task, reward, GOALS[0], depth=depth, candidates=2, seed=7)).prefix


def test_rows_that_could_not_be_scored_are_counted_apart_from_ties() -> None:
    lost = Row("t", "g", 0, (), (Candidate("a", (None, None)), Candidate("b", (None, None))))
    tied = Row("t", "h", 0, (), (Candidate("a", (1.0, 1.0)), Candidate("b", (1.0, 1.0))))
    found, counts = pairs([lost, tied, tied], min_gap=0.0, noise=0.0)
    assert not found
    assert (counts.unscored, counts.tied) == (1, 2)
