# pyright: basic
"""Keys and values of the rows that are decoded together, in one tensor.

A forward writes and reads through views of neighbouring rows; nothing is gathered or concatenated.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Cache, DynamicCache

from duologue.errors import ModelError


class RowCache(Cache):
    """transformers' cache protocol over one tensor `[layers, 2, rows, tokens, heads, head size]`.

    Before a forward, `aim` says where it writes and reads.
    """

    def __init__(self, layers: int, heads: int, size: int, dtype: torch.dtype, device: torch.device, room: int) -> None:
        super().__init__(layers=[])
        self.device = device
        self._room = room
        # Zeros, not whatever the memory held: a masked key counts 0 times its value, and 0 times NaN is NaN.
        self._held = torch.zeros(layers, 2, 0, 0, heads, size, dtype=dtype, device=device)
        self.places = torch.arange(0, device=device)

    @classmethod
    def of(cls, decoder: nn.Module, room: int) -> RowCache:
        """An empty cache for a decoder, of the shape seen on one token.

        Raises:
            ModelError: the layers do not all keep keys and values of one shape.
        """
        device = next(decoder.parameters()).device
        seen = DynamicCache()
        decoder(input_ids=torch.zeros(1, 1, dtype=torch.long, device=device), past_key_values=seen, use_cache=True)
        layers: list[Any] = seen.layers
        shapes = {tuple(part.shape) for layer in layers for part in (layer.keys, layer.values)}
        if len(shapes) != 1:
            raise ModelError(
                "this model's layers do not all keep keys and values of one shape, so it cannot be decoded here: "
                "use a model with full attention in every layer"
            )
        keys = layers[0].keys
        return cls(len(layers), keys.shape[1], keys.shape[3], keys.dtype, device, room)

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

    def load(self, slot: int, pieces: Sequence[Tensor]) -> None:
        """Begin a row with kept pieces, `[layers, 2, tokens, heads, head size]` each."""
        if pieces:
            piece = pieces[0] if len(pieces) == 1 else torch.cat(list(pieces), 2)
            self._held[:, :, slot, : piece.shape[2]] = piece

    def copy(self, slot: int, start: int, stop: int) -> Tensor:
        """A piece of a row."""
        return self._held[:, :, slot, start:stop].clone()

    def move(self, source: int, target: int, tokens: int) -> None:
        """Put the first `tokens` of one row in the place of another's."""
        self._held[:, :, target, :tokens] = self._held[:, :, source, :tokens]
