"""The learning rate: it warms up, holds, and falls to its floor at the last step."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, strategies as st

from duologue.training.schedule import adamw, schedule
from duologue.training.settings import GrpoSettings


def rates(settings: GrpoSettings, steps: int) -> list[float]:
    """The learning rates of the steps, and of the one after the last."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=settings.learning_rate)
    falling = schedule(optimizer, settings, steps)
    seen: list[float] = []
    for _ in range(steps + 1):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        falling.step()
    return seen


def settings(**changes: float) -> GrpoSettings:
    return GrpoSettings(algorithm="grpo", learning_rate=1.0, **changes)  # type: ignore[arg-type]


def test_it_warms_up_holds_and_falls_to_the_floor() -> None:
    assert rates(settings(warmup=2, hold=0.5, floor=0.2), 10) == pytest.approx(
        [0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 0.84, 0.68, 0.52, 0.36, 0.2]
    )


def test_where_there_are_fewer_steps_than_it_warms_up_for_the_rate_is_reached_at_the_last() -> None:
    assert rates(settings(warmup=5, floor=0.2), 4)[:4] == pytest.approx([0.25, 0.5, 0.75, 1.0])


@given(st.integers(1, 60), st.integers(0, 80), st.floats(0, 1), st.floats(0, 1))
def test_it_never_leaves_its_bounds_and_only_falls_after_warming_up(
    steps: int, warmup: int, hold: float, floor: float
) -> None:
    seen = rates(settings(warmup=warmup, hold=hold, floor=floor), steps)
    warmed = min(warmup, steps)
    after = seen[warmed:]

    assert all(0 < rate <= 1 for rate in seen[:warmed])
    assert all(floor - 1e-9 <= rate <= 1 for rate in after)
    assert after == sorted(after, reverse=True)


def test_only_what_is_trainable_is_optimised_without_decay() -> None:
    model = torch.nn.Linear(2, 2)
    model.bias.requires_grad = False

    optimizer, _ = adamw(model, settings(), 3)

    (group,) = optimizer.param_groups
    assert [p is model.weight for p in group["params"]] == [True]
    assert group["weight_decay"] == 0
