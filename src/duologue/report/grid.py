"""The grid of a sweep: what its cells came to, and how they differ, shaded by size, training seeds one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from duologue.evaluation.grids import Grid, grid_of
from duologue.report.folder import Difference, Estimate, Json, RunFolder
from duologue.report.markup import Html, details, element, joined, paragraph, scrolling
from duologue.report.wording import (
    capital,
    figure,
    interval,
    naming,
    number,
    scaled,
    users_named,
)

DRAWN = ("success", "reward", "turns", "tokens", "asks_when_missing", "asks_when_complete", "repeats")
"""Figures that a grid is drawn of, where they were measured."""
COMPARED = ("success", "reward", "turns")
"""Figures whose differences are drawn."""
SAMPLED = "sampled_tokens"
"""What a cell's training cost, drawn beside its figures."""
ORACLE = "oracle"
"""The reference line, with which nothing is compared."""
NOTE = "Darker is more."
SHOWN = "Paired; of one training seed each. Bold where a difference is shown."

Figure = Estimate | Difference
Found = Callable[[str, str], Figure | None]
"""(arm, metric) → what was measured of it."""


def grid_parts(run: RunFolder) -> list[Html]:
    """The grids of a sweep, by task and kind of users; nothing where the run is no sweep."""
    sweep = (run.evaluation or {}).get("sweep")
    if sweep is None:
        return []
    grid = grid_of(sweep)
    references = [*sweep["against"], *(arm for arm in run.sampled.arms if arm not in grid.seeds and arm != ORACLE)]
    places = [(task, users) for task in run.sampled.tasks for users in run.sampled.main_users(task)]
    return [
        paragraph(
            "Each place is a cell: an arm that differs from the others in these choices alone. Means with 95 %"
            " intervals; beneath, what the same cell came to with further training seeds."
        ),
        _untrained(run, grid),
        *(_place(run, grid, task, users, references) for task, users in places),
    ]


def _untrained(run: RunFolder, grid: Grid) -> Html:
    missing = [arm for arm in grid.seeds if arm not in run.sampled.arms]
    if not missing:
        return Html("")
    return paragraph(f"Without figures, for they are not trained: {', '.join(missing)}.", class_="missing")


def _place(run: RunFolder, grid: Grid, task: str, users: str, references: Sequence[str]) -> Html:
    measured = run.sampled.metrics(task, users)
    drawn = [metric for metric in DRAWN if metric in measured]
    others = [arm for arm in run.sampled.arms_of(task, users) if arm not in grid.seeds]

    costs: Mapping[str, Sequence[Json]] = (run.evaluation or {}).get("training", {})

    def estimate(arm: str, metric: str) -> Figure | None:
        return _sampled(costs.get(arm, ())) if metric == SAMPLED else run.sampled.estimate(arm, task, users, metric)

    drawn += [SAMPLED] if any(estimate(arm, SAMPLED) is not None for arm in grid.seeds) else []
    parts = [element("h3", capital(f"{task}, {users_named(users)}")), _tables(grid, estimate, drawn, others)]
    for reference in references:
        found = _against(run, grid, task, users, reference)
        compared = [m for m in COMPARED if any(found(arm, m) is not None for arm in grid.seeds)]
        if compared:
            parts.append(details(f"Minus {reference}", _tables(grid, found, compared, []), class_="quiet"))
    return joined(parts)


def _sampled(stages: Sequence[Json]) -> Estimate | None:
    """The tokens that an arm's training sampled, in thousands; None where its journal does not say."""
    counts = [stage["sampled_tokens"] for stage in stages]
    return Estimate(sum(counts) / 1000) if counts and None not in counts else None


def _against(run: RunFolder, grid: Grid, task: str, users: str, reference: str) -> Found:
    """Differences from an arm; from a cell, those of the same training seed."""
    twins = next((arms for arms in grid.arms.values() if reference in arms), (reference,))
    by_seed = {grid.seeds[twin]: twin for twin in twins if twin in grid.seeds}

    def difference(arm: str, metric: str) -> Figure | None:
        against = by_seed.get(grid.seeds[arm], reference) if by_seed else reference
        return run.sampled.difference(arm, against, task, users, metric)

    return difference


def _tables(grid: Grid, found: Found, metrics: Sequence[str], others: Sequence[str]) -> Html:
    """A table a figure; of a sweep with one axis a single one, a column a figure."""
    if not grid.across:
        return _list(grid, found, metrics, others)
    return element("div", *(_square(grid, found, metric, others) for metric in metrics), class_="side-by-side")


def _square(grid: Grid, found: Found, metric: str, others: Sequence[str]) -> Html:
    name = naming(metric)
    means = (_scaled_mean(found(arm, metric), metric) for arm in grid.seeds)
    shade = _shading(means)
    rows = [
        _row(row, (_cell(grid, grid.arms[row, column], found, metric, shade) for column in grid.columns))
        for row in grid.rows
    ]
    compared = [f"{arm} {number(_scaled_mean(found(arm, metric), metric), name.digits)}" for arm in others]
    note = f"{NOTE} For comparison: {', '.join(compared)}." if compared else f"{NOTE} {SHOWN}"
    title = f"{name.label}, %" if name.unit == "percent" else name.label
    return _table(title, note, f"{grid.down} \\ {grid.across}", grid.columns, rows)


def _list(grid: Grid, found: Found, metrics: Sequence[str], others: Sequence[str]) -> Html:
    shades = {m: _shading(_scaled_mean(found(arm, m), m) for arm in grid.seeds) for m in metrics}
    rows = [
        _row(row, (_cell(grid, grid.arms[row, ""], found, metric, shades[metric]) for metric in metrics))
        for row in grid.rows
    ]
    rows += [_row(arm, (_plain_cell(found(arm, metric), metric) for metric in metrics)) for arm in others]
    heads = [f"{naming(m).label}, %" if naming(m).unit == "percent" else naming(m).label for m in metrics]
    note = f"{NOTE} Below, arms for comparison." if others else f"{NOTE} {SHOWN}"
    return _table(grid.down, note, grid.down, heads, rows)


def _row(label: str, cells: Iterable[Html]) -> Html:
    return element("tr", element("th", label, scope="row"), *cells)


def _table(title: str, note: str, corner: str, columns: Iterable[str], rows: Sequence[Html]) -> Html:
    words = element("caption", element("div", capital(title), " ", element("small", note)))
    heads = (element("th", word, scope="col") for word in (corner, *columns))
    table = element(
        "table", words, element("thead", element("tr", *heads)), element("tbody", *rows), class_="figures grid"
    )
    return scrolling(capital(title), table)


def _cell(
    grid: Grid, arms: Sequence[str], found: Found, metric: str, shade: Callable[[float | None], str | None]
) -> Html:
    """The recipe's seed with its interval, then the further ones."""
    name = naming(metric)
    first = found(arms[0], metric)
    again = ((grid.seeds[arm], found(arm, metric)) for arm in arms[1:])
    lines = [_seed_line(seed, value, metric) for seed, value in again if value is not None]
    if first is None:
        return element("td", "–", *lines)
    signed = isinstance(first, Difference)
    range_ = element("span", interval(first.low, first.high, name, signed=signed), class_="interval")
    shown = isinstance(first, Difference) and first.shown
    return element(
        "td",
        figure(first.mean, name, signed=signed),
        " ",
        range_,
        *lines,
        class_="heat shown" if shown else "heat",
        style=shade(_scaled_mean(first, metric)),
    )


def _seed_line(seed: int, found: Figure, metric: str) -> Html:
    name = naming(metric)
    signed = isinstance(found, Difference)
    range_ = interval(found.low, found.high, name, signed=signed) if signed else ""
    words = f"seed {seed}: {number(scaled(found.mean, name), name.digits, signed=signed)} {range_}".rstrip()
    return element("span", words, class_="interval")


def _plain_cell(found: Figure | None, metric: str) -> Html:
    if found is None:
        return element("td", "–")
    name = naming(metric)
    range_ = interval(found.low, found.high, name)
    return element("td", figure(found.mean, name), " ", element("span", range_, class_="interval"))


def _scaled_mean(found: Figure | None, metric: str) -> float | None:
    return None if found is None else scaled(found.mean, naming(metric))


def _shading(means: Iterable[float | None]) -> Callable[[float | None], str | None]:
    """How dark a value is among others: the least not at all, the greatest full."""
    known = [mean for mean in means if mean is not None]
    low, high = (min(known), max(known)) if known else (0.0, 0.0)

    def style(mean: float | None) -> str | None:
        return None if mean is None or high == low else f"--heat: {(mean - low) / (high - low):.2f}"

    return style
