"""DPO: pairs built once, the stage's start as the reference, and margins that rise."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from duologue.background import BackgroundLoop
from duologue.conversation import Message
from duologue.dataset import Pair
from duologue.errors import DataError
from duologue.models.local import LocalModel
from duologue.training import dpo
from duologue.training.dpo import build_pairs, dpo_trainer, train_dpo
from duologue.training.explore import build_rows
from duologue.training.settings import DpoSettings
from duologue.training.stage import Stage
from training_stage import Killed, a_stage, kill_at, steps, timeless, weights

SETTINGS = DpoSettings(
    algorithm="dpo",
    states=24,
    candidates=4,
    deepest=1,
    min_gap=0,
    noise=0,
    epochs=2,
    batch=6,
    learning_rate=1e-3,
    warmup=1,
    save_steps=2,
)
NAME = "0-dpo"


@pytest.fixture
def stage(base: Path, tmp_path: Path, loop: BackgroundLoop) -> Stage:
    return a_stage(tmp_path, base, loop, name=NAME, samples=2)


@pytest.fixture(scope="module")
def built(base: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Pair]]:
    """A folder whose journal has the candidates, and the pairs they make."""
    folder = tmp_path_factory.mktemp("built")
    with BackgroundLoop() as loop:
        return folder, build_pairs(SETTINGS, a_stage(folder, base, loop, name=NAME, samples=2))


def copy_of(built: tuple[Path, list[Pair]], folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "journal.jsonl").write_bytes((built[0] / "journal.jsonl").read_bytes())
    return folder


def entries(stage: Stage, kind: str) -> list[tuple[str, Any]]:
    return sorted((entry.key, entry.value) for entry in stage.journal.read(kind))


# ---- the pairs


def test_a_build_that_was_killed_goes_on_with_what_is_missing(
    base: Path, tmp_path: Path, loop: BackgroundLoop, built: tuple[Path, list[Pair]]
) -> None:
    with pytest.raises(Killed):
        build_pairs(SETTINGS, a_stage(tmp_path, base, loop, name=NAME, samples=2, progress=kill_at(9)))
    done = len(list(a_stage(tmp_path, base, loop).journal.read("row")))
    told: list[int] = []

    again = a_stage(tmp_path, base, loop, name=NAME, samples=2, progress=lambda done, *_: told.append(done))
    found = build_pairs(SETTINGS, again)

    assert found == built[1]
    assert timeless(again) == timeless(a_stage(built[0], base, loop, name=NAME))
    assert 9 <= done < SETTINGS.states
    assert told == list(range(done + 1, SETTINGS.states + 1))


def test_what_is_built_is_not_built_again(
    base: Path, tmp_path: Path, loop: BackgroundLoop, built: tuple[Path, list[Pair]]
) -> None:
    told: list[int] = []
    folder = copy_of(built, tmp_path)

    stage = a_stage(folder, base, loop, name=NAME, samples=2, progress=lambda done, *_: told.append(done))

    assert build_pairs(SETTINGS, stage) == built[1]
    assert told == []


def test_every_pair_names_a_better_and_a_worse_reply_as_they_were_sampled(
    built: tuple[Path, list[Pair]], stage: Stage
) -> None:
    for pair in built[1]:
        assert pair.gap > 0
        assert pair.chosen != pair.rejected
        for text, ids in ((pair.chosen, pair.chosen_ids), (pair.rejected, pair.rejected_ids)):
            assert ids is not None
            prompt = stage.policy.encode(pair.prefix)
            assert stage.policy.encode((*pair.prefix, Message("assistant", text)))[: len(prompt) + len(ids)] == (
                *prompt,
                *ids,
            )


def test_pairs_that_do_not_tokenise_back_are_left_out_and_counted(
    base: Path, tmp_path: Path, loop: BackgroundLoop, built: tuple[Path, list[Pair]], monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = a_stage(copy_of(built, tmp_path), base, loop, name="1-dpo", samples=2)
    odd = replace(built[1][0], chosen_ids=(5, 6, 7))
    hidden = replace(built[1][1], rejected="order <|end|> :", rejected_ids=None)
    whole = built[1][1].rejected_ids or ()
    assert whole[-1] in stage.policy.ends
    cut = replace(built[1][1], rejected_ids=whole[:-1])
    counts = dpo.pairs(build_rows(SETTINGS, a_stage(tmp_path, base, loop, name=NAME)), min_gap=0, noise=0)[1]
    monkeypatch.setattr(dpo, "build_rows", lambda *_: [])
    monkeypatch.setattr(dpo, "pairs", lambda *_, **__: ([odd, hidden, cut, *built[1][2:4]], counts))

    assert build_pairs(SETTINGS, stage) == built[1][2:4]
    assert dict(entries(stage, "pairs"))["pairs/trained/1-dpo"]["left_out"] == 3


def test_the_journal_says_once_what_became_of_the_states(
    base: Path, tmp_path: Path, loop: BackgroundLoop, built: tuple[Path, list[Pair]]
) -> None:
    stage = a_stage(copy_of(built, tmp_path), base, loop, name=NAME, samples=2)
    build_pairs(SETTINGS, stage)

    ((key, value),) = entries(stage, "pairs")
    assert key == "pairs/trained/0-dpo"
    assert (value["rows"], value["kept"] - value["left_out"]) == (SETTINGS.states, len(built[1]))


def test_no_pair_beyond_the_gap_is_explained(stage: Stage) -> None:
    with pytest.raises(DataError, match=r"of 4 states none has a pair to learn from") as refused:
        train_dpo(SETTINGS.model_copy(update={"states": 4, "min_gap": 50.0}), stage)

    told = re.search(
        r"at (\d) no gap exceeds min_gap = 50 and noise = 0 standard errors, at (\d) all replies are worth the "
        r"same, at (\d) some could not be scored",
        str(refused.value),
    )
    assert told and sum(map(int, told.groups())) == 4


# ---- the reference


def log_probability(model: Any, prompt: Sequence[int], ids: Sequence[int]) -> float:
    with torch.no_grad():
        logits = model(torch.tensor([[*prompt, *ids]])).logits[0, len(prompt) - 1 : -1]
    return logits.log_softmax(-1).gather(1, torch.tensor(ids)[:, None]).sum().item()


def assert_reference_is_the_start(trainer: Any, base: Path) -> None:
    start = LocalModel.load(base, device="cpu").model
    for row in trainer.train_dataset:
        for side in ("chosen", "rejected"):
            expected = log_probability(start, row["prompt_ids"], row[f"{side}_ids"])
            assert row[f"ref_{side}_logps"] == pytest.approx(expected, abs=1e-3)


def test_the_reference_is_the_stages_start(
    base: Path, tmp_path: Path, loop: BackgroundLoop, built: tuple[Path, list[Pair]]
) -> None:
    stage = a_stage(copy_of(built, tmp_path), base, loop, name=NAME, samples=2)

    assert_reference_is_the_start(dpo_trainer(SETTINGS, stage, built[1]), base)


def test_the_reference_is_the_stages_start_after_a_kill_too(
    base: Path, tmp_path: Path, loop: BackgroundLoop, built: tuple[Path, list[Pair]]
) -> None:
    folder = copy_of(built, tmp_path)
    with pytest.raises(Killed):
        train_dpo(SETTINGS, a_stage(folder, base, loop, name=NAME, samples=2, progress=kill_at(3)))
    assert (folder / "checkpoint-2").exists()

    again = a_stage(folder, base, loop, name=NAME, samples=2)

    assert_reference_is_the_start(dpo_trainer(SETTINGS, again, built[1]), base)


# ---- training


def test_training_raises_the_margins(
    base: Path, tmp_path: Path, loop: BackgroundLoop, built: tuple[Path, list[Pair]]
) -> None:
    stage = a_stage(copy_of(built, tmp_path), base, loop, name=NAME, samples=2)

    train_dpo(SETTINGS.model_copy(update={"epochs": 4}), stage)

    recorded = steps(stage)
    assert recorded[0]["margin"] == pytest.approx(0, abs=1e-5)
    assert recorded[-1]["margin"] > 0.1
    assert recorded[-1]["accuracy"] > 0.8
    assert [step["step"] for step in recorded] == list(range(1, recorded[0]["steps"] + 1))


@pytest.fixture(scope="module")
def uninterrupted(
    base: Path, tmp_path_factory: pytest.TempPathFactory, built: tuple[Path, list[Pair]]
) -> tuple[torch.Tensor, list[Any]]:
    """The weights and the journal of a training that nothing stopped."""
    with BackgroundLoop() as loop:
        stage = a_stage(copy_of(built, tmp_path_factory.mktemp("whole")), base, loop, name=NAME, samples=2)
        train_dpo(SETTINGS, stage)
        return weights(stage), timeless(stage)


@pytest.mark.parametrize("step", [1, 3, 4])
def test_a_killed_training_goes_on_as_if_it_had_not_been(
    step: int,
    base: Path,
    tmp_path: Path,
    loop: BackgroundLoop,
    built: tuple[Path, list[Pair]],
    uninterrupted: tuple[torch.Tensor, list[Any]],
) -> None:
    folder = copy_of(built, tmp_path)
    with pytest.raises(Killed):
        train_dpo(SETTINGS, a_stage(folder, base, loop, name=NAME, samples=2, progress=kill_at(step)))

    again = a_stage(folder, base, loop, name=NAME, samples=2)
    train_dpo(SETTINGS, again)

    torch.testing.assert_close(weights(again), uninterrupted[0], atol=1e-5, rtol=0)
    assert timeless(again) == uninterrupted[1]


def test_fewer_pairs_than_a_batch_are_one_batch(stage: Stage, built: tuple[Path, list[Pair]]) -> None:
    trainer = dpo_trainer(SETTINGS, stage, built[1][:3])

    assert (trainer.args.max_steps, trainer.args.per_device_train_batch_size) == (SETTINGS.epochs, 3)
