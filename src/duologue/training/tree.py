"""A group's prompt, computed once: the log-probabilities of candidates that share their prompt.

TRL repeats the prompt for every candidate and pads all rows to the longest of the batch. Here, rows with
the same prompt stand in one sequence: the prompt once, the completions side by side, each seeing the
prompt and itself alone (a 4-D mask, and position ids that start after the prompt for each). The forward and
the head are those that TRL itself calls, so temperature, scaled logits and adapters are as they would be.
Equal to TRL's own to rounding; `benchmarks/step.py` measures the gain.

Covered: decoder-only text models with full attention that takes a 4-D mask (eager, sdpa). Everything else
goes to TRL's own method: images, losses of routers, flash attention, attention that slides, models wrapped for
several processes or run by them (each must do as many forwards as the others), rows without a prompt. A TRL that no
longer calls the method overridden here trains as it would without it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from trl import GRPOTrainer, RLOOTrainer

CPU_TOKENS, GPU_TOKENS = 512, 16384
"""Tokens a forward, padding included: groups are put together up to here. A CPU's caches hold small ones."""
UNSCORED = -100
"""The label of a position that is not scored, by PyTorch's convention."""
PADDING, PROMPT = -1, 0
"""In a layout's `branch`; a completion has its number, from 1."""


class _SharedPrompts:
    """For a trainer of TRL that calls the method overridden here."""

    accelerator: Any

    def _get_per_token_logps_and_entropies(
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
        # FSDP 2 splits a model's weights without wrapping it.
        wrapped = self.accelerator.num_processes > 1 or self.accelerator.unwrap_model(model) is not model
        special = wrapped or compute_aux_loss or any(value is not None for value in images.values())
        no_prompt = not attention_mask[:, :-logits_to_keep].any(dim=1).all()
        if special or no_prompt or not takes_mask(model):
            trls: Any = super()
            return trls._get_per_token_logps_and_entropies(
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
            logps, entropies = tree_logps(model, input_ids, attention_mask, logits_to_keep)
        return logps, entropies if compute_entropy else None, None


class TreeGRPOTrainer(_SharedPrompts, GRPOTrainer):
    """TRL's GRPOTrainer with each group's prompt computed once."""


class TreeRLOOTrainer(_SharedPrompts, RLOOTrainer):
    """TRL's RLOOTrainer with each group's prompt computed once."""


def takes_mask(model: Any) -> bool:
    """Whether a model's attention can be told, position by position, what it may see."""
    config = model.config.get_text_config().to_dict()
    full = set(config.get("layer_types") or ["full_attention"]) == {"full_attention"}
    routed = config.get("output_router_logits")  # a router's loss takes the mask for one of padding
    kind = model.config._attn_implementation
    return full and not config.get("sliding_window") and not routed and kind in ("eager", "sdpa")


def tree_logps(model: Any, input_ids: Tensor, attention_mask: Tensor, logits_to_keep: int) -> tuple[Tensor, Tensor]:
    """Log-probabilities and entropies of the completions' tokens.

    Args:
        model: with TRL's fused head, as its trainers prepare it.
        input_ids: (rows, prompt + completion), prompts padded left, completions right.
        attention_mask: the same shape, 1 at real tokens.
        logits_to_keep: the completions' padded length.

    Returns:
        Two tensors (rows, logits_to_keep); 0 at padding, and the second 0 everywhere if the head gives no entropy.
    """
    logps = torch.zeros(len(input_ids), logits_to_keep, device=input_ids.device)
    entropies = torch.zeros_like(logps)
    limit = CPU_TOKENS if input_ids.device.type == "cpu" else GPU_TOKENS
    for trees in _chunks(_trees(input_ids, attention_mask, logits_to_keep), limit):
        layout = _lay_out(trees, input_ids.device)
        chosen, entropy = checkpoint(_score, model, layout, use_reentrant=False)
        logps = logps.index_put(layout.places, chosen.to(logps.dtype))
        entropies = entropies.index_put(layout.places, entropy.to(logps.dtype))
    return logps, entropies


def _score(model: Any, layout: _Layout) -> tuple[Tensor, Tensor]:
    """The scored positions' log-probabilities and entropies.

    Computed again in the backward pass, a chunk at a time: all chunks' activations together would be most of
    a training process's memory.
    """
    output = model(
        input_ids=layout.ids,
        attention_mask=_mask(model, layout.branch),
        position_ids=layout.positions,
        shift_labels=layout.labels,
        fused_lm_head=True,
    )
    scored = layout.labels != UNSCORED
    chosen = output.log_probs[scored]
    # A reference model's head leaves the entropy out.
    return chosen, torch.zeros_like(chosen) if output.entropy is None else output.entropy[scored]


def _mask(model: Any, branch: Tensor) -> Tensor:
    """What is visible, as the model's attention takes it: a truth value, or a number added to the score."""
    visible = _visible(branch)
    if model.config._attn_implementation == "sdpa":
        return visible
    return torch.zeros_like(visible, dtype=model.dtype).masked_fill_(~visible, torch.finfo(model.dtype).min)


@dataclass(frozen=True)
class _Tree:
    """Rows that share a prompt."""

    prompt: Sequence[int]
    rows: list[int]
    completions: list[list[int]]

    @property
    def width(self) -> int:
        return len(self.prompt) - 1 + sum(map(len, self.completions))


def _trees(input_ids: Tensor, attention_mask: Tensor, keep: int) -> list[_Tree]:
    """The batch's trees, the narrow ones first."""
    trees: dict[tuple[int, ...], _Tree] = {}
    for row, (ids, real) in enumerate(zip(input_ids.tolist(), attention_mask.bool().tolist(), strict=True)):
        prompt = tuple(_where(ids[:-keep], real[:-keep]))
        tree = trees.setdefault(prompt, _Tree(prompt, [], []))
        tree.rows.append(row)
        tree.completions.append(_where(ids[-keep:], real[-keep:]))
    return sorted(trees.values(), key=lambda tree: tree.width)


def _where(ids: Sequence[int], real: Sequence[bool]) -> list[int]:
    return [token for token, counts in zip(ids, real, strict=True) if counts]


def _chunks(trees: Sequence[_Tree], limit: int) -> Iterator[list[_Tree]]:
    """Neighbours in width together, so that little is padding."""
    chunk: list[_Tree] = []
    for tree in trees:
        if chunk and (len(chunk) + 1) * tree.width > limit:
            yield chunk
            chunk = []
        chunk.append(tree)
    if chunk:
        yield chunk


@dataclass(frozen=True)
class _Layout:
    """Some trees as a model reads them: four tensors (trees, width), and where the scored positions belong."""

    ids: Tensor
    positions: Tensor
    branch: Tensor
    labels: Tensor
    """The next token of the branch, or UNSCORED."""
    places: tuple[Tensor, Tensor]
    """(row, column) in the batch, in the order in which `labels` has them."""


def _lay_out(trees: Sequence[_Tree], device: torch.device) -> _Layout:
    """Each branch begins with the prompt's last token, from which its completion's first one is predicted."""
    width = max(tree.width for tree in trees)
    ids, positions, branch, labels = (torch.full((len(trees), width), fill) for fill in (0, 0, PADDING, UNSCORED))
    places: list[tuple[int, int]] = []
    for at, tree in enumerate(trees):
        *shared, last = tree.prompt
        end = len(shared)
        ids[at, :end] = torch.tensor(shared, dtype=torch.long)
        positions[at, :end] = torch.arange(end)
        branch[at, :end] = PROMPT
        for number, (row, completion) in enumerate(zip(tree.rows, tree.completions, strict=True), start=1):
            start, end = end, end + len(completion)
            ids[at, start:end] = torch.tensor([last, *completion][: len(completion)], dtype=torch.long)
            positions[at, start:end] = torch.arange(len(shared), len(shared) + len(completion))
            branch[at, start:end] = number
            labels[at, start:end] = torch.tensor(completion, dtype=torch.long)
            places += [(row, column) for column in range(len(completion))]
    rows, columns = torch.tensor(places, dtype=torch.long, device=device).reshape(-1, 2).T
    return _Layout(ids.to(device), positions.to(device), branch.to(device), labels.to(device), (rows, columns))


def _visible(branch: Tensor) -> Tensor:
    """(trees, 1, width, width), true where a position may look: back at the prompt, and at its own branch.

    Padding looks at padding alone, so that no row of the softmax is empty.
    """
    width = branch.shape[1]
    causal = torch.ones(width, width, dtype=torch.bool, device=branch.device).tril()
    own = branch[:, :, None] == branch[:, None, :]
    prompt = (branch[:, None, :] == PROMPT) & (branch[:, :, None] != PADDING)
    return ((own | prompt) & causal)[:, None]
