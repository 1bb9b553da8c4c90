"""Whether a name stands for a model. Found out at once: loaders insist, and a mistyped name would take a minute."""

from __future__ import annotations

import difflib
from pathlib import Path

from duologue.errors import AbsentModel, ModelError
from duologue.models import BUILT_IN

TIMEOUT = 10.0
"""Seconds that the hub has for the one question that it is asked."""


def refuse_absent(source: str) -> None:
    """Refuse what is neither a folder, nor a model that the hub has, or once gave to this machine.

    Raises:
        AbsentModel: there is no such model.
        ModelError: the hub cannot be asked.
    """
    if Path(source).is_dir():
        return
    if source.startswith((".", "/", "~")) or source.count("/") > 1:
        raise AbsentModel(
            f"there is no model at {source}: give a folder, an id on the hub, or {', '.join(BUILT_IN)}{_hint(source)}"
        )
    if not _once_given(source):
        _ask_hub(source)


def _once_given(name: str) -> bool:
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        return try_to_load_from_cache(name, "config.json") is not None
    except HFValidationError as error:
        raise AbsentModel(f'there is no folder "{name}", and the hub has no such ids{_hint(name)}') from error


def _ask_hub(name: str) -> None:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HTTPError, RepositoryNotFoundError  # pyright: ignore[reportPrivateImportUsage]

    try:
        HfApi().model_info(name, timeout=TIMEOUT)
    except RepositoryNotFoundError as error:
        raise AbsentModel(
            f'there is no model "{name}": no folder, and none on the hub that it shows you (`hf auth login` for those '
            f"that are not public){_hint(name)}"
        ) from error
    except (HTTPError, OSError) as error:
        why = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(
            f'there is no folder "{name}", and the hub could not be asked for a model of that name ({why}): give a '
            f"folder, or try again when the hub can be reached{_hint(name)}"
        ) from error


def _hint(name: str) -> str:
    """What could have been meant, where something comes close."""
    folder = Path(name).parent
    beside = [str(path) for path in folder.iterdir() if path.is_dir()] if "/" in name and folder.is_dir() else []
    close = difflib.get_close_matches(name, [*BUILT_IN, *beside], n=1)
    return f'; did you mean "{close[0]}"?' if close else ""
