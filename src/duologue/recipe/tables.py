"""The tables of a recipe, each a typed settings class."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal, Self, cast

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    WrapSerializer,
    field_validator,
    model_validator,
)

from duologue.conversation import Goal
from duologue.errors import RecipeError, nearest
from duologue.metrics import METRICS, Weighted
from duologue.models.base import Sampling
from duologue.models.settings import ModelName, Served, Temperature
from duologue.recipe.overrides import Table
from duologue.settings import Settings, is_no_number
from duologue.tasks import Task, load_task
from duologue.training.settings import ScratchSettings
from duologue.training.trackers import known_tracker
from duologue.users.behaviours import Behaviours, parse_behaviour

SCRIPTED_USER = "scripted"
"""The model of users that play by their task's own rules."""


class TaskSettings(Settings):
    """`[task]`, or one of several `[[task]]`."""

    name: str
    """A task of ours or an entry point's, or "my_task.py:task"."""
    path: str | None = Field(default=None, min_length=1)
    """Goals in place of the task's own: a file, a folder with train.* and test.* files, "hub" or "hub:owner/name"."""
    train: int | None = Field(default=None, gt=0)
    """Goals to train on; left out, all."""
    test: int | None = Field(default=None, gt=0)
    """Goals to evaluate on; left out, all."""

    def load(self) -> Task:
        """The task with as many goals as asked for.

        Raises:
            RecipeError: no such task; or a path for one that makes its goals itself.
        """
        task = load_task(self.name, self.path)
        limits = {"train": self.train, "test": self.test}

        def limited(split: str) -> Sequence[Goal]:
            return task.goal_maker(split)[: limits[split]]

        return replace(task, goal_maker=limited)

    @property
    def content(self) -> str | None:
        """What stands for the goals at `path`; None where the task has its own.

        Raises:
            RecipeError, DataError, MissingDependency: they cannot be read.
        """
        source = load_task(self.name, self.path).source if self.path is not None else None
        return None if source is None or self.path is None else source.digest(self.path)


TemplateWord = Annotated[str, Field(pattern=r"^[A-Za-z_]\w*$")]
"""A name that a chat template knows."""


class AssistantSettings(Served):
    """`[assistant]`: who replies, and who is trained."""

    model: ModelName = "tiny"
    """"tiny", a folder, a hub id; "scripted:NAME" for one of the task's own; "new" to start from nothing; or a
    model of `endpoint`."""
    architecture: ScratchSettings | None = None
    template: dict[TemplateWord, bool | int | float | str] | None = None
    """What the model's chat template takes besides messages, like { enable_thinking = false }."""
    system: str | None = None
    """A system prompt."""
    prompt: str | None = None
    """One of the task's system prompts, by name, like "proactive"."""
    temperature: Temperature = 1.0
    top_p: float = Field(default=1.0, gt=0, le=1)
    max_tokens: int | None = Field(default=None, gt=0)
    """Tokens a reply; left out, the task's own."""

    @model_validator(mode="after")
    def _no_template_of_a_server(self) -> Self:
        if self.template is not None and self.endpoint is not None:
            raise ValueError("template is for a model in this process; a server is told on its own command line")
        return self

    def sampling(self, task: Task) -> Sampling:
        """How replies are drawn in a task."""
        return Sampling(self.temperature, self.top_p, self.max_tokens or task.max_tokens)

    def system_prompt(self, task: Task) -> str | None:
        """The system prompt in a task.

        Raises:
            RecipeError: the task has no prompt of that name.
        """
        if self.prompt is None:
            return self.system
        if self.prompt not in task.prompts:
            raise RecipeError(
                f'task "{task.name}" has no system prompt "{self.prompt}"{nearest(self.prompt, task.prompts)}'
            )
        return task.prompts[self.prompt]


class UserSettings(Served):
    """`[user]`: who the assistant meets."""

    model: ModelName = "scripted"
    """"scripted", the task's own rules; or a model of `endpoint`, which plays the user."""
    profiles: str = "train"
    """A set of user profiles: the task's, or for a model those in `duologue.users.profiles`."""
    levels: dict[str, str] = Field(default_factory=dict[str, str])
    """What all users that a model plays have in common, by axis: { patience = "short" }."""
    thinks: bool = True
    """Whether a model that plays the user thinks before it speaks."""
    temperature: Temperature = 1.0
    max_tokens: int = Field(default=512, gt=0)
    behaviours: dict[str, float] = Field(default_factory=dict[str, float])
    """Shares of users by behaviour, those in `duologue.users.behaviours`; the others just answer."""
    behaviour_turn: int | None = Field(default=None, ge=0)
    """The user's message, from 0, at which it is switched on; left out, drawn from the three after the first."""

    @model_validator(mode="after")
    def _behaves(self) -> Self:
        _ = self.behave
        return self

    @property
    def behave(self) -> Behaviours | None:
        """How they behave; None where they just answer.

        Raises:
            RecipeError: there is no such behaviour, or the shares are none.
        """
        if not self.behaviours:
            return None
        shares = {parse_behaviour(name): share for name, share in self.behaviours.items()}
        return Behaviours(shares, self.behaviour_turn)


class JudgeSettings(Served):
    """`[judge]`, or one of several `[[judge]]`: a model that judged metrics ask."""

    model: ModelName
    temperature: Temperature = 0.0
    max_tokens: int = Field(default=1024, gt=0)

    @model_validator(mode="after")
    def _is_served(self) -> Self:
        if self.endpoint is None:
            raise ValueError("say which endpoint, by its name or address")
        return self


def _one_is_a_list(value: Any) -> Any:
    return [value] if isinstance(value, dict) else value


def _one_is_a_table(judges: tuple[JudgeSettings, ...], handler: SerializerFunctionWrapHandler) -> Any:
    """So that an arm can change keys of the only judge."""
    tables = handler(judges)
    return tables[0] if len(tables) == 1 else tables


def _all_differ(judges: tuple[JudgeSettings, ...]) -> tuple[JudgeSettings, ...]:
    names = [(judge.endpoint, judge.model) for judge in judges]
    if len(set(names)) < len(names):
        raise ValueError("a model judges twice, which says nothing new: name different ones")
    return judges


Judges = Annotated[
    tuple[JudgeSettings, ...],
    BeforeValidator(_one_is_a_list),
    AfterValidator(_all_differ),
    WrapSerializer(_one_is_a_table),
]
"""A table, or several; what they say is averaged."""

Role = AssistantSettings | UserSettings | JudgeSettings
"""Whoever an endpoint may play."""


class MetricSettings(BaseModel):
    """A metric's weight and options: `tokens = { weight = -1.0, rate = 5e-4 }`."""

    model_config = ConfigDict(frozen=True, extra="allow")

    weight: float | None = None


class RewardSettings(Settings):
    """`[reward]`."""

    samples: Annotated[int, Field(gt=0)] | Literal["adaptive"] = 3
    """Look-aheads a reply (k); "adaptive" for as many as it takes to tell a state's best reply from its worst."""
    window: Annotated[int, Field(ge=0)] | Literal["full"] = 2
    """Turns of a look-ahead (w), or "full" to the conversation's end."""
    reacts: bool = True
    """Whether a scripted user's reaction to the last reply of a cut conversation counts."""
    metrics: dict[str, float | MetricSettings] | None = None
    """Left out, the task's own."""
    tokenizer: str | None = None
    """Whose tokens are counted: "tiny", a folder or a hub id; left out, the assistant's where it is played in this
    process, else UTF-8 bytes over 4."""

    @field_validator("metrics", mode="before")
    @classmethod
    def _can_be_weighed(cls, metrics: Any) -> Any:
        if isinstance(metrics, dict):
            settings = cast(Table, metrics).values()
            weights = [cast(Table, m).get("weight") if isinstance(m, dict) else m for m in settings]
            if not weights or any(map(is_no_number, weights)):
                raise ValueError("one metric or more, all of finite weight")
        return cast(Any, metrics)

    def of(self, task: Task) -> dict[str, Weighted]:
        """The metrics of a task, as this table changes them.

        Raises:
            RecipeError: an unknown metric or option.
        """
        if self.metrics is None:
            if not task.metrics:
                raise RecipeError(f'task "{task.name}" has no metrics of its own: name some in [reward.metrics]')
            return dict(task.metrics)
        found: dict[str, Weighted] = {}
        for name, setting in self.metrics.items():
            known = {**{n: Weighted(f) for n, f in METRICS.items()}, **task.metrics}
            if name not in known:
                raise RecipeError(f'reward.metrics: no metric "{name}"{nearest(name, known)}')
            given = setting if isinstance(setting, MetricSettings) else MetricSettings(weight=setting)
            found[name] = known[name].changed(given.weight, given.model_extra or {}, name)
        return found


class FamilySettings(Settings):
    """`[evaluate.family]`: the comparisons whose p-values are corrected together (Holm)."""

    arm: str = "trained"
    metrics: tuple[str, ...] = ("success", "reward")


class EvaluateSettings(Settings):
    """`[evaluate]`."""

    arms: tuple[str, ...] = Field(default=("base", "trained"), min_length=1)
    conversations: int = Field(default=500, gt=0)
    """Conversations an arm, task and kind of users; held-out goals in turn."""
    decoding: tuple[Literal["sampled", "greedy"], ...] = ("sampled", "greedy")
    users: dict[str, UserSettings] = Field(default_factory=dict[str, UserSettings])
    """Kinds of users by name, besides `train`, the recipe's own."""
    judge: Judges = ()
    """`[evaluate.judge]`, or several: who judges the evaluation in place of `[judge]`, held out from training."""
    family: FamilySettings = FamilySettings()
    concurrency: int = Field(default=256, gt=0)
    """Conversations played side by side."""


def without_behaviours(user: UserSettings) -> Table:
    """What users are but for how they behave."""
    return user.model_dump(exclude={"behaviours", "behaviour_turn"})


def _folder_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise ValueError("it names a folder: letters, digits, dots, dashes and underscores, a letter or digit first")
    return name


class RunSettings(Settings):
    """`[run]`: how the work is spread over this machine."""

    processes: int | None = Field(default=None, gt=0)
    """Arms worked on side by side; left out, one a processor core, or one where there is a GPU."""
    threads: int = Field(default=1, gt=0)
    """Threads a process computes with."""
    report_to: tuple[Annotated[str, AfterValidator(known_tracker)], ...] = ()
    """Where the steps' figures are sent beside the run's journal, like ["tensorboard"]: all that transformers knows."""


FolderName = Annotated[str, AfterValidator(_folder_name)]
