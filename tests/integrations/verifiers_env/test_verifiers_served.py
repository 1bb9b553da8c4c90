"""Our environment behind verifiers' own server, called as prime-rl calls it: token ids in, token ids out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import verifiers.v1 as vf
from aiohttp import web
from aiohttp.test_utils import TestServer
from renderers import DefaultRendererConfig
from renderers.base import load_tokenizer
from verifiers.v1.serve import EnvClient
from verifiers.v1.serve.server import EnvServer

from duologue.models import BUILT_IN

TINY = str(BUILT_IN["tiny"])
REPLY = "which city ?"


class Engine:
    """An engine as prime-rl's: it reads token ids, and replies with those of one sentence and their logprobs."""

    def __init__(self) -> None:
        tokenizer = load_tokenizer(TINY)
        self.reply = [*tokenizer.encode(f" {REPLY}", add_special_tokens=False), tokenizer.eos_token_id]
        self.asked: list[dict[str, Any]] = []
        self.losing = False
        """Whether look-aheads, which have a seed, are refused."""

    async def generate(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.asked.append(body)
        if self.losing and "seed" in body["sampling_params"]:
            return web.json_response({"error": {"message": "not today"}}, status=400)
        logprobs = [{"token": f"token_id:{token}", "logprob": -0.5} for token in self.reply]
        choice = {"token_ids": self.reply, "finish_reason": "stop", "logprobs": {"content": logprobs}}
        return web.json_response({"request_id": "0", "choices": [choice]})


@pytest.fixture
def engine() -> Engine:
    return Engine()


@asynccontextmanager
async def served(config: vf.EnvConfig) -> AsyncGenerator[EnvClient]:
    """A client of a server of the environment."""
    server = EnvServer(config, address="tcp://127.0.0.1:0")
    running, client = asyncio.create_task(server.run()), EnvClient(server.address)
    try:
        await client.wait_for_server_startup(timeout=30)
        yield client
    finally:
        await client.close()
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


async def episode(engine: Engine) -> vf.WireEpisode:
    """What prime-rl gets for the first state."""
    settings = {"taskset": {"id": "duologue-groceries"}, "candidates": 3, "samples": 2}
    config = vf.resolve_env_config(settings)
    task = next(iter(vf.load_taskset(config.taskset)))
    application = web.Application()
    application.router.add_post("/inference/v1/generate", engine.generate)
    async with TestServer(application) as server, served(config) as client:
        endpoint = vf.TrainClientConfig(
            base_url=f"{server.make_url('/v1')}",
            api_key_var="NO_KEY",
            renderer=DefaultRendererConfig(),
            renderer_model_name=TINY,
        )
        sampling = vf.SamplingConfig(temperature=1.0, max_tokens=24, logprobs=True, cache_salt="v0")
        found = await client.run(endpoint, "policy", sampling, task.data.model_dump())
    assert (found.task.key, found.task.hash) == (task.key, task.hash)
    return found


async def test_every_trace_holds_the_sampled_ids_of_one_reply_and_its_reward(engine: Engine) -> None:
    found = await episode(engine)
    assert found.ok, found.errors
    assert len(found.traces) == 3
    for trace in found.traces:
        (branch,) = trace.branches
        sampled = [token for token, ours in zip(branch.token_ids, branch.sampled_mask, strict=True) if ours]
        assert sampled == engine.reply and trace.last_reply == REPLY
        assert trace.agent.trainable and trace.rewards["multiturn_reward"] is not None


async def test_look_aheads_ask_the_same_engine_under_the_same_sampling_with_seeds_of_their_own(engine: Engine) -> None:
    await episode(engine)
    candidates = [body for body in engine.asked if "seed" not in body["sampling_params"]]
    others = [body for body in engine.asked if "seed" in body["sampling_params"]]
    assert len(candidates) == 3 and others
    assert {body["cache_salt"] for body in engine.asked} == {"v0"}
    assert {(body["model"], body["sampling_params"]["max_tokens"]) for body in engine.asked} == {("policy", 24)}
    ahead = [(tuple(body["token_ids"]), body["sampling_params"]["seed"]) for body in others]
    assert len(set(ahead)) == len(ahead)


async def test_no_trace_is_left_to_train_on_where_all_look_aheads_are_lost(engine: Engine) -> None:
    engine.losing = True
    found = await episode(engine)
    assert not found.ok and "none of 3 replies could be scored" in found.errors[-1].message
    assert len(found.traces) == 3
    assert not any(trace.ok or trace.agent.trainable or trace.rewards for trace in found.traces)
