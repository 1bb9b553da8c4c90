"""A run's folder: what is in it, what it was made with, and whether the same command may go on there.

runs/NAME/
    recipe.toml       the resolved recipe and the git revisions it was worked on with
    journal.jsonl     every conversation, training step and data set row
    calls.sqlite      replies of endpoints, and what they cost; calls.1.sqlite… of further processes in a training
    stages/ARM/STAGE/ a stage's settings and checkpoints
    models/ARM/       a trained model, in the ordinary transformers format
    evaluation.json, report.html
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from itertools import takewhile
from pathlib import Path
from typing import Any, cast

import tomli_w

from duologue.errors import RunError
from duologue.journal import RunLock, read_object, write_atomically
from duologue.models.adapters import renamed
from duologue.recipe import Recipe, Table
from duologue.run.weights import weights_digest
from duologue.seeding import digest
from duologue.training.settings import TrainSettings

IMMATERIAL = ("save_steps", "micro_groups", "micro_batch", "micro_pairs", "shared_prompts")
"""Keys of a stage that say how it gets to its result; the result does not depend on them."""
RECIPE = "recipe.toml"
REVISION, CONTINUED = "# git revision: ", "# continued at "
"""What the first lines of a run's recipe begin with."""


@dataclass(frozen=True)
class RunFolder:
    """The paths of a run."""

    path: Path

    @property
    def journal(self) -> Path:
        """The journal's file."""
        return self.path / "journal.jsonl"

    @property
    def calls(self) -> Path:
        """Where calls to endpoints are kept, and what they cost."""
        return self.path / "calls.sqlite"

    def calls_of(self, rank: int) -> Path:
        """The same for one of several processes that train together, from 0; the first has the run's own."""
        return self.path / f"calls.{rank}.sqlite" if rank else self.calls

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

    @contextmanager
    def opened(self, recipe: Recipe, *, restart: bool) -> Generator[None]:
        """The folder, made or gone on in, and locked.

        One in which no work was begun is taken away again, and what a restart had moved aside for it comes back.

        Raises:
            RunError: as `begin` does; another process works there.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with RunLock(self.path.with_name(f".{self.path.name}.lock"), self.path):
            aside: Path | None = None
            try:
                aside = self.begin(recipe, restart=restart)
                yield
            finally:
                if not self._holds_work():
                    shutil.rmtree(self.path, ignore_errors=True)
                    if aside is not None:
                        _move(aside, self.path)

    def _holds_work(self) -> bool:
        """Whether there is a file but those that a command makes before its work."""
        begun = {self.path / RECIPE}
        if self.journal.exists() and self.journal.stat().st_size == 0:
            begun.add(self.journal)
        return any(path.is_file() and path not in begun for path in self.path.rglob("*"))

    def begin(self, recipe: Recipe, *, restart: bool) -> Path | None:
        """Make the folder, or go on in it; the recipe is written down.

        Returns:
            Where the old folder is, if `restart` moved one aside.

        Raises:
            RunError: stages there were made with other settings, and `restart` was not given.
        """
        aside = self._move_aside() if restart and self.path.exists() else None
        conflicts = list(self._conflicts(recipe))
        if conflicts:
            stages = ", ".join(sorted({stage for stage, _ in conflicts}))
            changes = "; ".join(sorted({change for _, change in conflicts}))
            raise RunError(
                f"{self.path} holds a run with other settings ({changes}): these stages would be redone: {stages}. "
                "Give --name NEW for a run beside it, or --restart, which moves the old folder aside"
            )
        self.path.mkdir(parents=True, exist_ok=True)
        write_atomically(self.path / RECIPE, resolved(recipe, self._revisions()))
        return aside

    def _move_aside(self) -> Path:
        stamp = datetime.fromtimestamp(self.path.stat().st_mtime).strftime("%Y%m%d-%H%M%S")
        aside = self.path.with_name(f"{self.path.name}.{stamp}")
        number = 1
        while aside.exists():
            number += 1
            aside = self.path.with_name(f"{self.path.name}.{stamp}-{number}")
        _move(self.path, aside)
        return aside

    def _revisions(self) -> list[str]:
        """The lines that say which code worked here: what it was begun with, and what it was continued with."""
        path, now = self.path / RECIPE, revision()
        found = (
            list(takewhile(lambda line: line.startswith("#"), path.read_text().splitlines())) if path.exists() else []
        )
        if not found:
            return [f"{REVISION}{now}"]
        return found if found[-1] in (f"{REVISION}{now}", f"{CONTINUED}{now}") else [*found, f"{CONTINUED}{now}"]

    def _conflicts(self, recipe: Recipe) -> Iterator[tuple[str, str]]:
        """(stage, what differs) for every stage in the folder that was made with other settings."""
        for arm in recipe.evaluate.arms:
            made = {path.parent.name: _read(path) for path in self.path.glob(f"stages/{arm}/*/settings.json")}
            if made or self.model(arm).exists():
                for stage, change in self._differences(arm, made, stage_settings(recipe.arm(arm))):
                    yield f"{arm}/{stage}", change

    def _differences(
        self, arm: str, made: Mapping[str, Table], wanted: Mapping[str, Table]
    ) -> Iterator[tuple[str, str]]:
        for stage in sorted({*made, *wanted}):
            if stage not in wanted:
                yield stage, f"the recipe has no stage {stage} any more"
            elif stage in made:
                yield from ((stage, change) for change in changes(made[stage], wanted[stage]))
            elif self.model(arm).exists():
                yield stage, f"the recipe has a stage {stage} that the finished model was not trained with"

    def record_stage(self, arm: str, stage: str, settings: Table) -> Path:
        """The stage's folder, its settings and the revision it is begun with written down."""
        folder = self.stage(arm, stage)
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "settings.json").exists():
            recorded = {"revision": revision(), **settings}
            write_atomically(folder / "settings.json", json.dumps(recorded, indent=1))
        return folder

    def forget_stage(self, arm: str, stage: str) -> None:
        """Take away what was written down of a stage that made nothing: its settings may change."""
        shutil.rmtree(self.stage(arm, stage), ignore_errors=True)

    def finish_model(self, arm: str, made: Path) -> None:
        """Put a whole model where it belongs, at once."""
        target = self.model(arm)
        target.parent.mkdir(parents=True, exist_ok=True)
        made.rename(target)


def _move(folder: Path, new: Path) -> None:
    """Rename a run's folder, with what its adapters say of where they stand."""
    renamed(folder, new)
    folder.rename(new)


def stage_settings(arm: Recipe) -> dict[str, Table]:
    """Each stage of an arm, by name, with all that its result depends on; "start" stands for the first weights.

    Raises:
        ModelError: the model that the arm starts from is not on this machine.
    """
    if not arm.stages:
        return {}
    plain = arm.model_dump(
        mode="json",
        include={"seed": True, "task": True, "assistant": True, "user": True, "reward": True},
        exclude={"task": {"__all__": {"test", "path"}}},
    )
    if contents := arm.contents:
        plain["goals"] = contents
    if arm.judge:
        plain["judge"] = [judge.model_dump(mode="json") for judge in arm.judge]
    if boxed := arm.sandbox.material:
        plain["sandbox"] = boxed
    if arm.rollouts.engine != "here":
        plain["rollouts"] = arm.rollouts.engine  # it draws other words
    plain["start"] = weights_digest(arm.assistant.model)
    stages = [stage.model_dump(mode="json", exclude=set(IMMATERIAL)) for stage in arm.stages]
    return {name: {**plain, "train": stages[: index + 1]} for index, name in enumerate(stage_names(arm.stages))}


def stage_names(stages: Sequence[TrainSettings]) -> list[str]:
    """What stages are called: their place and algorithm, like "0-grpo"."""
    return [f"{index}-{stage.algorithm}" for index, stage in enumerate(stages)]


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
    """A stage's recorded settings, without the revision, which may differ."""
    try:
        settings = read_object(path)
    except ValueError as error:
        raise RunError(f"{path} is damaged: {error}. Give --restart, which moves the old folder aside") from error
    return {key: value for key, value in settings.items() if key != "revision"}


def resolved(recipe: Recipe, revisions: Sequence[str]) -> str:
    """A recipe as a file has it, with every default, after lines that say by which revisions."""
    table = cast(Table, _without_none(recipe.model_dump(mode="json")))
    for name in table["evaluate"]["users"]:  # with the keys they take from [user]
        table["evaluate"]["users"][name] = _without_none(recipe.kinds_of_users[name].model_dump(mode="json"))
    return "\n".join([*revisions, "", tomli_w.dumps(table)])


def _without_none(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _without_none(value) for key, value in cast(Table, node).items() if value is not None}
    if isinstance(node, list):
        return [_without_none(value) for value in cast(list[Any], node)]
    return node


def revision() -> str:
    """The revision of the code that runs, with a mark where files were changed; the version, if it is installed.

    An installed copy may lie in a repository that is another project's.
    """
    here = Path(__file__).resolve()
    top = _git("rev-parse", "--show-toplevel")
    found = top and Path(top, "src", "duologue", "run", "folder.py").resolve() == here
    described = _git("describe", "--always", "--dirty", "--abbrev=12") if found else ""
    return described or _version()


def _git(*arguments: str) -> str:
    """What git says in the folder of this file; nothing where it cannot."""
    here = Path(__file__).resolve().parent
    try:
        done = subprocess.run(["git", *arguments], cwd=here, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()


def _version() -> str:
    try:
        return f"version {version('duologue')}"
    except PackageNotFoundError:
        return "unknown"
