"""Negative controls: what an honest program must fail, and what they are made of."""

from __future__ import annotations

import ast
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from duologue.errors import DataError
from duologue.sandbox.constants import expected, other
from duologue.sandbox.controls import FALSE, RUNS, controls
from duologue.sandbox.runner import Snapshot, results
from duologue.sandbox.suite import Suite, read_suite

LIAR = "class Liar:\n    __eq__ = lambda self, other: True\ndef f(*given): return Liar()"


def suite(body: str, head: str = "") -> Suite:
    """A suite of one test with a body of lines."""
    lines = "".join(f"\n        {line}" for line in body.splitlines())
    return read_suite(f"import math, unittest\n{head}\nclass T(unittest.TestCase):\n    def test(self):{lines}\n")


def passes(code: str, tests: Suite) -> set[str]:
    """The tests that a program passes, without any box: the programs of this file are ours."""
    job = {"code": code, "tests": tests.source, "names": tests.names, "watched": [], "free": []}
    return {name for name, why in results(job, Snapshot())["results"].items() if why is None}


def survived(code: str, tests: Suite) -> int:
    """How many controls a program passes a test of that it must fail; an honest one passes all others."""
    found = [(each.fail, passes(code, replace(tests, source=each.tests))) for each in controls(tests)]
    lies = sum(bool(passed & fail) for fail, passed in found)
    assert lies or all(passed == set(tests.names) - fail for fail, passed in found)
    return lies


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=8)
    | st.binary(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=3), inner, max_size=3)
        | st.frozensets(st.integers(), min_size=1, max_size=3).map(set)
    ),
    max_leaves=6,
)


def written(value: Any) -> str:
    return repr(value).replace("inf", "math.inf")


@settings(max_examples=25, deadline=None)
@given(values)
def test_an_honest_program_fails_every_control_whatever_the_values(value: Any) -> None:
    code = f"import math\ndef f(): return {written(value)}"
    tests = suite(
        f"expected = {written(value)}\nself.assertEqual(f(), {written(value)})\nself.assertEqual(expected, f())"
    )

    assert passes(code, tests) == {"T.test"}
    assert survived(code, tests) == 0


@settings(max_examples=15, deadline=None)
@given(values)
def test_what_equals_everything_survives_a_control_whatever_the_values(value: Any) -> None:
    for tests in (suite(f"self.assertEqual(f(), {written(value)})"), suite(f"self.assertEqual({written(value)}, f())")):
        assert passes(LIAR, tests) == {"T.test"}
        assert survived(LIAR, tests) >= 1


@pytest.mark.parametrize(
    ("code", "body"),
    [
        ("def f(): return 3", "self.assertGreater(f(), 2)"),
        ("def f(): return 10**12", "self.assertGreaterEqual(f(), 0)"),
        ("def f(): return 3", "self.assertLess(0, f())"),
        ("def f(): return [1, 2]", "self.assertIn(2, f())\nself.assertIn(f()[0], [1])"),
        ("def f(): return 'abc'", "self.assertIn('b', f())\nself.assertTrue('c' in f())"),
        (
            "def f(): return True",
            "self.assertTrue(f())\nself.assertFalse(not f())\nassert f()\nself.assertIs(f(), True)",
        ),
        ("def f(): return None", "self.assertIsNone(f())\nself.assertIs(f(), None)"),
        ("def f(): return 1.0", "self.assertAlmostEqual(f(), 1.0, places=3)\nassert f() == math.cos(0)"),
        ("def f(): return {1: 2}", "self.assertDictEqual(f(), {1: 2})\nself.assertCountEqual(f(), [1])"),
        ("def f(x=0): return x", "for n in [0, 1]:\n    with self.subTest(n):\n        self.assertEqual(f(n), n)"),
        ("def f(x=0): return x", "cases = {0: 0, 1: 1}\nfor n, m in cases.items():\n    assert f(n) == m"),
        ("def f(x=0): return x", "for n in []:\n    self.assertEqual(f(n), 3)\nself.assertEqual(f(), 0)"),
        ("def f(x=0): return x", "if f() == 0: return\nself.assertEqual(f(), 3)"),
        ("def f(): 1 / 0", "with self.assertRaises(ZeroDivisionError):\n    self.assertEqual(f(), 3)"),
        ("def f(): return 5", "try:\n    self.assertEqual(f(), 4)\nexcept AssertionError:\n    pass"),
        ("def f(): return 5", "self.assertAlmostEqual(f(), 5.5, delta=10**9)"),
        ("def f(): return 5", "from unittest import mock\nself.assertEqual(f(), mock.ANY)"),
        ("def f(): return 'x'", "self.assertNotEqual(f(), 'y', 'message')\nself.assertIsInstance(f(), str)"),
    ],
)
def test_an_honest_program_fails_every_control_whatever_the_style(code: str, body: str) -> None:
    tests = suite(body)

    assert passes(code, tests) == {"T.test"}
    assert survived(code, tests) == 0


OWN = """
import numpy as np, dataclasses, datetime, decimal, fractions, collections, functools, enum
@dataclasses.dataclass(order=True)
class Point:
    x: int = 1
    def __sub__(self, other): return max(0, self.x - other)
    def __contains__(self, each): return each == self.x
class Rough(float):
    def __eq__(self, other): return abs(float(self) - other) < 0.5
    __hash__ = float.__hash__
class Rows(list):
    def __eq__(self, other): return all(a == b for a, b in zip(self, other))
class Field:
    def __eq__(self, other): return Query("=", other)
    def __lt__(self, other): return Query("<", other)
class Query:
    def __init__(self, *parts): self.parts = parts
def f(x=None): return x
"""


@pytest.mark.parametrize(
    "body",
    [
        "self.assertEqual(f(Point()), Point())\nself.assertLess(f(Point()), Point(2))\nself.assertIn(1, Point())",
        "assert Point() - 3 == 0 and Point(5) - 3 == 2",
        "self.assertEqual(f(Rough(3)), 3.2)\nself.assertEqual(f(Rough(1e15)), 1e15)\nassert f(Rough(3)) > 2",
        "self.assertEqual(Rows([[1], [2]]), [[1], [2]])\nself.assertEqual(Rows(), [])",
        "assert (Field() == 3).parts == ('=', 3)\nself.assertEqual((Field() < 3).parts[0], '<')",
        "np.testing.assert_allclose(f(np.array([1.0, 2.0])), [1, 2], rtol=2, atol=10**9)",
        "np.testing.assert_array_equal(f(np.array([1, 2])), np.array([1, 2]))",
        "np.testing.assert_equal(f(np.nan), np.nan)",
        "np.testing.assert_allclose(np.float64('nan'), np.nan)",
        "self.assertGreater(np.float64('inf'), 3)\nself.assertGreaterEqual(np.float64('inf'), 3)",
        "self.assertEqual(np.float64('inf'), math.inf)\nself.assertEqual(np.uint8(3), 3)\nassert np.float64(3) - 3 < 1",
        "self.assertAlmostEqual(np.float32(0.1), 0.1, delta=10**9)",
        "self.assertAlmostEqual(np.float64(5e8), 0, places=-9)",
        "self.assertTrue((np.arange(3) == [0, 1, 2]).all())\nassert (np.arange(3) < 5).all()",
        "self.assertEqual(f(datetime.date(2024, 1, 2)) - datetime.date(2024, 1, 1), datetime.timedelta(1))",
        "self.assertAlmostEqual(datetime.date(2024, 1, 2), datetime.date(2024, 1, 1), delta=datetime.timedelta(3))",
        "assert decimal.Decimal('NaN') != 3\nself.assertEqual(decimal.Decimal('0.1'), decimal.Decimal('0.10'))",
        "self.assertEqual(fractions.Fraction(1, 2), 0.5)",
        "self.assertEqual(collections.Counter('aab'), {'a': 2, 'b': 1})",
        "self.assertCountEqual((n for n in [2, 1]), [1, 2])\nself.assertEqual(list(zip([1], [2])), [(1, 2)])",
        "self.assertIn('a', (c for c in 'ba'))\nself.assertEqual(enum.Enum('E', 'A B').A.value, 1)",
        (
            "class Near:\n    def __eq__(self, other): return True\nself.assertEqual(f(3), Near())\n"
            "self.assertEqual(Near(), f(3))"
        ),
        "loop = []\nloop.append(loop)\nassert f(loop) is loop\nself.assertIn('x', {'x': loop})",
        "self.assertEqual(f'{3 - 1} {1 == 1}', '2 True')\nassert 1 < 2 < len('abc') == 3",
        (
            "from unittest.mock import MagicMock\nm = MagicMock()\nm(3)\nm.assert_called_once_with(3)\n"
            "self.assertEqual(m, m)"
        ),
    ],
)
def test_honest_objects_of_any_type_are_not_taken_for_lies(body: str) -> None:
    tests = suite(body, "from solution import *")

    assert passes(OWN, tests) == {"T.test"}
    assert survived(OWN, tests) == 0


@pytest.mark.parametrize(
    "body",
    [
        "self.assertEqual(f(), 3)",
        "found = f()\nexpected = [1, 2]\nself.assertEqual(found, expected)",
        "self.assertTrue(f() == 3)",
        "assert 3 == f()",
        "self.assertIn(f(), [1, 2])",
        "for n in [1, 2]:\n    self.assertEqual(f(n), n)",
        "self.assertEqual(math.sqrt(9), 3)\nself.assertEqual(f(), 4)",
        "with self.subTest(1):\n    self.assertEqual(f(), 4)",
    ],
)
def test_what_equals_everything_survives_a_control_whatever_the_style(body: str) -> None:
    tests = suite(body)

    assert passes(LIAR, tests) == {"T.test"}
    assert survived(LIAR, tests) >= 1


@pytest.mark.parametrize("name", FALSE)
def test_every_false_assertion_is_false(name: str) -> None:
    tests = suite(FALSE[name].format(a=10001, b=20002))

    assert passes("", tests) == set()


def test_controls_are_drawn_anew_with_every_call() -> None:
    tests = suite("self.assertEqual(f(), 3)")

    assert len({control.tests for _ in range(3) for control in controls(tests)}) == 3 * RUNS


def test_each_test_is_wrong_in_one_run_and_right_in_another() -> None:
    drawn = controls(suite("self.assertEqual(f(), 3)"))

    assert {"T.test" in control.fail for control in drawn} == {True, False}
    assert len(drawn) == RUNS


def test_a_constant_that_is_expected_is_another_in_one_run_where_its_test_is_wrong() -> None:
    drawn = controls(suite("self.assertEqual(f(), 'blue')"))

    changed = [control for control in drawn if "(f(), 'blue')" not in control.tests]
    assert [control.fail for control in changed] == [{"T.test"}]


@settings(max_examples=100, deadline=None)
@given(st.integers() | st.booleans() | st.text() | st.binary() | st.floats(-1e9, 1e9))
def test_a_changed_constant_is_of_the_same_type_and_not_the_same(value: Any) -> None:
    changed = other(value)

    assert type(changed) is type(value) and changed != value


def test_constants_are_changed_only_where_a_result_is_asserted_to_equal_them() -> None:
    body = """
self.assertEqual(f(1), [2, -3])
self.assertEqual(4, 4)
self.assertGreater(f(), 5)
self.assertIn(6, f())
self.assertNotEqual(f(), 7)
assert f() == {'key': 8}
assert f() == 9 == 9
if f() == 10: pass
"""
    found = expected(ast.parse(body))

    assert {each.constant.value for each in found} == {2, 3, 8}


def test_the_false_assertion_is_of_a_kind_that_the_test_uses() -> None:
    (drawn, *_) = controls(suite("self.assertRaises(ValueError, f)"))

    assert "self.assertRaises(ValueError, [].append, " in drawn.tests.rpartition("finally:")[2]


def test_tests_are_found_without_running_anything() -> None:
    found = read_suite(
        """
import os.path, unittest
from unittest import TestCase, mock
from datetime import datetime
class Mixin:
    def test_mixed(self): pass
class Base(TestCase, Mixin):
    def test_b(self): pass
    def test_a(self): os.path.join = None
    def helper(self): mock.patch("time.sleep").start()
    def setUp(self): sys.modules["aged.books"] = len("path.exists")
class Sub(Base):
    async def test_c(self): pass
class Other:
    def test_nothing(self): pass
"""
    )

    assert found.names == (
        "Base.test_a",
        "Base.test_b",
        "Base.test_mixed",
        *(f"Sub.test_{n}" for n in ("a", "b", "c", "mixed")),
    )
    assert found.watched == (
        *("datetime", "datetime.datetime", "os.path", "unittest", "unittest.TestCase", "unittest.mock"),
    )
    assert found.free == ("aged.books", "join", "sleep")


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=60))
def test_any_text_is_a_suite_or_an_error_of_ours(text: str) -> None:
    try:
        found = read_suite(text)
    except DataError:
        return
    assert found.names and ast.parse(text)
