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
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from duologue.background import BackgroundLoop
from duologue.conversation import Conversation, Goal, Message, parse_messages
from duologue.dataset import visits
from duologue.errors import DataError, MissingDependency, ModelError
from duologue.metrics.base import Weighted
from duologue.models.base import Sampling
from duologue.reward import MultiturnReward
from duologue.simulation import Assistant, Window, reach
from duologue.tasks.base import Task

if TYPE_CHECKING:
    from datasets import Dataset

    from duologue.models.local import LocalModel

Completion = str | Sequence[Mapping[str, Any]]


def reward(
    task: Task,
    samples: int = 3,
    window: Window = 2,
    *,
    metrics: Mapping[str, Weighted] | None = None,
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
        sampling: how look-ahead replies are drawn; left out, the trainer's temperature and length.
        seed: of the look-aheads' draws.
    """
    return TrlReward(task, samples, window, metrics or task.metrics, model, tokenizer, sampling, seed)


class TrlReward:
    """A synchronous reward function for TRL's trainers; `None` for a completion that could not be scored."""

    __name__ = "multiturn_reward"

    def __init__(
        self,
        task: Task,
        samples: int,
        window: Window,
        metrics: Mapping[str, Weighted],
        model: Any,
        tokenizer: Any,
        sampling: Sampling | None,
        seed: int,
    ) -> None:
        self._task, self._samples, self._metrics = task, samples, metrics
        self._window: Window = window
        self._model, self._tokenizer, self._sampling, self._seed = model, tokenizer, sampling, seed
        self._goals: dict[str, Goal] = {}
        self._policy: LocalModel | None = None
        self._loop: BackgroundLoop | None = None

    def __call__(
        self,
        prompts: Sequence[Any],
        completions: Sequence[Completion],
        *,
        goal: Sequence[str] | None = None,
        visit: Sequence[int] | None = None,
        log_metric: Any = None,
        **columns: Any,
    ) -> list[float | None]:
        """The rewards of a batch, in its order.

        Raises:
            DataError: the data set has no `goal` column, or names a goal the task does not have.
            ModelError: the model being trained cannot be found.
        """
        if goal is None:
            raise DataError("the multiturn-aware reward needs a `goal` column with ids of the task's training goals")
        visits_of = visit if visit is not None else [self._seed] * len(prompts)
        policy, sampling = self._current(log_metric)
        work = [
            (self._goal(goal[i]), _prefix(prompts[i]), _text(completions[i]), visits_of[i]) for i in range(len(prompts))
        ]
        self._loop = self._loop or BackgroundLoop()
        return self._loop.run(self._score_all(policy, sampling, work))

    async def _score_all(
        self, policy: LocalModel, sampling: Sampling, work: Sequence[tuple[Goal, Conversation, str, int]]
    ) -> list[float | None]:
        distinct = dict.fromkeys((goal.id, prefix, text, seed) for goal, prefix, text, seed in work)
        found = await asyncio.gather(*(self._score(policy, sampling, *key) for key in distinct))
        values = dict(zip(distinct, found, strict=True))
        return [values[goal.id, prefix, text, seed] for goal, prefix, text, seed in work]

    async def _score(
        self, policy: LocalModel, sampling: Sampling, goal: str, prefix: Conversation, text: str, seed: int
    ) -> float | None:
        system = [m.content for m in prefix.messages if m.role == "system"]
        shown = Conversation(tuple(m for m in prefix.messages if m.role != "system"))
        score = MultiturnReward(
            Assistant(policy, system[0] if system else None, sampling),
            self._task.user,
            self._metrics,
            self._samples,
            self._window,
            turn_limit=self._task.turn_limit,
        )
        return (await score(self._goal(goal), shown, text, seed=seed)).value

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
        trainer = _trainer_behind(log_metric)
        if self._model is None and trainer is None:
            raise ModelError(
                "the model being trained cannot be found from here: give duologue.trl.reward(…, model=…, tokenizer=…)"
            )
        model = self._model if self._model is not None else trainer.accelerator.unwrap_model(trainer.model)
        if self._policy is None or self._policy.model is not model:
            from duologue.models.local import LocalModel

            tokenizer = self._tokenizer if self._tokenizer is not None else trainer.processing_class
            self._policy = LocalModel(model, tokenizer)
        self._policy.weights_changed()
        if self._sampling is not None:
            return self._policy, self._sampling
        if trainer is None:
            return self._policy, Sampling(max_tokens=self._task.max_tokens)
        return self._policy, Sampling(trainer.temperature, max_tokens=trainer.max_completion_length)


def _trainer_behind(log_metric: Any) -> Any:
    """The trainer whose bound method TRL hands to reward functions as `log_metric`."""
    try:
        from transformers import Trainer
    except ModuleNotFoundError as error:
        raise MissingDependency("duologue.trl needs the extra `train`: pip install 'duologue[train]'") from error
    owner = getattr(log_metric, "__self__", None)
    return owner if isinstance(owner, Trainer) else None


def _prefix(prompt: Any) -> Conversation:
    """The conversation that a conversational prompt holds; its system message is the assistant's."""
    if isinstance(prompt, str):
        return Conversation((Message("user", prompt),))
    return Conversation(parse_messages(prompt, "a prompt"))


def _text(completion: Completion) -> str:
    text = completion if isinstance(completion, str) else str(completion[-1]["content"])
    return text.strip()


def prompts(task: Task, count: int, *, assistant: Assistant | None = None, deepest: int = 0, seed: int = 0) -> Dataset:
    """A data set of `count` rows: `prompt` (a message list that ends in a user message), `goal`, `visit`.

    Args:
        assistant: who plays the prefixes that are deeper than the first user message.
        deepest: with an assistant, half the prompts come after 1 to `deepest` turns.

    Raises:
        DataError: `deepest` without an assistant.
    """
    from datasets import Dataset

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
    return Dataset.from_dict(
        {
            "prompt": [[{"role": m.role, "content": m.content} for m in c.messages] for c in played],
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
