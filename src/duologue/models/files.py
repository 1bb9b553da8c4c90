"""A model's files on this machine, and what stands for what is in them. Free of torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from duologue.errors import ModelError
from duologue.models import BUILT_IN

WEIGHTS = ("model.safetensors", "pytorch_model.bin")
"""Files with weights, in the order in which transformers looks for them; an index names those of one in parts."""


def folder_of(source: str | Path) -> Path:
    """Where a model's files are: a folder, one built in, or what the hub's client keeps of an id.

    Raises:
        ModelError: there is no such model on this machine.
    """
    folder = BUILT_IN.get(str(source), Path(source))
    return folder if folder.is_dir() else _snapshot(str(source))


def contents(file: Path) -> str:
    """A digest of what is in a file, which is read once a process, unless it changes."""
    stat = file.stat()
    return _read(file, stat.st_size, stat.st_mtime_ns)


def contents_of_weights(folder: Path) -> str:
    """16 hexadecimal digits that stand for a model's weights alone, wherever they are.

    All of them are read, once a process: 16 GB of 8 billion in 16 bits. Nothing less would tell them from others.

    Raises:
        ModelError: the index of a model in parts is damaged.
    """
    found = hashlib.blake2b(digest_size=8)
    for file in _weights(folder):
        found.update(contents(file).encode())
    return found.hexdigest()


def _weights(folder: Path) -> Sequence[Path]:
    """The files that transformers would load; others may lie beside them."""
    for name in WEIGHTS:
        whole, index = folder / name, folder / f"{name}.index.json"
        if whole.is_file():
            return [whole]
        if index.is_file():
            return [file for file in _parts(index) if file.is_file()]
    return sorted(folder.glob("*.safetensors"))  # config.json may name another


def _parts(index: Path) -> list[Path]:
    try:
        places: dict[str, Any] = json.loads(index.read_text())["weight_map"]
        return sorted({index.parent / str(name) for name in places.values()})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{index} is damaged: it does not say which files have the weights") from error


def _snapshot(source: str) -> Path:
    """Where the hub's client keeps the model of an id."""
    from huggingface_hub import snapshot_download  # pyright: ignore[reportUnknownVariableType]
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(source, local_files_only=True))
    except (HFValidationError, LocalEntryNotFoundError) as error:
        raise ModelError(
            f"there is no model {source} on this machine: give a folder, or fetch that one again"
        ) from error


@cache
def _read(file: Path, size: int, changed: int) -> str:
    """A digest of a file as it was when it had this size and date."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "blake2b").hexdigest()
