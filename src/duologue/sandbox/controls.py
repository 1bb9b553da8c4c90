"""Negative controls: the hidden tests with some of them made wrong, so that an honest candidate fails just those.

A candidate shares its interpreter with the tests, so a report of success proves nothing. A proof runs it again, `RUNS`
times, each time in a fresh box and with a part of the tests made wrong that is drawn anew: a test that is wrong ends
in a false assertion, whichever way it ends, and one that is not in the same assertion, which then is not made. The
candidate has to pass the ones and to fail the others. Each test is wrong in two of the runs at least, and right in
one. In one of those where it is wrong, a constant that it expects is another, if it expects any: see `constants`.

When a run begins, or beside which others, says nothing of which tests are wrong in it. A candidate that guesses has
for each test that it does not pass honestly one chance in 2**RUNS - 2 - RUNS.

Meanwhile a `Spy` asks the objects that the tests compare more than the tests do, with strangers drawn anew for each
run. Where one says yes to what no honest object does, a test that is wrong "passes", and so it is found. A candidate
that recognises these questions, or knows the expected values, is not found.
"""

from __future__ import annotations

import ast
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from duologue.errors import DataError
from duologue.sandbox.constants import Drawn, Expected, expected, other
from duologue.sandbox.operands import Watch, exempt
from duologue.sandbox.suite import Method, Suite, parsed, test_methods

RUNS = 7
"""Runs of a proof: a guess is right once in 119."""
PARTS = ("spy", "raising", "keeping", "inside", "strangers")
SOURCES = [Path(__file__).with_name(f"{name}.py").read_text(encoding="utf-8") for name in PARTS]
Draw = Callable[[], object]
FALSE = {
    "assertAlmostEqual": "self.assertAlmostEqual({a}, {b})",
    "assertCountEqual": "self.assertCountEqual([{a}], [{b}])",
    "assertDictEqual": "self.assertDictEqual({{'{a}': {a}}}, {{'{a}': {b}}})",
    "assertEqual": "self.assertEqual({a}, {b})",
    "assertFalse": "self.assertFalse({a} < {b})",
    "assertGreater": "self.assertGreater({a}, {b})",
    "assertGreaterEqual": "self.assertGreaterEqual({a}, {b})",
    "assertIn": "self.assertIn({a}, [{b}])",
    "assertIs": "self.assertIs({a}, None)",
    "assertIsInstance": "self.assertIsInstance({a}, str)",
    "assertIsNone": "self.assertIsNone({a})",
    "assertIsNotNone": "self.assertIsNotNone(None)",
    "assertLess": "self.assertLess({b}, {a})",
    "assertLessEqual": "self.assertLessEqual({b}, {a})",
    "assertListEqual": "self.assertListEqual([{a}], [{b}])",
    "assertNotEqual": "self.assertNotEqual({a}, {a})",
    "assertNotIn": "self.assertNotIn({a}, [{a}, {b}])",
    "assertRaises": "self.assertRaises(ValueError, [].append, {a})",
    "assertSetEqual": "self.assertSetEqual({{{a}}}, {{{b}}})",
    "assertTrue": "self.assertTrue({a} > {b})",
    "assertTupleEqual": "self.assertTupleEqual(({a},), ({b},))",
}
"""Statements that are false for a < b, by the assertion of unittest that finds it."""


@dataclass(frozen=True, slots=True)
class Control:
    """The tests, some of them made wrong."""

    tests: str
    fail: frozenset[str]
    """The tests that an honest candidate fails; it passes the others."""


def controls(suite: Suite) -> list[Control]:
    """The runs of a proof, drawn anew with every call.

    Raises:
        DataError: the tests are nested so deeply that they cannot be changed.

    >>> from duologue.sandbox.suite import read_suite
    >>> drawn = controls(read_suite('''
    ... import unittest
    ... class Tests(unittest.TestCase):
    ...     def test_sum(self): self.assertEqual(add(2, 3), 5)
    ... '''))
    >>> {name for control in drawn for name in control.fail}, all(control.fail for control in drawn)
    ({'Tests.test_sum'}, False)
    """
    tree = parsed(suite.source)
    methods = {f"{kind}.{name}": method for kind, own in test_methods(tree).items() for name, method in own.items()}
    distinct = {id(method): method for method in methods.values()}  # an inherited one is changed once
    spy, originals, fresh, head = _spy(exempt(tree))
    marks = {key: _mark() for key in distinct}
    try:
        changes = {key: change for key, method in distinct.items() if (change := _change(method)) is not None}
        Watch(spy, tree, {id(each.expected.node): each.place for each in changes.values()}).visit(tree)
        for key, method in distinct.items():
            method.body = _ended(method, spy, marks[key])
        tree.body[(start := _start(tree)) : start] = head
        source = ast.unparse(ast.fix_missing_locations(tree))
    except RecursionError as error:
        raise DataError(
            "the hidden tests are nested too deeply to prove a pass: write them in smaller parts"
        ) from error
    wrong = {key: _wrong() for key in distinct}
    changed = {key: secrets.choice(sorted(wrong[key])) for key in changes}
    return [
        Control(
            _drawn(
                source,
                {mark: draw() for mark, draw in fresh.items()}
                | {marks[key]: run in runs for key, runs in wrong.items()}
                | {changes[key].mark: repr(changes[key].value(changed[key] == run)) for key in changes}
                | {originals: _originals(changes[key] for key in changes if changed[key] == run)},
            ),
            frozenset(name for name, method in methods.items() if run in wrong[id(method)]),
        )
        for run in range(RUNS)
    ]


def _wrong() -> set[int]:
    """The runs in which a test is wrong: two at least, and not all."""
    while not 2 <= (bits := secrets.randbelow(2**RUNS)).bit_count() < RUNS:
        continue
    return {run for run in range(RUNS) if bits >> run & 1}


@dataclass(frozen=True, slots=True)
class Change:
    """What a test expects somewhere, changed in one of the runs."""

    expected: Expected
    original: str
    """The whole of what it expects, as it is written."""
    place: str
    mark: str
    """Stands in the tests for the constant."""
    values: tuple[object, object]

    def value(self, is_changed: bool) -> object:
        """The constant of a run."""
        return self.values[is_changed]


def _change(method: Method) -> Change | None:
    if not (found := expected(method)):
        return None
    chosen, mark = secrets.choice(found), _mark()
    original, value = ast.unparse(chosen.side), chosen.constant.value
    chosen.constant.value = Drawn(mark)  # pyright: ignore[reportAttributeAccessIssue]: written by its repr
    return Change(chosen, original, _mark(), mark, (value, other(value)))


def _originals(changes: Iterable[Change]) -> str:
    return f"{{{', '.join(f'{each.place!r}: {each.original}' for each in changes)}}}"


def _ended(method: Method, spy: str, mark: str) -> list[ast.stmt]:
    """A test's body with its end: where it is wrong it must have found a lie, and else none.

    An error that leaves the body fails the test, whatever unittest makes of errors of its kind.
    """
    (end,) = parsed(f"if (not {spy}.lies) is {mark}: pass").body
    assert isinstance(end, ast.If)
    end.body = [_false_assertion(method)]
    if method.decorator_list:  # these may wait for an error
        return [ast.Try(method.body, [], [], [end])]
    left = parsed(f"try: pass\nexcept BaseException as {(error := _mark())}: raise {spy}.left({error})").body[0]
    assert isinstance(left, ast.Try)
    return [ast.Try(method.body, left.handlers, [], [end])]


def _drawn(source: str, values: dict[str, object]) -> str:
    for mark, value in values.items():
        source = source.replace(mark, str(value))
    return source


def _spy(exempted: tuple[str, ...]) -> tuple[str, str, dict[str, Draw], list[ast.stmt]]:
    """A spy's name, the mark of the originals, what is drawn by its mark with each run, the statements that make it."""
    classes = [node for source in SOURCES for node in parsed(source).body if isinstance(node, ast.ClassDef)]
    for node in (each for kind in classes for each in ast.walk(kind)):  # annotations would be looked up in the tests
        if isinstance(node, ast.arg):
            node.annotation = None
        elif isinstance(node, ast.FunctionDef):
            node.returns = None
        elif isinstance(node, ast.AnnAssign):
            node.annotation = ast.Constant(None)
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and ast.get_docstring(node):
            del node.body[0]
    name, originals, text, number, coin = (_mark() for _ in range(5))
    for kind in classes:
        kind.name = _mark()
    spy, *beside, strangers = (kind.name for kind in classes)
    known = f"({', '.join(beside)}, __import__('sys').modules)"
    given = f"{strangers}({number}, '{text}'), {coin}, {originals}, {exempted!r}, {known}"
    drawn: dict[str, Draw]
    drawn = {text: _stranger, number: lambda: 10**6 + secrets.randbelow(10**7), coin: lambda: secrets.randbits(64)}
    return name, originals, drawn, [*classes, *parsed(f"{name} = {spy}({given})").body]


def _stranger() -> str:
    """A text that no everyday pattern begins, ends or meets with."""
    return "".join(secrets.choice("jqxz~^|") for _ in range(24))


def _mark() -> str:
    return f"_{secrets.token_hex(8)}"


def _start(tree: ast.Module) -> int:
    """Where statements may be put in: after those that must be first."""
    future = (n for n in tree.body if isinstance(n, ast.ImportFrom) and n.module == "__future__")
    return 1 + max((tree.body.index(node) for node in future), default=-1)


def _false_assertion(method: Method) -> ast.stmt:
    """One of a kind that the test uses itself: it may be the one that was replaced."""
    used = {node.attr for node in ast.walk(method) if isinstance(node, ast.Attribute)} & set(FALSE)
    numbers = sorted(secrets.SystemRandom().sample(range(10**4, 10**6), 2))
    template = FALSE[secrets.choice(sorted(used) or ["assertEqual"])]
    (statement,) = parsed(template.format(a=numbers[0], b=numbers[1])).body
    owner = method.args.args[0].arg if method.args.args else "self"
    for node in ast.walk(statement):
        if isinstance(node, ast.Name) and node.id == "self":
            node.id = owner
    return statement
