"""What a run's training took is read off its journal, each step and each comparison of replies once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from duologue import attempts
from duologue.journal import Journal
from duologue.recipe import Recipe, parse
from duologue.run.training_costs import training_costs, uneven

GRPO = {"algorithm": "grpo", "learning_rate": 7e-4}


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal.jsonl")


def recipe(*stages: dict[str, Any], arms: tuple[str, ...] = ("base", "trained")) -> Recipe:
    table = {"name": "r", "task": [{"name": "groceries"}], "train": list(stages), "evaluate": {"arms": list(arms)}}
    return parse(table, "r.toml")


def step(journal: Journal, stage: str, number: int, **figures: Any) -> None:
    value = {"seconds": 2.0, "sampled_tokens": 100.0, "updates": 1.0, **figures}
    journal.append(f"train/{stage}/{number:06d}", "step", value)


def row(journal: Journal, stage: str, goal: str, *, lost: bool = False) -> None:
    value = {"seconds": 0.5, "sampled_tokens": 30}
    attempts.record(journal, f"build/{stage}/{goal}/7", "row", value, lost=lost)


def test_a_stage_took_what_its_steps_took(journal: Journal) -> None:
    for number in (1, 2, 3):
        step(journal, "trained/0-grpo", number)
    assert training_costs(recipe(GRPO), journal) == {
        "trained": [
            {
                **{"stage": "0-grpo", "algorithm": "grpo", "updates": 3, "sampled_tokens": 300, "seconds": 6.0},
                "learning_rate": 7e-4,
            }
        ]
    }


def test_comparing_replies_counts_and_so_does_what_was_lost_and_done_again(journal: Journal) -> None:
    row(journal, "trained/0-dpo", "a")
    row(journal, "trained/0-dpo", "b", lost=True)
    row(journal, "trained/0-dpo", "b")
    step(journal, "trained/0-dpo", 1, sampled_tokens=0.0)
    ((stage,),) = training_costs(recipe({"algorithm": "dpo"}), journal).values()
    assert (stage["updates"], stage["sampled_tokens"], stage["seconds"]) == (1, 90, 3.5)


def test_each_stage_of_each_arm_has_its_own(journal: Journal) -> None:
    for arm in ("trained", "single-turn", "not-evaluated"):
        step(journal, f"{arm}/0-sft", 1, sampled_tokens=0.0)
        step(journal, f"{arm}/1-grpo", 1)
    stages = ({"algorithm": "sft"}, GRPO)
    found = training_costs(recipe(*stages, arms=("base", "single-turn", "trained")), journal)
    assert {arm: [row["stage"] for row in rows] for arm, rows in found.items()} == {
        "single-turn": ["0-sft", "1-grpo"],
        "trained": ["0-sft", "1-grpo"],
    }


def test_updates_are_those_that_the_steps_made(journal: Journal) -> None:
    for number, updates in enumerate((24.0, 0.0, 22.0), start=1):
        step(journal, "trained/0-ppo", number, updates=updates)
    ((stage,),) = training_costs(recipe({"algorithm": "ppo", "epochs": 2, "minibatches": 1000}), journal).values()
    assert stage["updates"] == 46


def test_a_stage_that_has_made_no_update_yet_has_its_cost(journal: Journal) -> None:
    step(journal, "trained/0-online-dpo", 1, updates=0.0)
    ((stage,),) = training_costs(recipe({"algorithm": "online-dpo"}), journal).values()
    assert (stage["updates"], stage["sampled_tokens"]) == (0, 100)


def test_tokens_and_updates_that_the_journal_does_not_tell_are_not_taken_for_none(journal: Journal) -> None:
    step(journal, "trained/0-grpo", 1)
    journal.append("train/trained/0-grpo/000002", "step", {"seconds": 1.0})
    ((stage,),) = training_costs(recipe(GRPO), journal).values()
    assert (stage["sampled_tokens"], stage["updates"]) == (None, None)


# ---- equal or not


def costs(**tokens: int | None) -> dict[str, list[dict[str, Any]]]:
    return {arm: [{"sampled_tokens": count}] for arm, count in tokens.items()}


def test_within_five_percent_nothing_is_said() -> None:
    assert uneven(costs(trained=1000, dpo=951, single=1049)) == []


def test_beyond_that_a_sentence_says_how_far() -> None:
    (sentence,) = uneven(costs(trained=123_000, dpo=61_500, near=123_001, more=246_000))
    assert sentence == (
        "Not at equal sampled tokens: trained sampled 123,000 in its training, dpo 0.50 times as many, more 2.00 times "
        "as many."
    )


def test_without_an_arm_of_that_name_the_first_is_what_the_others_are_held_against() -> None:
    (sentence,) = uneven(costs(grpo=1000, rloo=1500))
    assert sentence == "Not at equal sampled tokens: grpo sampled 1,000 in its training, rloo 1.50 times as many."


@pytest.mark.parametrize("unknown", [costs(dpo=5), costs(trained=None, dpo=5), costs(trained=5, dpo=None), costs()])
def test_what_is_not_known_is_not_compared(unknown: Any) -> None:
    assert uneven(unknown) == []
