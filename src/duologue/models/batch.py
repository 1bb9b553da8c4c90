# pyright: basic
"""Rows that are decoded together and come and go between token steps.

Active rows come first; the last one takes the place of one that leaves. The maths is the model's own decoder's:
only the cache it reads from and writes to is ours.
"""

from __future__ import annotations

from asyncio import Future
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from duologue.models.base import Sampling
from duologue.models.draws import draw, uniforms
from duologue.models.prefixes import Prefixes, common
from duologue.models.rowcache import RowCache

PASS = 8192
"""Tokens of one pass over prompts, padding included."""
STRETCH = 2048
"""Tokens of one row in one such pass."""
WASTE = 256
"""Padding of one such pass, in tokens: about what a further pass costs."""
WAVES = 4
"""Passes over new prompts in which each may find what the one before it read."""
SHARED = 4
"""A row waits for another one's prefix if it shares this many tokens that are not kept yet,"""
WORTH = 64
"""and if all such rows together save this many. (One that shares all of its prompt needs no pass, and waits.)"""


@dataclass(slots=True)
class Row:
    """One reply in the making."""

    prompt: tuple[int, ...]
    seed: int
    """64 bits."""
    sampling: Sampling
    limit: int
    """Tokens it may have: `sampling.max_tokens`, or what fits into the context."""
    future: Future[Row]
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    version: int = 0
    """Of the kept prefixes when it joined."""


@dataclass(slots=True)
class Counters:
    """Tokens that went through the model.

    The last token of a prompt is read by the step that draws the first token, and counted there.
    """

    asked: int = 0
    """Of all prompts, however often they came."""
    prefilled: int = 0
    """Read from prompts."""
    generated: int = 0
    steps: int = 0


class Batch:
    """The active rows.

    Args:
        decoder: reads ids into a cache, as transformers' decoders do.
        predict: takes the same arguments and gives the logits after the last token, `[rows, vocabulary]`.
        mask: the model's attention mask from which keys each query sees, `[rows, 1, queries, keys]`.
        context: positions the model has.
        ends: ids that end a reply.
        capacity: rows at most.
        kept: keys and values of prompts and replies read before.
    """

    def __init__(
        self,
        decoder: nn.Module,
        predict: Callable[..., Tensor],
        *,
        mask: Callable[[Tensor], Tensor],
        context: int,
        ends: frozenset[int],
        capacity: int,
        kept: Prefixes,
    ) -> None:
        self.rows: list[Row] = []
        self.capacity = capacity
        self.counters = Counters()
        self.kept = kept
        self._decoder, self._predict = decoder, predict
        self._mask, self._context, self._ends = mask, context, ends
        self._cache: RowCache | None = None
        self._columns = _Columns(capacity)

    @torch.inference_mode()
    def join(self, rows: Sequence[Row]) -> None:
        """Read the prompts of new rows, all but each one's last token, as far as they are not kept."""
        waiting = sorted(rows, key=lambda row: row.prompt)
        for _ in range(WAVES):
            now, waiting = self._wave(waiting)
            if now:
                self._admit(now)
        if waiting:
            self._admit(waiting)

    @torch.inference_mode()
    def step(self) -> list[Row]:
        """One token for every row; the rows that ended have left and are returned."""
        cache, columns, count = self._prepare(), self._columns, len(self.rows)
        inputs = self._inputs(cache, columns.last[:count, None], columns.lengths[:count], first=0)
        numbers = uniforms(columns.seeds[:count], columns.drawn[:count])
        ids, logprobs = draw(self._predict(**inputs), numbers, columns.temperatures[:count], columns.top_ps[:count])
        tokens: list[int] = ids.tolist()
        columns.lengths[:count] += 1
        columns.drawn[:count] += 1
        columns.last[:count] = tokens
        self.counters.steps += 1
        self.counters.generated += count
        return self._leave(tokens, logprobs.tolist())

    def drop(self) -> list[Row]:
        """Give up all rows."""
        rows, self.rows = self.rows, []
        return rows

    def release(self) -> None:
        """Give the memory of a GPU back, if no row needs it: whoever changes the weights does."""
        if not self.rows and self._cache is not None and self._cache.device.type != "cpu":
            self._cache = None

    def _prepare(self) -> RowCache:
        if self._cache is None:
            self._cache = RowCache.of(self._decoder, room=self._context)
        return self._cache

    def _wave(self, rows: Sequence[Row]) -> tuple[list[Row], list[Row]]:
        """Rows to read now, and those that then find more of their prompts kept; `rows` are sorted by prompt."""
        if not self.kept.limit or len(rows) < 2:
            return list(rows), []
        twins: set[int] = set()
        later: set[int] = set()
        saved = 0
        for at, (before, row) in enumerate(pairwise(rows), 1):
            shared = min(common(before.prompt, row.prompt), len(row.prompt) - 1)
            gain = shared - (self._known(row) if shared >= SHARED else shared)
            if gain and shared == len(row.prompt) - 1:
                twins.add(at)
            elif gain >= SHARED:
                later.add(at)
                saved += gain
        postponed = twins | later if saved >= WORTH else twins
        now = [row for at, row in enumerate(rows) if at not in postponed]
        return now, [rows[at] for at in sorted(postponed)]

    def _known(self, row: Row) -> int:
        """How much of a row's prompt is kept, in tokens."""
        return sum(piece.shape[2] for piece in self.kept.find(row.prompt[:-1]))

    def _admit(self, rows: Sequence[Row]) -> None:
        found = [self.kept.find(row.prompt[:-1]) for row in rows]
        starts = [sum(piece.shape[2] for piece in pieces) for pieces in found]
        order = sorted(range(len(rows)), key=lambda at: starts[at] - len(rows[at].prompt))
        first = len(self.rows)
        cache = self._prepare()
        longest = max(len(row.prompt) for row in rows)
        cache.reserve(first + len(rows), longest, active=first)
        for slot, at in enumerate(order, first):
            cache.load(slot, found[at])
            self._enter(rows[at], slot)
        self._prefill(cache, first, np.array([starts[at] for at in order], dtype=np.int64))

    def _enter(self, row: Row, slot: int) -> None:
        row.version = self.kept.version
        self.rows.append(row)
        self._columns.enter(slot, row)
        self.counters.asked += len(row.prompt)

    def _prefill(self, cache: RowCache, first: int, starts: np.ndarray) -> None:
        """Read what is left of the prompts in the slots from `first`, which have the longest rest first."""
        rests = [row.prompt[start:-1] for row, start in zip(self.rows[first:], starts.tolist(), strict=True)]
        self.counters.prefilled += sum(map(len, rests))
        for begin, end in _passes([len(rest) for rest in rests]):
            self._pass(cache, first + begin, rests[begin:end], starts[begin:end])
        for slot, row in enumerate(self.rows[first:], first):
            if rests[slot - first]:
                self.kept.keep(row.prompt[:-1], lambda start, stop, slot=slot: cache.copy(slot, start, stop))

    def _pass(self, cache: RowCache, first: int, rests: Sequence[Sequence[int]], starts: np.ndarray) -> None:
        for offset in range(0, len(rests[0]), STRETCH):
            parts = [part for rest in rests if (part := rest[offset : offset + STRETCH])]
            longest = len(parts[0])
            ids = np.zeros((len(parts), longest), dtype=np.int64)
            for at, part in enumerate(parts):
                ids[at, : len(part)] = part
            begin = starts[: len(parts)] + offset
            self._decoder(**self._inputs(cache, ids, begin, first=first))

    def _inputs(self, cache: RowCache, ids: np.ndarray, starts: np.ndarray, *, first: int) -> dict[str, Any]:
        """The model's arguments for `ids` `[rows, tokens]`, which begin at `starts`, in the slots from `first`."""
        until = int(starts.max()) + ids.shape[1]
        cache.reserve(first + len(ids), until, active=len(self.rows))
        positions = torch.from_numpy(starts[:, None] + np.arange(ids.shape[1])).to(cache.device)
        cache.aim(first, positions, until)
        visible = (cache.places[:until] <= positions[:, :, None])[:, None]
        return {
            "input_ids": torch.from_numpy(ids).to(cache.device),
            # Four dimensions: the model takes it as it is.
            "attention_mask": self._mask(visible),
            # Padding may stick out of the context; what it reads is never used.
            "position_ids": positions.clamp_max(self._context - 1),
            "past_key_values": cache,
            "use_cache": True,
        }

    def _leave(self, tokens: Sequence[int], logprobs: Sequence[float]) -> list[Row]:
        gone: list[int] = []
        for slot, (row, token, logprob) in enumerate(zip(self.rows, tokens, logprobs, strict=True)):
            row.ids.append(token)
            row.logprobs.append(logprob)
            if token in self._ends or len(row.ids) >= row.limit or row.future.done():
                gone.append(slot)
        return [self._remove(slot) for slot in reversed(gone)][::-1]

    def _remove(self, slot: int) -> Row:
        """Keep a row's keys and values, and let the last row take its place."""
        cache = self._prepare()
        row, last = self.rows[slot], self.rows.pop()
        if row.version == self.kept.version:
            read = (*row.prompt, *row.ids[:-1])
            self.kept.keep(read, lambda start, stop: cache.copy(slot, start, stop))
        if row is not last:
            self.rows[slot] = last
            cache.move(len(self.rows), slot, int(self._columns.lengths[len(self.rows)]))
            self._columns.move(len(self.rows), slot)
        return row


class _Columns:
    """What a step needs of every row, as arrays."""

    def __init__(self, capacity: int) -> None:
        self.lengths = np.zeros(capacity, dtype=np.int64)
        """Tokens whose keys and values are there."""
        self.last = np.zeros(capacity, dtype=np.int64)
        """The token to read next."""
        self.drawn = np.zeros(capacity, dtype=np.int64)
        self.seeds = np.zeros(capacity, dtype=np.uint64)
        self.temperatures = np.ones(capacity, dtype=np.float32)
        self.top_ps = np.ones(capacity, dtype=np.float32)
        self._all = (self.lengths, self.last, self.drawn, self.seeds, self.temperatures, self.top_ps)

    def enter(self, slot: int, row: Row) -> None:
        sampling = row.sampling
        values = (len(row.prompt) - 1, row.prompt[-1], 0, row.seed, sampling.temperature, sampling.top_p)
        for column, value in zip(self._all, values, strict=True):
            column[slot] = value

    def move(self, source: int, target: int) -> None:
        for column in self._all:
            column[target] = column[source]


def _passes(lengths: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Ranges of rows to read in one pass each; `lengths` fall."""
    count = sum(length > 0 for length in lengths)
    begin, waste = 0, 0
    for at in range(count):
        waste += lengths[begin] - lengths[at]
        full = (at - begin + 1) * min(lengths[begin], STRETCH) > PASS
        if at > begin and (waste > WASTE or full):
            yield begin, at
            begin, waste = at, 0
    if begin < count:
        yield begin, count
