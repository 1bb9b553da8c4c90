"""The grid of a sweep on the page: every cell in its place, shaded, its seeds one by one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import orjson
import pytest

from duologue.report import write_report
from duologue.report.charts import Step, learning_curves

MEANS = {
    **{"base": 0.5, "oracle": 0.99, "all-w0": 0.6, "all-full": 0.9, "outcome-w0": 0.7, "outcome-full": 0.8},
    "all-full-seed7": 0.85,
}
CELLS = [(arm, arm.split("-")[:2], 7 if arm.endswith("seed7") else 0) for arm in MEANS if "-" in arm]


def evaluation(arms: dict[str, float] = MEANS, *, axes: int = 2) -> dict[str, Any]:
    """An evaluation of a made-up sweep; with one axis, of its rewards at the full window alone."""
    cells = [{"arm": arm, "at": at[:axes], "seed": seed} for arm, at, seed in CELLS if axes == 2 or at[1] == "full"]
    names = {"reward": ["all", "outcome"], "window": ["w0", "full"]}
    figures = {arm: {"groceries": {"train": {"success": estimate(mean)}}} for arm, mean in arms.items()}
    pairs = [("all-full", "all-w0"), ("outcome-w0", "all-w0"), ("all-full-seed7", "base"), ("all-full", "base")]
    return {
        "arms": figures,
        "differences": [difference(arm, against) for arm, against in pairs if {arm, against} <= arms.keys()],
        "training": {"all-full": [{**COST, "sampled_tokens": 1_234_000}], "all-w0": [{**COST, "sampled_tokens": None}]},
        "sweep": {"axes": dict(list(names.items())[:axes]), "against": ["all-w0"] if axes == 2 else [], "cells": cells},
        "greedy": {},
    }


COST = {"stage": "0-grpo", "algorithm": "grpo", "updates": 60, "seconds": 50.0, "learning_rate": 7e-4}


def estimate(mean: float) -> dict[str, Any]:
    return {"mean": mean, "low": mean - 0.02, "high": mean + 0.02, "n": 500, "of_oracle": None}


def difference(arm: str, against: str) -> dict[str, Any]:
    gap = MEANS[arm] - MEANS[against]
    place = {"arm": arm, "against": against, "task": "groceries", "users": "train", "metric": "success"}
    return {**place, "mean": gap, "low": gap - 0.15, "high": gap + 0.15, "p": 0.01, "holm": None}


def page(folder: Path, found: dict[str, Any]) -> str:
    (folder / "evaluation.json").write_bytes(orjson.dumps(found))
    (folder / "recipe.toml").write_text('name = "swept"\nseed = 0\ntask = { name = "groceries" }\n')
    return write_report(folder).read_text("utf-8")


def grid(text: str) -> str:
    start = text.index('id="grid"')
    return text[start : text.index("</section>", start)]


def row(table: str, head: str) -> list[str]:
    found = re.search(rf'<th scope="row">{head}</th>(.*?)</tr>', table, re.DOTALL)
    return re.findall(r"<td.*?</td>", found[1], re.DOTALL) if found else []


@pytest.fixture
def drawn(tmp_path: Path) -> str:
    return grid(page(tmp_path, evaluation()))


def test_a_cell_stands_where_its_choices_meet_with_its_interval(drawn: str) -> None:
    w0, full = row(drawn, "outcome")
    assert ">70.0</data>" in w0 and "[68.0, 72.0]" in w0
    assert ">80.0</data>" in full


def test_further_seeds_stand_beneath_one_by_one(drawn: str) -> None:
    w0, full = row(drawn, "all")
    assert "seed 7: 85.0" in full and "seed" not in w0


def test_the_greatest_is_darkest_and_the_least_is_not_shaded(drawn: str) -> None:
    (least, greatest), (_, between) = row(drawn, "all"), row(drawn, "outcome")
    assert 'style="--heat: 1.00"' in greatest and 'style="--heat: 0.00"' in least
    assert 'style="--heat: 0.67"' in between


def test_arms_that_are_no_cells_are_named_beside_them(drawn: str) -> None:
    assert "For comparison: base 50.0, oracle 99.0." in drawn


def test_differences_from_a_cell_are_drawn_and_bold_where_they_are_shown(drawn: str) -> None:
    table = drawn[drawn.index("Minus all-w0") : drawn.index("Minus base")]
    (own, full), (near, absent) = row(table, "all"), row(table, "outcome")
    assert ">+30.0</data>" in full and 'class="heat shown"' in full
    assert ">+10.0</data>" in near and 'class="heat"' in near
    assert ">–<" in own and ">–<" in absent


def test_differences_of_further_seeds_stand_with_their_intervals(drawn: str) -> None:
    (_, full) = row(drawn[drawn.index("Minus base") :], "all")
    assert "seed 7: +35.0 [+20.0, +50.0]" in full


def test_nothing_is_compared_with_the_oracle(drawn: str) -> None:
    assert "Minus oracle" not in drawn


def test_what_the_training_sampled_stands_with_the_figures(drawn: str) -> None:
    w0, full = row(drawn[drawn.index("Tokens sampled, thousands") :], "all")
    assert ">1234</data>" in full and ">–<" in w0


def test_a_sweep_of_one_axis_is_a_list_with_the_other_arms_below(tmp_path: Path) -> None:
    drawn = grid(page(tmp_path, evaluation(axes=1)))
    assert ">90.0</data>" in row(drawn, "all")[0] and "seed 7: 85.0" in row(drawn, "all")[0]
    assert drawn.index('scope="row">outcome<') < drawn.index('scope="row">base<')


def test_a_cell_that_was_not_trained_is_named_and_its_place_empty(tmp_path: Path) -> None:
    drawn = grid(page(tmp_path, evaluation({arm: mean for arm, mean in MEANS.items() if arm != "outcome-w0"})))
    assert "Without figures, for they are not trained: outcome-w0." in drawn
    assert ">–<" in row(drawn, "outcome")[0]


def test_a_run_that_is_no_sweep_has_no_grid(tmp_path: Path) -> None:
    found = evaluation()
    del found["sweep"]
    assert 'id="grid"' not in page(tmp_path, found)


def test_learning_curves_of_many_arms_are_drawn_a_handful_at_a_time() -> None:
    arms = [f"cell-{number}" for number in range(8)]
    drawn = learning_curves([Step(arm, "0-grpo", step, {"reward": 0.1 * step}) for arm in arms for step in (1, 2)])
    panels = re.findall(r"<svg.*?</svg>", drawn, re.DOTALL)
    assert [[arm for arm in arms if f">{arm}<" in panel] for panel in panels] == [arms[:6], arms[6:]]
    names = re.findall(r'\bid="([^"]*)"', drawn)
    assert len(names) == len(set(names)), "what a drawing refers to is its own"
