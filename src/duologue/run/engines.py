"""Who plays a stage's policy: the process that trains, or the engine of `[rollouts]`."""

from __future__ import annotations

import secrets
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from duologue.background import BackgroundLoop
from duologue.recipe import Recipe
from duologue.run.endpoints import Endpoints

if TYPE_CHECKING:
    from duologue.models.local import LocalModel
    from duologue.training.engines.base import Engine
    from duologue.training.engines.played import PlayedPolicy


@contextmanager
def played(
    arm: Recipe, policy: LocalModel, work: Path, loop: BackgroundLoop, endpoints: Endpoints
) -> Generator[PlayedPolicy | None]:
    """A stage's policy as the engine of `[rollouts]` plays it, closed at the end; None where it plays itself.

    Args:
        work: the stage's folder.

    Raises:
        RecipeError: no such endpoint, or the environment has no key for it.
        MissingDependency: vLLM is not installed.
    """
    if arm.rollouts.engine == "here":
        yield None
        return
    from duologue.training import ranks
    from duologue.training.engines.played import PlayedPolicy

    root = Path(arm.rollouts.folder) / arm.name / work.parent.name / work.name if arm.rollouts.folder else work
    playing = PlayedPolicy(policy, _engine(arm, root / "rollouts", ranks.agreed(secrets.token_hex(4)), endpoints))
    try:
        yield playing
    finally:
        loop.run(playing.close())


def _engine(arm: Recipe, folder: Path, token: str, endpoints: Endpoints) -> Engine:
    found = arm.endpoint(arm.rollouts)
    if found is None:
        from duologue.training.engines.vllm_here import VllmHere

        return VllmHere(folder, arm.rollouts.memory)
    from duologue.training.engines.vllm_server import VllmServer

    return VllmServer(endpoints.at(*found), folder, token)
