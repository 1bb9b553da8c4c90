"""What stands for the model that a run starts from: whoever goes on there must start from the same."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from duologue.models.adapters import CONFIG, base_of
from duologue.models.files import contents, folder_of
from duologue.run.wiring import NEW, is_scripted

READ = (".safetensors", ".bin", ".json", ".jinja", ".model", ".txt")
"""Files that make a model: weights, configs, tokenizer, chat template."""


def weights_digest(source: str) -> str:
    """16 hexadecimal digits that stand for a model's files; for what has none, a script or "new", its name.

    A file is read once a process, unless it changes.

    Raises:
        ModelError: there is no such model on this machine; an adapter was trained on other weights than it names.
    """
    if source == NEW or is_scripted(source):
        return source
    found = hashlib.blake2b(digest_size=8)
    for file in _files(source):
        found.update(f"{file.name} {contents(file)}\n".encode())
    return found.hexdigest()


def _files(source: str) -> Iterator[Path]:
    """The files of a model; of an adapter, also those of the model that it stands on."""
    folder = folder_of(source)
    yield from (file for file in sorted(folder.iterdir()) if file.suffix in READ)
    if (folder / CONFIG).is_file():
        yield from _files(base_of(folder))
