"""A language model small enough to be made, trained and played in a moment. It knows the words, and nothing else."""

from __future__ import annotations

from pathlib import Path

SMALL = {"hidden": 16, "intermediate": 32, "layers": 1, "heads": 2, "head_dim": 8}


def save_small_model(folder: Path, *, context: int = 256, task: str = "groceries") -> Path:
    """A random model for a task, in the ordinary transformers format."""
    from duologue.run.wiring import quieten_transformers
    from duologue.tasks import load_task
    from duologue.training.scratch import new_model
    from duologue.training.settings import ScratchSettings

    quieten_transformers()
    new_model([load_task(task)], ScratchSettings(**SMALL, context=context), seed=0).save(folder)
    return folder
