"""A stock vLLM server that plays a policy: weights go to it through a folder that both can read.

Of a policy with an adapter, the adapter goes over, under a new name each time (`/v1/load_lora_adapter`); of any
other, all weights, which the server reads in place of its own (`/collective_rpc`: reload_weights), after which it
forgets the prefixes that it kept (`/reset_prefix_cache`). A reply says which weights it comes from: it names the
adapter, or, where the server knows `/update_weight_version`, the version of the weights.

Several processes that train together have equal weights. Whichever needs them first sends them, and the others
wait for that: the folder of a version belongs to who makes it, and a file in it says that the server has read it.

Written after the sources of vLLM 0.33, and not run on a GPU yet.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterable
from pathlib import Path

import orjson

from duologue.errors import EndpointUnusable
from duologue.journal import write_atomically
from duologue.models.base import Reply, Sampling
from duologue.models.endpoint import Endpoint
from duologue.models.endpoint_model import EndpointModel
from duologue.models.loading import save_weights
from duologue.models.local import LocalModel
from duologue.models.token_query import TokenQuery
from duologue.models.wire import Answer, read_complaint
from duologue.training.engines.base import adapter_of

SERVED = "served"
"""The file in a version's folder that says: the server replies with it. It holds the name that its replies bear."""
LOOK = 0.05
"""Seconds between two looks for it."""
TRIES = 100
"""Times that the server is asked to forget what it kept, while calls that were given up still hold some of it."""


class VllmServer:
    """An engine behind an address.

    Args:
        endpoint: of a server for this policy alone.
        folder: for the weights, under a path that the server finds them by, too; emptied at the end.
        token: told apart from others' by this, the policy's adapters may share a server with theirs.
    """

    context: int | None = None

    def __init__(self, endpoint: Endpoint, folder: Path, token: str) -> None:
        self.name = "the vLLM server"
        self._endpoint, self._folder, self._token = endpoint, folder.resolve(), token
        self._model: EndpointModel | None = None
        self._adapter: str | None = None
        self._version: str | None = None

    async def take(self, policy: LocalModel) -> None:
        """Send a policy's weights, or wait until another process has; see `Engine.take`."""
        if self._model is None:
            self._model = await self._found()
        place = self._folder / f"duologue-{self._token}-{policy.version:06d}"
        try:
            place.mkdir(parents=True)
        except FileExistsError:
            while not (place / SERVED).exists():
                await asyncio.sleep(LOOK)
        else:
            await self._send(policy, place)
        served = (place / SERVED).read_text()
        self._adapter, self._version = (served, None) if adapter_of(policy) else (None, served or None)

    async def draw(self, prompt: tuple[int, ...], *, seed: int, sampling: Sampling, ends: frozenset[int]) -> Reply:
        """A reply of the weights that were taken last; see `Engine.draw`."""
        assert self._model is not None, "it took weights"
        query = TokenQuery(
            self._model.name,
            (),
            seed,
            sampling,
            prompt=prompt,
            ends=tuple(sorted(ends)),
            adapter=self._adapter,
            version=self._version,
        )
        return await self._model.ask(query)

    async def close(self) -> None:
        """Unload the adapter, and remove the folder; the weights of a whole policy stay in the server."""
        if self._folder.exists():
            await self._drop(self._folder.glob(f"duologue-{self._token}-*"))
            shutil.rmtree(self._folder, ignore_errors=True)

    async def _found(self) -> EndpointModel:
        """The model that the server was started with."""
        models = {name: says for name, says in (await self._endpoint.listed()).items() if says.get("parent") is None}
        if not models:
            raise EndpointUnusable(f"{self._endpoint.place} lists no model: is it `vllm serve`?")
        name, says = next(iter(models.items()))
        length = says.get("max_model_len")
        self.context = length if isinstance(length, int) else None
        return self._endpoint.model(name)

    async def _send(self, policy: LocalModel, place: Path) -> None:
        older = [folder for folder in self._folder.iterdir() if folder != place]
        save_weights(policy.model, place)
        adapter = adapter_of(policy)
        if adapter is None:
            served = await self._reload(place)
        else:
            served = place.name
            answer = await self._endpoint.command(
                "/v1/load_lora_adapter", {"lora_name": served, "lora_path": str(place)}
            )
            self._expect_done(
                answer,
                "load an adapter",
                "start it with VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 and --enable-lora --max-lora-rank "
                f"{adapter.r}, where it can read {place}",
            )
        write_atomically(place / SERVED, served)
        await self._drop(older)

    async def _reload(self, place: Path) -> str:
        """Have the server read all weights anew; the version that its replies then name, or nothing."""
        advice = f"start it with VLLM_SERVER_DEV_MODE=1, where it can read {place}"
        path = {"method": "reload_weights", "kwargs": {"weights_path": str(place)}}
        self._expect_done(await self._endpoint.command("/collective_rpc", path), "reload its weights", advice)
        await self._forget(advice)
        answer = await self._endpoint.command("/update_weight_version", {"new_version": place.name})
        return place.name if answer.status == 200 else ""  # older servers have no versions

    async def _forget(self, advice: str) -> None:
        """Have the server drop the keys and values that it kept from the old weights."""
        for _ in range(TRIES):
            answer = await self._endpoint.command("/reset_prefix_cache", {})
            self._expect_done(answer, "reset its prefix cache", advice)
            if not answer.body or orjson.loads(answer.body).get("success") is not False:
                return
            await asyncio.sleep(LOOK)
        raise EndpointUnusable(f"{self._endpoint.place} does not reset its prefix cache: is it used by others, too?")

    def _expect_done(self, answer: Answer, what: str, advice: str) -> None:
        if answer.status != 200:
            place = self._endpoint.place
            said = place.quote(read_complaint(answer.body).words)
            raise EndpointUnusable(f"{place} does not {what} ({answer.status}: {said}): {advice}")

    async def _drop(self, folders: Iterable[Path]) -> None:
        """Remove versions that nobody replies with any more; of adapters, from the server, too."""
        for folder in list(folders):
            if (folder / "adapter_config.json").exists():
                # A server that was started anew has none: as well.
                await self._endpoint.command("/v1/unload_lora_adapter", {"lora_name": folder.name})
            shutil.rmtree(folder, ignore_errors=True)
