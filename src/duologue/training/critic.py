"""Replies with their rewards, and what a policy with a value head says of their tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

from duologue.dataset import Group
from duologue.models.loading import plain

Told = tuple[Tensor, Tensor, Tensor]
"""Log-probabilities, entropies and values, one a token."""


@dataclass(frozen=True, slots=True)
class Episode:
    """A reply with its reward, by the ids it was sampled as."""

    prompt: tuple[int, ...]
    ids: tuple[int, ...]
    logprobs: Tensor
    """Of its tokens, when they were sampled."""
    reward: float


def episodes(groups: Sequence[Group]) -> list[Episode]:
    """The groups' replies that could be scored, by length, so that those of like length are read together."""
    found = [
        Episode(reply.prompt_ids or (), reply.ids or (), torch.tensor(reply.logprobs), reward.value)
        for group in groups
        for reply, reward in zip(group.replies, group.rewards, strict=True)
        if reward.value is not None
    ]
    return sorted(found, key=lambda row: (len(row.prompt), len(row.ids)))


class ActorCritic(nn.Module):
    """A policy, and a value head on its last hidden states.

    These have read the conversation, and no goal. Nothing flows back from the head into the policy.

    Args:
        policy: a causal language model of transformers, or a PEFT model around one.
        temperature: what its replies are drawn at.
        seed: of the head's first weights.
        checkpointing: whether the layers' activations are computed again in the backward pass, and not kept.
    """

    def __init__(self, policy: Any, temperature: float, seed: int, *, checkpointing: bool = False) -> None:
        super().__init__()
        out: Any = plain(policy).get_output_embeddings()
        width = out.weight.shape[1]  # some decoders are narrower at their end than inside
        self.policy, self.temperature, self.checkpointing = policy, temperature, checkpointing
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.head = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 1))
        nn.init.zeros_(self.head[-1].weight)  # type: ignore[arg-type]
        nn.init.zeros_(self.head[-1].bias)  # type: ignore[arg-type]
        self.head.to(policy.device)

    def forward(self, ids: Tensor, mask: Tensor, sampled: Tensor) -> Told:
        """What is said of the sampled tokens of all rows, one after another.

        Args:
            ids: [rows, prompt + reply], prompts padded left, replies right.
            mask: the same shape, true at tokens.
            sampled: [rows, reply], true at tokens.
        """
        place, length = self.policy.device, sampled.shape[1]
        ids, mask, sampled = ids.to(place), mask.to(place), sampled.to(place)
        keeping = checkpointed(self.policy) if self.checkpointing and torch.is_grad_enabled() else nullcontext()
        with keeping, self._listening() as states:
            out = self.policy(
                input_ids=ids,
                attention_mask=mask.long(),
                position_ids=(mask.cumsum(1) - 1).clamp(min=0),
                logits_to_keep=length + 1,
                use_cache=False,
            )
        logps = (out.logits[:, :-1][sampled].float() / self.temperature).log_softmax(-1)
        taken = logps.gather(1, ids[:, -length:][sampled][:, None]).squeeze(1)
        with torch.no_grad():
            entropies = -(logps.exp() * logps).sum(-1)
        hidden = states[0][:, -length - 1 : -1][sampled].float()
        return taken, entropies, self.head(hidden).squeeze(1)

    @contextmanager
    def _listening(self) -> Iterator[list[Tensor]]:
        """The decoder's last hidden states, of a forward pass inside; with those of all layers, all would be kept."""
        states: list[Tensor] = []
        decoder: Any = plain(self.policy).get_decoder()
        hook = decoder.register_forward_hook(lambda _, __, out: states.append(out.last_hidden_state.detach()))
        try:
            yield states
        finally:
            hook.remove()


@contextmanager
def checkpointed(model: nn.Module) -> Iterator[None]:
    """Of a forward pass inside, a layer's activations are not kept: the backward pass computes them again.

    transformers does so for layers in training mode alone, in which they may drop out.
    """
    layers = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    before = [vars(layer).get("forward") for layer in layers]  # bitsandbytes' layers have one of their own
    for layer in layers:
        layer.forward = partial(checkpoint, layer.forward, use_reentrant=False)
    try:
        yield
    finally:
        for layer, own in zip(layers, before, strict=True):
            del layer.forward
            if own is not None:
                layer.forward = own


def read(model: Callable[..., Told], rows: Sequence[Episode]) -> Told:
    """What an `ActorCritic` says of the tokens of replies, all one after another."""
    longest = max(len(row.prompt) for row in rows)
    blanks = [longest - len(row.prompt) for row in rows]
    prompts = torch.tensor([[0] * blank + list(row.prompt) for blank, row in zip(blanks, rows, strict=True)])
    known = torch.arange(longest) >= torch.tensor(blanks)[:, None]
    replies = pad_sequence([torch.tensor(row.ids) for row in rows], batch_first=True)
    sampled = torch.arange(replies.shape[1]) < torch.tensor([len(row.ids) for row in rows])[:, None]
    return model(torch.cat([prompts, replies], dim=1), torch.cat([known, sampled], dim=1), sampled)
