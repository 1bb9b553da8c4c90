# pyright: basic
"""A transformers model in this process: many replies at once, as one batch that rows join and leave.

Replies that are asked for at the same time are decoded together; a reply's words depend on its messages, seed
and sampling alone, floating point aside. What conversations have in common is read once and kept until the
weights change. The work is done on the event loop that asks, between two of its turns, so what is decoded
together follows from the program, not from the clock.

    model = LocalModel.load("Qwen/Qwen3-0.6B")
    reply = await model.reply([Message("user", "Hello!")], seed=0, sampling=Sampling())

Covered: decoder-only chat models with full attention, on one device; LoRA adapters on them; thoughts before a reply
(<think>…</think>), which are among a reply's ids and not in its text.
Not covered: attention that slides (the context is then what one window holds), recurrent layers.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from duologue.conversation import Message
from duologue.errors import ContextOverflow, ModelError
from duologue.models import BUILT_IN
from duologue.models.base import Reply, Sampling, Usage
from duologue.models.batch import Batch, Counters, Row
from duologue.models.draws import word
from duologue.models.loading import load_tokenizer, load_weights, plain, save_weights
from duologue.models.prefixes import Prefixes
from duologue.models.template import ChatTemplate, settled

GATHER = 4
"""Turns of the event loop in which those whose replies ended may ask for their next ones."""
PATIENCE = 4
"""Steps that new rows wait for company while many others are active."""
CROWD = 8
"""New rows join at once when there is one for so many active ones."""


class LocalModel:
    """A `ChatModel` that decodes in this process.

    Args:
        model: a causal language model of transformers, or a PEFT model around one.
        tokenizer: its tokenizer, with a chat template.
        name: for errors and reports.
        rows: replies decoded together at most; the memory for keys and values grows with those in use.
        cache_bytes: keys and values of read prefixes that are kept, 0 for none; left out, 128 MiB on a CPU and 2 GiB on
            a GPU.
        template: what the chat template takes besides messages, such as `{"enable_thinking": False}`.

    Raises:
        ModelError: no chat template, or not a model this can decode.
    """

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Any,
        *,
        name: str = "local",
        rows: int = 256,
        cache_bytes: int | None = None,
        template: Mapping[str, Any] | None = None,
    ) -> None:
        base = plain(model)
        self.name, self.model, self.tokenizer = name, model, tokenizer
        self.context = _context(base, name)
        """Tokens of a conversation at most, the reply among them."""
        self.version = 0
        """How often its weights were said to have changed."""
        self._template = ChatTemplate(tokenizer, template)
        self.ends = _ends(base, tokenizer)
        """Ids that end a reply."""
        self._kept = Prefixes(_cache_bytes(base) if cache_bytes is None else cache_bytes)
        self._batch = Batch(
            base.get_decoder(),
            _Predictor(base),
            mask=_mask(base, name),
            context=self.context,
            ends=self.ends,
            capacity=rows,
            kept=self._kept,
        )
        self._waiting: deque[Row] = deque()
        self._waited = 0
        self._worker: asyncio.Task[None] | None = None

    @classmethod
    def load(
        cls,
        source: str | Path,
        *,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
        four_bit: bool = False,
        rows: int = 256,
        cache_bytes: int | None = None,
        template: Mapping[str, Any] | None = None,
    ) -> LocalModel:
        """A model from a folder, by its id on the hub, or `"tiny"`, the one that comes with this package.

        An adapter comes with the model that it stands on.

        Args:
            device: the first GPU where there is one, else the CPU.
            dtype: the type the weights are stored in.
            four_bit: weights in 4 bits, an adapter's left out.
            template: as above; it is settled in the chat template, and saved with it.

        Raises:
            ModelError: there is no such folder, it lacks a model, a tokenizer or a chat template, or cannot be read;
                4 bits without a GPU.
            MissingDependency: 4 bits without bitsandbytes.
        """
        place = BUILT_IN.get(str(source), source)
        tokenizer = load_tokenizer(place)
        if device is None:
            device = "cuda" if torch.cuda.is_available() else "cpu"
        if template and tokenizer.chat_template:
            tokenizer.chat_template = settled(tokenizer.chat_template, template)
        model = load_weights(place, device=device, dtype=dtype, four_bit=four_bit)
        model.eval()
        return cls(model, tokenizer, name=str(source), rows=rows, cache_bytes=cache_bytes)

    @property
    def counters(self) -> Counters:
        """Tokens read and generated since the start."""
        return self._batch.counters

    async def reply(self, messages: Sequence[Message], *, seed: int, sampling: Sampling) -> Reply:
        """One reply; those asked for at the same time are decoded together.

        Raises:
            ContextOverflow: the messages leave no room for one token.
            ModelError: the model failed, or two running event loops use it.
        """
        return await self.draw(self.encode(messages), seed=seed, sampling=sampling)

    async def draw(self, prompt: tuple[int, ...], *, seed: int, sampling: Sampling) -> Reply:
        """A reply to a conversation in ids; see `reply`."""
        limit = self.room(prompt, sampling)
        future = asyncio.get_running_loop().create_future()
        row = Row(prompt, word(seed), sampling, limit, future)
        self._start()
        self._waiting.append(row)
        await future
        return self.said(row.prompt, row.ids, row.logprobs)

    def room(self, prompt: Sequence[int], sampling: Sampling) -> int:
        """Tokens that a reply may have: `sampling.max_tokens`, or what the context leaves.

        Raises:
            ContextOverflow: it leaves none.
        """
        room = self.context - len(prompt)
        if room < 1:
            raise ContextOverflow(
                f"the conversation has {len(prompt)} tokens, and the context of {self.name} is {self.context}: "
                "end it earlier, or use a model with a longer context"
            )
        return min(room, sampling.max_tokens)

    def said(self, prompt: Sequence[int], ids: Sequence[int], logprobs: Sequence[float]) -> Reply:
        """The reply that sampled ids make, whoever sampled them."""
        ended = ids[-1] in self.ends
        return Reply(
            self._template.spoken(ids[:-1] if ended else ids),
            finish="stop" if ended else "length",
            usage=Usage(len(prompt), len(ids)),
            ids=tuple(ids),
            logprobs=tuple(logprobs),
            prompt_ids=tuple(prompt),
        )

    def count_tokens(self, text: str) -> int:
        """How many tokens longer a conversation gets by a message with this text, its frame left out."""
        return self._template.count(text)

    def encode(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """The ids the model reads before it replies to `messages`.

        Raises:
            DataError: the chat template refuses these messages.
        """
        return self._template.encode(messages)

    def save(self, folder: Path) -> None:
        """Write an ordinary transformers folder: weights, configs, tokenizer, chat template.

        Of a model with an adapter the adapter is written, and what it stands on named.
        """
        save_weights(self.model, folder)
        self.tokenizer.save_pretrained(folder)

    def weights_changed(self) -> None:
        """Drop what was kept from the old weights. Call it after every change of them."""
        self.version += 1
        self._kept.clear()
        self._batch.release()

    def _start(self) -> None:
        """See to it that a worker runs on this event loop."""
        loop = asyncio.get_running_loop()
        if self._worker is not None and not self._worker.done():
            before = self._worker.get_loop()
            if before is loop:
                return
            if before.is_running():
                raise ModelError(f"{self.name} answers on one event loop at a time, and another one is using it")
            self._abandon()
        self._worker = loop.create_task(self._work())

    async def _work(self) -> None:
        try:
            await _turns(GATHER)
            while self._waiting or self._batch.rows:
                ended = self._advance()
                await _turns(GATHER if ended or not self._batch.rows else 1)
        finally:
            for row in self._abandon():
                row.future.cancel()

    def _abandon(self) -> list[Row]:
        """Give up everything; the rows that were active or waiting."""
        rows = [*self._batch.drop(), *self._waiting]
        self._waiting.clear()
        return rows

    def _advance(self) -> bool:
        """Let rows join, decode one token; whether a reply ended."""
        try:
            with evaluating(self.model):
                self._join()
                ended = self._batch.step() if self._batch.rows else []
        except Exception as error:
            self._fail(error)
            return True
        for row in ended:
            if not row.future.done():
                row.future.set_result(row)
        return bool(ended)

    def _join(self) -> None:
        active = len(self._batch.rows)
        self._waited += 1
        if not self._waiting or (len(self._waiting) * CROWD < active and self._waited < PATIENCE):
            return
        self._waited = 0
        rows = list(islice(self._waiting, self._batch.capacity - active))
        self._batch.join([row for row in rows if not row.future.done()])
        for _ in rows:
            self._waiting.popleft()

    def _fail(self, error: Exception) -> None:
        """Nothing decoded together with what failed can be trusted to go on."""
        self._kept.clear()
        reason = error if isinstance(error, ModelError) else f"{type(error).__name__}: {error}"
        for row in self._abandon():
            if not row.future.done():
                failure = ModelError(f"{self.name} failed while it replied: {reason}")
                failure.__cause__ = error
                row.future.set_exception(failure)


class _Predictor:
    """Logits after the last token.

    The decoder and the output embedding, not the model's own `forward`: TRL replaces that on the instance.
    Where the model's class does more to the logits than that (a soft cap, a scale), its class's `forward`.
    """

    def __init__(self, base: PreTrainedModel) -> None:
        self._base = base
        self._plain = self._is_plain()

    def __call__(self, **inputs: Any) -> Tensor:
        if not self._plain:
            return type(self._base).forward(self._base, **inputs, logits_to_keep=1).logits[:, -1]
        hidden = self._base.get_decoder()(**inputs).last_hidden_state
        head: Any = self._base.get_output_embeddings()
        return head(hidden[:, -1])

    @torch.inference_mode()
    def _is_plain(self) -> bool:
        with evaluating(self._base):
            ids = torch.arange(min(8, self._base.config.get_text_config().vocab_size), device=self._base.device)[None]
            self._plain = False
            whole = self(input_ids=ids)
            self._plain = True
            return torch.allclose(self(input_ids=ids), whole, rtol=1e-4)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """A model without dropout; back in training mode afterwards, where it was in it."""
    was_training = model.training
    if was_training:
        model.eval()
    try:
        yield
    finally:
        if was_training:
            model.train()


async def _turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def _context(base: PreTrainedModel, name: str) -> int:
    """Positions the model has; with attention that slides, those that one window holds."""
    # Configurations have other names for some of these, which only their attributes know.
    config = base.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ()) - {"full_attention", "sliding_attention"}
    if kinds:
        raise ModelError(
            f"{name} has layers of {', '.join(sorted(kinds))}, which cannot be decoded here: "
            "use a model with attention in every layer"
        )
    limits = [getattr(config, key, None) for key in ("max_position_embeddings", "sliding_window")]
    if not any(limits):
        raise ModelError(f"{name} does not say how long its context is: set max_position_embeddings in its config.json")
    return min(limit for limit in limits if limit)


def _mask(base: PreTrainedModel, name: str) -> Callable[[Tensor], Tensor]:
    """How the model's attention is told what is visible: a truth value a key, or a number added to its score."""
    kind, dtype = base.config.get_text_config()._attn_implementation, base.dtype
    if kind == "sdpa":
        return lambda visible: visible
    if kind == "eager":
        lowest = torch.finfo(dtype).min
        return lambda visible: torch.zeros_like(visible, dtype=dtype).masked_fill_(~visible, lowest)
    raise ModelError(f'{name} was loaded with attn_implementation="{kind}": load it with "sdpa" or "eager"')


def _cache_bytes(base: PreTrainedModel) -> int:
    return 128 * 2**20 if base.device.type == "cpu" else 2 * 2**30


def _ends(base: PreTrainedModel, tokenizer: Any) -> frozenset[int]:
    """Ids that end a reply: the generation settings' and the tokenizer's."""
    settings = base.generation_config
    named = settings.eos_token_id if settings is not None else None
    ids = named if isinstance(named, list) else [named]
    return frozenset(int(end) for end in (*ids, tokenizer.eos_token_id) if end is not None)


def load_counter(source: str) -> Callable[[str], int]:
    """How a model's tokenizer counts: what a message with a text adds to a conversation, its frame left out.

    Raises:
        ModelError: there is no such folder or id, or it lacks a tokenizer or a chat template.
    """
    return ChatTemplate(load_tokenizer(BUILT_IN.get(source, source))).count
