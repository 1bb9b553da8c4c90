"""A run whose model is made from nothing: what `make tiny` does, in small, in two processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from duologue.journal import Journal
from duologue.models.local import LocalModel
from duologue.recipe import parse
from duologue.run import train
from small_model import SMALL

TABLE: dict[str, Any] = {
    "name": "new",
    "task": {"name": "groceries"},
    "assistant": {"model": "new", "architecture": SMALL, "max_tokens": 16},
    "train": [
        {"algorithm": "sft", "data": "demonstrations", "conversations": {"groceries": 16}, "batch": 8, "warmup": 1}
    ],
    "evaluate": {"arms": ["trained", "oracle"], "conversations": 3, "decoding": ["sampled"]},
    "run": {"processes": 2},
}


def test_a_model_from_nothing_is_trained_and_its_tokens_are_counted_alike_in_all_arms(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    evaluation = train(parse(TABLE, "new.toml"), folder, watch=lambda *_: None)
    assert {arm: cells["groceries"]["train"]["tokens"]["n"] for arm, cells in evaluation["arms"].items()} == {
        "trained": 3,
        "oracle": 3,
    }
    count = LocalModel.load(folder / "models" / "trained").count_tokens
    for entry in Journal(folder / "journal.jsonl").read("conversation"):
        replies = [row["content"] for row in entry.value["messages"] if row["role"] == "assistant"]
        assert entry.value["figures"]["tokens"] == [sum(map(count, replies)), 1]
