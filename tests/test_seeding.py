from __future__ import annotations

from hypothesis import given, strategies as st

from duologue.seeding import derive, digest, generator

PART = st.one_of(st.text(), st.integers(), st.none())
PARTS = st.lists(PART, max_size=4)


@given(st.integers(), PARTS)
def test_a_seed_is_the_same_every_time_and_has_63_bits(seed: int, parts: list[str | int | None]) -> None:
    assert derive(seed, *parts) == derive(seed, *parts)
    assert 0 <= derive(seed, *parts) < 2**63


def test_a_seed_is_the_same_on_every_machine_so_that_runs_resume() -> None:
    assert derive(0, "look-ahead", "user", 1) == 91799189760111822


@given(PARTS, PARTS)
def test_different_parts_have_different_digests(one: list[str | int | None], other: list[str | int | None]) -> None:
    assert (digest(one) == digest(other)) == (one == other)


@given(st.text(), st.text())
def test_where_one_text_ends_and_the_next_begins_matters(one: str, other: str) -> None:
    joined = [f"{one}{other}", f"{one}\x1fstr:{other}", f"{one}str:{len(other)}:{other}"]
    assert digest([one, other]) not in [digest([text]) for text in joined]


def test_a_number_is_not_its_text() -> None:
    assert len({digest([1]), digest(["1"]), digest([1.0]), digest([None]), digest(["None"])}) == 5


def test_every_generator_starts_afresh() -> None:
    first, second = generator(7, "order"), generator(7, "order")
    assert first.random() == second.random()
    assert first.random() != generator(8, "order").random()
