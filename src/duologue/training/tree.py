"""A group's prompt, computed once: the log-probabilities of candidates that share their prompt.

TRL repeats the prompt for every candidate and pads all rows to the longest of the batch. Here, rows with
the same prompt stand in one sequence: the prompt once, the completions side by side, each seeing the
prompt and itself alone (a 4-D mask, and position ids that start after the prompt for each). Equal to
TRL's own to rounding; `benchmarks/step.py` measures the gain.

Covered: decoder-only text models whose attention takes a 4-D mask (eager, sdpa). Everything else goes to
TRL's own method: images, router losses, flash attention, models wrapped for several processes (their own
forward keeps the gradients in step), a TRL without the method overridden here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from trl import GRPOTrainer

CHUNK_TOKENS = 4096
"""Tokens a forward, about: groups are put together up to here."""


@dataclass(frozen=True)
class _Tree:
    """Rows that share a prompt."""

    prompt: Tensor
    rows: list[int]
    completions: list[Tensor]

    @property
    def length(self) -> int:
        return len(self.prompt) + sum(len(c) for c in self.completions)


class TreeGRPOTrainer(GRPOTrainer):
    """TRL's GRPOTrainer with each group's prompt computed once."""

    def _get_per_token_logps_and_entropies(  # type: ignore[override]
        self,
        model: Any,
        input_ids: Tensor,
        attention_mask: Tensor,
        logits_to_keep: int,
        batch_size: int | None = None,
        compute_entropy: bool = False,
        compute_aux_loss: bool = False,
        **images: Any,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        plain = self.accelerator.unwrap_model(model)
        wrapped = plain is not model
        if wrapped or compute_aux_loss or any(v is not None for v in images.values()) or not takes_mask(plain):
            return super()._get_per_token_logps_and_entropies(
                model,
                input_ids,
                attention_mask,
                logits_to_keep,
                batch_size,
                compute_entropy,
                compute_aux_loss,
                **images,
            )
        with self.accelerator.autocast():
            logps, entropies = tree_logps(plain, input_ids, attention_mask, logits_to_keep, self.temperature)
        return logps, entropies if compute_entropy else None, None


def takes_mask(model: Any) -> bool:
    """Whether a model's attention can be told, position by position, what it may see."""
    return model.config._attn_implementation in ("eager", "sdpa")


def tree_logps(
    model: Any, input_ids: Tensor, attention_mask: Tensor, logits_to_keep: int, temperature: float
) -> tuple[Tensor, Tensor]:
    """Log-probabilities and entropies of the completions' tokens.

    Args:
        input_ids: (rows, prompt + completion), prompts padded left, completions right.
        attention_mask: the same shape, 1 at real tokens.
        logits_to_keep: the completions' padded length.

    Returns:
        Two tensors (rows, logits_to_keep); 0 at padding. The entropies carry no gradient.
    """
    logps = torch.zeros(len(input_ids), logits_to_keep, device=input_ids.device)
    entropies = torch.zeros_like(logps)
    for chunk in _chunks(_trees(input_ids, attention_mask, logits_to_keep)):
        chosen, entropy, rows, columns = _forward(model, chunk, temperature)
        logps = logps.index_put((rows, columns), chosen)
        entropies.index_put_((rows, columns), entropy)
    return logps, entropies


def _trees(input_ids: Tensor, attention_mask: Tensor, keep: int) -> list[_Tree]:
    trees: dict[tuple[int, ...], _Tree] = {}
    split = input_ids.shape[1] - keep
    prompt_real, completion_real = attention_mask[:, :split].bool(), attention_mask[:, split:].bool()
    for row in range(len(input_ids)):
        prompt = input_ids[row, :split][prompt_real[row]]
        tree = trees.setdefault(tuple(prompt.tolist()), _Tree(prompt, [], []))
        tree.rows.append(row)
        tree.completions.append(input_ids[row, split:][completion_real[row]])
    return sorted(trees.values(), key=lambda tree: tree.length)


def _chunks(trees: Sequence[_Tree]) -> list[list[_Tree]]:
    """Neighbours in length together, so that little is padding."""
    chunks: list[list[_Tree]] = []
    for tree in trees:
        if not chunks or (len(chunks[-1]) + 1) * tree.length > CHUNK_TOKENS:
            chunks.append([])
        chunks[-1].append(tree)
    return chunks


def _forward(model: Any, trees: Sequence[_Tree], temperature: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """One forward over some trees: each completion token's log-probability and entropy, and where it goes."""
    device = trees[0].prompt.device
    width = max(tree.length for tree in trees)
    ids = torch.zeros(len(trees), width, dtype=torch.long, device=device)
    positions = torch.zeros(len(trees), width, dtype=torch.long, device=device)
    branch = torch.full((len(trees), width), -1, dtype=torch.long, device=device)
    sources: list[tuple[int, int]] = []
    targets: list[Tensor] = []
    places: list[tuple[int, int]] = []
    for index, tree in enumerate(trees):
        start = len(tree.prompt)
        ids[index, :start] = tree.prompt
        positions[index, :start] = torch.arange(start, device=device)
        branch[index, :start] = 0
        for number, (row, completion) in enumerate(zip(tree.rows, tree.completions, strict=True), start=1):
            length = len(completion)
            end = start + length
            ids[index, start:end] = completion
            positions[index, start:end] = torch.arange(len(tree.prompt), len(tree.prompt) + length, device=device)
            branch[index, start:end] = number
            sources += [
                (index, len(tree.prompt) - 1 if offset == 0 else start + offset - 1) for offset in range(length)
            ]
            places += [(row, offset) for offset in range(length)]
            targets.append(completion)
            start = end
    hidden = model.get_decoder()(
        input_ids=ids, attention_mask=_visible(branch), position_ids=positions, use_cache=False
    ).last_hidden_state
    at = torch.tensor(sources, device=device)
    to = torch.tensor(places, device=device)
    logits = model.get_output_embeddings()(hidden[at[:, 0], at[:, 1]]).float() / temperature
    every = torch.log_softmax(logits, dim=-1)
    chosen = every.gather(1, torch.cat(targets)[:, None]).squeeze(1)
    with torch.no_grad():
        entropy = -(every.exp() * every).sum(-1)
    return chosen, entropy, to[:, 0], to[:, 1]


def _visible(branch: Tensor) -> Tensor:
    """(trees, 1, width, width), true where a position may look: back at the prompt, and at its own branch.

    Padding (branch −1) looks at itself alone, so that no row of the softmax is empty.
    """
    width = branch.shape[1]
    causal = torch.ones(width, width, dtype=torch.bool, device=branch.device).tril()
    own = branch[:, :, None] == branch[:, None, :]
    prompt = (branch[:, None, :] == 0) & (branch[:, :, None] >= 0)
    return ((own | prompt) & causal)[:, None]
