"""Putting a data set on the Hugging Face hub. Nothing else here talks to the network."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from duologue.dataset.files import needed
from duologue.dataset.sets import NAMES
from duologue.dataset.writing import LAYOUTS
from duologue.errors import RecipeError, RunError


def check_name(repository: str) -> None:
    """Refuse what is no name of a repository.

    Raises:
        RecipeError: it is not like "owner/name".

    >>> check_name("my-set")
    Traceback (most recent call last):
    duologue.errors.RecipeError: --push-to-hub my-set: name it like OWNER/NAME
    """
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
        raise RecipeError(f"--push-to-hub {repository}: name it like OWNER/NAME")


def check_online() -> None:
    """Refuse to publish where the environment forbids to ask the hub.

    Raises:
        RecipeError: it does.
        MissingDependency: `huggingface_hub` is not installed.
    """
    if needed("huggingface_hub.constants", "--push-to-hub").HF_HUB_OFFLINE:
        raise RecipeError(
            "--push-to-hub: the environment keeps this process from the hub (HF_HUB_OFFLINE): unset it, or leave the "
            "option out and publish later with the same command, which makes nothing twice"
        )


def push(folder: Path, repository: str, message: str) -> str:
    """Put a data set on the hub, as one commit; sets of an earlier one that it does not have any more are deleted.

    A repository that is not there yet is made, and private: publish it on its page once it is as you want it.
    The token is the environment's (`HF_TOKEN`), or that of `hf auth login`.

    Returns:
        The address of the commit.

    Raises:
        RunError: the hub refuses, or cannot be reached.
        MissingDependency: `huggingface_hub` is not installed.
    """
    hub: Any = needed("huggingface_hub", "--push-to-hub").HfApi()
    try:
        if not hub.repo_exists(repository, repo_type="dataset"):
            hub.create_repo(repository, repo_type="dataset", private=True, exist_ok=True)
        done = hub.upload_folder(
            repo_id=repository,
            repo_type="dataset",
            folder_path=folder,
            commit_message=message,
            delete_patterns=[f"{name}/*" for name in (*NAMES, *LAYOUTS)],
        )
    except Exception as error:  # of whichever HTTP library this version of theirs uses
        raise RunError(
            f"{folder} is written, and could not be put on the hub as {repository}: {error}. Check HF_TOKEN, which "
            "must allow writing, and give the same command again"
        ) from error
    return str(done.commit_url)
