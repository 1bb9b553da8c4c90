"""Where `[run] report_to` may send the figures of training: all that transformers reports to, and what each needs."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec

from duologue.errors import MissingDependency, nearest

TRACKERS: dict[str, tuple[str, ...]] = {
    "azure_ml": ("azureml-core",),
    "clearml": ("clearml",),
    "codecarbon": ("codecarbon",),
    "comet_ml": ("comet-ml",),
    "dagshub": ("dagshub", "mlflow"),
    "dvclive": ("dvclive",),
    "flyte": ("flytekit",),
    "kubeflow": (),
    "mlflow": ("mlflow",),
    "neptune": ("neptune",),
    "swanlab": ("swanlab",),
    "tensorboard": ("tensorboard",),
    "trackio": ("trackio",),
    "wandb": ("wandb",),
}
"""The packages that each takes."""
MODULES = {"azureml-core": "azureml", "comet-ml": "comet_ml"}
"""What a package is imported as, where that is not its name."""


def known_tracker(name: str) -> str:
    """A tracker's name.

    Raises:
        ValueError: it is none.
    """
    if name not in TRACKERS:
        raise ValueError(f'transformers reports to no "{name}"{nearest(name, TRACKERS)}')
    return name


def check_trackers(names: Iterable[str]) -> None:
    """See to it that what trackers take is installed.

    Raises:
        MissingDependency: it is not, with the command that installs it.
    """
    for name in names:
        missing = [package for package in TRACKERS[name] if find_spec(MODULES.get(package, package)) is None]
        if missing:
            raise MissingDependency(f'run.report_to: "{name}" takes a library: pip install {" ".join(missing)}')
