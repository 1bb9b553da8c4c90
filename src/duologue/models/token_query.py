"""Completions in ids, as vLLM's server has them: the ids of a conversation go in, those of the reply come out.

A policy that is trained elsewhere than it is played has to know the very ids that were sampled, and how likely each
was. A server that does not say so cannot play it.
"""

from __future__ import annotations

from collections.abc import Callable, Set
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import orjson

from duologue.errors import EndpointUnusable
from duologue.models.base import Reply, Usage
from duologue.models.wire import NOTHING, Query, Unreadable

NEUTRAL = {"top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0}
"""What a server would take from the model's generation_config.json where a request does not say it."""
SEED_LIMIT = 2**63 - 1
"""The largest seed that vLLM takes."""
NEEDED = "rollouts need them, and a server that gives them, like `vllm serve` of vLLM 0.10.2 or newer"


@dataclass(frozen=True, slots=True)
class TokenQuery(Query):
    """One call; `messages` says nothing, and `model` is what it is booked under."""

    path: ClassVar[str] = "completions"
    kept: ClassVar[bool] = False

    prompt: tuple[int, ...] = ()
    ends: tuple[int, ...] = ()
    """Ids that end a reply; the one that does is among the reply's."""
    adapter: str | None = None
    """The adapter that is to reply; left out, `model`."""
    version: str | None = None
    """What the server calls its weights, where it was told a name for them."""

    def body(self, without: Set[str] = NOTHING) -> bytes:
        """The request's JSON; a server that refuses some of it is of no use here."""
        sampling = self.sampling
        fields: dict[str, Any] = {
            "model": self.adapter or self.model,
            "prompt": self.prompt,
            "max_tokens": sampling.max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            **NEUTRAL,
            "seed": self.seed & SEED_LIMIT,
            "stop_token_ids": self.ends,
            "logprobs": 0,
            "return_token_ids": True,
            "return_weight_versions": self.version is not None,
        }
        return orjson.dumps(fields)

    def read(self, body: bytes, counter: Callable[[str], int]) -> Reply:
        """The reply in an answer: its ids and their log-probabilities; its text is the server's.

        Raises:
            Unreadable: there is none.
            EndpointUnusable: it has no ids or log-probabilities, or comes from other weights than were asked.
        """
        try:
            found: Any = orjson.loads(body)
            choice = found["choices"][0]
            text, finish, replied = str(choice["text"]), choice["finish_reason"], str(found["model"])
        except (orjson.JSONDecodeError, TypeError, KeyError, IndexError):
            raise Unreadable(f"its answer holds no completion: {body.decode(errors='replace')}") from None
        if finish not in ("stop", "length"):
            raise Unreadable(f"the reply was broken off ({finish})")
        ids, logprobs = _ids(choice.get("token_ids")), _logprobs(choice.get("logprobs"))
        if not ids or len(logprobs) != len(ids) or _ids(choice.get("prompt_token_ids")) != self.prompt:
            raise EndpointUnusable(f"{self.model}: the server gives no ids of what it read and sampled: {NEEDED}")
        self._check_weights(replied, choice.get("weight_versions"))
        return Reply(text, finish, Usage(len(self.prompt), len(ids)), ids, logprobs, self.prompt)

    def _check_weights(self, replied: str, versions: Any) -> None:
        by = {replied} if self.version is None else {str(span.get("version")) for span in versions or ()}
        asked = self.adapter if self.version is None else self.version
        if asked is not None and by != {asked}:
            raise EndpointUnusable(
                f"{self.model}: asked to reply with the weights {asked}, the server replied with "
                f"{', '.join(sorted(by)) or 'unnamed ones'}: was it started anew? The same command goes on"
            )


def _ids(found: Any) -> tuple[int, ...]:
    return tuple(cast("list[int]", found)) if isinstance(found, list) else ()


def _logprobs(found: Any) -> tuple[float, ...]:
    """Those of the sampled tokens, as far as the server gives them."""
    match found:
        case {"token_logprobs": list()}:
            logprobs = cast("list[float | None]", found["token_logprobs"])
            return tuple(each for each in logprobs if each is not None)
        case _:
            return ()
