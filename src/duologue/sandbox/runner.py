"""Runs inside a box, as a script: reads a job, runs the tests against the code, writes one line of results.

It imports nothing of ours: all that it has is this file's text. The code it runs shares its interpreter and can
reach everything in it, so nothing that it writes is believed before it is proved outside.

In, as JSON on the standard input: {"code", "tests", "names": ["Class.method"…], "watched": [module…], "free": [name…]}
Out: "ready", then {"results": {name: null | why}, "error": null | text, "replaced": [function…]}
"""

from __future__ import annotations

import builtins
import importlib
import json
import os
import sys
import types
import unittest

TYPE_CHECKING = False  # importing it from typing would take a twentieth of the runner's time
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

KEPT = 300
"""Characters of a reason."""
SETTINGS = {
    "sys": {
        *("stdin", "stdout", "stderr", "displayhook", "excepthook", "unraisablehook", "breakpointhook", "argv", "path"),
        *("ps1", "ps2", "tracebacklimit", "dont_write_bytecode", "last_type", "last_value", "last_traceback"),
    },
    "warnings": {
        *("showwarning", "formatwarning", "warn", "filters", "_filters_version", "_defaultaction", "defaultaction"),
        *("_showwarnmsg", "_showwarnmsg_impl"),
    },
    "logging": {"_loggerClass", "_logRecordFactory", "lastResort", "raiseExceptions"},
    "builtins": {"_"},
    "ssl": {"_create_default_https_context"},
    "threading": {"excepthook"},
    "tempfile": {"tempdir"},
    "time": {"timezone", "altzone", "daylight", "tzname"},
}
"""What programs set for an honest reason, by module."""


class Record(unittest.TestResult):
    """What became of each test."""

    trouble: str | None = None

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, str | None] = {}
        self.made: dict[int, tuple[dict[str, Any], Any]] = {}
        self.changed: set[str] = set()

    def note(self, test: Any) -> Any:
        """Note what there is in a test that has not begun."""
        self.made[id(test)] = (dict(test.__dict__), dict(test._type_equality_funcs))
        return test

    def stopTest(self, test: Any) -> None:
        """Find what hides a method of the test's class since, and whether it compares a type in another way."""
        space: dict[str, Any] = test.__dict__
        saved, ways = self.made[id(test)]
        kinds: list[type[Any]] = list(type(test).__mro__)
        methods = {name for kind in kinds for name, value in vars(kind).items() if callable(value)}
        self.changed.update(methods & (space.keys() - saved.keys()))
        self.changed.update(["addTypeEqualityFunc"] * (space.get("_type_equality_funcs") != ways))

    def addSuccess(self, test: Any) -> None:
        self.found.setdefault(name_of(test), None)

    def addFailure(self, test: Any, err: Any) -> None:
        self.found[name_of(test)] = reason(err[1])

    def addError(self, test: Any, err: Any) -> None:
        self.found[name_of(test)] = self.trouble = reason(err[1])

    def addSkip(self, test: Any, reason: str) -> None:
        self.found[name_of(test)] = f"skipped: {reason}"[:KEPT]

    def addExpectedFailure(self, test: Any, err: Any) -> None:
        self.found[name_of(test)] = "expected to fail, and did"

    def addUnexpectedSuccess(self, test: Any) -> None:
        self.found[name_of(test)] = "expected to fail, and did not"

    def addSubTest(self, test: Any, subtest: Any, err: Any) -> None:
        if err is not None:
            self.found[name_of(test)] = reason(err[1])


def name_of(test: Any) -> str:
    return f"{type(test).__name__}.{getattr(test, '_testMethodName', '')}"


def reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:KEPT]


def main() -> None:
    job = json.load(sys.stdin)
    channel = os.dup(1)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nowhere, number)
    write, leave, dumps = os.write, os._exit, json.dumps
    write(channel, b"ready\n")
    case: Any = unittest.case
    case._ShouldStop = ()  # or a test would swallow that error, and pass
    before = Snapshot()
    before.begin(job["watched"])
    answer = dumps(results(job, before)).encode()
    while answer:
        answer = answer[write(channel, answer) :]
    leave(0)  # at once: nothing that the code registered or left running is waited for


def results(job: dict[str, Any], before: Snapshot) -> dict[str, Any]:
    pristine, replaced = dict(vars(builtins)), before.replaced
    code, tests = module("solution"), module("hidden_tests")
    record = Record()
    error = ran(job["code"], code)
    found = replaced(set())
    if error is None:
        given = {k: v for k, v in vars(code).items() if k not in pristine and not k.startswith("__")}
        vars(tests).update(given, __builtins__=pristine)
        error = ran(job["tests"], tests)
        before.note(["hidden_tests"])
        error = error or tested(tests, job["names"], record)
        found += replaced(set(job["free"]))
        found += [f"a test's {name}" for name in record.changed.difference(job["free"])]
    whys = {name: record.found.get(name, error or record.trouble or "it was not run") for name in job["names"]}
    return {"results": whys, "error": error, "replaced": sorted(set(found))}


def module(name: str) -> types.ModuleType:
    made = types.ModuleType(name)
    sys.modules[name] = made
    return made


def ran(source: str, target: types.ModuleType) -> str | None:
    """Run a module's source in it; why that failed, or None."""
    try:
        exec(compile(source, f"<{target.__name__}>", "exec", dont_inherit=True), vars(target))
    except BaseException as error:  # also what it raises to end the interpreter
        return reason(error)
    return None


def tested(tests: types.ModuleType, names: list[str], record: Record) -> str | None:
    chosen = unittest.TestSuite()
    try:
        for name in names:
            kind, _, method = name.partition(".")
            found = vars(tests)[kind]
            if not issubclass(found, unittest.TestCase):
                return f"{kind} is no unittest.TestCase"
            chosen.addTest(record.note(found(method)))
        chosen.run(record)
    except BaseException as error:  # likewise
        return reason(error)
    return None


class Snapshot:
    """What modules and classes hold, and what was replaced in them since: functions, classes, methods, constants.

    A module is noted as soon as it and the package that it belongs to are loaded, whoever loads it.
    """

    def __init__(self) -> None:
        self._noted: list[tuple[str, Mapping[str, Any], dict[str, Any], Any]] = []
        self._seen: set[int] = set()
        self._loaded: dict[str, types.ModuleType] = {}
        self._tight = {"hidden_tests"}
        self._rewritten: list[tuple[Any, int]] = []

    def begin(self, watched: list[str]) -> None:
        """Note what is there, and whatever is loaded from now on; load the modules of these names, constants too."""
        self._tight.update(watched)
        self._hook()
        for name in watched:
            try:
                importlib.import_module(name)
            except Exception:  # the tests will meet it again, and it is theirs to report
                continue
        self._loaded = dict(sys.modules)
        self.note(list(self._loaded))

    def _hook(self) -> None:
        bootstrap: Any = sys.modules["_frozen_importlib"]  # the one place that all modules come by
        load = bootstrap._load_unlocked
        under_way: list[str] = []
        waiting: dict[str, list[str]] = {}

        def noting(spec: Any) -> Any:
            package = spec.name.partition(".")[0]
            under_way.append(package)
            waiting.setdefault(package, []).append(spec.name)
            try:
                return load(spec)
            finally:
                under_way.remove(package)
                if package not in under_way:
                    self.note(waiting.pop(package, []))

        def changing(event: str, given: tuple[Any, ...]) -> None:
            if event == "object.__setattr__" and given[1] in ("__code__", "__bases__"):
                self._rewritten.append((given[0], len(self._noted)))

        bootstrap._load_unlocked = noting
        sys.addaudithook(changing)

    def note(self, names: list[str]) -> None:
        """Note modules and their classes."""
        for name in names:
            there = sys.modules.get(name)
            if id(there) not in self._seen and issubclass(type(there), types.ModuleType):
                self._note(name, object.__getattribute__(there, "__dict__"), there if name in self._tight else None)
                self._seen.add(id(there))

    def _note(self, label: str, space: Mapping[str, Any], owner: Any) -> None:
        saved = dict(space)
        self._noted.append((label, space, saved, owner))
        for name, value in saved.items():
            self._note_class(f"{label}.{name}", value)

    def _note_class(self, label: str, kind: object) -> None:
        if issubclass(type(kind), type) and id(kind) not in self._seen and kind.__module__ != "solution":
            self._seen.add(id(kind))
            self._noted.append((label, vars(kind), dict(vars(kind)), kind))

    def replaced(self, free: set[str]) -> list[str]:
        """The names of what is not as it was, but for these names."""
        gone = [name for name, there in self._loaded.items() if sys.modules.get(name) is not there]
        found = [f"sys.modules[{name!r}]" for name in gone if name not in free]
        for label, space, saved, owner in self._noted:
            changed = [name for name, value in saved.items() if space.get(name) is not value and name not in free]
            found += [f"{label}.{name}" for name in changed if is_replaced(label, name, saved, space.get(name), owner)]
            if len(space) + len(changed) > len(saved):
                known = free.union(saved, SETTINGS.get(label, ()))
                added = [name for name in list(space) if name not in known]
                found += [f"{label}.{name}" for name in added if hides(space[name], name, owner)]
        return sorted({*found, *self._known_and_rewritten()})

    def _known_and_rewritten(self) -> list[str]:
        """Names of functions and classes that were given another inside after they were noted."""
        return [
            f"{label}.{name}"
            for changed, noted in self._rewritten
            for label, _, saved, _ in self._noted[:noted]
            for name, value in saved.items()
            if value is changed
        ]


def is_replaced(label: str, name: str, saved: Mapping[str, Any], now: Any, owner: Any) -> bool:
    """Whether a value that is not there any more is one that nobody replaces for an honest reason."""
    value = saved[name]
    if name in SETTINGS.get(label, ()) or is_copy(value, now):
        return False
    is_private = name.startswith("_") and not name.startswith("__")
    if isinstance(owner, type) and is_private and any(now is each for each in saved.values()):
        return False  # a library that switches between methods of its own
    if callable(value) or isinstance(value, (types.ModuleType, property, classmethod, staticmethod)):
        return True
    is_constant = isinstance(owner, types.ModuleType) and not isinstance(value, (type(None), list, dict, set))
    return name == "_ShouldStop" or (is_constant and (label == "hidden_tests" or not name.startswith("_")))


def is_copy(value: Any, now: Any) -> bool:
    """Whether it is the same function made anew: some libraries set their methods with every object."""
    if not isinstance(value, types.FunctionType) or not isinstance(now, types.FunctionType):
        return False
    cells = [tuple(each.__closure__ or ()) for each in (value, now)]
    try:
        parts = [
            (each.__code__, each.__globals__, each.__defaults__, *(cell.cell_contents for cell in held))
            for each, held in zip((value, now), cells, strict=True)
        ]
    except ValueError:  # there is nothing in a cell yet
        return False
    return all(a is b for a, b in zip(*parts, strict=False))


def hides(value: Any, name: str, owner: Any) -> bool:
    """Whether a name that was added stands before another of its name: a builtin, an inherited or a special method."""
    if not isinstance(owner, type):
        return hasattr(builtins, name)
    if not callable(value) and not hasattr(value, "__get__"):
        return False
    return name.startswith("__") or any(name in vars(kind) for kind in owner.__mro__[1:])


if __name__ == "__main__":
    main()
