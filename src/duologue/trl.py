"""The multiturn-aware reward in anyone's own TRL trainer.

    task = duologue.load_task("groceries")
    trainer = trl.GRPOTrainer(
        model,
        reward_funcs=[duologue.trl.reward(task, samples=3, window=2)],
        train_dataset=duologue.trl.prompts(task, 1000),
        …
    )

TRL calls a reward function with prompts, completions and the data set's other columns. Two columns name
what a prompt belongs to: `goal` (the id of one of the task's training goals) and `visit` (an integer that
fixed the user's profile and words). `prompts` makes a data set with them; yours may have more columns.

Where an endpoint judges or plays users, `with duologue.trl.reward(…) as reward:` closes its connections.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import TYPE_CHECKING, Any

from duologue.background import BackgroundLoop
from duologue.conversation import Conversation, Ending, Goal, Message, message_rows, parse_messages
from duologue.dataset import visits
from duologue.errors import DataError, ModelError
from duologue.metrics.base import Supplies, Weighted
from duologue.models.base import ChatModel, Reply, Sampling
from duologue.reward import MultiturnReward, Reward, check_look_aheads
from duologue.simulation import Assistant, Window, reach
from duologue.tasks.base import Task

if TYPE_CHECKING:
    from datasets import Dataset  # pyright: ignore[reportMissingTypeStubs]

    from duologue.models.local import LocalModel
    from duologue.sandbox import Sandbox

Completion = str | Sequence[Mapping[str, Any]]

logger = logging.getLogger(__name__)


def reward(
    task: Task,
    samples: int = 3,
    window: Window = 2,
    *,
    metrics: Mapping[str, Weighted] | None = None,
    judge: ChatModel | None = None,
    sandbox: Sandbox | None = None,
    model: Any = None,
    tokenizer: Any = None,
    sampling: Sampling | None = None,
    seed: int = 0,
) -> TrlReward:
    """An entry for `reward_funcs`: the multiturn-aware reward of each completion.

    Look-aheads are played in this process by the model being trained, as it stands at that step. It is found
    through the trainer that calls; for a trainer that does not pass TRL's `log_metric`, give `model` and
    `tokenizer`.

    Args:
        task: whose goals the data set names, and whose users answer.
        samples: look-aheads a completion (k).
        window: turns a look-ahead (w), or "full".
        metrics: the reward's parts; left out, the task's own.
        judge: the model that judged metrics ask.
        sandbox: where hidden tests run, for metrics like `pass-rate`; who opened it closes it.
        sampling: how look-ahead replies are drawn; left out, the trainer's temperature and length.
        seed: of the look-aheads' draws, where the data set has no `visit` column.

    Raises:
        RecipeError: less than one sample, or a window that is neither turns nor "full".
    """
    needed = Supplies(judge=judge, sandbox=sandbox, goals=task.goal_maker("train"))
    return TrlReward(task, samples, window, metrics or task.metrics, needed, model, tokenizer, sampling, seed)


class TrlReward:
    """A synchronous reward function for TRL's trainers; `None` for a completion that could not be scored.

    The trainer logs what share of a step's completions that was (`rewards/multiturn_reward/unscored`), and what
    share of their look-aheads was lost (`…/lost`). Each reason is said once, as a warning, and counted.
    """

    __name__ = "multiturn_reward"

    def __init__(
        self,
        task: Task,
        samples: int,
        window: Window,
        metrics: Mapping[str, Weighted],
        supplies: Supplies,
        model: Any,
        tokenizer: Any,
        sampling: Sampling | None,
        seed: int,
    ) -> None:
        check_look_aheads(samples, window)
        self._task, self._samples, self._metrics, self._supplies = task, samples, metrics, supplies
        self._window: Window = window
        self._model, self._tokenizer, self._sampling, self._seed = model, tokenizer, sampling, seed
        self._goals: dict[str, Goal] = {}
        self._policy: LocalModel | None = None
        self._loop: BackgroundLoop | None = None
        self.failures = Counter[str]()
        """Why look-aheads were lost, and how many by each reason."""

    def __call__(
        self,
        prompts: Sequence[Any],
        completions: Sequence[Completion],
        *,
        completion_ids: Sequence[Sequence[int]] | None = None,
        goal: Sequence[str] | None = None,
        visit: Sequence[int] | None = None,
        log_metric: Any = None,
        **columns: Any,
    ) -> list[float | None]:
        """The rewards of a batch, in its order.

        Raises:
            DataError: the data set has no `goal` column, names a goal the task does not have, or its prompts
                are no conversations.
            ModelError: the model being trained cannot be found.
        """
        if goal is None:
            raise DataError("the multiturn-aware reward needs a `goal` column with ids of the task's training goals")
        from duologue.models.local import evaluating

        policy, sampling = self._current(log_metric)
        seeds = visit if visit is not None else [self._seed] * len(prompts)
        ids = completion_ids if completion_ids is not None else [()] * len(prompts)
        work = [
            _Candidate(name, *_prefix(prompt), _text(completion), bool(tokens) and tokens[-1] not in policy.ends, seed)
            for name, prompt, completion, tokens, seed in zip(goal, prompts, completions, ids, seeds, strict=True)
        ]
        self._loop = self._loop or BackgroundLoop()
        with evaluating(policy.model):
            found = self._loop.run(self._score_all(policy, sampling, work))
        rewards = [found[candidate] for candidate in work]
        self._tell_losses(found.values())
        if log_metric is not None:
            self._log_losses(rewards, log_metric)
        return [reward.value for reward in rewards]

    def close(self) -> None:
        """End the event loop that look-aheads are played on, and close what endpoints opened there.

        A call after that begins anew. Left out, it is done when the interpreter ends.
        """
        if self._loop is not None:
            self._loop.close()
            self._loop = None

    def __enter__(self) -> TrlReward:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def _score_all(
        self, policy: LocalModel, sampling: Sampling, work: Sequence[_Candidate]
    ) -> dict[_Candidate, Reward]:
        rewards = {c.system: self._reward(Assistant(policy, c.system, sampling)) for c in work}
        distinct = dict.fromkeys(work)
        found = await asyncio.gather(*(self._score(rewards[candidate.system], candidate) for candidate in distinct))
        return dict(zip(distinct, found, strict=True))

    async def _score(self, reward: MultiturnReward, candidate: _Candidate) -> Reward:
        reply = Reply(candidate.text, finish="length" if candidate.cut else "stop")
        return await reward(self._goal(candidate.goal), candidate.prefix, reply, seed=candidate.seed)

    def _tell_losses(self, rewards: Iterable[Reward]) -> None:
        """Say and count why look-aheads were lost."""
        for why in (why for reward in rewards for why in reward.failures):
            if why not in self.failures:
                logger.warning("a look-ahead was lost, and is left out (said once, then counted): %s", why)
            self.failures[why] += 1

    def _log_losses(self, rewards: Sequence[Reward], log_metric: Any) -> None:
        """Have the trainer log what shares of a batch were lost."""
        lost = sum(len(reward.failures) for reward in rewards)
        unscored = sum(reward.value is None for reward in rewards)
        log_metric(f"rewards/{self.__name__}/unscored", unscored / len(rewards))
        log_metric(f"rewards/{self.__name__}/lost", lost / (len(rewards) * self._samples))

    def _reward(self, assistant: Assistant) -> MultiturnReward:
        task = self._task
        return MultiturnReward(
            assistant,
            task.plain_users,
            self._metrics,
            self._samples,
            self._window,
            turn_limit=task.turn_limit,
            supplies=replace(self._supplies, counter=assistant.model.count_tokens),
            behaviours=task.behaviours,
        )

    def _goal(self, name: str) -> Goal:
        if not self._goals:
            self._goals = {goal.id: goal for goal in self._task.goals("train")}
        if name not in self._goals:
            raise DataError(
                f'task "{self._task.name}" has no training goal "{name}": make prompts with duologue.trl.prompts'
            )
        return self._goals[name]

    def _current(self, log_metric: Any) -> tuple[LocalModel, Sampling]:
        """The policy as it stands, its remembered prefixes dropped; and how it samples."""
        model, tokenizer, sampling = self._model, self._tokenizer, self._sampling
        trainer = _trainer_behind(log_metric)
        if trainer is not None:
            model = model if model is not None else trainer.accelerator.unwrap_model(trainer.model)
            tokenizer = tokenizer if tokenizer is not None else trainer.processing_class
            sampling = sampling or Sampling(trainer.temperature, trainer.args.top_p, trainer.max_completion_length)
        if model is None or tokenizer is None:
            raise ModelError(
                "the model being trained cannot be found from here: give duologue.trl.reward(…, model=…, tokenizer=…)"
            )
        if self._policy is None or self._policy.model is not model:
            from duologue.models.local import LocalModel

            self._policy = LocalModel(model, tokenizer)
        self._policy.weights_changed()
        return self._policy, sampling or Sampling(max_tokens=self._task.max_tokens)


def _trainer_behind(log_metric: Any) -> Any:
    """The trainer whose bound method TRL hands to reward functions as `log_metric`."""
    from transformers import Trainer

    owner = getattr(log_metric, "__self__", None)
    return owner if isinstance(owner, Trainer) else None


@dataclass(frozen=True)
class _Candidate:
    """A reply to be scored. Equal ones are one."""

    goal: str
    system: str | None
    prefix: Conversation
    text: str
    cut: bool
    seed: int


def _prefix(prompt: Any) -> tuple[str | None, Conversation]:
    """The system prompt, and the conversation, that a prompt holds."""
    if isinstance(prompt, str):
        raise DataError(
            'the multiturn-aware reward needs prompts that are conversations, like [{"role": "user", "content": …}]: '
            "make them with duologue.trl.prompts"
        )
    messages = parse_messages(prompt, "a prompt")
    if any(message.role == "system" for message in messages[1:]):
        raise DataError("a prompt has a system message after its first message: give it one at most, at the start")
    if not messages or messages[-1].role != "user":
        last = f"a message of role {messages[-1].role}" if messages else "nothing"
        raise DataError(f"a prompt ends in {last}, and a completion replies to a user message: end every prompt in one")
    if messages[0].role == "system":
        return messages[0].content, Conversation(messages[1:])
    return None, Conversation(messages)


def _text(completion: Completion) -> str:
    text = completion if isinstance(completion, str) else str(completion[-1]["content"])
    return text.strip()


def prompts(task: Task, count: int, *, assistant: Assistant | None = None, deepest: int = 0, seed: int = 0) -> Dataset:
    """A data set of `count` rows: `prompt` (a message list that ends in a user message), `goal`, `visit`.

    Args:
        assistant: who plays the prefixes that are deeper than the first user message. Its system prompt
            stands first in every prompt.
        deepest: with an assistant, half the prompts come after 1 to `deepest` turns.

    Raises:
        DataError: less than one row, or `deepest` without an assistant.
        ModelError: a prefix could not be played.
    """
    from datasets import Dataset  # pyright: ignore[reportMissingTypeStubs]

    if count < 1:
        raise DataError(f"a data set needs at least one prompt; count is {count}")
    if deepest and assistant is None:
        raise DataError("prompts deeper than the first user message need an assistant to play them")
    planned = visits([task], count, deepest=deepest, seed=seed)
    silent = assistant or Assistant(_Silent())

    async def play() -> list[Conversation]:
        return await asyncio.gather(
            *(reach(silent, task.user(v.goal.request, v.seed), depth=v.depth, seed=v.seed) for v in planned)
        )

    with BackgroundLoop() as loop:
        played = loop.run(play())
    failed = [conversation.reason for conversation in played if conversation.ending is Ending.FAILED]
    if failed:
        raise ModelError(f"{len(failed)} of {count} prompts could not be played; the last: {failed[-1]}")
    return Dataset.from_dict(  # pyright: ignore[reportUnknownMemberType]
        {
            "prompt": [message_rows(c.messages, silent.system) for c in played],
            "goal": [visit.goal.id for visit in planned],
            "visit": [visit.seed for visit in planned],
        }
    )


class _Silent:
    """Stands in where no reply is asked for."""

    async def reply(self, messages: Sequence[Message], *, seed: int, sampling: Sampling) -> Any:
        raise ModelError("no assistant was given to play prefixes")

    def count_tokens(self, text: str) -> int:
        return 0
