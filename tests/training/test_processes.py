"""Several processes train as one does, and where weights are split among them, look-aheads come from whole ones."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from itertools import pairwise, takewhile
from pathlib import Path

import pytest
import torch

from duologue.models.base import Reply
from duologue.models.local import LocalModel
from several_processes import SETTINGS, launch

FSDP = {
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    "FSDP_CPU_RAM_EFFICIENT_LOADING": "false",
}
"""What `accelerate launch --use_fsdp` tells the processes."""
Alone = Callable[[str], Path]
"""The folder of a training by one process, by algorithm."""


@pytest.fixture(scope="module")
def alone(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Alone:
    @cache
    def trained(algorithm: str) -> Path:
        folder = tmp_path_factory.mktemp("alone") / algorithm
        launch(1, algorithm, base, folder)
        return folder

    return trained


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["sft", "dpo", "online-dpo", "ppo", "grpo", "rloo", "lora", "trajectory"])
def test_two_processes_make_the_updates_of_one(algorithm: str, alone: Alone, base: Path, tmp_path: Path) -> None:
    launch(2, algorithm, base, tmp_path / "two", alone(algorithm) / "replies.pt")

    folders = alone(algorithm), tmp_path / "two"
    one, two = (torch.load(folder / "updates.pt")[:5] for folder in folders)
    torch.testing.assert_close(two, one, atol=1e-5, rtol=0)
    assert len(one) == 5 and all((after - before).abs().max() > 2e-5 for before, after in pairwise(one))
    # The optimizer makes equal updates of gradients that are a multiple of one another: they have to be equal, too.
    gradients = zip(*(torch.load(folder / "gradients.pt") for folder in folders), strict=True)
    assert all((ours - theirs).norm() < 1e-5 * theirs.norm() for theirs, ours in gradients)


@pytest.mark.slow
@pytest.mark.parametrize(("algorithm", "version"), [("grpo", "1"), ("grpo", "2"), ("lora", "2"), ("online-dpo", "2")])
def test_split_weights_are_whole_where_the_policy_replies(
    algorithm: str, version: str, alone: Alone, base: Path, tmp_path: Path
) -> None:
    folders = alone(algorithm), tmp_path / "split"
    launch(2, algorithm, base, folders[1], folders[0] / "replies.pt", FSDP_VERSION=version, **FSDP)

    whole, split = (torch.load(folder / "replies.pt", weights_only=False) for folder in folders)
    assert whole.keys() == split.keys()
    equal = [agree(split[key], reply) for key, reply in whole.items()]
    assert sum(equal) > 0.95 * len(equal)  # rounding may tip a draw
    torch.testing.assert_close(logits(folders[1]), logits(folders[0]), atol=1e-4, rtol=0)
    assert (logits(folders[1]) - logits(base.parent)).abs().max() > 1e-2


def agree(one: Reply, other: Reply) -> bool:
    """Whether two draws are the same; up to where they are not, their log-probabilities have to be."""
    shared = sum(1 for _ in takewhile(lambda ids: ids[0] == ids[1], zip(one.ids or (), other.ids or (), strict=False)))
    assert (one.logprobs or ())[:shared] == pytest.approx((other.logprobs or ())[:shared], abs=1e-4)
    return one.ids == other.ids


def logits(folder: Path) -> torch.Tensor:
    """Of a few tokens, by the model that was saved there."""
    with torch.no_grad():
        return LocalModel.load(folder / "model", device="cpu").model(torch.arange(40)[None]).logits


@pytest.mark.slow
@pytest.mark.parametrize("environment", [{}, {**FSDP, "FSDP_VERSION": "2"}], ids=["whole", "split"])
def test_killed_processes_go_on(environment: dict[str, str], alone: Alone, base: Path, tmp_path: Path) -> None:
    replies = alone("saved") / "replies.pt"
    launch(2, "saved", base, tmp_path / "cut", replies, dies=True, DIE_AT="3", **environment)

    launch(2, "saved", base, tmp_path / "cut", replies, **environment)

    found, expected = (torch.load(each / "updates.pt") for each in (tmp_path / "cut", alone("saved")))
    assert (len(found), len(expected)) == (4, 6), "from the checkpoint of step 2: three steps, and their end"
    torch.testing.assert_close(found[-1], expected[-1], atol=1e-5, rtol=0)


def test_every_algorithm_is_among_those_that_are_compared() -> None:
    from duologue.training.settings import ALGORITHMS

    assert set(ALGORITHMS) <= set(SETTINGS)
