"""A run's folder: what is in it, what it was made with, and whether the same command may go on there.

runs/NAME/
    recipe.toml       the resolved recipe and the git revision
    journal.jsonl     every conversation, training step and data set row
    stages/ARM/STAGE/ a stage's settings and checkpoints
    models/ARM/       a trained model, in the ordinary transformers format
    evaluation.json, report.html
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, cast

import tomli_w

from duologue.errors import RunError
from duologue.journal import write_atomically
from duologue.recipe import Recipe, Table
from duologue.seeding import digest


@dataclass(frozen=True)
class RunFolder:
    """The paths of a run."""

    path: Path

    @property
    def journal(self) -> Path:
        """The journal's file."""
        return self.path / "journal.jsonl"

    @property
    def evaluation(self) -> Path:
        """The figures' file."""
        return self.path / "evaluation.json"

    def model(self, arm: str) -> Path:
        """Where a trained arm's model goes; it is there once all of its stages are done."""
        return self.path / "models" / arm

    def stage(self, arm: str, stage: str) -> Path:
        """Where a stage works."""
        return self.path / "stages" / arm / stage

    def begin(self, recipe: Recipe, *, restart: bool) -> None:
        """Make the folder, or go on in it; the recipe is written down.

        Raises:
            RunError: stages there were made with other settings, and `restart` was not given.
        """
        if restart and self.path.exists():
            self._move_aside()
        conflicts = list(self._conflicts(recipe))
        if conflicts:
            stages = ", ".join(sorted({stage for stage, _ in conflicts}))
            changes = "; ".join(sorted({change for _, change in conflicts}))
            raise RunError(
                f"{self.path} holds a run with other settings ({changes}): these stages would be redone: {stages}. "
                "Give --name NEW for a run beside it, or --restart, which moves the old folder aside"
            )
        self.path.mkdir(parents=True, exist_ok=True)
        write_atomically(self.path / "recipe.toml", _resolved(recipe))

    def _move_aside(self) -> None:
        stamp = datetime.fromtimestamp(self.path.stat().st_mtime).strftime("%Y%m%d-%H%M%S")
        aside = self.path.with_name(f"{self.path.name}.{stamp}")
        number = 1
        while aside.exists():
            number += 1
            aside = self.path.with_name(f"{self.path.name}.{stamp}-{number}")
        self.path.rename(aside)

    def _conflicts(self, recipe: Recipe) -> Iterator[tuple[str, str]]:
        """(stage, what differs) for every stage in the folder that was made with other settings."""
        for arm in recipe.evaluate.arms:
            for stage, settings in stage_settings(recipe.arm(arm)).items():
                path = self.stage(arm, stage) / "settings.json"
                if path.exists():
                    yield from ((f"{arm}/{stage}", change) for change in changes(_read(path), settings))
            if self.model(arm).exists():
                yield from self._added(recipe.arm(arm), arm)
            found = {path.parent.name for path in self.path.glob(f"stages/{arm}/*/settings.json")}
            for stage in sorted(found - set(stage_settings(recipe.arm(arm)))):
                yield f"{arm}/{stage}", f"the recipe has no stage {stage} any more"

    def _added(self, recipe: Recipe, arm: str) -> Iterator[tuple[str, str]]:
        for stage in stage_settings(recipe):
            if not (self.stage(arm, stage) / "settings.json").exists():
                yield f"{arm}/{stage}", f"the recipe has a stage {stage} that the finished model was not trained with"

    def record_stage(self, arm: str, stage: str, settings: Table) -> Path:
        """The stage's folder, its settings written down."""
        folder = self.stage(arm, stage)
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "settings.json").exists():
            write_atomically(folder / "settings.json", json.dumps(settings, indent=1))
        return folder

    def finish_model(self, arm: str, made: Path) -> None:
        """Put a whole model where it belongs, at once."""
        target = self.model(arm)
        target.parent.mkdir(parents=True, exist_ok=True)
        made.rename(target)
        shutil.rmtree(self.path / "stages" / arm / "unfinished", ignore_errors=True)


def stage_settings(arm: Recipe) -> dict[str, Table]:
    """Each stage of an arm, by name, with all the settings its result depends on."""
    plain = arm.model_dump(mode="json", include={"seed", "task", "assistant", "user", "reward"})
    stages = arm.model_dump(mode="json")["train"][: len(arm.stages)]
    named: dict[str, Table] = {}
    for index, stage in enumerate(stages):
        named[f"{index}-{stage['algorithm']}"] = {**plain, "train": stages[: index + 1]}
    return named


def fingerprint(settings: Mapping[str, Any]) -> str:
    """16 hexadecimal digits that stand for settings."""
    return digest([json.dumps(settings, sort_keys=True)])


def changes(old: Any, new: Any, place: str = "") -> Iterator[str]:
    """Where two trees of settings differ, as sentences."""
    if isinstance(old, dict) and isinstance(new, dict):
        before, after = cast(Table, old), cast(Table, new)
        for key in sorted({*before, *after}):
            yield from changes(before.get(key), after.get(key), f"{place}.{key}" if place else key)
    elif isinstance(old, list) and isinstance(new, list) and len(cast(list[Any], old)) == len(cast(list[Any], new)):
        for index, (was, now) in enumerate(zip(cast(list[Any], old), cast(list[Any], new), strict=True)):
            yield from changes(was, now, f"{place}.{index}")
    elif old != new:
        yield f"{place} was {old!r} and is now {new!r}"


def _read(path: Path) -> Table:
    try:
        settings: Any = json.loads(path.read_text())
        if not isinstance(settings, dict):
            raise ValueError(f"a {type(settings).__name__} where settings should be")
    except ValueError as error:
        raise RunError(f"{path} is damaged: {error}. Give --restart, which moves the old folder aside") from error
    return cast(Table, settings)


def _resolved(recipe: Recipe) -> str:
    table = cast(Table, _without_none(recipe.model_dump(mode="json")))
    return f"# git revision: {_revision()}\n\n{tomli_w.dumps(table)}"


def _without_none(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _without_none(value) for key, value in cast(Table, node).items() if value is not None}
    if isinstance(node, list):
        return [_without_none(value) for value in cast(list[Any], node)]
    return node


def _revision() -> str:
    """The revision of the code that runs, with a mark where files were changed; or that it is unknown."""
    here = Path(__file__).parent
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],
            cwd=here,
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return done.stdout.strip() or "unknown"
