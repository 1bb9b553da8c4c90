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
from duologue.report.markup import Html, details, element, joined, paragraph
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
    """Reward, asking and tokens over steps, a panel each, a line an arm; a figure a stage and a handful of arms.

    Raises:
        MissingDependency: matplotlib is not installed.
    """
    arms = sorted(dict.fromkeys(s.arm for s in steps), key=lambda arm: arm != "trained")
    stages = {stage: [s for s in steps if s.stage == stage] for stage in dict.fromkeys(s.stage for s in steps)}
    return joined(_stage(stage, of_stage, arms) for stage, of_stage in stages.items())


QUANTITIES = {
    "reward": "mean reward of the candidates",
    "asks": "share of candidates that ask",
    "tokens": "tokens a candidate",
    "loss": "loss",
}
"""What is drawn at once, of the figures of a step."""
FURTHER = {
    "unscored_share": "share of candidates that were not scored",
    "counted": "share of look-aheads that counted",
    "pairs": "pairs learned from",
    "margin": "margin between the replies of a pair",
    "accuracy": "share of pairs in the right order",
    "kl": "KL to the stage's start",
    "update_kl": "KL to the policy that replied",
    "beta": "weight of the KL",
    "entropy": "entropy a token",
    "clip_fraction": "share of tokens clipped",
    "value_loss": "loss of the values",
    "explained_variance": "explained variance of the values",
    "grad_norm": "norm of the gradient",
    "sampled_tokens": "tokens that the policy said",
    "assistant_tokens": "tokens of the assistant's endpoint",
    "user_tokens": "tokens of the user's model",
    "judge_tokens": "tokens of the judge's model",
    "cost": "cost of the calls to endpoints",
    "seconds": "seconds",
}
"""What is drawn where it is asked for; and the parts of the reward."""
PART = "parts/"
"""What the names of the reward's parts begin with."""


def _stage(stage: str, steps: Sequence[Step], arms: Sequence[str]) -> Html:
    recorded = [q for q in QUANTITIES if _values(steps, q)]
    if "reward" in recorded:
        recorded = [q for q in recorded if q != "loss"]
    looks = {arm: index if "trained" in arms else index + 1 for index, arm in enumerate(arms)}
    told_apart = [list(looks.items())[at : at + len(SERIES)] for at in range(0, len(looks), len(SERIES))]
    here = [dict(few) for few in told_apart if any(s.arm in dict(few) for s in steps)]
    panels = [_curve(steps, few, quantity) for few in here for quantity in recorded]
    more = [_curve(steps, few, quantity) for few in here for quantity in _varying(steps)]
    words = "Every step as a point, their moving average as a line."
    if len({s.arm for s in steps}) > 1 and "reward" in recorded:
        words += " Each arm is shown by its own reward: rewards with different windows are different yardsticks."
    drawn = element("figure", element("figcaption", words), element("div", *panels, class_="panels"))
    folded = details("Parts of the reward, what was lost, the learning, tokens and money", _constant(steps),
                     element("div", *more, class_="panels"), class_="quiet")  # fmt: skip
    return joined((element("h3", f"Stage {stage}"), drawn, folded if _further(steps) else Html("")))


def _further(steps: Sequence[Step]) -> list[str]:
    """The figures that are drawn where it is asked for, of those that were recorded."""
    parts = dict.fromkeys(name for step in steps for name in step.values if name.startswith(PART))
    loss = ["loss"] if _values(steps, "reward") else []
    return [name for name in (*parts, *FURTHER, *loss) if _values(steps, name)]


def _values(steps: Sequence[Step], quantity: str) -> list[float]:
    return [value for step in steps if (value := step.values.get(quantity)) is not None]


def _varying(steps: Sequence[Step]) -> list[str]:
    return [name for name in _further(steps) if len(set(_values(steps, name))) > 1]


def _constant(steps: Sequence[Step]) -> Html:
    """What need not be drawn."""
    same = {name: _values(steps, name)[0] for name in _further(steps) if len(set(_values(steps, name))) == 1}
    told = ", ".join(f"{_called(name)} {value:g}" for name, value in same.items())
    return paragraph(f"The same in every step: {told}.") if told else Html("")


def _called(quantity: str) -> str:
    if quantity.startswith(PART):
        return f"{naming(quantity.removeprefix(PART)).label}, a part of the reward"
    return {**QUANTITIES, **FURTHER}[quantity]


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
        name = f"{steps[0].stage}-{quantity}-{next(iter(looks.values()))}"
        drawn = _inline(canvas, name, f"{_called(quantity)} over training steps")
    return element("div", element("h4", _called(quantity)), drawn, class_="panel")


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
