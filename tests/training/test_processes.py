"""Several processes train as one does, and one whose weights are split among them looks ahead with whole ones."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from several_processes import SETTINGS, launch

FSDP = {
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    "FSDP_CPU_RAM_EFFICIENT_LOADING": "false",
}
"""What `accelerate launch --use_fsdp` tells the processes."""


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", SETTINGS)
def test_two_processes_make_the_updates_of_one(algorithm: str, base: Path, tmp_path: Path) -> None:
    launch(1, algorithm, base, tmp_path / "1")
    launch(2, algorithm, base, tmp_path / "2", tmp_path / "1" / "replies.pt")

    one, two = (torch.load(tmp_path / processes / "updates.pt")[:5] for processes in "12")
    torch.testing.assert_close(two, one, atol=1e-5, rtol=0)
    assert len(one) == 5 and all((after - before).abs().max() > 1e-4 for before, after in zip(one, one[1:], strict=False))
