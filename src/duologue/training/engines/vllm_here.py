"""vLLM's engine in this process, beside the trainer on its GPU.

Weights go to it as they go to a server (see `vllm_server`): an adapter under a new name, or all weights in place of
those it has, through a folder. Replies that are asked for at the same time are drawn together; the engine's steps
are made between two turns of the event loop.

Covered: one process that trains. Not covered: several (take a server for them); giving the memory back while the
trainer computes, of which `memory` is the engine's share throughout.

Written after the sources of vLLM 0.33, and not run on a GPU yet.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from asyncio import Future
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import Any

from duologue.errors import MissingDependency, ModelError, RecipeError
from duologue.models.base import Reply, Sampling
from duologue.models.loading import save_weights
from duologue.models.local import LocalModel
from duologue.models.token_query import NEUTRAL, SEED_LIMIT
from duologue.training import ranks
from duologue.training.engines.base import adapter_of

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""Ranks of adapters that vLLM makes room for."""
START = "start"
"""The folder of a whole policy as the engine was started with it."""
QUIET = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # a process that trains an arm may have none of its own
    "VLLM_NO_USAGE_STATS": "1",
}


class VllmHere:
    """An engine in this process.

    Args:
        folder: for the weights; removed at the end.
        memory: the share of the GPU's memory that it may take.

    Raises:
        MissingDependency: vLLM is not installed.
        RecipeError: several processes train together.
    """

    context: int | None = None

    def __init__(self, folder: Path, memory: float) -> None:
        if ranks.processes() > 1:
            raise RecipeError(
                'rollouts.engine = "vllm" is for one process that trains; several take engine = "vllm-server"'
            )
        self.name = "vLLM"
        self._vllm = _imported()
        self._folder, self._memory = folder.resolve(), memory
        self._engine: Any = None
        self._adapter: Any = None
        self._numbers: Iterator[int] = count(1)
        self._asked: dict[str, Future[Any]] = {}
        self._worker: asyncio.Task[None] | None = None

    async def take(self, policy: LocalModel) -> None:
        """Load a policy's weights; see `Engine.take`."""
        if self._engine is None:
            self._engine = self._started(policy)
            self.context = self._engine.model_config.max_model_len
        place = self._folder / f"{policy.version:06d}"
        save_weights(policy.model, place)
        if adapter_of(policy) is None:
            self._engine.collective_rpc("reload_weights", kwargs={"weights_path": str(place)})
            self._engine.reset_prefix_cache()
        else:
            from vllm.lora.request import LoRARequest  # pyright: ignore[reportMissingImports]

            self._adapter = LoRARequest(place.name, policy.version + 1, str(place))
            self._engine.add_lora(self._adapter)
        for folder in self._folder.iterdir():
            if folder not in (place, self._folder / START):
                shutil.rmtree(folder)

    async def draw(self, prompt: tuple[int, ...], *, seed: int, sampling: Sampling, ends: frozenset[int]) -> Reply:
        """A reply of the weights that were taken last; see `Engine.draw`."""
        number, future = str(next(self._numbers)), asyncio.get_running_loop().create_future()
        params = self._vllm.SamplingParams(
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            **NEUTRAL,
            seed=seed & SEED_LIMIT,
            max_tokens=sampling.max_tokens,
            stop_token_ids=sorted(ends),
            logprobs=0,
            detokenize=False,
        )
        self._engine.add_request(number, {"prompt_token_ids": list(prompt)}, params, lora_request=self._adapter)
        self._asked[number] = future
        if self._worker is None or self._worker.done():
            self._worker = asyncio.get_running_loop().create_task(self._work())
        said = await future
        logprobs = tuple(step[token].logprob for step, token in zip(said.logprobs, said.token_ids, strict=True))
        return Reply("", ids=tuple(said.token_ids), logprobs=logprobs, prompt_ids=prompt)

    async def close(self) -> None:
        """End the engine, and remove the folder."""
        if self._engine is not None:
            self._engine.engine_core.shutdown()
            self._engine = None
        shutil.rmtree(self._folder, ignore_errors=True)

    def _started(self, policy: LocalModel) -> Any:
        """An engine with the model that the policy's adapter stands on, or the policy itself."""
        adapter = adapter_of(policy)
        if adapter is None:
            policy.save(self._folder / START)
            own: dict[str, Any] = {"model": str(self._folder / START)}
        else:
            rank = min(rank for rank in RANKS if rank >= adapter.r)
            own = {"model": adapter.base_model_name_or_path, "enable_lora": True, "max_lora_rank": rank}
        arguments = self._vllm.EngineArgs(
            **own,
            skip_tokenizer_init=True,
            gpu_memory_utilization=self._memory,
            max_model_len=-1,  # what fits
            logprobs_mode="processed_logprobs",
        )
        return self._vllm.LLMEngine.from_engine_args(arguments)

    async def _work(self) -> None:
        """Step until nobody waits."""
        try:
            while self._asked:
                for number in [number for number, future in self._asked.items() if future.done()]:
                    self._engine.abort_request([number])  # whoever asked has gone
                    del self._asked[number]
                for output in self._engine.step():
                    if output.finished and output.request_id in self._asked:
                        self._answer(self._asked.pop(output.request_id), output.outputs[0])
                await asyncio.sleep(0)
        except Exception as error:
            for future in self._asked.values():
                if not future.done():
                    future.set_exception(ModelError(f"vLLM failed while it replied: {type(error).__name__}: {error}"))
            self._asked.clear()

    def _answer(self, future: Future[Any], said: Any) -> None:
        if not future.done():
            future.set_result(said)


def _imported() -> ModuleType:
    os.environ.update(QUIET)  # before it is imported
    try:
        import vllm  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError as error:
        raise MissingDependency(
            'rollouts.engine = "vllm" needs vLLM, which brings a torch of its own, so in an environment of its own: '
            "python -m venv duologue-vllm && duologue-vllm/bin/pip install vllm 'duologue[train]'"
        ) from error
    return vllm
