"""Drawing tokens: one uniform number a row and position, inverted through the distribution.

The number comes from a counter, not from a shared stream, so a row's words do not depend on its neighbours.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Floats = npt.NDArray[np.float32]
Seeds = npt.NDArray[np.uint64]

_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_WORD = (1 << 64) - 1


def uniforms(seeds: Seeds, positions: npt.NDArray[np.int64]) -> Floats:
    """Numbers in [0, 1), shape `[rows]`, one for each seed and position (splitmix64: Steele, Lea, Flood 2014)."""
    with np.errstate(over="ignore"):
        words = _mixed(_mixed(seeds) + (positions.astype(np.uint64) + np.uint64(1)) * _GAMMA)
    # 24 bits are what a float32 below 1 can hold.
    return ((words >> np.uint64(40)).astype(np.float64) * 2.0**-24).astype(np.float32)


def word(seed: int) -> int:
    """A seed of any size or sign as 64 bits."""
    return seed & _WORD


def draw(logits: Tensor, numbers: Floats, temperatures: Floats, top_ps: Floats) -> tuple[Tensor, Tensor]:
    """One token a row.

    Args:
        logits: `[rows, vocabulary]`.
        numbers: `[rows]`, in [0, 1).
        temperatures: `[rows]`; 0 takes the likeliest token.
        top_ps: `[rows]`; the smallest set of likeliest tokens that holds this much probability is drawn from.

    Returns:
        Ids and their log-probabilities under the distribution drawn from, `[rows]` each. Greedy rows give
        the model's own log-probability.
    """
    greedy = temperatures == 0
    scales = np.where(greedy, np.float32(1), temperatures)
    logits = logits.float()
    if (scales != 1).any():
        logits = logits / torch.from_numpy(scales).to(logits.device)[:, None]
    logs = logits.log_softmax(-1)
    if (top_ps[~greedy] < 1).any():
        logs = _nucleus(logs, torch.from_numpy(np.where(greedy, np.float32(1), top_ps)).to(logits.device))
    if greedy.all():
        ids = logs.argmax(-1, keepdim=True)
    else:
        ids = _inverted(logs, torch.from_numpy(numbers).to(logits.device))
        if greedy.any():
            ids = torch.where(torch.from_numpy(greedy).to(ids.device)[:, None], logs.argmax(-1, keepdim=True), ids)
    return ids[:, 0], logs.gather(-1, ids)[:, 0]


def _inverted(logs: Tensor, numbers: Tensor) -> Tensor:
    """The first token of each row whose cumulative probability exceeds the row's number, `[rows, 1]`."""
    cumulative = logs.exp().cumsum(-1)
    wanted = (numbers * cumulative[:, -1])[:, None]
    return torch.searchsorted(cumulative, wanted, right=True).clamp_(max=logs.shape[-1] - 1)


def _nucleus(logs: Tensor, top_ps: Tensor) -> Tensor:
    """Log-probabilities with all but the likeliest tokens ruled out (Holtzman et al. 2020)."""
    ordered, order = logs.sort(dim=-1, descending=True)
    before = ordered.exp().cumsum(-1) - ordered.exp()
    # At 1 nothing is ruled out, whatever the rounding of the sum.
    beyond = (before >= top_ps[:, None]) & (top_ps[:, None] < 1)
    beyond[:, 0] = False
    return logs.masked_fill(beyond.scatter(-1, order, beyond), -torch.inf).log_softmax(-1)


def _mixed(words: Seeds) -> Seeds:
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))
