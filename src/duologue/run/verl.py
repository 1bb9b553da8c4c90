# pyright: basic
"""A recipe's agent loop for verl: its tasks, users, judge, metrics and look-aheads; the policy is verl's."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf  # pyright: ignore[reportMissingImports]

from duologue.integrations.rollouts import Rollouts
from duologue.integrations.verl import MultiturnLoop
from duologue.models.template import ChatTemplate
from duologue.recipe import load_recipe
from duologue.run.endpoints import Endpoints
from duologue.run.prompts import check_recipe
from duologue.run.wiring import Wiring, named_counter, with_users


class RecipeLoop(MultiturnLoop):
    """The agent loop of a recipe, as `agent.yaml` of `duologue verl` names it.

    Args:
        recipe: its file.
        verl: what verl makes an agent loop with.

    Raises:
        RecipeError: no such recipe, or not one for this.
    """

    def __init__(self, *, recipe: str, tokenizer: Any, data_config: Any, **verl: Any) -> None:
        given = data_config.config.get("apply_chat_template_kwargs")
        options = OmegaConf.to_container(given, resolve=True) if given else {}
        rollouts, template = _shared(recipe, tokenizer, json.dumps(options, sort_keys=True))
        own = {"rollouts": rollouts, "template": template}
        super().__init__(**own, tokenizer=tokenizer, data_config=data_config, **verl)


@cache  # verl makes a loop for every row: what a worker's rows share stays with its process
def _shared(recipe: str, tokenizer: Any, options: str) -> tuple[Rollouts, ChatTemplate]:
    settings = load_recipe(Path(recipe))
    check_recipe(settings)
    template = ChatTemplate(tokenizer, json.loads(options))
    endpoints = Endpoints()
    tasks = [with_users(task, settings, settings.user, endpoints) for task in settings.tasks()]
    wiring = Wiring(settings, tasks, None, named_counter(settings) or template.count, endpoints)
    return Rollouts(tasks, wiring.reward, lambda task: list(settings.reward.of(task))), template
