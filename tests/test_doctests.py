from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

import duologue

SOURCE = Path(duologue.__file__).parent
EXAMPLES = sorted(file.relative_to(SOURCE) for file in SOURCE.rglob("*.py") if ">>> " in file.read_text())


@pytest.mark.parametrize("file", EXAMPLES, ids=str)
def test_the_examples_in_a_modules_docstrings_hold(file: Path) -> None:
    module = importlib.import_module(".".join(("duologue", *file.with_suffix("").parts)))
    result = doctest.testmod(module, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert result.attempted > 0
    assert result.failed == 0
