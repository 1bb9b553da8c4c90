"""A model's weights are what would be loaded of its folder, whatever else lies there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from duologue.errors import ModelError
from duologue.models.files import contents_of_weights

SECOND = "model-00002-of-00002.safetensors"


def saved(folder: Path, **files: bytes) -> str:
    """The digest of a folder with files whose names have "__" for a dot."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_bytes(content)
    return contents_of_weights(folder)


def in_parts(folder: Path, kind: str = "safetensors", first: bytes = b"a") -> Path:
    """A folder with weights in two files, and an index of them."""
    stem = {"safetensors": "model", "bin": "pytorch_model"}[kind]
    names = [f"{stem}-0000{part}-of-00002.{kind}" for part in (1, 2)]
    folder.mkdir()
    for name, content in zip(names, (first, b"b"), strict=True):
        (folder / name).write_bytes(content)
    places = {"layer.2": names[1], "layer.1": names[0], "layer.0": names[0]}
    (folder / f"{stem}.{kind}.index.json").write_text(json.dumps({"weight_map": places}))
    return folder


def test_digests_that_runs_have_noted_down_hold(tmp_path: Path) -> None:
    assert saved(tmp_path / "whole", model__safetensors=b"a") == "2b70416798689989"
    assert contents_of_weights(in_parts(tmp_path / "parts")) == "9113bffb81213f0d"


def test_what_is_not_loaded_changes_nothing(tmp_path: Path) -> None:
    whole = saved(tmp_path / "whole", model__safetensors=b"a")
    parts = contents_of_weights(in_parts(tmp_path / "parts"))

    for unused in ("model__fp16__safetensors", "model-of-before__safetensors", "pytorch_model__bin"):
        assert saved(tmp_path / "whole", **{unused: b"c"}) == whole
        assert saved(tmp_path / "parts", **{unused: b"c"}) == parts


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_each_part_counts(kind: str, tmp_path: Path) -> None:
    one, other = in_parts(tmp_path / "one", kind), in_parts(tmp_path / "other", kind, first=b"c")
    assert contents_of_weights(one) != contents_of_weights(other)


def test_a_part_that_is_missing_makes_other_weights(tmp_path: Path) -> None:
    folder = in_parts(tmp_path / "parts")
    before = contents_of_weights(folder)
    (folder / SECOND).unlink()
    assert contents_of_weights(folder) != before


@pytest.mark.parametrize("content", ["{", "{}", "[]", '{"weight_map": []}'])
def test_a_damaged_index_is_named(content: str, tmp_path: Path) -> None:
    folder = in_parts(tmp_path / "parts")
    (folder / "model.safetensors.index.json").write_text(content)

    with pytest.raises(ModelError, match=r"model\.safetensors\.index\.json is damaged"):
        contents_of_weights(folder)
