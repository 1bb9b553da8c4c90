"""A recipe: the typed file that describes a run.

TOML, checked as a whole before anything starts; an unknown key names the nearest known one. An arm is the
recipe with the keys shown changed, and nothing else.

`tables` has a class for each table, `recipe` the whole of them, `arms` those known by name, `sweep` makes arms of
choices, `overrides` lays changes over it, `sentences` says what is wrong with one.
"""

from __future__ import annotations

from duologue.recipe.arms import ARMS
from duologue.recipe.overrides import Table, merged, overridden
from duologue.recipe.recipe import Recipe, load_recipe, parse
from duologue.recipe.sweep import Cell, SweepSettings
from duologue.recipe.tables import (
    SCRIPTED_USER,
    AssistantSettings,
    EvaluateSettings,
    FamilySettings,
    JudgeSettings,
    RewardSettings,
    Role,
    RunSettings,
    TaskSettings,
    UserSettings,
)

__all__ = [
    "ARMS",
    "SCRIPTED_USER",
    "AssistantSettings",
    "Cell",
    "EvaluateSettings",
    "FamilySettings",
    "JudgeSettings",
    "Recipe",
    "RewardSettings",
    "Role",
    "RunSettings",
    "SweepSettings",
    "Table",
    "TaskSettings",
    "UserSettings",
    "load_recipe",
    "merged",
    "overridden",
    "parse",
]
