"""What can be known to be wrong before anything starts: names that will be looked up later, stages that cannot work."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from functools import cache

from duologue.conversation import Message
from duologue.errors import DataError, RecipeError, nearest
from duologue.metrics.base import Supplies
from duologue.metrics.satisfaction import lacking_judge
from duologue.models import BUILT_IN
from duologue.models.scripted import ScriptedModel
from duologue.recipe import SCRIPTED_USER, FamilySettings, Recipe, UserSettings
from duologue.reward import Scorer
from duologue.run.wiring import ADAPTIVE, NEW, is_scripted, quieten_transformers, script
from duologue.tasks import Task
from duologue.training.settings import (
    DpoSettings,
    GrpoSettings,
    OnlineDpoSettings,
    PpoSettings,
    RlooSettings,
    SftSettings,
    TrainSettings,
)
from duologue.training.trackers import check_trackers
from duologue.users.behaviours import Scheduled, behaving
from duologue.users.profiles import people

GENERAL_FIGURES = ("turns", "tokens", "satisfaction", "left", "reward")
"""What an evaluation has in every task."""
UNASKED = ScriptedModel(lambda messages, seed: "")
"""Stands for the judge of a recipe where metrics are built, and nobody asks them."""
UNREAD = {
    "best": ("conversations", "last_reply", "within"),
    "demonstrations": ("states", "candidates", "deepest"),
}
"""Keys that say nothing to a stage of algorithm "sft", by its `data`."""


def check(recipe: Recipe, arms: Iterable[str]) -> None:
    """Look up what the arms need: tasks, goals, users, system prompts, scripts, metrics.

    Raises:
        RecipeError: something the recipe names is not there, with the nearest name that is; or a stage could
            not work as it is set.
        DataError: a task has no goals.
        MissingDependency: training would use a library that is not installed.
    """
    if recipe.uses_endpoints and (recipe.run.processes or 1) > 1:
        raise RecipeError(
            "run.processes: one process drives the endpoints, since their limits and the budget are its own"
        )
    for name in arms:
        arm = recipe.arm(name)
        check_model(arm, name)
        for task in arm.tasks():
            check_task(arm, task)
            if arm.stages:
                task.goals("train")
        if arm.stages:
            check_trackers(arm.run.report_to)
        for index, stage in enumerate(arm.stages):
            for fault in _faults(stage, arm):
                raise RecipeError(f'arm "{name}", train.{index} ({stage.algorithm}): {fault}')
    _check_evaluation(recipe, recipe.tasks())


def check_model(arm: Recipe, name: str) -> None:
    """Refuse a model that cannot do what the arm is for.

    Raises:
        RecipeError: one behind an endpoint, or a script, that is to be trained; one from nothing that is not.
    """
    source = arm.assistant.model
    if arm.assistant.endpoint is not None:
        if arm.stages:
            raise RecipeError(
                f'arm "{name}": a model behind an endpoint cannot be trained; leave assistant.endpoint out'
            )
        return
    if arm.stages and is_scripted(source):
        raise RecipeError(f'arm "{name}": a script ("{source}") cannot be trained; give assistant.model a model')
    if source == NEW and not arm.stages:
        raise RecipeError(
            f'arm "{name}" would play a model that knows nothing: assistant.model = "{NEW}" is for arms with [[train]]'
        )


def check_templates(recipe: Recipe, arms: Iterable[str]) -> None:
    """Have the chat templates of the models that are played in this process take the arms' system prompts.

    It reads their tokenizers, from the hub where they are not here yet.

    Raises:
        RecipeError: one refuses them.
        ModelError: a tokenizer cannot be read, or has no chat template.
        MissingDependency: torch and transformers are not installed.
    """
    for name in arms:
        arm = recipe.arm(name)
        assistant = arm.assistant
        if assistant.endpoint is not None or is_scripted(assistant.model) or assistant.model == NEW:
            continue
        if all(assistant.system_prompt(task) is None for task in arm.tasks()):
            continue
        if (refusal := _refusal_of_system(assistant.model, json.dumps(assistant.template))) is not None:
            raise RecipeError(
                f'arm "{name}" has a system prompt, and {refusal}: leave the arm out, or its assistant.system and '
                f"assistant.prompt, or take another model than {assistant.model}"
            )


@cache
def _refusal_of_system(model: str, options: str) -> str | None:
    """How a model's chat template refuses a system prompt; None where it takes it."""
    quieten_transformers()
    from duologue.models.loading import load_tokenizer
    from duologue.models.template import ChatTemplate

    template = ChatTemplate(load_tokenizer(BUILT_IN.get(model, model)), json.loads(options))
    try:
        template.text((Message("system", "Be brief."), Message("user", "Hello")))
    except DataError as error:
        return str(error)
    return None


def check_task(arm: Recipe, task: Task) -> None:
    """Look up what an arm needs in a task: users, system prompt, script, metrics.

    Raises:
        RecipeError: one of them is not there, with the nearest name that is; or a metric could never be had.
    """
    check_users(task, arm.user)
    arm.assistant.system_prompt(task)
    if arm.assistant.endpoint is None:
        script(task, arm.assistant.model)
    judge = UNASKED if arm.judge else None
    Scorer(arm.reward.of(task), Supplies(judge=judge, goals=task.all_goals, sandbox=arm.sandbox.sandbox()))
    _check_reactions(arm, task)


def _check_reactions(arm: Recipe, task: Task) -> None:
    """Refuse a metric that reads what scripted users show, where a model plays them and there is no judge."""
    react = arm.user.model == SCRIPTED_USER
    name = None if arm.judge else lacking_judge(arm.reward.of(task), users_react=react)
    if name is not None:
        raise RecipeError(
            f'{task.name}: metric "{name}" is what scripted users show, and a model plays these: name a judge '
            "under [judge], or the metrics that are to count in [reward.metrics]"
        )


def _faults(stage: TrainSettings, arm: Recipe) -> Iterator[str]:
    """Why a stage could not work as the arm has it."""
    if isinstance(stage, SftSettings):
        yield from _faults_of_data(stage, [task.name for task in arm.tasks()])
    compares = not isinstance(stage, SftSettings) or stage.data == "best"
    if compares and arm.assistant.temperature == 0:
        yield "assistant.temperature = 0 draws equal candidates, which teach nothing: set it above 0"
    if isinstance(stage, GrpoSettings | PpoSettings | RlooSettings) and arm.assistant.top_p < 1:
        yield "it learns from replies drawn from the whole distribution: leave assistant.top_p at 1"
    values = isinstance(stage, GrpoSettings | PpoSettings | RlooSettings | OnlineDpoSettings)
    if values and arm.reward.samples == "adaptive":
        yield ADAPTIVE
    if isinstance(stage, DpoSettings | OnlineDpoSettings) and arm.reward.samples == 1:
        yield "one half of a candidate's look-aheads chooses, the other measures: set reward.samples to 2 or more"


def _faults_of_data(stage: SftSettings, tasks: Sequence[str]) -> Iterator[str]:
    for name in (*stage.conversations, *stage.last_reply):
        if name not in tasks:
            yield f'conversations and last_reply are by task, and there is no task "{name}"{nearest(name, tasks)}'
    changed = stage.model_dump(exclude_defaults=True)
    for key in UNREAD[stage.data]:
        if key in changed:
            yield f'data = "{stage.data}" does not read {key}: leave it out, or take another data'
    if stage.data == "best" and stage.batch > stage.states:
        yield f"a state gives one example at most, and states = {stage.states} is less than batch = {stage.batch}"
    if stage.data == "demonstrations" and not stage.conversations:
        yield "say how many demonstrations, like conversations = { groceries = 5000 }"


def check_users(task: Task, settings: UserSettings) -> None:
    """Look up a kind of users.

    Raises:
        RecipeError: no such profiles, or users that cannot behave as they are to.
        DataError: the task's goals are not for such users.
    """
    if settings.model != SCRIPTED_USER:
        people(settings.profiles, settings.levels)
        return
    if settings.levels:
        raise RecipeError(f"{task.name}: levels are for users that a model plays; the task's own have none")
    users = task.with_profile(settings.profiles).plain_users
    for goal in task.all_goals[:1]:
        user = users(goal.request, 0)
        for behaviour in settings.behave.shares if settings.behave else ():
            try:
                behaving(user, Scheduled(behaviour))
            except RecipeError as error:
                raise RecipeError(f'{task.name}, users "{settings.profiles}": {error}') from error


def known_figures(recipe: Recipe, tasks: Sequence[Task]) -> set[str]:
    """What an evaluation of the tasks measures: the metrics of the reward are figures, too."""
    figures = (name for task in tasks for name in (*task.figures, *recipe.reward.of(task)))
    return {*GENERAL_FIGURES, *figures}


def warnings(recipe: Recipe) -> list[str]:
    """What makes the figures of trained arms look better than they are, a sentence each."""
    trained = [arm for arm in map(recipe.arm, recipe.evaluate.arms) if arm.stages]
    taught = {judge.model for arm in trained if _is_judged(arm) for judge in arm.judge}
    judges = taught & {judge.model for judge in recipe.evaluating_judges if _is_judged(recipe)}
    met = {arm.user.model for arm in trained if arm.user.endpoint is not None}
    users = {settings.model for settings in recipe.kinds_of_users.values()}
    found: list[str] = []
    if judges:
        found.append(
            f"the same model judges the training and the evaluation ({', '.join(sorted(judges))}), so what it likes "
            "may pass for what users need; name another under [evaluate.judge]"
        )
    if users <= met:
        found.append(
            f"the same model plays the users of the training and of the evaluation ({', '.join(sorted(users))}), so a "
            "gain may hold for its ways alone; name another under [evaluate.users.NAME]"
        )
    return found


def judged_metrics(recipe: Recipe, task: Task) -> list[str]:
    """The metrics of the reward that may ask a judge."""
    return [name for name, metric in recipe.reward.of(task).items() if metric.is_judged]


def _is_judged(recipe: Recipe) -> bool:
    return any(judged_metrics(recipe, task) for task in recipe.tasks())


def _check_evaluation(recipe: Recipe, tasks: Sequence[Task]) -> None:
    for task in tasks:
        task.goals("test")
        for settings in recipe.kinds_of_users.values():
            check_users(task, settings)
    family = recipe.evaluate.family
    if family.arm not in (known := recipe.known_arms):
        raise RecipeError(f'evaluate.family.arm: there is no arm "{family.arm}"{nearest(family.arm, known)}')
    arms = recipe.evaluate.arms
    if len(arms) > 1 and family.arm != FamilySettings().arm and family.arm not in arms:
        raise RecipeError(
            f'evaluate.family.arm: "{family.arm}" is not among evaluate.arms{nearest(family.arm, arms)}: add it there, '
            f"or compare another, {' or '.join(arms)}"
        )
    figures = known_figures(recipe, tasks)
    for metric in family.metrics:
        if metric not in (*figures, *FamilySettings().metrics):
            raise RecipeError(f'evaluate.family.metrics: there is no figure "{metric}"{nearest(metric, figures)}')
