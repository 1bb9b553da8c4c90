"""What an adapter stands on: where those weights are, and that they are the ones it was trained on.

`adapter_config.json` names a place, for transformers and peft. A run's folder may be moved, copied to another machine,
or made anew with other weights in the same place. So a digest of the weights stands beside, in `base.json`: they are
looked for by it, and others are refused. An adapter without that file is believed. Free of torch.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from duologue.errors import ModelError
from duologue.journal import read_object, write_atomically
from duologue.models import BUILT_IN
from duologue.models.files import contents_of_weights, folder_of

CONFIG, NOTE = "adapter_config.json", "base.json"
NAMED, WEIGHTS = "base_model_name_or_path", "weights"


def note_base(adapter: Path) -> None:
    """Note down beside an adapter which weights it stands on: those that are now where it says.

    Raises:
        ModelError: it does not say, or they are not there.
    """
    noted = {WEIGHTS: contents_of_weights(folder_of(_named(adapter)))}
    write_atomically(adapter / NOTE, json.dumps(noted))


def base_of(adapter: Path) -> str:
    """Where the model is that an adapter stands on: a folder, or an id on the hub, of which nothing is known yet.

    A folder is looked for where the adapter says, and, by the end of that path, around the adapter; of two with the
    same weights the first is taken.

    Raises:
        ModelError: it does not say, that is not there, or has other weights.
    """
    named = _named(adapter)
    if not Path(named).is_absolute() and not Path(named).is_dir():
        return named
    noted = _noted(adapter)
    for place in _places(adapter, Path(named)) if noted else (Path(named),):
        if place.is_dir() and noted in (None, contents_of_weights(place)):
            return str(place)
    if Path(named).is_dir():
        raise _others(adapter, named)
    raise ModelError(
        f"the adapter {adapter} stands on the model {named}, which is not there any more: put it back, or change "
        f"{NAMED} in {adapter / CONFIG}"
    )


def check_base(adapter: Path, base: str) -> None:
    """See to it that a model on this machine is what an adapter was trained on.

    Raises:
        ModelError: it has other weights.
    """
    if (noted := _noted(adapter)) and noted != contents_of_weights(folder_of(base)):
        raise _others(adapter, base)


def renamed(folder: Path, new: Path) -> None:
    """Have the adapters in a folder that is about to be renamed name what they stand on in there by its new name."""
    old, new = folder.resolve(), new.resolve()
    for config in folder.rglob(CONFIG):
        try:
            base = Path(_named(config.parent))
        except ModelError:
            continue  # a kill cut it short, say: it is refused where it is opened
        if base.is_relative_to(old):
            settings = _settings(config) | {NAMED: str(new / base.relative_to(old))}
            write_atomically(config, json.dumps(settings, indent=2, sort_keys=True))


def _others(adapter: Path, base: str) -> ModelError:
    return ModelError(
        f"the adapter {adapter} was trained on other weights than {base} has now: put those back, or name the folder "
        f"that they are in as {NAMED} in {adapter / CONFIG} (a run that was restarted has them in the folder that was "
        "moved aside)"
    )


def _places(adapter: Path, named: Path) -> Iterator[Path]:
    """Where the model could be: a run that is moved or copied has it where it was within the run."""
    yield named
    ends = [Path(*named.parts[begin:]) for begin in range(1, len(named.parts))]
    yield from (parent / end for parent in adapter.resolve().parents for end in ends)
    yield from BUILT_IN.values()  # it comes with this package, which is elsewhere on each machine


def _named(adapter: Path) -> str:
    """Where an adapter says that the model is.

    Raises:
        ModelError: it does not say.
    """
    config = adapter / CONFIG
    named = _settings(config).get(NAMED)
    if not named or not isinstance(named, str):
        raise ModelError(f"{config} does not say what model it stands on: set {NAMED} there")
    return named


def _noted(adapter: Path) -> str | None:
    """The digest of the weights that an adapter was trained on; None where nobody noted it down.

    Raises:
        ModelError: the note is damaged.
    """
    note = adapter / NOTE
    if not note.is_file():
        return None
    digest = _settings(note).get(WEIGHTS)
    if not isinstance(digest, str):
        raise ModelError(f"{note} is damaged: it does not say which weights the adapter was trained on")
    return digest


def _settings(file: Path) -> dict[str, Any]:
    try:
        return read_object(file)
    except ValueError as error:
        raise ModelError(f"{file} is damaged: {error}") from error
