# pyright: basic
"""The multiturn-aware reward in verl (0.9 and later): an agent loop.

verl runs one loop for every copy of a prompt. This one plays the prefix where the row has a depth, draws the
candidate, looks ahead from it with the same servers, which hold the policy as it is now, and hands back the
candidate's tokens alone with their reward; verl's own reward loop is then left out. GRPO, or PPO with a critic,
are verl's. `duologue.run.verl.RecipeLoop` is this loop for a recipe; docs/verl.md takes you to a run.

verl pins other versions of torch and transformers than `duologue[train]`: it has an environment of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from duologue.conversation import Conversation, Message
from duologue.errors import ContextOverflow, DataError, MissingDependency, ModelError, RecipeError
from duologue.integrations.rollouts import Rollout, Rollouts
from duologue.models.base import ChatModel, Reply, Sampling, Usage

if TYPE_CHECKING:
    from duologue.models.template import ChatTemplate

try:
    from verl.experimental.agent_loop import (  # pyright: ignore[reportMissingImports]
        AgentLoopBase,
        AgentLoopOutput,
    )
except ModuleNotFoundError as error:
    raise MissingDependency(
        f"training with verl needs {error.name}: in an environment of its own, pip install 'verl[vllm]>=0.9,<0.10' "
        "duologue (docs/verl.md)"
    ) from error

WHY = "why_unscored"
"""What verl carries of a candidate that could not be scored: the reason."""
HANDED = ("uid", "session_id", "global_steps")
"""Columns that verl's trainer adds to a row."""


class MultiturnLoop(AgentLoopBase):
    """One copy of a prompt: a candidate reply with its multiturn-aware reward.

    Args:
        rollouts: what the rows of this worker share.
        template: the policy's chat template.
        verl: what verl makes an agent loop with.
    """

    def __init__(self, *, rollouts: Rollouts, template: ChatTemplate, **verl: Any) -> None:
        super().__init__(**verl)
        self._rollouts, self._template = rollouts, template

    async def run(self, sampling_params: dict[str, Any], **columns: Any) -> AgentLoopOutput:
        """Roll a row out.

        Raises:
            DataError: the row is not one of `duologue verl`, nor like one; or its prompt is too long.
            RecipeError: verl is not set as this loop needs it.
            ModelError: the servers gave no candidate.
        """
        missing = [name for name in HANDED if name not in columns]
        if missing:
            raise DataError(f"verl hands a row without {', '.join(missing)}: set trainer.use_v1=True, its default")
        uid, copy, step = (columns[name] for name in HANDED)
        row = self._rollouts.row(columns, group=str(uid), copy=int(copy), step=int(step))
        policy = ServedPolicy(self.server_manager, self._template, sampling_params, self.rollout_config, str(uid))
        return _output(await self._rollouts.rollout(row, policy))


def _output(rollout: Rollout) -> AgentLoopOutput:
    reply, drawn = rollout.reply, rollout.drawn
    ids = list(reply.ids or ())
    own = {"turn_scores": [], "tool_rewards": [], "reward_extra_info": dict(rollout.figures), WHY: rollout.why}
    return AgentLoopOutput(
        prompt_ids=list(reply.prompt_ids or ()),
        response_ids=ids,
        response_mask=[int(rollout.scored)] * len(ids),
        response_logprobs=list(reply.logprobs) if reply.logprobs is not None else None,
        routed_experts=drawn.routed_experts,
        reward_score=rollout.score,
        num_turns=len(rollout.prefix.messages) + 1,
        metrics={
            "generate_sequences": rollout.generating,
            "compute_score": rollout.scoring,
            "num_preempted": -1 if drawn.num_preempted is None else drawn.num_preempted,
        },
        extra_fields={**drawn.extra_fields, **own},
    )


class ServedPolicy:
    """The policy behind verl's servers, as it is at this moment: a `ChatModel`, and a `Policy` for rollouts.

    Args:
        server: verl's client, which spreads requests over servers and keeps those of one name on one of them.
        sampling: how verl wants this row's reply drawn; look-aheads are drawn in the same way.
        settings: `actor_rollout_ref.rollout` of verl.
        name: of the requests: the copies of a prompt share a server, and there what they have read.

    Raises:
        RecipeError: verl is not told how long a conversation may be.
    """

    def __init__(
        self, server: Any, template: ChatTemplate, sampling: Mapping[str, Any], settings: Any, name: str
    ) -> None:
        if settings.max_model_len is None:
            raise RecipeError(
                "set actor_rollout_ref.rollout.max_model_len: a prompt, its reply, and the turns that look ahead"
            )
        self._server, self._template, self._name = server, template, name
        self._sampling, self._settings = dict(sampling), settings

    @property
    def model(self) -> ChatModel:
        """What plays prefixes and look-aheads: itself."""
        return self

    def count_tokens(self, text: str) -> int:
        """Tokens in a text."""
        return self._template.count(text)

    def fits(self, conversation: Conversation, system: str | None) -> bool:
        """Whether it is no longer than verl's longest prompt."""
        return len(self._template.encode(_messages(conversation, system))) <= self._settings.prompt_length

    async def reply(self, messages: Sequence[Message], *, seed: int, sampling: Sampling) -> Reply:
        """One reply of a look-ahead or a prefix; verl's sampling stands in for `sampling`.

        Raises:
            ContextOverflow: the messages and the longest reply do not fit.
            ModelError: the server gave up the request.
        """
        ids = self._template.encode(messages)
        if len(ids) + self._settings.response_length > self._settings.max_model_len:
            raise ContextOverflow(f"{len(ids)} tokens and a reply exceed rollout.max_model_len")
        return self._read(ids, await self._generate(ids, seed, logprobs=False))

    async def candidate(self, conversation: Conversation, system: str | None, *, seed: int) -> tuple[Reply, Any]:
        """A reply to be trained on, with verl's `TokenOutput`.

        Raises:
            ModelError: the server gave up the request.
        """
        ids = self._template.encode(_messages(conversation, system))
        output = await self._generate(ids, seed, logprobs=bool(self._sampling.get("logprobs")))
        return self._read(ids, output), output

    async def _generate(self, ids: Sequence[int], seed: int, *, logprobs: bool) -> Any:
        sampling = {**self._sampling, "logprobs": logprobs, "max_tokens": self._settings.response_length}
        if self._settings.name == "vllm":  # the one of verl's engines that takes a seed with a request
            sampling["seed"] = seed
        # Where all is to be repeatable, verl hands the name on to an engine that wants names to differ.
        name = f"{self._name}-{seed}" if self._settings.full_determinism else self._name
        output = await self._server.generate(request_id=name, prompt_ids=list(ids), sampling_params=sampling)
        if not output.token_ids or output.stop_reason in ("aborted", "abort"):
            raise ModelError("verl's server gave up a request before its reply was whole")
        return output

    def _read(self, prompt: Sequence[int], output: Any) -> Reply:
        ids = tuple(output.token_ids)
        closed = ids[-1] == self._template.tokenizer.eos_token_id
        return Reply(
            self._template.spoken(ids[:-1] if closed else ids),
            "stop" if closed or len(ids) < self._settings.response_length else "length",
            Usage(len(prompt), len(ids)),
            ids,
            tuple(output.log_probs) if output.log_probs else None,
            tuple(prompt),
        )


def _messages(conversation: Conversation, system: str | None) -> Sequence[Message]:
    return conversation.messages if system is None else (Message("system", system), *conversation.messages)
