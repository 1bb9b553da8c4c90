"""Learning from the best replies: the best one at each state, and of its conversation nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from duologue.background import BackgroundLoop
from duologue.dataset import rows, visits
from duologue.errors import DataError
from duologue.seeding import derive
from duologue.training.best import best_examples, train_on_best
from duologue.training.settings import SftSettings
from duologue.training.sft import IGNORED, tokenised
from duologue.training.stage import Stage
from training_stage import GROCERIES, a_stage, steps, weights

SETTINGS = SftSettings(
    algorithm="sft", states=12, candidates=3, deepest=1, batch=4, learning_rate=1e-3, warmup=1, save_steps=None
)


@pytest.fixture
def stage(base: Path, tmp_path: Path, loop: BackgroundLoop) -> Stage:
    return a_stage(tmp_path, base, loop, name="0-sft", samples=2)


def test_only_the_best_reply_is_learned_as_it_was_sampled(stage: Stage) -> None:
    examples = best_examples(SETTINGS, stage)

    planned = visits([GROCERIES], SETTINGS.states, deepest=1, seed=derive(stage.seed, "build"))
    built = {row.prefix: row for row in rows(stage.journal, planned, f"build/{stage.key}")}
    assert len(examples) > SETTINGS.states / 2
    as_read = list(tokenised(stage.policy.tokenizer, examples, stage.policy.ends))
    assert any(as_read)
    for example, read in zip(examples, as_read, strict=True):
        whole = [c for c in built[example.messages[:-1]].candidates if not c.cut]
        best = max(whole, key=lambda c: c.mean(range(2)) or 0.0)
        assert example.messages[-1].content == best.text
        if read is not None:
            assert [label for label in read.labels if label != IGNORED] == list(best.ids or ())


def test_a_stage_learns_and_says_what_it_left_out(stage: Stage) -> None:
    before = weights(stage)

    train_on_best(SETTINGS, stage)

    ((key, counts),) = [(entry.key, entry.value) for entry in stage.journal.read("examples")]
    assert key == "examples/trained/0-sft"
    assert counts["rows"] + counts["left_out"] == len(best_examples(SETTINGS, stage))
    assert [step["step"] for step in steps(stage)] == list(range(1, counts["steps"] + 1))
    assert not weights(stage).equal(before)


def test_where_no_reply_is_better_nothing_can_be_learned(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("duologue.training.best.best_replies", lambda rows: [])

    with pytest.raises(DataError, match="at none of 4 states is one reply better"):
        train_on_best(SETTINGS.model_copy(update={"states": 4}), stage)
