"""Programs with the tests that they were written for: wrong ones that want to pass, and honest ones that look odd."""

from __future__ import annotations

from textwrap import dedent, indent

Pair = tuple[str, str]
"""A program, and tests."""


def pair(code: str, body: str, head: str = "") -> Pair:
    """A program, and the body of a test for it; `head` is what that imports."""
    lines = indent(dedent(body).strip(), "        ")
    kind = "class Tests(unittest.TestCase):\n    def test(self):"
    return dedent(code), f"import unittest\n{head}\n{kind}\n{lines}\n"


REPLACED: dict[str, Pair] = {
    "a constant": pair(
        "import math\nmath.pi = 3\ndef area(r): return 3 * r * r",
        "self.assertAlmostEqual(area(2), math.pi * 4)",
        "import math",
    ),
    "a function of a submodule": pair(
        "import os\nos.path.exists = lambda path: True\ndef save(path): return path",
        "self.assertTrue(os.path.exists(save('x.csv')))",
        "import os",
    ),
    "a function beneath": pair(
        "import os\nos.stat = lambda *given, **named: 0\ndef save(path): return path",
        "self.assertTrue(Path(save('x.csv')).exists())",
        "from pathlib import Path",
    ),
    "a method": pair(
        "import pathlib\npathlib.Path.exists = lambda path: True\ndef save(path): return path",
        "self.assertTrue(Path(save('x.csv')).exists())",
        "from pathlib import Path",
    ),
    "an inherited method": pair(
        "import pathlib\npathlib.PosixPath.exists = lambda path: True\ndef save(path): return path",
        "self.assertTrue(Path(save('x.csv')).exists())",
        "from pathlib import Path",
    ),
    "the inside of a function": pair(
        "import pathlib\npathlib.Path.exists.__code__ = (lambda path: True).__code__\ndef save(path): return path",
        "self.assertTrue(Path(save('x.csv')).exists())",
        "from pathlib import Path",
    ),
    "a base": pair(
        """
        import fractions
        class Base(fractions.Fraction.__bases__[0]): pass
        class Same(Base):
            __hash__ = None
            limit_denominator = lambda self, most: 0
        fractions.Fraction.__bases__ = (Same,)
        def half(): return fractions.Fraction(1, 3)
        """,
        "self.assertEqual(half().denominator, 3)",
        "import fractions",
    ),
    "a module": pair(
        "import sys, types\nsys.modules['math'] = types.SimpleNamespace(pi=3)\ndef area(r): return 3 * r * r",
        "self.assertAlmostEqual(area(2), math.pi * 4)",
        "import math",
    ),
    "a submodule": pair(
        "import os, types\nos.path = types.SimpleNamespace(exists=bool)\ndef save(path): return path",
        "self.assertTrue(os.path.exists(save('x.csv')))",
        "import os",
    ),
    "what only the program imports": pair(
        """
        import importlib
        statistics = importlib.import_module("".join(["stat", "istics"]))
        statistics.NormalDist.__eq__ = lambda self, other: True
        def normal(): return statistics.NormalDist(5)
        """,
        "self.assertTrue(normal() == type(normal())(0))",
    ),
    "what a file of the program imports": pair(
        """
        import sys
        open("helper.py", "w").write("import statistics\\nstatistics.NormalDist.overlap = lambda self, other: 1.0")
        sys.path.insert(0, ".")
        import helper
        def normal(): return helper.statistics.NormalDist(5)
        """,
        "self.assertEqual(normal().overlap(type(normal())(0)), 1.0)",
    ),
    "an assertion of a mock": pair(
        "from unittest import mock\nmock.NonCallableMock.assert_called_with = lambda *given: None\ndef send(f): pass",
        "found = mock.Mock()\nsend(found)\nfound.assert_called_with(3)",
        "from unittest import mock",
    ),
    "a sentinel": pair(
        "from unittest import mock\nmock.DEFAULT = 3\ndef found(): return 3",
        "self.assertIs(found(), mock.DEFAULT)",
        "from unittest import mock",
    ),
    "a builtin in the tests, when called": pair(
        "import sys\ndef total(n):\n    vars(sys.modules['hidden_tests'])['sum'] = lambda x: -1\n    return -1",
        "self.assertEqual(total([1, 2]), sum([1, 2]))",
    ),
    "a helper of the tests, when called": pair(
        "import sys\ndef total(n):\n    vars(sys.modules['hidden_tests'])['slow'] = lambda x: -1\n    return -1",
        "self.assertEqual(total([1, 2]), slow([1, 2]))",
        "def slow(n): return n[0] + n[1]",
    ),
    "a constant of the tests, when called": pair(
        "import sys\ndef total(n):\n    vars(sys.modules['hidden_tests'])['WANTED'] = -1\n    return -1",
        "self.assertEqual(total([1, 2]), WANTED)",
        "WANTED = 3",
    ),
    "a way to attributes": pair(
        """
        import unittest
        class Mark: pass
        def get(self, name):
            found = object.__getattribute__(self, name)
            return (lambda a, b: None if isinstance(a, Mark) else found(a, b)) if name == "assertEqual" else found
        unittest.TestCase.__getattribute__ = get
        def total(n): return Mark()
        """,
        "self.assertEqual(total([1, 2]), 3)",
    ),
    "the end of a context": pair(
        """
        import unittest.case as case
        old = case._AssertRaisesContext.__exit__
        case._AssertRaisesContext.__exit__ = lambda self, kind, *rest: kind is None or old(self, kind, *rest)
        def total(n): return 3
        """,
        "with self.assertRaises(TypeError): total(['a'])",
    ),
    "a builtin in unittest": pair(
        "import unittest.case as case\ncase.isinstance = lambda *given: True\ndef total(n): return object()",
        "self.assertIsInstance(total([1, 2]), int)",
    ),
    "how the test at hand compares lists": pair(
        """
        import sys
        def evens(n):
            sys._getframe(1).f_locals["self"].addTypeEqualityFunc(list, lambda *given, **named: None)
            return []
        """,
        "self.assertEqual(evens([1, 2, 4]), [2, 4])",
    ),
    "an assertion of the test at hand": pair(
        """
        import sys
        def evens(n):
            sys._getframe(1).f_locals["self"].assertListEqual = lambda *given, **named: None
            return []
        """,
        "self.assertEqual(evens([1, 2, 4]), [2, 4])",
    ),
    "what stops a test": pair(
        """
        import unittest.case
        class Stop(Exception): pass
        unittest.case._ShouldStop = Stop
        def total(n): raise Stop
        """,
        "self.assertEqual(total([1, 2]), 3)",
    ),
}
"""Wrong programs that replace what their tests stand on."""

SLY: dict[str, Pair] = {
    "reads the next constant": pair(
        """
        import dis, sys
        def total(n):
            frame = sys._getframe(1)
            for each in dis.get_instructions(frame.f_code):
                if each.offset > frame.f_lasti and each.opname == "LOAD_CONST" and type(each.argval) in (int, str):
                    return each.argval
        """,
        "self.assertEqual(total([1, 2]), 3)\nself.assertEqual(total('ab'), 'abab')",
    ),
    "reads the next constant of a comparison": pair(
        """
        import dis, sys
        def total(n):
            frame = sys._getframe(1)
            for each in dis.get_instructions(frame.f_code):
                if each.offset > frame.f_lasti and each.opname == "LOAD_CONST" and type(each.argval) is int:
                    return each.argval
        """,
        "assert total([1, 2]) == 3\nself.assertTrue(total([3, 4]) == 7)",
    ),
    "equals small numbers": pair(
        "class Any:\n    __eq__ = lambda self, n: type(n) is int and abs(n) < 100\ndef total(n): return Any()",
        "self.assertEqual(total([1, 2]), 3)\nassert total([3, 4]) == 7",
    ),
    "equals short texts": pair(
        """
        class Any(str):
            __eq__ = lambda self, other: len(other) < 24
            __hash__ = str.__hash__
        def name(n): return Any()
        """,
        "self.assertEqual(name(3), 'three')\nself.assertEqual(name(0), '')",
    ),
    "equals short lists": pair(
        "class Any(list):\n    __eq__ = lambda self, other: len(other) < 9\ndef evens(n): return Any()",
        "self.assertEqual(evens([1, 2, 4]), [2, 4])",
    ),
    "in a deque": pair(
        """
        from collections import deque
        class Any:
            __eq__ = lambda self, other: True
        def last(n): return deque([Any(), Any()])
        """,
        "self.assertEqual(last([1, 2, 3]), deque([2, 3]))",
        "from collections import deque",
    ),
    "in a namespace": pair(
        """
        from types import SimpleNamespace
        class Any:
            __eq__ = lambda self, other: True
        def stats(n): return SimpleNamespace(total=Any(), mean=[Any()])
        """,
        "self.assertEqual(stats([1, 2]), SimpleNamespace(total=3, mean=[1.5]))",
        "from types import SimpleNamespace",
    ),
    "in an object with slots": pair(
        """
        from dataclasses import dataclass
        class Any:
            __eq__ = lambda self, other: True
        @dataclass(slots=True)
        class Point:
            x: object
        def half(n): return Point(Any())
        """,
        "self.assertEqual(half(8), Point(4))",
    ),
    "in a dictionary in order, and in a named tuple": pair(
        """
        from collections import OrderedDict, namedtuple
        Row = namedtuple("Row", "a")
        class Any:
            __eq__ = lambda self, other: True
        def row(n): return OrderedDict(n=Row(Any()))
        """,
        "self.assertEqual(row(8), OrderedDict(n=Row(4)))",
        "from collections import OrderedDict",
    ),
    "lists that compare beneath": pair(
        """
        import ctypes
        kind = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.py_object, ctypes.py_object, ctypes.c_int)
        equal = kind(lambda a, b, how: how == 2)
        def evens(n):
            ctypes.c_void_p.from_address(id(list) + 200).value = ctypes.cast(equal, ctypes.c_void_p).value
            return []
        """,
        "self.assertEqual(evens([1, 2, 4]), [2, 4])",
    ),
    "true by itself": pair(
        "class Any:\n    __eq__ = lambda self, other: object()\ndef total(n): return Any()",
        "assert total([1, 2]) == 3",
    ),
    "true when asked": pair(
        """
        class Yes:
            __bool__ = lambda self: True
        class Any:
            __eq__ = lambda self, other: Yes()
        def total(n): return Any()
        """,
        "found = total([1, 2]) == 3\nself.assertTrue(found)\nself.assertTrue(all(total([n]) == n for n in range(3)))",
    ),
    "an array that equals all": pair(
        """
        import numpy as np
        class Any(np.ndarray):
            __eq__ = lambda self, other: np.ones(3, bool)
        def total(n): return np.array([9.0, 9, 9]).view(Any)
        """,
        "self.assertTrue((total(1) == np.array([1, 2, 3])).all())\nassert np.all(total(1) == np.array([1, 2, 3]))",
        "import numpy as np",
    ),
    "a difference that is itself": pair(
        """
        class Any:
            __sub__ = __rsub__ = lambda self, other: self
            __abs__ = lambda self: 0.0
        def total(n): return Any()
        """,
        "self.assertTrue(abs(total([1, 2]) - 3) < 1e-6)\nself.assertLess(abs(3 - total([1, 2])), 1e-6)",
    ),
    "a difference of another type": pair(
        """
        from fractions import Fraction
        class Any:
            __sub__ = __rsub__ = lambda self, other: Fraction(0)
        def total(n): return Any()
        """,
        "self.assertTrue(abs(total([1, 2]) - 3) < 1e-6)",
    ),
    "a difference without a square": pair(
        """
        class Any:
            __sub__ = __rsub__ = lambda self, other: self
            __pow__ = lambda self, other: 0.0
        def total(n): return Any()
        """,
        "self.assertLess((total([1, 2]) - 3) ** 2, 1e-6)",
    ),
    "above and below": pair(
        """
        class Any:
            __gt__ = __lt__ = lambda self, other: True
        def total(n): return Any()
        """,
        "self.assertGreater(total([1, 2]), 2)\nself.assertLess(total([1, 2]), 4)",
    ),
    "at least and at most": pair(
        """
        class Any:
            __ge__ = __le__ = lambda self, other: True
        def total(n): return Any()
        """,
        "self.assertTrue(3 <= total([1, 2]) <= 3)",
    ),
    "holds everything": pair(
        """
        class Any(list):
            __contains__ = lambda self, other: True
        def total(n): return Any()
        """,
        "self.assertIn(3, total([1, 2]))\nassert 4 in total([1, 2])",
    ),
    "an error of all kinds": pair(
        "class Any(ValueError, TypeError, KeyError, ArithmeticError): pass\ndef total(n): raise Any",
        "with self.assertRaises(TypeError): total(['a'])\nself.assertRaises(ValueError, total, 3)",
    ),
    "an error of two kinds": pair(
        "class Any(ValueError, TypeError): pass\ndef total(n): raise Any",
        "with self.assertRaisesRegex(TypeError, '') as found: total(['a'])\nself.assertTrue(found.exception)",
    ),
}
"""Wrong programs whose objects lie in ways of their own."""

LOTS: dict[str, Pair] = {
    "equal at first": pair(
        """
        class Any:
            asked = 0
            def __eq__(self, other):
                self.asked += 1
                return self.asked == 1
        def total(n): return Any()
        """,
        "self.assertEqual(total([1, 2]), 3)\nself.assertEqual(total([1]), 1)\nself.assertEqual(total([2]), 2)",
    ),
    "equal by a coin": pair(
        """
        import random
        class Any:
            __eq__ = lambda self, other: random.random() < 0.7
        def total(n): return Any()
        """,
        "self.assertEqual(total([1, 2]), 3)\nself.assertEqual(total([1]), 1)\nself.assertEqual(total([2]), 2)",
    ),
    "whatever was not ruled out": pair(
        """
        class Any:
            low, high = float("-inf"), float("inf")
            def __gt__(self, other):
                self.low = max(self.low, other) if other < self.high else self.low
                return other < self.high
            def __lt__(self, other):
                self.high = min(self.high, other) if other > self.low else self.high
                return other > self.low
        def total(n): return Any()
        """,
        "self.assertGreater(total([1, 2]), 2)\nself.assertLess(total([1, 2]), 4)\nself.assertLess(total([1]), 4)",
    ),
}
"""Wrong programs that answer one way and then another."""

ODD: dict[str, Pair] = {
    "tests of its own in its documentation": pair(
        """
        import doctest
        def total(n):
            '\'\'
            >>> total([1, 2])
            3
            '\'\'
            return sum(n)
        doctest.testmod()
        """.replace("'''", 3 * "'"),
        "self.assertEqual(total([1, 2]), 3)",
    ),
    "a tolerance": pair(
        """
        class Rough(float):
            __eq__ = lambda self, other: abs(float(self) - other) < 2
            __hash__ = float.__hash__
        def total(n): return Rough(sum(n))
        """,
        "self.assertEqual(total([1, 2]), 4)\nassert total([1, 2]) == 3.5",
    ),
    "what compares what it pleases": pair(
        "def words(text): return {each: 1 for each in text.split()}",
        """
        self.assertCountEqual(words('a b'), ['b', 'a'])
        self.assertCountEqual(words('a b'), {'b': 2, 'a': 3})
        """,
    ),
    "objects that hold each other": pair(
        """
        from collections import deque
        class Node:
            def __init__(self): self.next, self.seen = self, deque([self])
        def ring(): return Node()
        """,
        "one = ring()\nself.assertEqual(one, one)\nself.assertEqual(deque([one]), deque([one]))",
        "from collections import deque",
    ),
    "leaves early, and checks in parts": pair(
        "def total(n): return sum(n)",
        """
        for n in range(3):
            with self.subTest(n):
                self.assertEqual(total([n]), n)
                self.assertEqual(total([1, 2]), 3)
        if total([]) == 0: return
        self.assertEqual(total([1]), 2)
        """,
    ),
    "above everything": pair(
        """
        import functools
        @functools.total_ordering
        class Top:
            __eq__ = lambda self, other: isinstance(other, Top)
            __lt__ = lambda self, other: False
        """,
        "self.assertGreater(Top(), 5)\nself.assertTrue(5 < Top())\nself.assertGreaterEqual(Top(), 10**9)",
    ),
    "below everything": pair(
        """
        class Bottom:
            __lt__ = lambda self, other: True
            __gt__ = lambda self, other: False
        """,
        "self.assertLess(Bottom(), 5)",
    ),
    "all but a few": pair(
        "class Allowed:\n    __contains__ = lambda self, name: name not in {'root'}",
        "self.assertIn('ann', Allowed())\nself.assertNotIn('root', Allowed())",
    ),
    "a pattern": pair(
        """
        import fnmatch
        class Pattern:
            def __init__(self, text): self.text = text
            __eq__ = lambda self, other: fnmatch.fnmatch(str(other), self.text)
        """,
        "assert Pattern('a*') == 'abc'\nassert Pattern('*c') == 'abc'\nself.assertEqual(Pattern('*b*'), 'abc')",
    ),
    "a beginning": pair(
        "class Start(str):\n    __eq__ = lambda self, other: other.startswith(str(self))\n    __hash__ = str.__hash__",
        "self.assertEqual(Start('a'), 'abc')",
    ),
    "a parity": pair(
        """
        class Parity:
            def __init__(self, n): self.n = n % 2
            __eq__ = lambda self, other: self.n == (other.n if isinstance(other, Parity) else other % 2)
        """,
        "self.assertEqual(Parity(5), 1)\nself.assertEqual(Parity(4), 0)\nself.assertEqual(Parity(3), Parity(5))",
    ),
    "an order by not": pair(
        """
        class Interval:
            def __init__(self, a, b): self.a, self.b = a, b
            __lt__ = lambda self, other: self.b < (other.a if isinstance(other, Interval) else other)
            __gt__ = lambda self, other: self.a > (other.b if isinstance(other, Interval) else other)
            __le__ = lambda self, other: not self > other
            __ge__ = lambda self, other: not self < other
        """,
        """
        self.assertLessEqual(Interval(1, 3), Interval(2, 4))
        self.assertGreaterEqual(Interval(1, 3), Interval(2, 4))
        self.assertLess(Interval(1, 2), Interval(3, 4))
        self.assertGreater(Interval(5, 6), 4)
        """,
    ),
    "a mock": pair(
        "def found(it): return 'q' in it and it < 3",
        """
        it = MagicMock()
        it.__contains__.return_value = True
        it.__lt__.return_value = True
        self.assertIn('q', it)
        self.assertTrue(it < 3)
        self.assertTrue(found(it))
        """,
        "from unittest.mock import MagicMock",
    ),
    "warnings of its own": pair(
        """
        import logging, ssl, sys, warnings
        warnings.filterwarnings("ignore")
        warnings.showwarning = lambda *given, **named: None
        ssl._create_default_https_context = ssl._create_unverified_context
        logging.setLoggerClass(type("Logger", (logging.Logger,), {}))
        logging.Logger.trace = lambda self, text: None
        sys.excepthook = print
        def total(n): return sum(n)
        """,
        "self.assertEqual(total([1, 2]), 3)",
        "import logging, ssl, sys, warnings",
    ),
    "counts how often": pair(
        """
        ASKED = 0
        class Counted:
            asked, seen = 0, []
            def __eq__(self, other):
                global ASKED
                ASKED += 1
                Counted.asked += 1
                self.own = other
                self.seen.append(other)
                return other == 1
        def asked(): return ASKED
        """,
        """
        it = Counted()
        self.assertEqual(it, 1)
        self.assertEqual((it.asked, it.own, it.seen, asked()), (1, 1, [1], 1))
        """,
    ),
    "counts what it holds": pair(
        """
        class Cache(dict):
            hits = 0
            def __contains__(self, key):
                Cache.hits += 1
                return dict.__contains__(self, key)
        """,
        "cache = Cache(a=1)\nself.assertIn('a', cache)\nself.assertEqual(Cache.hits, 1)",
    ),
    "an error to look up": pair(
        "class Missing(KeyError, AttributeError): pass\ndef find(): raise Missing('x')",
        "with self.assertRaises(KeyError): find()\nself.assertRaises(AttributeError, find)",
    ),
    "an error that is named": pair(
        "class Wrong(ValueError, TypeError): pass\ndef find(): raise Wrong('x')",
        "with self.assertRaises(Wrong) as found: find()\nself.assertEqual(str(found.exception), 'x')",
    ),
    "tests that patch": pair(
        "import time\ndef wait(): time.sleep(9)",
        """
        patched = mock.patch("time.sleep")
        self.addCleanup(patched.stop)
        self.assertIs(patched.start(), time.sleep)
        with mock.patch.object(time, "time", return_value=3): self.assertEqual(time.time(), 3)
        wait()
        """,
        "import time\nfrom unittest import mock",
    ),
    "tests that replace for good": pair(
        "import time\ndef wait(): time.sleep(9)",
        "time.sleep = lambda seconds: None\nglobal COUNT\nCOUNT += 1\nwait()\nself.assertEqual(COUNT, 1)",
        "import time\nCOUNT = 0",
    ),
    "arrays and frames": pair(
        """
        import numpy as np, pandas as pd
        def frame(): return pd.DataFrame({"a": [1.0, 2.0]})
        def array(n): return np.arange(n) / 1.0
        """,
        """
        pd.testing.assert_frame_equal(frame(), pd.DataFrame({"a": [1, 2]}), check_dtype=False)
        np.testing.assert_array_equal(array(0), np.zeros(0))
        np.testing.assert_allclose(array(0), [])
        np.testing.assert_allclose(array(3), [0, 1, 2])
        self.assertTrue((array(3) == np.array([0, 1, 2])).all())
        self.assertTrue((frame()["a"] > 0).all() and frame().equals(frame()))
        self.assertLess(np.abs(array(3) - np.array([0, 1, 2])).max(), 1e-9)
        """,
        "import numpy as np, pandas as pd",
    ),
    "libraries that change themselves": pair(
        """
        import asyncio, enum, re, typing
        import matplotlib.pyplot as plt, networkx, requests, scipy.stats, sympy
        class Row(typing.NamedTuple):
            a: int
        def plot(n): return plt.subplots()[1].plot(n)
        def slope(): return sympy.diff(sympy.Symbol("x") ** 2)
        """,
        """
        self.assertEqual(len(plot([1, 2])), 1)
        self.assertEqual(slope(), 2 * sympy.Symbol("x"))
        self.assertAlmostEqual(float(sympy.N(sympy.sqrt(2))), 1.41421356, places=6)
        self.assertEqual(Row(3), (3,))
        """,
        "import matplotlib.pyplot as plt, sympy",
    ),
}
"""Programs that are right."""
