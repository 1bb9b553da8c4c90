from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import duologue

HEAVY = ("torch", "transformers", "trl", "datasets", "peft", "accelerate", "numpy", "scipy", "aiohttp", "matplotlib")
NEEDS_TORCH = (
    "duologue.models.batch",
    "duologue.models.draws",
    "duologue.models.loading",
    "duologue.models.local",
    "duologue.models.memory",
    "duologue.models.prefixes",
    "duologue.models.rowcache",
    "duologue.models.size",
    "duologue.models.template",
    "duologue.training.",
)
"""Imported at the top of each other alone, and inside the functions that use them."""
NEEDS_OTHERS = ("duologue.integrations.verifiers", "duologue.integrations.verl", "duologue.run.verl")
"""Imported by libraries that have an environment of their own, where `make test-integrations` tests them."""

IMPORT_ALL = f"""
import importlib, json, sys
for name in json.loads(sys.argv[1]):
    importlib.import_module(name)
print(json.dumps(sorted(set(sys.modules) & set({HEAVY!r}))))
"""

IMPORT_PACKAGE = f"""
import json, sys
import duologue
print(json.dumps(sorted(set(sys.modules) & set({HEAVY!r}))))
"""

EVERY_PUBLIC_NAME = """
import json
import duologue
print(json.dumps([name for name in duologue.__all__ if name != "trl" and getattr(duologue, name, None) is None]))
"""


def modules() -> list[str]:
    root = Path(duologue.__file__).parent
    files = (file.relative_to(root.parent).with_suffix("") for file in root.rglob("*.py"))
    names = (".".join(part for part in file.parts if part != "__init__") for file in files)
    elsewhere = (*NEEDS_TORCH, *NEEDS_OTHERS)
    return sorted(name for name in names if not name.startswith(elsewhere) and not name.endswith("__main__"))


def printed(program: str, *arguments: str) -> object:
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_package_imports_no_heavy_library() -> None:
    assert printed(IMPORT_PACKAGE) == []


def test_the_core_imports_no_heavy_library() -> None:
    assert printed(IMPORT_ALL, json.dumps(modules())) == []


def test_every_public_name_is_there() -> None:
    assert printed(EVERY_PUBLIC_NAME) == []
