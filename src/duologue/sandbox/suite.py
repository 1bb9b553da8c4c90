"""What there is in a module of hidden tests, read from its source: nobody inside a box is asked."""

from __future__ import annotations

import ast
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from duologue.errors import DataError

Method = ast.FunctionDef | ast.AsyncFunctionDef

_ONE_AT_A_TIME = threading.Lock()
"""Python 3.11 counts the depth of trees for all threads together, and breaks where two parse at a time (gh-106905)."""


def parsed(source: str) -> ast.Module:
    """A module's tree; safe in threads.

    Raises:
        SyntaxError, ValueError, RecursionError, MemoryError: as `ast.parse`.
    """
    with _ONE_AT_A_TIME:
        return ast.parse(source)


@dataclass(frozen=True, slots=True)
class Suite:
    """A module of unit tests."""

    source: str
    names: tuple[str, ...]
    """Its tests as "Class.method", one or more, those of a class in the order of the alphabet, as unittest has it."""
    watched: tuple[str, ...]
    """The names that it imports, modules among them: the code must not replace their constants either."""
    free: tuple[str, ...]
    """Names that the tests themselves replace for good, like "sleep" of "time.sleep"."""


def read_suite(source: str) -> Suite:
    """The tests of a module.

    Raises:
        DataError: it is not Python, or holds no unittest test.

    >>> read_suite('''
    ... import math, unittest
    ... class Tests(unittest.TestCase):
    ...     def test_root(self): self.assertEqual(root(9), math.sqrt(9))
    ... ''').names
    ('Tests.test_root',)
    """
    if not isinstance(source, str):  # pyright: ignore[reportUnnecessaryIsInstance]: data comes from anywhere
        raise DataError(f"the hidden tests are a text, and not {source!r}")
    try:
        tree = parsed(source)
    except (SyntaxError, ValueError) as error:  # ValueError: a zero byte
        raise DataError(f"the hidden tests are not Python: {error}") from error
    except (RecursionError, MemoryError) as error:
        raise DataError("the hidden tests are nested too deeply: write them in smaller parts") from error
    names = tuple(f"{kind}.{method}" for kind, methods in test_methods(tree).items() for method in sorted(methods))
    if not names:
        raise DataError("the hidden tests hold no test: a class of unittest.TestCase with a method test_… is wanted")
    return Suite(source, names, tuple(sorted(_imports(tree))), tuple(sorted(_replaced(tree))))


def test_methods(tree: ast.Module) -> dict[str, dict[str, Method]]:
    """The test methods of each class of tests, inherited ones too, by name."""
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    return {name: _methods(node, classes) for name, node in classes.items() if _is_tests(node, classes)}


def _is_tests(node: ast.ClassDef, classes: dict[str, ast.ClassDef]) -> bool:
    return any(_last(base).endswith("TestCase") for base in node.bases) or any(
        _is_tests(parent, classes) for parent in _parents(node, classes)
    )


def _parents(node: ast.ClassDef, classes: dict[str, ast.ClassDef]) -> Iterator[ast.ClassDef]:
    names = [_last(base) for base in node.bases]
    yield from (classes[name] for name in names if name in classes and classes[name].lineno < node.lineno)


def _methods(node: ast.ClassDef, classes: dict[str, ast.ClassDef]) -> dict[str, Method]:
    found: dict[str, Method] = {}
    for parent in _parents(node, classes):
        found |= _methods(parent, classes)
    own = (each for each in node.body if isinstance(each, Method) and each.name.startswith("test"))
    return found | {method.name: method for method in own}


def _last(node: ast.expr) -> str:
    """The last part of a dotted name."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _imports(tree: ast.Module) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names if alias.name != "*")}
    return found - {"__future__", "solution"}


def _replaced(tree: ast.Module) -> set[str]:
    """Names that are set: of attributes, of globals, of modules; and by patches that somebody has to stop."""
    nodes = [*ast.walk(tree)]
    found = {
        node.attr for node in nodes if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store | ast.Del)
    }
    found |= {name for node in nodes if isinstance(node, ast.Global) for name in node.names}
    found |= {"addTypeEqualityFunc"} & {_last(node.func) for node in nodes if isinstance(node, ast.Call)}
    found |= {
        text
        for node in nodes
        if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store)
        for text in _texts([node.slice])
    }
    if any(isinstance(node, ast.Attribute) and node.attr == "start" for node in nodes):
        calls = [node for node in nodes if isinstance(node, ast.Call) and "patch" in ast.unparse(node.func)]
        found |= {text.rpartition(".")[2] for call in calls for text in _texts(call.args)}
    return found | {
        text
        for node in nodes
        if isinstance(node, ast.Call) and _last(node.func) == "setattr"
        for text in _texts(node.args)
    }


def _texts(nodes: Iterable[ast.expr]) -> Iterator[str]:
    return (node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str))
