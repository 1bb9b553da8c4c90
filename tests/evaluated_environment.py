"""What `vf-eval` makes of an environment, with a policy on loopback.

The replies to be trained on come without a seed, everything around them with one: so a script tells them apart.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from endpoint_server import Answer, Asked, Server, ServerThread
from lab_server import answer

CHAT = "great , that is a lovely choice ."
"""A reply that brings a conversation nowhere."""


@dataclass(frozen=True)
class Evaluated:
    """A run of `vf-eval`."""

    code: int
    told: str
    episodes: list[dict[str, Any]]
    asked: list[Asked]

    @property
    def traces(self) -> list[dict[str, Any]]:
        """The traces of all episodes."""
        return [trace for episode in self.episodes for trace in episode["traces"]]


def is_candidate(asked: Asked) -> bool:
    """Whether it is a reply to be trained on that is asked for."""
    return "seed" not in asked.body


async def whole(asked: Asked, text: str | None = None) -> dict[str, Any]:
    """What the lab answers, or a text, with every field that OpenAI's client wants."""
    body = await answer(asked)
    if text is not None:
        body["choices"][0]["message"]["content"] = text
    usage = body["usage"]
    usage["total_tokens"] = usage["prompt_tokens"] + usage["completion_tokens"]
    return {**body, "created": 0, "model": asked.body["model"]}


async def mixed(asked: Asked) -> dict[str, Any]:
    """Every other candidate chats; all else is the oracle's."""
    return await whole(asked, CHAT if is_candidate(asked) and asked.number % 2 else None)


def evaluate(
    folder: Path,
    script: Callable[[Asked], Awaitable[Answer]],
    *options: str,
    package: str = "duologue-groceries",
    more: Callable[[Server], tuple[str, ...]] = lambda server: (),
) -> Evaluated:
    """Run `vf-eval`, with packages found in the folder, too.

    Args:
        more: options that name the server's address.
    """
    given = filter(None, [os.environ.get("PYTHONPATH")])
    with ServerThread(script) as server:
        client = ("--client.base-url", server.url, "--client.api-key-var", "NO_KEY", "--model", "oracle")
        place = ("--no-push", "--no-rich", "--output-dir", str(folder), "--run.name", "run")
        done = subprocess.run(
            [Path(sys.executable).parent / "vf-eval", package, *client, *place, *more(server), *options],
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
            env={**os.environ, "HOME": str(folder), "PYTHONPATH": os.pathsep.join([str(folder), *given])},
        )
    traces = folder / "run" / "traces.jsonl"
    lines = traces.read_bytes().splitlines() if traces.exists() else []
    return Evaluated(done.returncode, done.stdout + done.stderr, [orjson.loads(line) for line in lines], server.asked)
