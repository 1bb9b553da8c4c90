"""Checkpoints of a training loop on accelerate: folders like those of TRL's trainers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from accelerate import Accelerator

from duologue.training.arguments import STATE, newest_checkpoint

KEPT = 2
"""Checkpoints that are kept."""


def save_checkpoint(accelerator: Accelerator, folder: Path, state: Mapping[str, float]) -> None:
    """Write all that the accelerator has prepared or registered, then `state`, "step" in it; drop the oldest."""
    checkpoint = folder / f"checkpoint-{state['step']:.0f}"
    accelerator.save_state(str(checkpoint), safe_serialization=False)  # the other way warns of weights that are tied
    accelerator.wait_for_everyone()  # every process writes its generators; only then the checkpoint is whole
    if accelerator.is_main_process:
        (checkpoint / STATE).write_text(json.dumps(state))
        every = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.removeprefix("checkpoint-")))
        for old in every[:-KEPT]:
            shutil.rmtree(old)


def load_checkpoint(accelerator: Accelerator, folder: Path) -> dict[str, float]:
    """Read the newest whole checkpoint back and give its state; nothing where there is none."""
    newest = newest_checkpoint(folder)
    if newest is None:
        return {}
    accelerator.load_state(str(newest))
    return json.loads((newest / STATE).read_text())
