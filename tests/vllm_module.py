"""What vLLM's module has that `VllmHere` uses, by the names and arguments of vLLM 0.33; it draws with a LocalModel.

It shows what is given to vLLM, and when. That vLLM does with it what is meant, no stand-in can show.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from duologue.background import BackgroundLoop
from duologue.models.base import Sampling
from duologue.models.local import LocalModel


@dataclass
class EngineArgs:
    model: str
    skip_tokenizer_init: bool = False
    gpu_memory_utilization: float = 0.9
    max_model_len: int | None = None
    logprobs_mode: str = "raw_logprobs"
    enable_lora: bool = False
    max_lora_rank: int = 16


@dataclass
class SamplingParams:
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    seed: int | None = None
    stop_token_ids: list[int] | None = None
    max_tokens: int | None = 16
    logprobs: int | None = None
    detokenize: bool = True


@dataclass(frozen=True)
class LoRARequest:
    lora_name: str
    lora_int_id: int
    lora_path: str = ""


@dataclass
class LLMEngine:
    """An engine that replies to everything it was asked at its next step."""

    arguments: EngineArgs
    loop: BackgroundLoop
    done: list[str] = field(default_factory=list[str])
    """What was done with it, in order."""
    asked: dict[str, tuple[tuple[int, ...], SamplingParams, LoRARequest | None]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        assert self.arguments.logprobs_mode == "processed_logprobs"
        assert self.arguments.skip_tokenizer_init
        self.model = LocalModel.load(self.arguments.model, device="cpu")
        self.model_config = SimpleNamespace(max_model_len=self.model.context)
        self.engine_core = SimpleNamespace(shutdown=lambda: self.done.append("shutdown"))
        self.adapted: dict[LoRARequest | None, LocalModel] = {None: self.model}

    def add_lora(self, lora_request: LoRARequest) -> bool:
        from peft import PeftModel

        assert self.arguments.enable_lora
        model = PeftModel.from_pretrained(deepcopy(self.model.model), lora_request.lora_path)  # type: ignore[arg-type]
        self.adapted[lora_request] = LocalModel(model.eval(), self.model.tokenizer)
        self.done.append("adapter")
        return True

    def collective_rpc(
        self, method: str, timeout: float | None = None, args: tuple[()] = (), kwargs: dict[str, Any] | None = None
    ) -> list[None]:
        assert method == "reload_weights"
        with torch.no_grad():
            weights = load_file(Path((kwargs or {})["weights_path"]) / "model.safetensors")
            self.model.model.load_state_dict(weights, strict=False)
        self.done.append("weights")
        return [None]

    def reset_prefix_cache(self) -> bool:
        self.model.weights_changed()
        self.done.append("reset")
        return True

    def add_request(
        self,
        request_id: str,
        prompt: dict[str, list[int]],
        params: SamplingParams,
        lora_request: LoRARequest | None = None,
    ) -> str:
        self.asked[request_id] = tuple(prompt["prompt_token_ids"]), params, lora_request
        return request_id

    def abort_request(self, request_ids: list[str]) -> None:
        for number in request_ids:
            self.asked.pop(number, None)

    def step(self) -> list[Any]:
        asked, self.asked = self.asked, {}
        self.done += ["reply"] * len(asked)
        return [self._output(number, *each) for number, each in asked.items()]

    def _output(self, number: str, prompt: tuple[int, ...], params: SamplingParams, lora: LoRARequest | None) -> Any:
        sampling = Sampling(params.temperature, params.top_p, params.max_tokens or 16)
        reply = self.loop.run(self.adapted[lora].draw(prompt, seed=params.seed or 0, sampling=sampling))
        logprobs = [
            {token: SimpleNamespace(logprob=logprob)}
            for token, logprob in zip(reply.ids or (), reply.logprobs or (), strict=True)
        ]
        said = SimpleNamespace(token_ids=list(reply.ids or ()), logprobs=logprobs, finish_reason=reply.finish)
        return SimpleNamespace(request_id=number, finished=True, outputs=[said])


@contextmanager
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[LLMEngine]]:
    """`import vllm` finds this; the engines that are made, in order."""
    engines: list[LLMEngine] = []
    vllm, lora, request = ModuleType("vllm"), ModuleType("vllm.lora"), ModuleType("vllm.lora.request")
    with BackgroundLoop() as loop:

        def made(arguments: EngineArgs) -> LLMEngine:
            engines.append(LLMEngine(arguments, loop))
            return engines[-1]

        vars(vllm).update(
            EngineArgs=EngineArgs, SamplingParams=SamplingParams, LLMEngine=SimpleNamespace(from_engine_args=made)
        )
        vars(request).update(LoRARequest=LoRARequest)
        for module in (vllm, lora, request):
            monkeypatch.setitem(sys.modules, module.__name__, module)
        yield engines
