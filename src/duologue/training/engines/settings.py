"""`[rollouts]`: who plays the policy while it trains."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from duologue.models.settings import Reached


class RolloutSettings(Reached):
    """`[rollouts]`: who plays the policy while it trains: its prefixes, candidates and look-aheads."""

    engine: Literal["here", "vllm", "vllm-server"] = "here"
    """"here", the process that trains; "vllm", a vLLM engine in it; or "vllm-server", one that `vllm serve` started."""
    folder: str | None = Field(default=None, min_length=1)
    """Where each step's weights are put for vLLM to read; left out, the run's folder."""
    memory: float = Field(default=0.3, gt=0, le=1)
    """With "vllm": the share of the GPU's memory that it may take."""

    @model_validator(mode="after")
    def _server_has_an_address(self) -> Self:
        if (self.engine == "vllm-server") != (self.endpoint is not None):
            raise ValueError('engine = "vllm-server" has an endpoint, and no other engine has one')
        return self
