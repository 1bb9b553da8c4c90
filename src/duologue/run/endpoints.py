"""The endpoints of a run, and its sandbox: opened once, on one event loop, and closed with it."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from duologue.background import BackgroundLoop
from duologue.errors import RecipeError
from duologue.models.base import ChatModel
from duologue.models.settings import EndpointSettings
from duologue.recipe import Recipe, Role
from duologue.sandbox import Sandbox
from duologue.sandbox.settings import SandboxSettings

if TYPE_CHECKING:
    from duologue.models.calls import Calls, Total
    from duologue.models.endpoint import Endpoint


class Endpoints:
    """Every endpoint of a recipe by its name or address, all their calls in one ledger.

    Args:
        processes: that drive the endpoints at the same time, each with its part of their limits.
    """

    def __init__(self, calls: Calls | None = None, processes: int = 1) -> None:
        self._calls, self._processes = calls, processes
        self._open: dict[str, Endpoint] = {}
        self._sandboxes: dict[SandboxSettings, Sandbox] = {}

    def model(self, recipe: Recipe, role: Role, name: str) -> ChatModel:
        """The model that plays a role: "assistant", "user" or "judge".

        Raises:
            RecipeError: no such endpoint, or the environment has no key for it.
        """
        found = recipe.endpoint(role)
        if found is None:
            raise RecipeError(f"{name}: say which endpoint plays {role.model}")
        return self.at(*found).model(role.model, role=name, stop=role.stop)

    def at(self, place: str, settings: EndpointSettings) -> Endpoint:
        """The endpoint of a name or address.

        Raises:
            RecipeError: the environment has no key for it.
        """
        if place not in self._open:
            self._open[place] = open_endpoint(place, _part(settings, self._processes), self._calls)
        return self._open[place]

    def sandbox(self, settings: SandboxSettings) -> Sandbox:
        """Where programs run that nobody trusts; it tests itself when it is first used."""
        if settings not in self._sandboxes:
            self._sandboxes[settings] = settings.sandbox()
        return self._sandboxes[settings]

    def totals(self) -> Sequence[Total]:
        """What all calls amount to so far, by role and model."""
        return self._calls.totals() if self._calls is not None else ()

    async def close(self) -> None:
        """Close their connections, and end what still runs in a sandbox."""
        for sandbox in self._sandboxes.values():
            await sandbox.close()
        for endpoint in self._open.values():
            await endpoint.close()


def _part(settings: EndpointSettings, processes: int) -> EndpointSettings:
    """What each of some processes may ask of an endpoint, so that they together ask what one may."""
    limits = {
        "in_flight": settings.in_flight,
        "requests_per_minute": settings.requests_per_minute,
        "tokens_per_minute": settings.tokens_per_minute,
    }
    return settings.model_copy(update={key: limit and max(limit // processes, 1) for key, limit in limits.items()})


def open_endpoint(name: str, settings: EndpointSettings, calls: Calls | None = None) -> Endpoint:
    """The endpoint that settings describe; its calls are remembered and paid for in `calls`.

    Raises:
        RecipeError: the environment has no key for it.
    """
    from duologue.models.budget import Price
    from duologue.models.endpoint import Endpoint

    return Endpoint(
        settings.url,
        name=name,
        key=_key(settings.api_key_env),
        in_flight=settings.in_flight,
        timeout=settings.timeout,
        retries=settings.retries,
        requests_per_minute=settings.requests_per_minute,
        tokens_per_minute=settings.tokens_per_minute,
        price=Price(settings.price.input, settings.price.output),
        calls=calls,
    )


def _key(variable: str | None) -> str | None:
    if variable is None:
        return None
    if not os.environ.get(variable):
        raise RecipeError(f"api_key_env: the environment has no {variable}: export {variable}=… first")
    return os.environ[variable]


def collect_seldom() -> None:
    """Look for cycles of objects more seldom, in this process, which is ours: a sixth of a call's processor time.

    Thousands of open conversations are looked through each time, and none of them is a cycle.
    """
    gc.set_threshold(100_000, 50, 100)


@contextmanager
def opened(
    recipe: Recipe, ledger: Path, *, cached: bool = True, processes: int = 1
) -> Generator[tuple[BackgroundLoop, Endpoints]]:
    """An event loop with a recipe's endpoints; what their calls gave and cost is kept in the file `ledger`.

    Args:
        cached: whether a call that was answered before is answered from that file.
        processes: that do this at the same time, and share the endpoints' limits.
    """
    if recipe.uses_endpoints:
        collect_seldom()
    with BackgroundLoop() as loop, _calls(recipe, ledger, cached) as calls:
        endpoints = Endpoints(calls, processes)
        try:
            yield loop, endpoints
        finally:
            loop.run(endpoints.close())


@contextmanager
def _calls(recipe: Recipe, ledger: Path, cached: bool) -> Generator[Calls | None]:
    if not recipe.uses_endpoints:
        yield None
        return
    from duologue.models.calls import Calls

    calls = Calls(ledger, budget=recipe.budget, cached=cached)
    try:
        yield calls
    finally:
        calls.close()


def spending(endpoints: Endpoints) -> Callable[[], dict[str, float | None]]:
    """A function that tells what all calls took since it was asked last: tokens by role, "user_tokens", and "cost"."""
    before = _spent(endpoints.totals())

    def since() -> dict[str, float | None]:
        nonlocal before
        now, earlier = _spent(endpoints.totals()), before
        before = now
        return {name: amount - earlier.get(name, 0.0) for name, amount in now.items()}

    return since


def _spent(totals: Sequence[Total]) -> dict[str, float]:
    found = {"cost": sum(total.cost for total in totals)} if totals else {}
    for total in totals:
        name = f"{total.role}_tokens"
        found[name] = found.get(name, 0.0) + total.prompt + total.completion
    return found


def calls_made(ledger: Path) -> list[dict[str, Any]]:
    """What the calls to endpoints amount to, by role and model; nothing where none were made."""
    if not ledger.exists():
        return []
    from duologue.models.calls import Calls

    calls = Calls(ledger)
    try:
        return [asdict(total) for total in calls.totals()]
    finally:
        calls.close()
