"""Figures drawn by matplotlib as inline SVG, coloured by the page's CSS variables, their words kept as text.

Colours are drawn as stand-ins and replaced afterwards, so that one drawing follows light and dark.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal

from duologue.errors import MissingDependency
from duologue.report.folder import Estimate, Figures
from duologue.report.markup import Html, element, joined, paragraph
from duologue.report.wording import interval, naming, number, scaled, users_named

CHARTED = ("success", "reward", "turns", "asks_when_missing", "asks_when_complete", "repeats")
WIDTH = 340
"""Pixels of a panel at its natural size; the page lays panels out in as many columns as fit."""

INK, MUTED, FAINT, ACCENT, PAPER = "#010101", "#010102", "#010103", "#010104", "#010105"
SERIES = ("#010104", "#010106", "#010107", "#010108", "#010109", "#01010a")
"""Colours of lines: the trained arm's, then the others'."""
DASHES = ("-", "--", ":", "-.", (0, (6, 1, 1, 1, 1, 1)), (0, (1, 1)))
VARIABLES = {INK: "--ink", MUTED: "--muted", FAINT: "--line", ACCENT: "--accent", PAPER: "--card"} | {
    colour: f"--series-{index}" for index, colour in enumerate(SERIES[1:], start=1)
}


@dataclass(frozen=True, slots=True)
class Step:
    """One training step of an arm's stage; None where a figure was not recorded."""

    arm: str
    stage: str
    step: int
    values: Mapping[str, float | None]


def comparison(figures: Figures, task: str) -> Html:
    """Dots and whiskers of the main figures, a panel each; filled for users as in training, hollow for unseen.

    Raises:
        MissingDependency: matplotlib is not installed.
    """
    kinds = figures.main_users(task)
    metrics = [m for m in CHARTED if any(m in figures.metrics(task, kind) for kind in kinds)]
    panels = [_whiskers(figures, task, kinds, metric) for metric in metrics]
    marks = joined((_mark(index, kind) for index, kind in enumerate(kinds)), " ")
    note = element("figcaption", f"{task}, sampled: means and 95 % intervals. ", marks)
    return element("figure", note, element("div", *panels, class_="panels"))


def learning_curves(steps: Sequence[Step]) -> Html:
    """Reward, asking and tokens over steps, a panel each, a line an arm; one figure a stage.

    Raises:
        MissingDependency: matplotlib is not installed.
    """
    arms = sorted(dict.fromkeys(s.arm for s in steps), key=lambda arm: arm != "trained")
    looks = {arm: index if "trained" in arms else index + 1 for index, arm in enumerate(arms)}
    stages = dict.fromkeys(s.stage for s in steps)
    return joined(_stage(stage, [s for s in steps if s.stage == stage], looks) for stage in stages)


QUANTITIES = {
    "reward": "mean reward of the candidates",
    "asks": "share of candidates that ask",
    "tokens": "tokens a candidate",
    "loss": "loss",
}


def _stage(stage: str, steps: Sequence[Step], looks: Mapping[str, int]) -> Html:
    recorded = [q for q in QUANTITIES if any(s.values.get(q) is not None for s in steps)]
    if "reward" in recorded:
        recorded = [q for q in recorded if q != "loss"]
    panels = [_curve(steps, looks, quantity) for quantity in recorded]
    words = "Every step as a point, their moving average as a line."
    if len({s.arm for s in steps}) > 1 and "reward" in recorded:
        words += " Each arm is shown by its own reward: rewards with different windows are different yardsticks."
    drawn = element("figure", element("figcaption", words), element("div", *panels, class_="panels"))
    return joined((element("h3", f"Stage {stage}"), drawn))


def _whiskers(figures: Figures, task: str, kinds: Sequence[str], metric: str) -> Html:
    arms = list(dict.fromkeys(arm for kind in kinds for arm in figures.arms_of(task, kind)))
    name = naming(metric)
    with _style():
        canvas, axes = _panel(54 + 27 * len(arms), "x")
        for row, arm in enumerate(arms):
            for index, kind in enumerate(kinds):
                _whisker(axes, figures.estimate(arm, task, kind, metric), row, arm, index, len(kinds), metric)
        axes.set_yticks(range(len(arms)), arms, parse_math=False)
        for label in axes.get_yticklabels():
            label.set_color(ACCENT if label.get_text() == "trained" else INK)
        axes.set_ylim(len(arms) - 0.45, -0.55)
        if name.unit == "percent":
            axes.set_xlim(-3, 103)
        else:
            axes.margins(x=0.08)
        drawn = _inline(canvas, f"{task}-{metric}", _whisker_words(figures, task, kinds, metric, arms))
    unit = ", %" if name.unit == "percent" else ""
    return element("div", element("h4", f"{name.label}{unit}"), drawn, class_="panel")


def _whisker(axes: Any, e: Estimate | None, row: int, arm: str, index: int, kinds: int, metric: str) -> None:
    if e is None or e.mean is None:
        return
    name = naming(metric)
    y = row + (index - (kinds - 1) / 2) * 0.36
    colour = ACCENT if arm == "trained" else MUTED
    if e.low is not None and e.high is not None:
        axes.plot([scaled(e.low, name), scaled(e.high, name)], [y, y], color=colour, linewidth=1.6)
    shape = "D" if arm == "oracle" else "o"
    fill = colour if index == 0 else PAPER
    size = 4.6 if shape == "D" else 6
    axes.plot(
        [scaled(e.mean, name)], [y], shape, color=colour, markerfacecolor=fill, markeredgewidth=1.5, markersize=size
    )


def _whisker_words(figures: Figures, task: str, kinds: Sequence[str], metric: str, arms: Sequence[str]) -> str:
    name, said = naming(metric), list[str]()
    for arm in arms:
        for kind in kinds:
            e = figures.estimate(arm, task, kind, metric)
            if e is not None:
                value = number(scaled(e.mean, name), name.digits)
                said.append(f"{arm}, {users_named(kind)}: {value} {interval(e.low, e.high, name)}".rstrip())
    return f"{name.label}. {'; '.join(said)}"


def _curve(steps: Sequence[Step], looks: Mapping[str, int], quantity: str) -> Html:
    with _style():
        canvas, axes = _panel(230, "y")
        for arm, index in looks.items():
            pairs = [(s.step, s.values.get(quantity)) for s in steps if s.arm == arm]
            points = sorted((step, value) for step, value in pairs if value is not None)
            if points:
                _line(axes, points, arm, index)
        axes.set_xlabel("step")
        axes.legend(frameon=False, loc="lower left", bbox_to_anchor=(-0.03, 1.0), ncols=3, fontsize=12,
                    handlelength=1.9, columnspacing=1.1, borderaxespad=0.2, labelcolor=INK)  # fmt: skip
        drawn = _inline(canvas, f"{steps[0].stage}-{quantity}", f"{QUANTITIES[quantity]} over training steps")
    return element("div", element("h4", QUANTITIES[quantity]), drawn, class_="panel")


def _line(axes: Any, points: Sequence[tuple[int, float]], arm: str, index: int) -> None:
    x, y = [p[0] for p in points], [p[1] for p in points]
    colour, dash = SERIES[index % len(SERIES)], DASHES[index % len(DASHES)]
    axes.plot(x, y, "o", color=colour, markersize=3.2, alpha=0.4, markeredgewidth=0)
    axes.plot(x, _smoothed(y), linestyle=dash, color=colour, linewidth=1.9, label=arm)


def _smoothed(values: Sequence[float]) -> list[float]:
    reach = max(1, len(values) // 16)
    windows = [values[max(0, i - reach) : i + reach + 1] for i in range(len(values))]
    return [sum(window) / len(window) for window in windows]


def _mark(index: int, kind: str) -> Html:
    return element("span", element("span", "", class_=f"dot dot-{index}", aria_hidden="true"), users_named(kind))


def _style() -> AbstractContextManager[None]:
    try:
        import matplotlib
    except ImportError as error:
        raise MissingDependency("figures need matplotlib: pip install 'duologue[train]'") from error
    settings: dict[Any, Any] = {
        "svg.fonttype": "none",
        "svg.hashsalt": "duologue", "font.size": 12.5, "text.parse_math": False, "axes.edgecolor": FAINT,
        "axes.labelcolor": MUTED, "xtick.color": FAINT, "ytick.color": FAINT, "xtick.labelcolor": MUTED,
        "ytick.labelcolor": MUTED, "grid.color": FAINT, "text.color": INK, "axes.unicode_minus": True,
        "lines.solid_capstyle": "round",
    }  # fmt: skip
    return matplotlib.rc_context(settings)


def _panel(height: int, grid: Literal["x", "y"]) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    canvas = Figure(figsize=(WIDTH / 72, height / 72), dpi=72, layout="constrained", frameon=False)
    axes = canvas.add_subplot()
    axes.patch.set_visible(False)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.grid(axis=grid, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, pad=5)
    return canvas, axes


def _inline(canvas: Any, name: str, words: str) -> Html:
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    canvas.savefig(buffer, format="svg", metadata=nothing)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    prefix = "c" + hashlib.sha256(name.encode()).hexdigest()[:8]
    svg = re.sub(r'\bid="', f'id="{prefix}-', svg)
    svg = svg.replace("url(#", f"url(#{prefix}-").replace('href="#', f'href="#{prefix}-')
    for colour, variable in VARIABLES.items():
        svg = svg.replace(colour, f"var({variable})")
    label = element("svg", role="img", aria_label=words)[len("<svg") : -len("></svg>")]
    return Html(svg.replace("<svg", f'<svg{label} class="chart"', 1))


def or_reason(draw: Any, *arguments: Any) -> Html:
    """What `draw` makes, or a sentence that says which library is missing."""
    try:
        return draw(*arguments)
    except MissingDependency as error:
        return paragraph(f"Left out: {error}. The tables hold the same figures.", class_="missing")
