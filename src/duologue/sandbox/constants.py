"""Expected values that stand in the tests as constants, and what one of them is changed to in a proof.

A program that reads them off the tests follows the change, and then passes what is wrong.
"""

from __future__ import annotations

import ast
import math
import secrets
from dataclasses import dataclass

from duologue.sandbox.operands import EQUAL, NEAR

LITERAL = (ast.Constant, ast.List, ast.Tuple, ast.Set, ast.Dict, ast.UnaryOp, ast.unaryop, ast.expr_context)


class Drawn:
    """Stands in a tree for a constant that is drawn with each run: `ast.unparse` writes its mark."""

    def __init__(self, mark: str) -> None:
        self._mark = mark

    def __repr__(self) -> str:
        return self._mark


@dataclass(frozen=True, slots=True)
class Expected:
    """A place where a test compares something with a constant, and asserts that they are equal."""

    node: ast.Call | ast.Compare
    side: ast.expr
    """What is constant: a literal."""
    constant: ast.Constant
    """The part of it that may be changed."""


def expected(method: ast.AST) -> list[Expected]:
    """All such places of a test."""
    return [
        Expected(node, side, constant)
        for found in ast.walk(method)
        if (node := _equality(found)) is not None
        if (side := _literal(_operands(node))) is not None
        for constant in _constants(side)
    ]


def other(value: object) -> object:
    """Another value of the same type, close by."""
    step = secrets.choice((-1, 1)) * (1 + secrets.randbelow(9))
    match value:
        case bool():
            return not value
        case int() | float():
            return value + step
        case bytes():
            return bytes([*value[:-1], (value[-1] + 1) % 256]) if value else b"q"
        case str():
            place = secrets.randbelow(len(value) or 1)
            letter = secrets.choice([each for each in "aeiourst" if each != value[place : place + 1]])
            return value[:place] + letter + value[place + 1 :]
        case _:
            raise ValueError(f"nothing stands beside {value!r}")


def _equality(node: ast.AST) -> ast.Call | ast.Compare | None:
    if isinstance(node, ast.Assert):
        return _single(node.test)
    if not isinstance(node, ast.Call) or len(node.args) < 1:
        return None
    name = node.func.attr if isinstance(node.func, ast.Attribute) else ""
    if name == "assertTrue":
        return _single(node.args[0])
    return node if name in (EQUAL | NEAR) - {"assertNotEqual"} and len(node.args) >= 2 else None


def _single(node: ast.expr) -> ast.Compare | None:
    return node if isinstance(node, ast.Compare) and [type(each) for each in node.ops] == [ast.Eq] else None


def _operands(node: ast.Call | ast.Compare) -> list[ast.expr]:
    return node.args[:2] if isinstance(node, ast.Call) else [node.left, *node.comparators]


def _literal(operands: list[ast.expr]) -> ast.expr | None:
    """The one of two that is a literal, where the other is none."""
    literal = [side for side in operands if all(isinstance(each, LITERAL) for each in ast.walk(side))]
    return literal[0] if len(literal) == 1 else None


def _constants(side: ast.expr) -> list[ast.Constant]:
    keys = {id(key) for each in ast.walk(side) if isinstance(each, ast.Dict) for key in each.keys}
    found = [each for each in ast.walk(side) if isinstance(each, ast.Constant) and id(each) not in keys]
    return [each for each in found if _is_changeable(each.value)]


def _is_changeable(value: object) -> bool:
    if isinstance(value, float):
        return math.isfinite(value) and abs(value) < 2**50
    return isinstance(value, (int, str, bytes))
