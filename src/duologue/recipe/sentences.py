"""What is wrong with a recipe, in sentences."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from pydantic import (
    BaseModel,
    ValidationError,
)

from duologue.dataset.settings import BuildSettings
from duologue.errors import nearest
from duologue.integrations.settings import ScaleSettings
from duologue.models.address import shown
from duologue.models.settings import EndpointSettings, PriceSettings
from duologue.recipe.sweep import SweepSettings
from duologue.recipe.tables import (
    AssistantSettings,
    EvaluateSettings,
    FamilySettings,
    JudgeSettings,
    RewardSettings,
    RunSettings,
    TaskSettings,
    UserSettings,
)
from duologue.sandbox.settings import SandboxSettings
from duologue.training.settings import ALGORITHMS, LoraSettings, ScratchSettings

SHAPES = {
    "reward.samples": 'a number of look-aheads, 1 or more, or "adaptive"',
    "task": 'write [task] with name = "groceries", say',
    "reward.window": 'a number of turns, or "full"',
    "reward.metrics": "a metric is a weight, like accuracy = 1.0, or a table, like tokens = { weight = -1.0 }",
}
"""What may stand where one of several kinds may, by key or by the table it is in."""


def sentences(error: ValidationError, root: type[BaseModel]) -> Iterable[str]:
    """What is wrong with a recipe, a sentence a fault; an unknown key names the nearest known one.

    Args:
        root: the class of the whole recipe.
    """
    for found in error.errors():
        place = _place(found["loc"])
        key = next((part for part in reversed(found["loc"]) if isinstance(part, str)), "")
        context = found.get("ctx", {})
        given = shown(repr(found["input"]))
        shape = SHAPES.get(place) or SHAPES.get(place.rpartition(".")[0])
        if found["type"] == "extra_forbidden":
            yield f'there is no key "{place}"{nearest(key, _known_keys(found["loc"], root))}'
        elif found["type"] == "union_tag_invalid":
            yield _unknown(place, "algorithm", context["tag"], context["expected_tags"])
        elif found["type"] == "union_tag_not_found":
            yield f'{place}: say which algorithm, like algorithm = "grpo"'
        elif found["type"] == "missing":
            yield f'"{place}" is missing'
        elif shape:
            yield f"{place}: {shape}; it is {given}"
        elif found["type"] == "literal_error":
            yield _unknown(place, key, found["input"], context["expected"])
        elif key == "api_key_env":
            yield f"{place}: it is the name of an environment variable that holds the key, not the key"
        elif found["type"] == "value_error":
            yield f"{place}: {context['error']}; it is {given}"
        elif found["type"] == "tuple_type" and isinstance(found["input"], dict):
            yield f"{place}: a list of tables, each of which begins with [[{place}]]; it is {given}"
        else:
            yield f"{place}: {_in_toml(found['msg'])}; it is {given}"


WORDS = {
    r"a valid tuple": "a list, in square brackets",
    r"(tuple|dictionary) should": "it should",
    r"a valid dictionary( or instance of \w+)?": "a table",
    r"a valid string": "a text",
    r"input should": "it should",
    r" after validation": "",
}
"""What a recipe calls what pydantic speaks of."""


def _in_toml(message: str) -> str:
    """What pydantic says, in a recipe's words.

    >>> _in_toml("Tuple should have at least 1 item after validation, not 0")
    'it should have at least 1 item, not 0'
    """
    message = message[0].lower() + message[1:]
    for theirs, ours in WORDS.items():
        message = re.sub(theirs, ours, message)
    return message


def _place(loc: tuple[int | str, ...]) -> str:
    """The dotted key, without the names of the kinds that were tried there."""
    tried = {*ALGORITHMS, "float", "MetricSettings", "constrained-int", "int", "literal['full']", "literal['adaptive']"}
    return ".".join(str(part) for part in loc if part not in tried)


def _unknown(place: str, what: str, word: Any, expected: Any) -> str:
    """A value that is none of those allowed, which pydantic lists in one string."""
    known = re.findall(r"'([^']*)'", str(expected))
    return f"{place}: there is no {what} {word!r}{nearest(str(word), known)}"


def _known_keys(loc: tuple[int | str, ...], root: type[BaseModel]) -> list[str]:
    """The keys of the table in which an unknown one was found."""
    model: type[BaseModel] | None = root
    for part in loc[:-1]:
        model = _submodel(model, str(part)) if model else None
    return list(model.model_fields) if model else []


def _submodel(model: type[BaseModel], part: str) -> type[BaseModel] | None:
    tables: dict[str, type[BaseModel]] = {
        "task": TaskSettings,
        "assistant": AssistantSettings,
        "architecture": ScratchSettings,
        "lora": LoraSettings,
        "user": UserSettings,
        "users": UserSettings,
        "judge": JudgeSettings,
        "endpoints": EndpointSettings,
        "price": PriceSettings,
        "reward": RewardSettings,
        "evaluate": EvaluateSettings,
        "build": BuildSettings,
        "family": FamilySettings,
        "sandbox": SandboxSettings,
        "run": RunSettings,
        "scale": ScaleSettings,
        "sweep": SweepSettings,
        **ALGORITHMS,
    }
    return tables.get(part, model)
