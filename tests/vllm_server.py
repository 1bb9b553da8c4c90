"""A server on loopback that speaks the protocol of `vllm serve` (0.33), and generates with a model of transformers.

    with VllmThread(base) as server:
        … server.url …

Its routes, bodies and manners are vLLM's: adapters by name, weights reloaded in place, prefixes kept until they are
reset, 404 for what a server was not started with. What can be wrong with a server is set on it: `keeps_old`,
`gives_ids`, `raw`, `dev`, `adapters`. Its draws are ours, so that equal seeds draw equal words.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import torch
from aiohttp import web
from safetensors.torch import load_file

from duologue.background import BackgroundLoop
from duologue.models.base import Reply, Sampling
from duologue.models.local import LocalModel
from duologue.training.engines.played import own_logprobs

Route = Callable[[dict[str, Any]], Awaitable[web.Response]]
BASE = "base"
"""What the server calls the model that it was started with."""


@dataclass
class VllmServer:
    """A server that is up."""

    model: LocalModel
    adapters: bool = True
    """Whether it was started with VLLM_ALLOW_RUNTIME_LORA_UPDATING."""
    dev: bool = True
    """Whether it was started with VLLM_SERVER_DEV_MODE."""
    versions: bool = True
    """Whether it knows of versions of weights."""
    keeps_old: bool = False
    """Says that it loaded weights, and does not."""
    gives_ids: bool = True
    raw: bool = False
    """Whether its log-probabilities are those before temperature and top_p."""
    port: int = 0
    version: str = "default"
    loaded: dict[str, LocalModel] = field(default_factory=dict[str, LocalModel])
    """Adapters by name."""
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list[tuple[str, dict[str, Any]]])
    """Paths and bodies of what it was asked, in order."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def paths(self) -> list[str]:
        """What it was asked, replies left out."""
        return [path for path, _ in self.asked if path != "/v1/completions"]

    async def models(self, body: dict[str, Any]) -> web.Response:
        context = {"max_model_len": self.model.context}
        base = {"id": BASE, "object": "model", "root": BASE, "parent": None, **context}
        others = [{"id": name, "object": "model", "parent": BASE} for name in self.loaded]
        return _json({"object": "list", "data": [base, *others]})

    async def completions(self, body: dict[str, Any]) -> web.Response:
        name = body["model"]
        if name != BASE and name not in self.loaded:
            return _failure(404, f"The model `{name}` does not exist.")
        model = self.loaded.get(name, self.model)
        prompt = tuple(body["prompt"])
        if len(prompt) + body["max_tokens"] > model.context:
            return _failure(400, f"This model's maximum context length is {model.context} tokens.")
        sampling = Sampling(body["temperature"], body["top_p"], body["max_tokens"])
        reply = await model.draw(prompt, seed=body["seed"], sampling=sampling)
        choice = {
            "index": 0,
            "text": reply.text,
            "finish_reason": reply.finish,
            "stop_reason": None,
            "logprobs": {"token_logprobs": self._logprobs(model, prompt, reply), "tokens": [], "top_logprobs": []},
        }
        if body["return_token_ids"] and self.gives_ids:
            choice |= {"prompt_token_ids": prompt, "token_ids": reply.ids}
        if body["return_weight_versions"] and self.versions:
            choice["weight_versions"] = [{"version": self.version, "start": 0, "end": len(reply.ids or ())}]
        usage = {"prompt_tokens": len(prompt), "completion_tokens": len(reply.ids or ())}
        return _json({"object": "text_completion", "model": name, "choices": [choice], "usage": usage})

    async def load_adapter(self, body: dict[str, Any]) -> web.Response:
        if body["lora_name"] in self.loaded:
            return _failure(400, f"The lora adapter '{body['lora_name']}' has already been loaded.")
        newest = next(reversed(self.loaded.values()), None)
        kept = newest if self.keeps_old else None
        self.loaded[body["lora_name"]] = kept or self._adapted(body["lora_path"])
        return web.Response(text=f"Success: LoRA adapter '{body['lora_name']}' added successfully.")

    async def unload_adapter(self, body: dict[str, Any]) -> web.Response:
        if self.loaded.pop(body["lora_name"], None) is None:
            return _failure(404, f"The lora adapter '{body['lora_name']}' cannot be found.")
        return web.Response(text=f"Success: LoRA adapter '{body['lora_name']}' removed successfully.")

    async def rpc(self, body: dict[str, Any]) -> web.Response:
        assert body["method"] == "reload_weights"
        if not self.keeps_old:
            weights = load_file(Path(body["kwargs"]["weights_path"]) / "model.safetensors")
            with torch.inference_mode(False), torch.no_grad():
                missing, unexpected = self.model.model.load_state_dict(weights, strict=False)
            assert not unexpected and set(missing) <= {"lm_head.weight"}  # tied to the embedding
        return _json({"results": [None]})

    async def reset(self, body: dict[str, Any]) -> web.Response:
        self.model.weights_changed()
        return _json({"success": True})

    async def name_version(self, body: dict[str, Any]) -> web.Response:
        self.version = body["new_version"]
        return _json({"success": True, "new_version": self.version})

    def routes(self) -> dict[str, Route]:
        """What the server was started with."""
        found: dict[str, Route] = {
            "/v1/completions": self.completions,
            "/v1/models": self.models,
        }
        if self.adapters:
            found |= {"/v1/load_lora_adapter": self.load_adapter, "/v1/unload_lora_adapter": self.unload_adapter}
        if self.dev:
            found |= {"/collective_rpc": self.rpc, "/reset_prefix_cache": self.reset}
        if self.dev and self.versions:
            found |= {"/update_weight_version": self.name_version}
        return found

    async def answer(self, request: web.Request) -> web.Response:
        """Whatever is asked."""
        body = orjson.loads(await request.read() or b"{}")
        self.asked.append((request.path, body))
        route = self.routes().get(request.path)
        return await route(body) if route else _json({"detail": "Not Found"}, 404)

    def _adapted(self, folder: str) -> LocalModel:
        """The server's own model with an adapter."""
        from peft import PeftModel

        model = PeftModel.from_pretrained(deepcopy(self.model.model), folder)  # type: ignore[arg-type]
        return LocalModel(model.eval(), self.model.tokenizer)

    def _logprobs(self, model: LocalModel, prompt: tuple[int, ...], reply: Reply) -> list[float]:
        if self.raw:
            return own_logprobs(model, prompt, reply.ids or ()).tolist()
        return list(reply.logprobs or ())


class VllmThread:
    """A server in a thread of its own: `with VllmThread(base, dev=False) as server: …`."""

    def __init__(self, base: Path, **started: Any) -> None:
        self._server = VllmServer(LocalModel.load(base, device="cpu"), **started)
        self._loop = BackgroundLoop()
        self._runner: web.AppRunner | None = None

    def __enter__(self) -> VllmServer:
        self._loop.run(self._up())
        return self._server

    def __exit__(self, *raised: object) -> None:
        assert self._runner is not None
        self._loop.run(self._runner.cleanup())
        self._loop.close()

    async def _up(self) -> None:
        application = web.Application(client_max_size=1 << 26)
        application.router.add_route("*", "/{path:.*}", self._server.answer)
        self._runner = web.AppRunner(application, shutdown_timeout=0.05, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self._server.port = self._runner.addresses[0][1]


def _failure(status: int, message: str) -> web.Response:
    return _json({"error": {"message": message, "type": "error", "param": None, "code": status}}, status)


def _json(body: Any, status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(body), status=status, content_type="application/json")
