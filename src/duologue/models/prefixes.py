"""Keys and values of token prefixes, kept under a byte limit.

A radix tree over token ids: every node holds the keys and values of the tokens on the edge to it, so
conversations with a common beginning hold it once. What was used longest ago goes first.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor


class Prefixes:
    """Kept keys and values, found by token ids. A piece is `[layers, 2, tokens, heads, head size]`."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        """Bytes; 0 keeps nothing."""
        self.version = 0
        """Grows whenever everything is dropped."""
        self.size = 0
        """Bytes held."""
        self._root = _Node((), None, None)
        # Oldest first. A parent is always touched after its children, so the oldest is a leaf.
        self._used: OrderedDict[_Node, None] = OrderedDict()

    def find(self, ids: Sequence[int]) -> list[Tensor]:
        """Pieces whose tokens, end to end, are the longest kept beginning of `ids`."""
        pieces: list[Tensor] = []
        path = self._walk(ids)
        for node, length in path:
            pieces.append(node.held if length == len(node.ids) else node.held[:, :, :length])
        self._touch(node for node, _ in reversed(path))
        return pieces

    def keep(self, ids: Sequence[int], piece: Callable[[int, int], Tensor]) -> None:
        """Keep all of `ids`; `piece(start, stop)` gives its own copy of the part that is not kept yet."""
        path = self._walk(ids)
        start = sum(length for _, length in path)
        if start == len(ids) or not self.limit:
            return
        new = piece(start, len(ids))
        if _bytes(new) > self.limit:
            return
        parent = self._root
        if path:
            parent, length = path[-1]
            if length < len(parent.ids):
                parent = self._split(parent, length)
            path[-1] = (parent, length)
        leaf = _Node(tuple(ids[start:]), new, parent)
        parent.children[leaf.ids[0]] = leaf
        self.size += _bytes(new)
        self._touch([leaf, *(node for node, _ in reversed(path))])
        self._shrink()

    def clear(self) -> None:
        """Drop everything."""
        self.version += 1
        self.size = 0
        self._root = _Node((), None, None)
        self._used.clear()

    def _walk(self, ids: Sequence[int]) -> list[tuple[_Node, int]]:
        """The nodes along `ids`, each with how many of its tokens agree."""
        path: list[tuple[_Node, int]] = []
        node, at = self._root, 0
        while at < len(ids) and (child := node.children.get(ids[at])) is not None:
            length = common(child.ids, ids[at : at + len(child.ids)])
            path.append((child, length))
            at += length
            if length < len(child.ids):
                break
            node = child
        return path

    def _split(self, node: _Node, length: int) -> _Node:
        """A new node for the first `length` tokens of `node`, which keeps the rest."""
        parent, held = node.parent, node.held
        assert parent is not None
        upper = _Node(node.ids[:length], held[:, :, :length].clone(), parent)
        parent.children[upper.ids[0]] = upper
        node.ids, node.held, node.parent = node.ids[length:], held[:, :, length:].clone(), upper
        upper.children[node.ids[0]] = node
        return upper

    def _touch(self, nodes: Iterable[_Node]) -> None:
        for node in nodes:
            self._used[node] = None
            self._used.move_to_end(node)

    def _shrink(self) -> None:
        while self.size > self.limit:
            node, _ = self._used.popitem(last=False)
            assert node.parent is not None
            del node.parent.children[node.ids[0]]
            self.size -= _bytes(node.held)


class _Node:
    __slots__ = ("children", "held", "ids", "parent")

    def __init__(self, ids: tuple[int, ...], held: Tensor | None, parent: _Node | None) -> None:
        self.ids = ids
        self.held = torch.empty(0) if held is None else held
        self.parent = parent
        self.children: dict[int, _Node] = {}


def common(left: Sequence[int], right: Sequence[int]) -> int:
    """How many tokens two sequences share from their beginning."""
    if left == right:
        return len(left)
    for at, (one, other) in enumerate(zip(left, right, strict=False)):
        if one != other:
            return at
    return min(len(left), len(right))


def _bytes(piece: Tensor) -> int:
    return piece.numel() * piece.element_size()
