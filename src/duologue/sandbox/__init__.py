"""Code that nobody trusts, run against hidden unit tests in a box of its own.

    from duologue import sandbox

    async with sandbox.Sandbox() as box:
        report = await box.run_tests(code, tests)

Covered, by the boxes of bubblewrap, Podman and Docker:

- the network: there is none;
- files: the system and the Python are there to read, without Duologue itself, whose goals have hidden tests; a small
  scratch folder to write, nothing else;
- secrets: no environment, no other processes;
- the kernel: a filter of system calls, ours with bubblewrap (see `seccomp`), with Podman and Docker the engine's own;
- endless loops, memory of a process, processes, disk, output: limits, in wall time a second more than asked for at
  most;
- what the code leaves behind: its box dies with every process, mount and file in it;
- lies about the result: which tests there are is read outside; a pass counts once it is proved, by runs in which the
  same code passes some tests again and fails others that were made wrong, drawn outside, anew for each test and run
  (see `controls`). A guess is right once in 119; neither the clock nor word from another box helps it;
- constants read off an assertion: in one of these runs one that is expected is another (see `constants`);
- objects that lie, wherever the tests compare them (see `spy`), and errors of all kinds (see `raising`);
- what the code replaced under the tests' feet: functions, classes, methods and constants (see `runner`).

Not covered:

- a candidate that has learned the expected values, or that recognises tests that were made wrong, or a spy's question:
  keep some tests unseen, and watch the share of `tampered`;
- objects that lie where nothing is compared: `assertTrue(total)`, `isinstance`, the keys of dicts and the elements of
  sets; in comparisons inside of format texts; in code that the tests import or make with `eval`; in assertions found
  by `getattr`;
- what is replaced and put back in time, or changed inside of a list, a dictionary or an object;
- honest objects that look like liars: `docs/sandbox.md` lists them;
- programs that pass at some times only count as failed where that shows: each of eight runs has to go well;
- faults of the kernel: a box shares it with its host. Podman or Docker with gVisor (`runsc`) as its runtime keeps
  further off;
- memory in all: bubblewrap limits the address space of each process, so that `processes` times `memory_mb` may be
  taken, twice `disk_mb` of files in memory, and what the kernel holds for pipes and sockets; should it run out, the
  kernel ends the box before anything else. Podman and Docker limit the sum;
- time side by side: boxes share the processor, and a verdict of `timeout` on a crowded machine may be the crowd's;
- `unsafe-local`, which covers next to nothing and says so.
"""

from __future__ import annotations

from duologue.sandbox.base import Limits, Outcome, TestReport
from duologue.sandbox.pool import Sandbox

__all__ = ["Limits", "Outcome", "Sandbox", "TestReport", "run_tests"]


async def run_tests(
    code: str, tests: str, *, limits: Limits | None = None, sandbox: Sandbox | None = None
) -> TestReport:
    """Run a `unittest` module against the code whose names it calls.

    Args:
        code: a program; what it defines at its top level is there for the tests.
        tests: the source of a `unittest` module.
        limits: what a run may take; left out, the sandbox's own.
        sandbox: where it runs; left out, one is opened, tested and closed for this call alone.

    Raises:
        DataError: the tests are no `unittest` module.
        SandboxError: the box itself does not work, which says nothing of the code.
    """
    if sandbox is not None:
        return await sandbox.run_tests(code, tests, limits=limits)
    async with Sandbox() as own:
        return await own.run_tests(code, tests, limits=limits)
