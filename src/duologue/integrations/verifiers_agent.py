"""An agent of verifiers v1 as Duologue knows a model, and the harness that it has by default."""

# verifiers lives in an environment of its own, so that its types are unknown here.
# pyright: standard, reportMissingImports=false

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any

from duologue.conversation import Message
from duologue.errors import ContextOverflow, MissingDependency, ModelError
from duologue.models.base import Reply, Sampling, Usage, count_bytes
from duologue.models.refusals import LATER, OVERFLOW
from duologue.models.wire import SEED_LIMIT, spoken

try:
    import verifiers.v1 as vf
except ImportError as error:
    raise MissingDependency(
        "duologue.integrations.verifiers needs verifiers v1, in an environment of its own: "
        "pip install 'verifiers>=0.4,<0.5'"
    ) from error

ATTEMPTS = 3
"""Times that a call is made that fails in a way which may pass."""
PAUSE = 0.5
"""Seconds before the second attempt; twice as many before the third."""


class Policy:
    """An episode's agent as a model that replies outside the record: a `ChatModel`.

    Its replies are sampled as the run says; what Duologue would have for a sampling has no part in it.
    """

    def __init__(self, agent: vf.Agent, most_at_once: int | None) -> None:
        self._agent = agent
        self._gate = nullcontext() if most_at_once is None else asyncio.Semaphore(most_at_once)
        self.usage: list[vf.Usage] = []
        """What the replies cost."""

    async def reply(self, messages: Sequence[Message], *, seed: int, sampling: Sampling) -> Reply:
        """One reply.

        Raises:
            ContextOverflow, ModelError: the agent's run failed, or had no reply in its time.
        """
        system = messages[0].content if messages[0].role == "system" else None
        data = vf.TaskData(prompt=list(prompt_of(messages)), system_prompt=system)
        async with self._gate:
            trace = await self._seeded(seed).run(vf.Task(data))
        self.usage.extend(call.usage for call in trace.calls if call.usage is not None)
        if (lost := unsaid(trace)) is not None:
            raise lost
        return reply_of(trace)

    def count_tokens(self, text: str) -> int:
        """Tokens of a text; the policy's own tokenizer is the trainer's."""
        return count_bytes(text)

    def _seeded(self, seed: int) -> vf.Agent:
        """The same agent with a seed of its own, which servers that know seeds honour."""
        config = self._agent.config
        sampling = vf.SamplingConfig.model_validate({**config.sampling.model_dump(), "seed": seed & SEED_LIMIT})
        seeded = config.model_copy(update={"sampling": sampling})
        return vf.make_agent(seeded, interception=self._agent.interception)


def prompt_of(messages: Iterable[Message]) -> Iterator[vf.Message]:
    """Messages as a task has them, its system prompt left out, which stands elsewhere."""
    for message in messages:
        if message.role == "user":
            yield vf.UserMessage(content=message.content)
        elif message.role == "assistant":
            yield vf.AssistantMessage(content=message.content)


def reply_of(trace: vf.Trace) -> Reply:
    """What the agent said last, without its thoughts, and whether it was cut off."""
    used = trace.usage
    usage = Usage() if used is None else Usage(used.prompt_tokens, used.completion_tokens)
    return Reply(spoken(trace.last_reply), "length" if trace.is_truncated else "stop", usage)


def unsaid(trace: vf.Trace) -> ModelError | None:
    """Why a trace has no reply; None where it has one, an empty one perhaps.

    To verifiers a trace is well whose agent was stopped at a deadline.
    """
    if not trace.ok:
        return _failure(trace)
    if trace.is_timeout or trace.num_turns == 0:
        return ModelError(f"no reply: {trace.stop_condition or 'the agent called no model'}")
    return None


def _failure(trace: vf.Trace) -> ModelError:
    why = "no reply" if trace.last_error is None else f"{trace.last_error.type}: {trace.last_error.message}"
    return ContextOverflow(why) if OVERFLOW.search(why) else ModelError(why)


class ChatHarness(vf.Harness[vf.HarnessConfig]):
    """One call to the model for each turn, from this process: no tools, no program, nothing to install."""

    APPENDS_SYSTEM_PROMPT = True
    SUPPORTS_RESUME = True
    EXECUTES_CODE = False
    NEEDS_CONTAINER = False

    async def launch(
        self,
        ctx: vf.ModelContext,
        trace: vf.Trace,
        runtime: vf.Runtime,
        endpoint: str,
        secret: str,
        mcp_urls: dict[str, str],
        data: vf.TaskData,
    ) -> vf.ProgramResult:
        """Have the model reply; what may pass is tried again."""
        system, prompt = self.resolve_prompt(data)
        said = [vf.UserMessage(content=prompt)] if isinstance(prompt, str) else prompt or []
        head = [vf.SystemMessage(content=system)] if system else []
        rows = [{"role": message.role, "content": message.content or ""} for message in (*head, *said)]
        fault = await _asked(f"{endpoint}/chat/completions", secret, {"model": ctx.model, "messages": rows})
        return vf.ProgramResult(exit_code=0 if fault is None else 1, stdout="", stderr=fault or "")


async def _asked(url: str, secret: str, body: dict[str, Any]) -> str | None:
    """What kept the model from a reply, after all attempts; None where it replied, which the trace has."""
    import aiohttp

    headers, forever = {"Authorization": f"Bearer {secret}"}, aiohttp.ClientTimeout(total=None)
    fault = None
    async with aiohttp.ClientSession(headers=headers, timeout=forever) as session:
        for attempt in range(ATTEMPTS):
            await asyncio.sleep(PAUSE * attempt)
            async with session.post(url, json=body) as answer:
                if answer.status == 200:
                    return None
                fault = f"{answer.status}: {await answer.text()}"
                if answer.status < 500 and answer.status not in LATER:
                    break
    return fault
