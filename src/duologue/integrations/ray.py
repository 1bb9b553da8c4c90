"""Work spread over a Ray cluster: one that is there already, or one started on this machine for the occasion.

The other machines must have the same Python and the same packages, and find what the work names (models,
tasks of one's own, run folders) under the same paths. Nothing is installed or copied there.
"""

from __future__ import annotations

import logging
import os
import re
import socket
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from duologue.errors import DuologueError, MissingDependency, RunError
from duologue.integrations.settings import ScaleSettings

RETRIES = 5
"""Times that a piece is done again whose worker was lost."""
MEMORY = 256 * 2**20
"""Bytes that results may take, on a cluster of our own; Ray would take a third of the machine's memory."""
PATIENCE = 10.0
"""Seconds to wait for a cluster's address; Ray would wait for minutes."""
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",  # else it reports to its makers
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # else it warns that this will be the default
}

LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""Read when Ray is imported: a cluster of our own listens on 127.0.0.1, as on those systems, not to the network."""
COLOUR = re.compile(r"\x1b\[\d*m")
"""What makes a terminal write in colour."""

P = TypeVar("P")
R = TypeVar("R")


class Cluster:
    """A Ray cluster: `with joined(settings) as cluster: …`."""

    def __init__(self, ray: Any, settings: ScaleSettings) -> None:
        self._ray, self._settings = ray, settings

    @property
    def places(self) -> int:
        """Pieces that the cluster can work on at a time.

        Raises:
            RunError: none; no machine has what one takes.
        """
        places = sum(self._places(node["Resources"]) for node in self._ray.nodes() if node["Alive"])
        if places == 0:
            cores, gpus = self._settings.cpus, self._settings.gpus
            raise RunError(
                f"no machine of the Ray cluster has {cores:g} cores and {gpus:g} GPUs for a shard: set scale.cpus "
                "and scale.gpus lower"
            )
        return places

    def _places(self, resources: dict[str, float]) -> int:
        takes = {"CPU": self._settings.cpus, "GPU": self._settings.gpus}
        return int(min(resources.get(name, 0.0) // amount for name, amount in takes.items() if amount))

    def each(self, perform: Callable[[P], R], pieces: Sequence[P]) -> Iterator[R]:
        """What `perform` gives for each piece, in the order in which they end.

        A piece whose worker was lost is done again, from its beginning.

        Args:
            perform: a module-level function that the workers can import.

        Raises:
            DuologueError: as `perform` raised it; the other pieces are stopped when the cluster is left.
            RunError: a piece's workers were lost again and again, or `perform` has a fault.
        """
        options = {"num_cpus": self._settings.cpus, "num_gpus": self._settings.gpus, "max_retries": RETRIES}
        remote = self._ray.remote(perform).options(**options)
        under_way = [remote.remote(piece) for piece in pieces]
        while under_way:
            (ended, *_), under_way = self._ray.wait(under_way)
            yield self._result(ended)

    def _result(self, ended: Any) -> Any:
        failures = self._ray.exceptions
        try:
            return self._ray.get(ended)
        except failures.RayTaskError as error:
            if isinstance(error.cause, DuologueError):
                raise error.cause from None
            told = COLOUR.sub("", str(error))
            raise RunError(f"a shard failed on Ray; this is a fault of ours, or of a task:\n{told}") from None
        except failures.RayError as error:
            raise RunError(
                f"the worker of a shard was lost {RETRIES + 1} times, perhaps for lack of memory "
                f"({type(error).__name__}); the same command goes on from what is recorded; a greater scale.shards, or "
                "scale.cpus, needs less memory at a time"
            ) from error


@contextmanager
def joined(settings: ScaleSettings) -> Generator[Cluster]:
    """The cluster at `settings.address`, or one on this machine; left, or stopped, at the end.

    Raises:
        MissingDependency: Ray is not installed.
        RunError: there is no such cluster, or it cannot be joined.
    """
    wanted = QUIET if settings.address else {**QUIET, **LOOPBACK}
    os.environ.update({name: os.environ.get(name, value) for name, value in wanted.items()})
    ray = _imported()
    quietly = {"log_to_driver": False, "logging_level": logging.ERROR}
    if settings.address is None:
        ray.init("local", include_dashboard=False, object_store_memory=MEMORY, **quietly)
    else:
        _join(ray, settings.address, quietly)
    try:
        yield Cluster(ray, settings)
    finally:
        ray.shutdown()


def _imported() -> Any:
    try:
        import ray
    except ImportError as error:
        raise MissingDependency("scale.engine = \"ray\" needs Ray: pip install 'duologue[ray]'") from error
    return ray


def _join(ray: Any, address: str, options: dict[str, Any]) -> None:
    try:
        host, _, port = address.rpartition(":")
        socket.create_connection((host, int(port)), PATIENCE).close()
        ray.init(address, **options)
    except (OSError, RuntimeError) as error:
        raise RunError(
            f"the Ray cluster at {address} cannot be joined ({error}); this machine is to be one of the "
            f"cluster's: `ray start --address={address}`"
        ) from error
