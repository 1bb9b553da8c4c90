"""Boxes of Podman or Docker, where one answers: a container a run, from an image that is there already."""

from __future__ import annotations

import math
import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from typing import Literal

from duologue.errors import SandboxError
from duologue.sandbox.base import Limits
from duologue.sandbox.bubblewrap import INSIDE, NOBODY, RUNNER
from duologue.sandbox.process import Command, Exchange, Leash, exchange

Engine = Literal["podman", "docker"]
IMAGE = "docker.io/library/python:3.11-slim"
SCRATCH = "/tmp"
"""Where a program starts and may write."""
PATIENCE = 60.0
"""Seconds that an engine may take for a small question."""
INSTALL = {
    "podman": "install it (apt-get install podman), or set sandbox.backend",
    "docker": "install it and start its daemon (systemctl start docker), or set sandbox.backend",
}


class Container:
    """Containers of an engine.

    Args:
        image: whose `python` is the interpreter; it is never fetched from here.
    """

    holds = True
    refused: Mapping[str, int] = {}
    """None: system calls are filtered by the engine, as it does by default."""

    def __init__(self, engine: Engine, image: str = IMAGE) -> None:
        self.name, self._image = engine, image

    def check(self) -> None:
        """See whether the engine answers and has the image.

        Raises:
            SandboxError: it does not.
        """
        if shutil.which(self.name) is None:
            raise SandboxError(f"{self.name} is not installed: {INSTALL[self.name]}")
        answer = self._asked("info")
        if answer.returncode:
            raise SandboxError(f"{self.name} does not answer ({_last_line(answer)}): {INSTALL[self.name]}")
        if self._asked("image", "inspect", self._image).returncode:
            raise SandboxError(
                f"{self.name} has no image {self._image}: {self.name} pull {self._image}, or set sandbox.image to one "
                "that has `python` and what the programs import"
            )

    def run(self, job: bytes, limits: Limits, leash: Leash) -> Exchange:
        """Run a job in a fresh container.

        Raises:
            SandboxError: it did not stand.
        """
        name = f"duologue-{secrets.token_hex(8)}"

        def kill(process: subprocess.Popen[bytes]) -> None:
            if process.poll() is None:
                self._asked("kill", name)  # what is over removes itself
                process.kill()

        with tempfile.TemporaryDirectory(prefix="duologue-") as folder:  # Podman leaves a file "oom" where it is called
            command = Command(self.words(name, limits), os.environ, kill, folder)
            try:
                return exchange(command, job, seconds=limits.seconds, most=limits.output_kb << 10, leash=leash)
            except SandboxError as error:
                raise SandboxError(f"{self.name}: {error}") from error

    def words(self, name: str, limits: Limits) -> list[str]:
        """The command line of a container."""
        memory, disk = f"{limits.memory_mb}m", f"{limits.disk_mb}m"
        environment = INSIDE | {"HOME": SCRATCH, "TMPDIR": SCRATCH}
        return [
            *(self.name, "run", "--rm", "--interactive", "--name", name, "--pull", "never", "--log-driver", "none"),
            *("--network", "none", "--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"),
            *("--user", f"{NOBODY}:{NOBODY}", "--pids-limit", str(limits.processes)),
            *("--memory", memory, "--memory-swap", memory, "--shm-size", disk),
            *("--tmpfs", f"{SCRATCH}:rw,size={disk},mode=1777", "--workdir", SCRATCH),
            *("--ulimit", "core=0:0", "--ulimit", "nofile=256:256", "--ulimit", "nproc=4096:4096"),
            *("--ulimit", f"cpu={math.ceil(limits.seconds) + 1}", "--ulimit", f"fsize={limits.disk_mb << 20}"),
            *(word for key, value in environment.items() if key != "PATH" for word in ("--env", f"{key}={value}")),
            *(self._image, "python", "-I", "-c", RUNNER),
        ]

    def _asked(self, *words: str) -> subprocess.CompletedProcess[str]:
        """What the engine says to a question."""
        try:
            return subprocess.run([self.name, *words], capture_output=True, text=True, timeout=PATIENCE, check=False)
        except subprocess.TimeoutExpired as error:
            raise SandboxError(
                f"{self.name} {words[0]} took more than {PATIENCE:.0f} s: restart {self.name}"
            ) from error


def _last_line(answer: subprocess.CompletedProcess[str]) -> str:
    lines = (answer.stderr or answer.stdout).strip().splitlines()
    return lines[-1] if lines else f"exit {answer.returncode}"
