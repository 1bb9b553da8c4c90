"""A policy that an engine plays: the messages are read and written here, the words in between are the engine's.

After every change of the policy's weights the engine takes them before its next reply. Then it is asked for one
short reply to a fixed message, whose log-probabilities are compared with the policy's own: an engine that has other
weights, or goes on with old ones, ends the run. The difference is `logprob_gap`, a figure of every step.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from duologue.conversation import Message
from duologue.errors import EndpointUnusable
from duologue.models.base import Reply, Sampling
from duologue.models.loading import plain
from duologue.models.local import LocalModel, evaluating
from duologue.training.engines.base import Engine

PROBE = (Message("user", "Hello! What could we talk about?"),)
PROBED = Sampling(max_tokens=32)
LIKELIEST = Sampling(top_p=1e-6, max_tokens=4)
"""Draws the likeliest token alone: a certain one, by the distribution that it is drawn from."""
WIDEST = 0.25
"""Nats a token by which an engine may differ: a rounding to 16 bits is below a tenth of it, other weights far above."""
MOVED = 0.05
"""Nats a token by which the policy must have moved for an engine that has not to be told apart from rounding."""


@dataclass(frozen=True)
class Probe:
    """A reply of an engine's, `[tokens]` each."""

    ids: tuple[int, ...]
    theirs: Tensor
    """The engine's log-probabilities."""
    ours: Tensor
    """The policy's, of the same tokens."""

    @property
    def gap(self) -> float:
        """How far they differ, in nats a token."""
        return float((self.theirs - self.ours).abs().mean())


class PlayedPolicy:
    """A `ChatModel`: a policy in this process, played by an engine with its current weights."""

    def __init__(self, policy: LocalModel, engine: Engine) -> None:
        self.gap: float | None = None
        """What `logprob_gap` is, since the weights last changed."""
        self._policy, self._engine = policy, engine
        self._taken = -1
        """The version of the weights that the engine has."""
        self._before: Probe | None = None
        self._taking = asyncio.Lock()

    async def reply(self, messages: Sequence[Message], *, seed: int, sampling: Sampling) -> Reply:
        """One reply by the current weights.

        Raises:
            ContextOverflow: the messages leave no room for one token.
            EndpointUnusable: the engine does not take the weights, or does not reply with them.
            ModelError: no reply could be had.
        """
        async with self._taking:
            if self._taken != self._policy.version:
                await self._take()
        return await self._draw(self._policy.encode(messages), seed, sampling)

    def count_tokens(self, text: str) -> int:
        """As the policy counts."""
        return self._policy.count_tokens(text)

    def figures(self) -> dict[str, float | None]:
        """What a training step's figures say of the engine."""
        return {"logprob_gap": self.gap}

    async def close(self) -> None:
        """Close the engine."""
        await self._engine.close()

    async def _draw(self, prompt: tuple[int, ...], seed: int, sampling: Sampling) -> Reply:
        room = self._policy.room(prompt, sampling)
        drawn = await self._engine.draw(
            prompt, seed=seed, sampling=replace(sampling, max_tokens=room), ends=self._policy.ends
        )
        return self._policy.said(prompt, drawn.ids or (), drawn.logprobs or ())

    async def _take(self) -> None:
        version = self._policy.version
        await self._engine.take(self._policy)
        if self._engine.context is not None:
            self._policy.context = min(self._policy.context, self._engine.context)
        if self._before is None:
            await self._check_distribution()
        probe = await self._probe()
        self._before = followed(probe, self._before, self._engine.name)
        self.gap, self._taken = probe.gap, version

    async def _check_distribution(self) -> None:
        """See to it that a token's log-probability is that of the distribution which it was drawn from."""
        reply = await self._draw(self._policy.encode(PROBE), 0, LIKELIEST)
        if min(reply.logprobs or ()) < -0.01:
            raise EndpointUnusable(
                f"{self._engine.name} does not give the log-probabilities that it draws with: start it with "
                "--logprobs-mode processed_logprobs"
            )

    async def _probe(self) -> Probe:
        reply = await self._draw(self._policy.encode(PROBE), 0, PROBED)
        ids = reply.ids or ()
        return Probe(ids, torch.tensor(reply.logprobs), own_logprobs(self._policy, reply.prompt_ids or (), ids))


def followed(probe: Probe, before: Probe | None, engine: str) -> Probe:
    """See to it that an engine replies with a policy's weights; the probe that the next one is compared with.

    Args:
        probe: its reply now.
        before: one from when the policy had last moved far.

    Raises:
        EndpointUnusable: it does not.
    """
    if probe.gap > WIDEST:
        raise EndpointUnusable(
            f"{engine} replies with other weights than those that it was sent: its log-probabilities differ from "
            f"the policy's by {probe.gap:.2f} nats a token, and by {WIDEST} at most where the model is the same: is "
            "it served from the model that the training starts from?"
        )
    if before is None or before.ids != probe.ids:
        return probe
    ours, theirs = probe.ours - before.ours, probe.theirs - before.theirs
    moved, missed = float(ours.abs().mean()), float((theirs - ours).abs().mean())
    if moved <= MOVED:
        return before
    if missed > moved / 2:
        raise EndpointUnusable(
            f"{engine} keeps old weights: the policy's log-probabilities moved by {moved:.2f} nats a token, and "
            f"those of its replies by {float(theirs.abs().mean()):.2f}"
        )
    return probe


@torch.no_grad()
def own_logprobs(policy: LocalModel, prompt: Sequence[int], ids: Sequence[int]) -> Tensor:
    """The log-probabilities, `[tokens]`, that a policy gives to a reply of some ids after a prompt."""
    base = plain(policy.model)
    read = torch.tensor([[*prompt, *ids[:-1]]], device=base.device)
    with evaluating(policy.model):
        # The class's own: trainers replace `forward` on the instance.
        logits = type(base).forward(base, input_ids=read, logits_to_keep=len(ids)).logits[0].float()
    return logits.log_softmax(-1).gather(1, read.new_tensor(ids)[:, None])[:, 0].cpu()
