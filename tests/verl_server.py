"""Stand-ins for verl's inference servers: tokens in, tokens out, decoded on a CPU by the built-in model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

Params = dict[str, Any]


class TinyClient:
    """In the place of verl's `LLMServerClient`.

    Args:
        lost: (prompt ids, sampling) → whether the request is given up.
    """

    def __init__(self, lost: Callable[[tuple[int, ...], Params], bool] = lambda ids, params: False) -> None:
        from duologue.models.local import LocalModel

        self.model = LocalModel.load("tiny")
        self.lost = lost
        self.calls: list[tuple[str, tuple[int, ...], Params]] = []
        self.under_way = self.most_under_way = 0

    async def generate(
        self, request_id: str, *, prompt_ids: Sequence[int], sampling_params: Params, **rest: Any
    ) -> Any:
        from verl.workers.rollout.replica import TokenOutput

        from duologue.models.base import Sampling

        prompt = tuple(prompt_ids)
        self.calls.append((request_id, prompt, dict(sampling_params)))
        if self.lost(prompt, sampling_params):
            return TokenOutput(token_ids=[], stop_reason="aborted")
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        sampling = Sampling(sampling_params["temperature"], sampling_params["top_p"], sampling_params["max_tokens"])
        reply = await self.model.draw(prompt, seed=sampling_params["seed"], sampling=sampling)
        self.under_way -= 1
        steps = {"global_steps": 1, "min_global_steps": 1, "max_global_steps": 1}
        return TokenOutput(
            token_ids=list(reply.ids or ()),
            log_probs=list(reply.logprobs or ()) if sampling_params["logprobs"] else None,
            stop_reason="completed",
            extra_fields=steps,
        )


class TinyServer:
    """In the place of one of verl's server actors, behind verl's own client and load balancer."""

    def __init__(self) -> None:
        self._client = TinyClient()

    async def generate(
        self,
        *,
        prompt_ids: Sequence[int],
        sampling_params: Params,
        request_id: str,
        image_data: Any = None,
        video_data: Any = None,
    ) -> Any:
        return await self._client.generate(request_id, prompt_ids=prompt_ids, sampling_params=sampling_params)
