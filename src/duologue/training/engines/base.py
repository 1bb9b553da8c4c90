"""What an engine is that plays a policy: it takes the policy's weights, and continues conversations in ids."""

from __future__ import annotations

from typing import Any, Protocol

from duologue.models.base import Reply, Sampling
from duologue.models.loading import ADAPTER, is_adapted
from duologue.models.local import LocalModel


class Engine(Protocol):
    """Replies to conversations in ids, with the weights that it took last."""

    name: str
    """For errors."""
    context: int | None
    """Tokens of a conversation at most, known once it took weights; None where it does not say."""

    async def take(self, policy: LocalModel) -> None:
        """Reply with a policy's weights, as they are, from now on; nobody is being replied to meanwhile.

        Raises:
            EndpointUnusable, ModelError: it cannot.
        """
        ...

    async def draw(self, prompt: tuple[int, ...], *, seed: int, sampling: Sampling, ends: frozenset[int]) -> Reply:
        """A reply: ids, the one of `ends` that ended it among them, and their log-probabilities as they were drawn."""
        ...

    async def close(self) -> None:
        """Leave nothing behind."""
        ...


def adapter_of(policy: LocalModel) -> Any:
    """The configuration of the adapter that is trained, as peft has it; None where all weights are."""
    return policy.model.peft_config[ADAPTER] if is_adapted(policy.model) else None  # type: ignore[union-attr, index]
