"""Where the tests compare: each such place is given to a `Spy`, wherever it is reached from.

That are comparisons, differences and conditions anywhere in the tests' source, helpers, loops and tables included, the
assertions of two values of unittest and `numpy.testing`, and those that something raises. Left as they are: what a
format text holds, `is`, chains whose later sides might not be reached, and assertions that the tests define themselves,
whose inside is watched anyway.
"""

from __future__ import annotations

import ast

EQUAL = {
    *("assertCountEqual", "assertDictEqual", "assertEqual", "assertListEqual", "assertMultiLineEqual"),
    *("assertNotEqual", "assertSequenceEqual", "assertSetEqual", "assertTupleEqual"),
}
NEAR = {
    *("assertAlmostEqual", "assert_allclose", "assert_almost_equal", "assert_approx_equal"),
    *("assert_array_almost_equal", "assert_array_equal", "assert_equal"),
    *("assert_frame_equal", "assert_index_equal", "assert_series_equal"),
}
KINDS = {
    **dict.fromkeys(EQUAL, "Eq"),
    **dict.fromkeys(NEAR, "near"),
    "assertNotEqual": "NotEq",
    **{"assertGreater": "Gt", "assertGreaterEqual": "GtE", "assertLess": "Lt", "assertLessEqual": "LtE"},
    **{"assertIn": "In", "assertNotIn": "NotIn"},
}
"""What an assertion compares its first two operands by."""
RAISED = ("assertRaises", "assertRaisesRegex")
OPERATORS = (ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.In, ast.NotIn)
SPECIAL = {"__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__", "__sub__", "__rsub__", "__contains__"}


class Watch(ast.NodeTransformer):
    """Gives a module's comparisons to the spy of a name, in place; some of them with a name, by their identity."""

    def __init__(self, spy: str, tree: ast.Module, places: dict[int, str]) -> None:
        self._spy, self._places = spy, places
        self._own = {n.name for n in ast.walk(tree) if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))}

    def visit_Compare(self, node: ast.Compare) -> ast.expr:
        self.generic_visit(node)
        if not all(isinstance(each, OPERATORS) for each in node.ops) or not all(map(_is_safe, node.comparators[1:])):
            return node
        if id(node) in self._places:
            return self._call("equal", ast.Constant(self._places[id(node)]), node.left, *node.comparators)
        names = ast.Tuple([ast.Constant(type(each).__name__) for each in node.ops], ast.Load())
        return self._call("compare", names, node.left, *node.comparators)

    def visit_BinOp(self, node: ast.BinOp) -> ast.expr:
        self.generic_visit(node)
        return self._call("minus", node.left, node.right) if isinstance(node.op, ast.Sub) else node

    def visit_Call(self, node: ast.Call) -> ast.expr:
        self.generic_visit(node)
        if id(node) in self._places and isinstance(node.func, ast.Call):
            node.func.args.append(ast.Constant(self._places[id(node)]))
        if _last(node.func) in ("assertTrue", "assertFalse", "bool"):
            node.args = [self._truth(each) for each in node.args[:1]] + node.args[1:]
            node.keywords = [
                ast.keyword(each.arg, self._truth(each.value)) if each.arg == "expr" else each for each in node.keywords
            ]
        if (
            _last(node.func) in ("all", "any")
            and node.args
            and isinstance(node.args[0], ast.GeneratorExp | ast.ListComp)
        ):
            node.args[0].elt = self._truth(node.args[0].elt)
        return node

    def visit_Assert(self, node: ast.Assert) -> ast.stmt:
        self.generic_visit(node)
        node.test = self._truth(node.test)
        return node

    def visit_If(self, node: ast.If) -> ast.stmt:
        self.generic_visit(node)
        node.test = self._truth(node.test)
        return node

    def visit_While(self, node: ast.While) -> ast.stmt:
        self.generic_visit(node)
        node.test = self._truth(node.test)
        return node

    def visit_IfExp(self, node: ast.IfExp) -> ast.expr:
        self.generic_visit(node)
        node.test = self._truth(node.test)
        return node

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.expr:
        self.generic_visit(node)
        node.values = [self._truth(each) for each in node.values]
        return node

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.expr:
        self.generic_visit(node)
        if isinstance(node.op, ast.Not):
            node.operand = self._truth(node.operand)
        return node

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        self.generic_visit(node)
        return self._asserting(node, node.attr, node.ctx)

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return self._asserting(node, node.id, node.ctx)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.expr:
        return node

    def _asserting(self, node: ast.expr, name: str, context: ast.expr_context) -> ast.expr:
        if name in self._own or not isinstance(context, ast.Load):
            return node
        if name in RAISED:
            return self._call("raising", node)
        if name not in KINDS:
            return node
        return self._call("asserting", ast.Constant(KINDS[name]), node)

    def _truth(self, node: ast.expr) -> ast.expr:
        return self._call("truth", node)

    def _call(self, method: str, *arguments: ast.expr) -> ast.Call:
        return ast.Call(ast.Attribute(ast.Name(self._spy, ast.Load()), method, ast.Load()), list(arguments), [])


def _is_safe(node: ast.expr) -> bool:
    """Whether it may be worked out although a chain ends before it."""
    return all(
        isinstance(each, (ast.Constant, ast.UnaryOp, ast.unaryop, ast.Name, ast.expr_context))
        for each in ast.walk(node)
    )


def _last(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def exempt(tree: ast.Module) -> tuple[str, ...]:
    """Names of types in the tests that may be equal to more than one value: their own, and mock.ANY where used.

    Also "MagicMock.__contains__", where the tests say what that is.
    """
    own = {
        each.name
        for each in ast.walk(tree)
        if isinstance(each, ast.ClassDef) and SPECIAL & {n.name for n in each.body if isinstance(n, ast.FunctionDef)}
    }
    names = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)} | {
        n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)
    }
    own |= {"_ANY"} if "ANY" in names else set()
    own |= {"MagicMock.__contains__"} if "__contains__" in names else set()
    return tuple(sorted(own))
