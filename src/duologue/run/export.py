"""A trained model as one whole, for whatever serves models: an adapter is added to the weights that it stands on."""

from __future__ import annotations

from pathlib import Path

from duologue.errors import RecipeError
from duologue.run.chat import model_of
from duologue.run.wiring import load_local


def export(source: str, output: Path, arm: str = "trained") -> None:
    """Write a model as an ordinary transformers folder that stands on nothing else.

    Args:
        source: a run's folder, a model's, or its id on the hub.
        arm: which of a run's arms.

    Raises:
        RecipeError: something is in `output` already; there is no such run, or arm.
        RunError: a run that has no model yet.
        ModelError: no model there.
    """
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise RecipeError(f"{output} is not empty: name a folder that is not there yet")
    policy = load_local(model_of(source, arm))
    from duologue.models.loading import merged

    policy.model = merged(policy.model)
    part = output.with_name(f"{output.name}.part")
    policy.save(part)
    if output.exists():
        output.rmdir()
    part.rename(output)
