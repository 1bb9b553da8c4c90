"""The parts of a recipe's work, each with what it asks of the models: training stages, evaluation, a data set."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from itertools import product

from duologue.metrics.base import Counter
from duologue.recipe import Recipe
from duologue.run.rehearsal import Rehearsal, State, Uses, added
from duologue.run.speech import Lengths
from duologue.run.stand_ins import Use
from duologue.training.settings import (
    DpoSettings,
    GrpoSettings,
    OnlineDpoSettings,
    PpoSettings,
    RlooSettings,
    SftSettings,
)

Explored = DpoSettings | GrpoSettings | OnlineDpoSettings | PpoSettings | RlooSettings | SftSettings


@dataclass(frozen=True, slots=True)
class Learning:
    """What training computes of its own, in tokens of the model that is trained."""

    learned: float = 0.0
    """Through which a gradient flows."""
    appraised: float = 0.0
    """That are read once more, for log-probabilities and values."""
    adapter: bool = False


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a recipe's work."""

    name: str
    work: str
    """How much of it, in words."""
    uses: Uses
    model: str
    """Who replies, and is trained."""
    learning: Learning = Learning()


def parts(recipe: Recipe, lengths: Lengths, counter: Counter) -> list[Part]:
    """The parts of a recipe's work, with messages of some lengths.

    Args:
        counter: tokens in a text.

    Raises:
        RecipeError, DataError, MissingDependency: something that the recipe names cannot be had.
    """
    rehearsal = Rehearsal(lengths, counter)
    arms = {name: recipe.arm(name) for name in recipe.evaluate.arms}
    found = [part for name, arm in arms.items() for part in _trained(rehearsal, name, arm, lengths)]
    found.append(_evaluated(rehearsal, recipe, arms.values()))
    if "build" in recipe.model_fields_set:
        count = recipe.build.conversations
        uses = added([rehearsal.built(recipe)], count)
        found.append(Part("build", f"{count:,} conversations", uses, recipe.assistant.model))
    return found


# ---- training -------------------------------------------------------------------------------------------------------


def _trained(rehearsal: Rehearsal, name: str, arm: Recipe, lengths: Lengths) -> Iterator[Part]:
    for index, stage in enumerate(arm.stages):
        place = f"{name} {index}-{stage.algorithm}"
        if isinstance(stage, SftSettings) and stage.data == "demonstrations":
            part = _demonstrated(rehearsal, place, arm, stage)
        elif isinstance(stage, GrpoSettings) and stage.unit == "conversation":
            part = _conversed(rehearsal, place, arm, stage)
        else:
            part = _explored(rehearsal, place, arm, stage, lengths)
        yield replace(part, learning=replace(part.learning, adapter=stage.lora is not None))


def _explored(rehearsal: Rehearsal, place: str, arm: Recipe, stage: Explored, lengths: Lengths) -> Part:
    count = states(stage)
    state = rehearsal.state(arm, candidates=stage.candidates, deepest=stage.deepest, count=count)
    reward = arm.reward
    work = (
        f"{count:,} states × {_so_many(stage.candidates, 'reply')} × {_so_many(reward.samples, 'look-ahead')} of "
        f"{_so_many(reward.window, 'turn')}"
    )
    return Part(place, work, added([state.uses], count), arm.assistant.model, _learning(stage, state, count, lengths))


def states(stage: Explored) -> int:
    """How many states a stage explores."""
    return stage.states if isinstance(stage, DpoSettings | SftSettings) else stage.steps * stage.groups


def _so_many(count: int | str, what: str) -> str:
    one = {"reply": "replies"}.get(what, f"{what}s")
    return f"{count} {what if count == 1 else one}"


def _learning(stage: Explored, state: State, count: int, lengths: Lengths) -> Learning:
    """What learning from the explored states computes, of all of them."""
    reply = state.replies / stage.candidates
    every = stage.candidates * state.prompt + state.replies
    match stage:
        case SftSettings():
            return Learning(stage.epochs * count * (state.prompt + reply))
        case DpoSettings() | OnlineDpoSettings():
            pairs = count * lengths.pairs * min(stage.pairs_per_state, max(1, stage.candidates // 2))
            epochs = stage.epochs if isinstance(stage, DpoSettings) else 1
            tokens = pairs * 2 * (state.prompt + reply)
            return Learning(epochs * tokens, tokens)
        case PpoSettings():
            return Learning(stage.epochs * count * every, (1 + bool(stage.beta)) * count * every)
        case GrpoSettings() | RlooSettings():
            tokens = count * (state.prompt + state.replies if stage.shared_prompts else every)
            return Learning(tokens, bool(stage.beta) * tokens)


def _conversed(rehearsal: Rehearsal, place: str, arm: Recipe, stage: GrpoSettings) -> Part:
    """GRPO on whole conversations."""
    tasks, count = arm.tasks(), stage.steps * stage.groups * stage.candidates
    uses = [rehearsal.conversation(arm, task, arm.user, arm, count) for task in tasks]
    total = added(uses, count / len(tasks))
    own = total.get(("assistant", arm.assistant.model), Use())
    tokens = own.fresh + own.written
    work = f"{count:,} conversations, {stage.candidates} to a goal"
    return Part(place, work, total, arm.assistant.model, Learning(tokens, bool(stage.beta) * tokens))


def _demonstrated(rehearsal: Rehearsal, place: str, arm: Recipe, stage: SftSettings) -> Part:
    counts = [(task, stage.conversations.get(task.name, 0)) for task in arm.tasks()]
    tokens = sum(count * rehearsal.demonstration(arm, task) for task, count in counts if count)
    work = f"{sum(count for _, count in counts):,} demonstrations"
    return Part(place, work, {}, arm.assistant.model, Learning(stage.epochs * tokens))


# ---- evaluation -----------------------------------------------------------------------------------------------------


def _evaluated(rehearsal: Rehearsal, recipe: Recipe, arms: Collection[Recipe]) -> Part:
    settings, kinds, tasks = recipe.evaluate, recipe.kinds_of_users, recipe.tasks()
    count, decodings = settings.conversations, len(settings.decoding)
    by = recipe.model_copy(update={"judge": recipe.evaluating_judges})
    uses = [
        rehearsal.conversation(arm, task, users, by, count) for arm, task, users in product(arms, tasks, kinds.values())
    ]
    work = (
        f"{_so_many(len(arms), 'arm')} × {_so_many(len(tasks), 'task')} × {_so_many(len(kinds), 'kind')} of users × "
        f"{_so_many(decodings, 'decoding')} × {count:,} conversations"
    )
    return Part("evaluation", work, added(uses, count * decodings), recipe.assistant.model)
