"""A recipe as a whole: its arms, and how it is read and checked."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, model_validator

from duologue.dataset.settings import BuildSettings
from duologue.errors import RecipeError, nearest
from duologue.integrations.settings import ScaleSettings
from duologue.models.address import shown
from duologue.models.settings import EndpointSettings, Reached, is_address
from duologue.recipe.arms import ARMS, CHANGED, RESTAGED, restaged
from duologue.recipe.overrides import Table, merged, overridden
from duologue.recipe.sentences import sentences
from duologue.recipe.sweep import SweepSettings, with_cells
from duologue.recipe.tables import (
    SCRIPTED_USER,
    AssistantSettings,
    EvaluateSettings,
    FolderName,
    Judges,
    JudgeSettings,
    RewardSettings,
    Role,
    RunSettings,
    TaskSettings,
    UserSettings,
    without_behaviours,
)
from duologue.sandbox.settings import SandboxSettings
from duologue.settings import Settings
from duologue.tasks import Task
from duologue.training.engines.settings import RolloutSettings
from duologue.training.settings import TrainSettings


class Recipe(Settings):
    """Everything that describes a run."""

    name: FolderName
    """The run's folder is `runs/NAME`."""
    seed: int = Field(default=0, ge=0)
    task: tuple[TaskSettings, ...] = ()
    assistant: AssistantSettings = AssistantSettings()
    user: UserSettings = UserSettings()
    judge: Judges = ()
    endpoints: dict[str, EndpointSettings] = Field(default_factory=dict[str, EndpointSettings])
    """Addresses by name, for several roles to share."""
    budget: float | None = Field(default=None, gt=0)
    """What calls to endpoints may cost in all; the run stops before it is exceeded."""
    reward: RewardSettings = RewardSettings()
    train: tuple[TrainSettings, ...] = ()
    rollouts: RolloutSettings = RolloutSettings()
    stop_after: str | None = None
    """The algorithm of the last stage to run; later ones are left out."""
    arms: dict[FolderName, Table] = Field(default_factory=dict[str, Table])
    """Arms by name, each the keys it changes; those of a name in `CHANGED` are laid over its own."""
    sweep: SweepSettings | None = None
    """What `duologue sweep` goes through; each of its cells is one of `arms`, too."""
    evaluate: EvaluateSettings = EvaluateSettings()
    build: BuildSettings = BuildSettings()
    sandbox: SandboxSettings = SandboxSettings()
    run: RunSettings = RunSettings()
    scale: ScaleSettings = ScaleSettings()

    @model_validator(mode="before")
    @classmethod
    def _one_task_is_a_list(cls, data: Any) -> Any:
        table: Any = data
        if isinstance(data, dict) and isinstance(table.get("task"), dict):
            return {**table, "task": [table["task"]]}
        return table

    @property
    def stages(self) -> tuple[TrainSettings, ...]:
        """The training stages that run.

        Raises:
            RecipeError: `stop_after` names an algorithm that no stage has.
        """
        if self.stop_after is None or not self.train:
            return self.train
        algorithms = [stage.algorithm for stage in self.train]
        if self.stop_after not in algorithms:
            raise RecipeError(f'stop_after = "{self.stop_after}": no such stage{nearest(self.stop_after, algorithms)}')
        return self.train[: algorithms.index(self.stop_after) + 1]

    def endpoint(self, role: Reached) -> tuple[str, EndpointSettings] | None:
        """The name and settings of the endpoint that plays a role; None where none does.

        Raises:
            RecipeError: an unknown name; or keys of an endpoint beside a name.
        """
        if role.endpoint is None:
            return None
        if is_address(role.endpoint):
            return role.endpoint, EndpointSettings.model_validate({"url": role.endpoint, **role.own})
        if role.endpoint not in self.endpoints:
            hint = nearest(role.endpoint, self.endpoints)
            named = shown(role.endpoint)
            raise RecipeError(f'there is no endpoint "{named}" among [endpoints], nor is it an address{hint}')
        if role.own:
            raise RecipeError(
                f'{", ".join(role.own)} of endpoint "{role.endpoint}" stand in [endpoints.{role.endpoint}]'
            )
        return role.endpoint, self.endpoints[role.endpoint]

    @property
    def kinds_of_users(self) -> dict[str, UserSettings]:
        """The users that an evaluation meets, by name: `train` are `[user]`; the others change keys of it."""
        own = self.user.model_dump(exclude_unset=True)
        others = {
            name: UserSettings.model_validate({**own, **settings.model_dump(exclude_unset=True)})
            for name, settings in self.evaluate.users.items()
        }
        return {"train": self.user, **others}

    @property
    def counterparts(self) -> dict[str, str]:
        """Kinds of users that behave, by the kind which differs from them in nothing else, where there is one.

        Both meet the same luck, so that what differs is what the behaviour did.
        """
        kinds = self.kinds_of_users
        plain = {name: without_behaviours(user) for name, user in kinds.items() if user.behave is None}
        found = {
            name: [other for other, settings in plain.items() if settings == without_behaviours(user)]
            for name, user in kinds.items()
            if user.behave is not None
        }
        return {name: others[0] for name, others in found.items() if others}

    @property
    def served(self) -> dict[str, Role]:
        """The roles that endpoints play, by what they are called in a recipe."""
        users = {f"evaluate.users.{name}": user for name, user in self.kinds_of_users.items() if name != "train"}
        judges = {**_named("judge", self.judge), **_named("evaluate.judge", self.evaluate.judge)}
        roles: dict[str, Role] = {"assistant": self.assistant, "user": self.user, **users, **judges}
        return {name: role for name, role in roles.items() if role.endpoint is not None}

    @property
    def evaluating_judges(self) -> tuple[JudgeSettings, ...]:
        """Who judges an evaluation: `[evaluate.judge]`, else `[judge]`."""
        return self.evaluate.judge or self.judge

    @property
    def uses_endpoints(self) -> bool:
        """Whether an endpoint plays a role in an arm that is evaluated or builds, or in the recipe itself."""
        arms = (self, *(self.arm(name) for name in self.arms_at_work))
        return any(arm.served or arm.rollouts.endpoint for arm in arms)

    @property
    def arms_at_work(self) -> tuple[str, ...]:
        """The arms that are evaluated, or build a data set."""
        return tuple(dict.fromkeys((*self.evaluate.arms, *self.build.assistants)))

    @property
    def known_arms(self) -> tuple[str, ...]:
        """The names of all arms."""
        return tuple(dict.fromkeys((*ARMS, *self.arms)))

    def arm(self, name: str) -> Recipe:
        """This recipe as one arm has it.

        Raises:
            RecipeError: an unknown arm, or a change that is not a recipe's; or one made of stages that are not there.
        """
        if name not in self.known_arms:
            raise RecipeError(f'there is no arm "{name}"{nearest(name, self.known_arms)}')
        plain = self.model_dump(mode="json", exclude={"arms", "sweep"}, exclude_unset=True)
        is_cell = self.sweep is not None and any(cell.arm == name for cell in self.sweep.cells(self.seed))
        where = f"sweep: cell {name}" if is_cell else f"arms.{name}"
        table = merged(plain, merged(CHANGED.get(name, {}), self.arms.get(name, {})))
        arm = _validated(table, where)
        return _validated({**table, **restaged(name, arm.stages)}, where) if name in RESTAGED else arm

    @property
    def contents(self) -> list[str | None]:
        """What stands for the goals that tasks read from a path, in the tasks' order; empty where none does.

        Raises:
            RecipeError, DataError, MissingDependency: they cannot be read.
        """
        found = [settings.content for settings in self.task]
        return found if any(found) else []

    def tasks(self) -> tuple[Task, ...]:
        """The tasks.

        Raises:
            RecipeError: no task, or one that does not exist.
        """
        if not self.task:
            raise RecipeError('the recipe has no task: add [task] with name = "groceries", say')
        names = [settings.name for settings in self.task]
        if len(set(names)) < len(names):
            raise RecipeError(f"the recipe names a task twice: {', '.join(names)}")
        return tuple(settings.load() for settings in self.task)


def _named(place: str, judges: Sequence[JudgeSettings]) -> dict[str, JudgeSettings]:
    """Judges by what they are called in a recipe."""
    return {place if len(judges) == 1 else f"{place}.{index}": judge for index, judge in enumerate(judges)}


def load_recipe(path: Path | str, overrides: Sequence[str] = ()) -> Recipe:
    """A recipe from a TOML file, with `--set` overrides like "reward.samples=5" or "train.0.steps=60".

    Raises:
        RecipeError: no such file, not TOML, or not a recipe; with the place and the nearest right word.
    """
    path = Path(path)
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RecipeError(f"there is no recipe {path}{_siblings(path)}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path} is not TOML: {error}") from error
    except OSError as error:
        raise RecipeError(f"{path} cannot be read: {error.strerror}") from error
    for override in overrides:
        table = overridden(table, override)
    recipe = _validated(table, str(path))
    if recipe.sweep is not None:
        table = with_cells(table, recipe.sweep, recipe.seed, ARMS, str(path))
    return parse(table, str(path))


def _siblings(path: Path) -> str:
    folder = path.parent if path.parent.is_dir() else Path()
    return nearest(str(path), [str(p) for p in folder.glob("*.toml") if p.name != "pyproject.toml"])


def parse(table: Table, where: str) -> Recipe:
    """A recipe from a table.

    Raises:
        RecipeError: naming every key that is wrong, those of its arms included.
    """
    recipe = _validated(table, where)
    _check_arms(recipe, recipe.evaluate.arms, f"{where}: evaluate.arms")
    _check_arms(recipe, recipe.build.assistants, f"{where}: build.assistants")
    if "train" in recipe.evaluate.users:
        raise RecipeError(f'{where}: evaluate.users.train: "train" are the users of [user]; take another name')
    for name in ("trained", *recipe.arms_at_work, *recipe.arms):
        _validated_arm(recipe, name, where)
    _validate_served(recipe, where)
    return recipe


def _check_arms(recipe: Recipe, names: Sequence[str], where: str) -> None:
    for name in names:
        if name not in (known := recipe.known_arms):
            raise RecipeError(f'{where}: there is no arm "{name}"{nearest(name, known)}')
    if len(set(names)) < len(names):
        raise RecipeError(f"{where} names an arm twice: {', '.join(names)}")


def _validated_arm(recipe: Recipe, name: str, where: str) -> None:
    try:
        _ = recipe.arm(name).stages
    except RecipeError as error:
        raise RecipeError(f"{where}: {error}") from error


def _validate_served(recipe: Recipe, where: str) -> None:
    for name, user in recipe.kinds_of_users.items():
        if (user.model == SCRIPTED_USER) != (user.endpoint is None):
            place = "user" if name == "train" else f"evaluate.users.{name}"
            raise RecipeError(f"{where}: {place}: a user is scripted, or has both an endpoint and a model")
    if recipe.evaluate.judge and not recipe.judge:
        raise RecipeError(
            f"{where}: evaluate.judge is held out from [judge], and there is none: name the training's judge there; "
            "where one is to serve both, [judge] alone does"
        )
    found: dict[str, EndpointSettings] = {}
    for name, role in {**recipe.served, "rollouts": recipe.rollouts}.items():
        try:
            endpoint = recipe.endpoint(role)
        except RecipeError as error:
            raise RecipeError(f"{where}: {name}.endpoint: {error}") from error
        if endpoint is not None and found.setdefault(*endpoint) != endpoint[1]:
            raise RecipeError(
                f"{where}: {name}.endpoint: {endpoint[0]} is described in two ways; give it a name, with a table "
                "[endpoints.NAME], and use that"
            )


def _validated(table: Table, where: str) -> Recipe:
    try:
        return Recipe.model_validate(table)
    except ValidationError as error:
        told = dict.fromkeys(sentences(error, Recipe))
        raise RecipeError("\n".join(f"{where}: {sentence}" for sentence in told)) from error
