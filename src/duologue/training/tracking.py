"""The figures of a stage's steps, sent where `[run] report_to` says: by transformers' own callbacks, which every
algorithm here calls alike, and not each trainer by itself. So what is sent is what the journal has.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.integrations import TensorBoardCallback
from transformers.integrations.integration_utils import get_reporting_integration_callbacks

from duologue.training.trackers import check_trackers


class _Arguments(TrainingArguments):
    """What callbacks ask a trainer's arguments for; as its settings they note down the stage's."""

    told: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        return dict(self.told)

    def to_sanitized_dict(self) -> dict[str, Any]:
        plain = (bool, int, float, str)
        return {key: value if isinstance(value, plain) else str(value) for key, value in self.told.items()}


@contextmanager
def tracked(
    names: Sequence[str], folder: Path, *, project: str, run: str, settings: Mapping[str, Any], model: nn.Module
) -> Generator[Tracking | None]:
    """What a stage's figures are sent to, as long as the block takes; None where that is nothing.

    Args:
        names: some of `TRACKERS`.
        folder: the stage's, where those keep files that do so.
        project: what runs are filed under, where there is such a thing.
        run: what this one is called.
        settings: the stage's.

    Raises:
        MissingDependency: a library is not installed.
    """
    if not names:
        yield None
        return
    check_trackers(names)
    tracking = Tracking(names, folder, project, run, settings, model)
    try:
        yield tracking
    finally:
        tracking.close()


class Tracking:
    """What a stage's figures are sent to."""

    def __init__(
        self, names: Sequence[str], folder: Path, project: str, run: str, told: Mapping[str, Any], model: nn.Module
    ) -> None:
        self._callbacks = [_made(kind, folder) for kind in get_reporting_integration_callbacks(list(names))]
        # Trackio would open a page on the hub, where it is not told that there is none.
        arguments = _Arguments(str(folder), run_name=run, project=project, trackio_space_id=None, report_to="none")
        arguments.told = told
        self._given = (arguments, TrainerState(logging_steps=1), TrainerControl())
        for callback in self._callbacks:
            callback.on_train_begin(*self._given, model=model)

    def send(self, step: int, steps: int, figures: Mapping[str, float | None]) -> None:
        """A step's figures; those that there are."""
        _, state, _ = self._given
        state.global_step, state.max_steps, state.epoch = step, steps, step / steps
        told = {name: value for name, value in figures.items() if value is not None}
        for callback in self._callbacks:
            callback.on_log(*self._given, logs=told)

    def close(self) -> None:
        """Nothing more comes."""
        for callback in self._callbacks:
            callback.on_train_end(*self._given)


def _made(kind: type[TrainerCallback], folder: Path) -> TrainerCallback:
    callback = kind()
    if isinstance(callback, TensorBoardCallback) and callback.logging_dir is None:
        callback.logging_dir = str(folder / "tensorboard")  # one place, also for a stage that goes on
    return callback
