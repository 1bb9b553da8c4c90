# pyright: basic
"""Rows that are decoded together and come and go between token steps.

Keys and values of all rows lie in one tensor, active rows first, so a step reads views and gathers nothing;
the last row takes the place of one that leaves. The maths is the model's own decoder: only its cache is ours.
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
from transformers import Cache, DynamicCache

from duologue.errors import ModelError
from duologue.models.base import Sampling
from duologue.models.draws import draw, uniforms
from duologue.models.prefixes import Prefixes, common

PASS = 8192
"""Tokens of one pass over prompts, padding included."""
STRETCH = 2048
"""Tokens of one row in one such pass."""
WASTE = 256
"""Padding of one such pass, in tokens: about what a further pass costs."""
WAVES = 4
"""Passes over new prompts in which each may find what the one before it read."""
SHARED = 8
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
        self._context, self._ends = context, ends
        self._cache: _Rows | None = None
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

    def _prepare(self) -> _Rows:
        if self._cache is None:
            self._cache = _Rows(*_shape(self._decoder), room=self._context)
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

    def _prefill(self, cache: _Rows, first: int, starts: np.ndarray) -> None:
        """Read what is left of the prompts in the slots from `first`, which have the longest rest first."""
        rests = [row.prompt[start:-1] for row, start in zip(self.rows[first:], starts.tolist(), strict=True)]
        self.counters.prefilled += sum(map(len, rests))
        for begin, end in _passes([len(rest) for rest in rests]):
            self._pass(cache, first + begin, rests[begin:end], starts[begin:end])
        for slot, row in enumerate(self.rows[first:], first):
            if rests[slot - first]:
                self.kept.keep(row.prompt[:-1], lambda start, stop, slot=slot: cache.copy(slot, start, stop))

    def _pass(self, cache: _Rows, first: int, rests: Sequence[Sequence[int]], starts: np.ndarray) -> None:
        for offset in range(0, len(rests[0]), STRETCH):
            parts = [part for rest in rests if (part := rest[offset : offset + STRETCH])]
            longest = len(parts[0])
            ids = np.zeros((len(parts), longest), dtype=np.int64)
            for at, part in enumerate(parts):
                ids[at, : len(part)] = part
            begin = starts[: len(parts)] + offset
            self._decoder(**self._inputs(cache, ids, begin, first=first))

    def _inputs(self, cache: _Rows, ids: np.ndarray, starts: np.ndarray, *, first: int) -> dict[str, Any]:
        """The model's arguments for `ids` `[rows, tokens]`, which begin at `starts`, in the slots from `first`."""
        until = int(starts.max()) + ids.shape[1]
        cache.reserve(first + len(ids), until, active=len(self.rows))
        positions = torch.from_numpy(starts[:, None] + np.arange(ids.shape[1])).to(cache.device)
        cache.aim(first, positions, until)
        return {
            "input_ids": torch.from_numpy(ids).to(cache.device),
            # Four dimensions: the model takes it as it is.
            "attention_mask": (cache.places[:until] <= positions[:, :, None])[:, None],
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


class _Rows(Cache):
    """transformers' cache protocol over one tensor `[layers, 2, rows, tokens, heads, head size]`."""

    def __init__(self, layers: int, heads: int, size: int, dtype: torch.dtype, device: torch.device, room: int) -> None:
        super().__init__(layers=[])
        self.device = device
        self._room = room
        # Zeros, not whatever the memory held: a masked key counts 0 times its value, and 0 times NaN is NaN.
        self._held = torch.zeros(layers, 2, 0, 0, heads, size, dtype=dtype, device=device)
        self.places = torch.arange(0, device=device)

    def reserve(self, rows: int, tokens: int, *, active: int) -> None:
        """Make room; what the first `active` rows hold stays."""
        layers, _, had_rows, had_tokens, heads, size = self._held.shape
        if rows <= had_rows and tokens <= had_tokens:
            return
        rows = max(had_rows, 1 << (rows - 1).bit_length()) if rows > had_rows else had_rows
        tokens = max(tokens, min(2 * had_tokens, self._room), 64) if tokens > had_tokens else had_tokens
        held = self._held.new_zeros(layers, 2, rows, tokens, heads, size)
        held[:, :, :active, :had_tokens] = self._held[:, :, :active]
        self._held = held
        self.places = torch.arange(tokens, device=self.device)

    def aim(self, first: int, positions: Tensor, until: int) -> None:
        """The next pass writes at `positions` `[rows, tokens]` of the rows from `first`, and reads up to `until`."""
        count = len(positions)
        tokens = self._held.shape[3]
        slots = torch.arange(first, first + count, device=self.device)[:, None]
        self._index = (slots * tokens + positions).flatten()
        self._writes = [layer.unbind(0) for layer in self._held.flatten(2, 3).unbind(0)]
        window = self._held[:, :, first : first + count, :until].transpose(3, 4)
        self._reads = [layer.unbind(0) for layer in window.unbind(0)]
        self._until = until

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        for held, new in zip(self._writes[layer_idx], (key_states, value_states), strict=True):
            held.index_copy_(0, self._index, new.transpose(1, 2).flatten(0, 1))
        keys, values = self._reads[layer_idx]
        return keys, values

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return self._until

    def load(self, slot: int, pieces: list[Tensor]) -> None:
        if pieces:
            piece = pieces[0] if len(pieces) == 1 else torch.cat(pieces, 2)
            self._held[:, :, slot, : piece.shape[2]] = piece

    def copy(self, slot: int, start: int, stop: int) -> Tensor:
        return self._held[:, :, slot, start:stop].clone()

    def move(self, source: int, target: int, tokens: int) -> None:
        self._held[:, :, target, :tokens] = self._held[:, :, source, :tokens]


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


def _shape(decoder: nn.Module) -> tuple[int, int, int, torch.dtype, torch.device]:
    """Layers, heads, head size, type and device of a decoder's keys and values, seen on one token.

    Raises:
        ModelError: its layers do not all keep keys and values of one shape.
    """
    device = next(decoder.parameters()).device
    seen = DynamicCache()
    decoder(input_ids=torch.zeros(1, 1, dtype=torch.long, device=device), past_key_values=seen, use_cache=True)
    layers: list[Any] = seen.layers
    shapes = {tuple(part.shape) for layer in layers for part in (layer.keys, layer.values)}
    if len(shapes) != 1:
        raise ModelError(
            "this model's layers do not all keep keys and values of one shape: serve it and use an endpoint"
        )
    keys = layers[0].keys
    return len(layers), keys.shape[1], keys.shape[3], keys.dtype, device
