"""Figures and differences as tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from duologue.report.folder import Difference, Estimate, Figures, Json
from duologue.report.markup import Html, details, element, joined, scrolling
from duologue.report.wording import (
    ARMS,
    METRICS,
    USERS,
    Naming,
    capital,
    figure,
    in_order,
    interval,
    naming,
    number,
    probability,
    users_named,
)


def figure_tables(figures: Figures, task: str, decoding: str) -> Html:
    """A table a kind of users."""
    users = figures.users(task)
    return joined(
        _one_table(figures, task, kind, decoding, folded=kind not in figures.main_users(task)) for kind in users
    )


def _one_table(figures: Figures, task: str, users: str, decoding: str, *, folded: bool) -> Html:
    caption = f"{task}, {users_named(users)}, {decoding}"
    parts = (_figure_table(figures, task, users, caption), _share_table(figures, task, users, caption))
    return details(capital(users_named(users)), *parts) if folded else joined(parts)


def _figure_table(figures: Figures, task: str, users: str, caption: str) -> Html:
    metrics = figures.metrics(task, users)
    rows: list[Html] = []
    for arm in figures.arms_of(task, users):
        estimates = [figures.estimate(arm, task, users, metric) for metric in metrics]
        cells = (_estimate_cell(e, metric) for e, metric in zip(estimates, metrics, strict=True))
        rows.append(_row(arm, cells, _count(estimates)))
    heads = [*(_metric_head(metric) for metric in metrics), element("th", "n", scope="col")]
    return _table(
        caption,
        "Mean and 95 % interval; n conversations, of which a figure counts those it applies to.",
        heads,
        rows,
        "figures",
    )


def _share_table(figures: Figures, task: str, users: str, caption: str) -> Html:
    metrics = figures.metrics(task, users)
    found = [
        (arm, [figures.estimate(arm, task, users, metric) for metric in metrics])
        for arm in figures.arms_of(task, users)
    ]
    if not any(e is not None and e.of_oracle is not None for _, row in found for e in row):
        return Html("")
    rows = [_row(arm, (_share_cell(e) for e in row)) for arm, row in found]
    heads = [element("th", naming(metric).label, scope="col") for metric in metrics]
    note = "0 % is the base, 100 % the oracle; a dash where the two do not differ."
    table = _table(f"{caption}: share of the way from base to oracle, %", note, heads, rows, "shares")
    return details("As a share of the way from base to oracle", table, class_="quiet")


def difference_tables(figures: Figures, task: str, decoding: str) -> Html:
    """The family that Holm's correction covers, and every other difference folded away."""
    mine = [d for d in figures.differences if d.task == task and d.mean is not None]
    if not mine:
        text = "No differences between arms were computed: a comparison needs two arms."
        return element("p", text, class_="missing")
    family = [d for d in mine if d.holm is not None]
    others = [d for d in mine if d.holm is None]
    parts = [_by_users(f"{task}, {decoding}: differences", family)] if family else []
    if others:
        tables = _by_users(f"{task}, {decoding}: further differences", others)
        parts.append(details(f"{len(others)} further differences, not corrected", tables, class_="quiet"))
    effects = [d for d in figures.effects if d.task == task and d.mean is not None]
    if effects:
        tables = _by_users(f"{task}, {decoding}: effects of how users behave", effects)
        parts.append(details("What the behaviours of users do", tables, class_="quiet"))
    return joined(parts)


def _by_users(title: str, differences: Sequence[Difference]) -> Html:
    kinds = in_order((d.users for d in differences), USERS)
    tables = (_difference_table(f"{title}, {users_named(k)}", [d for d in differences if d.users == k]) for k in kinds)
    narrow = len({d.metric for d in differences}) <= 2
    return element("div", *tables, class_="side-by-side" if narrow else None)


def _difference_table(caption: str, differences: Sequence[Difference]) -> Html:
    metrics = in_order((d.metric for d in differences), METRICS)
    rows: list[Html] = []
    for arm, against in dict.fromkeys((d.arm, d.against) for d in differences):
        found = {d.metric: d for d in differences if (d.arm, d.against) == (arm, against)}
        cells = (_difference_cell(found.get(metric)) for metric in metrics)
        rows.append(element("tr", element("th", f"{arm} − {against}" if against else arm, scope="row"), *cells))
    note = "Paired by goal and seed, with 95 % intervals; shares in percentage points. Bold where one is shown."
    return _table(caption, note, (_metric_head(m) for m in metrics), rows, "differences", corner="Arms")


def _difference_cell(d: Difference | None) -> Html:
    if d is None:
        return element("td", "–")
    name = naming(d.metric)
    lines = [interval(d.low, d.high, name, signed=True), f"p {probability(d.p)}"]
    lines += [f"Holm {probability(d.holm)}"] if d.holm is not None else []
    spans = (element("span", line, class_="interval" if line.startswith("[") else "p") for line in lines)
    return element(
        "td", figure(d.mean, name, signed=True), " ", joined(spans, " "), class_="shown" if d.shown else None
    )


def loss_tables(evaluation: Json) -> Html:
    """Pairs left out of the evaluation with the reasons, and worst cases where more than 2 % were."""
    parts = {"sampled": evaluation, "greedy": evaluation.get("greedy") or {}}
    rows = [_loss_row(row, decoding) for decoding, part in parts.items() for row in part.get("lost", ())]
    bounds = [_bound_row(row, decoding) for decoding, part in parts.items() for row in part.get("bounds", ())]
    if not rows:
        return element("p", "The evaluation does not say what was lost.", class_="missing")
    heads = [element("th", word, scope="col") for word in ("Pairs", "Lost", "Unscored", "Unfinished")]
    heads.append(element("th", "Reasons", scope="col", class_="text"))
    note = "A conversation lost in one arm is left out of all."
    table = _table("Pairs left out of the figures", note, heads, rows, "losses", corner="Task, users, decoding")
    return joined((table, _bounds(bounds)))


def _bounds(rows: Sequence[Html]) -> Html:
    if not rows:
        return element("p", "Nowhere were more than 2 % of pairs lost, so no worst cases are needed.")
    heads = [element("th", word, scope="col") for word in ("Figure", "Lowest", "Highest")]
    note = "The lost ones given the lowest and the highest values."
    return details("Worst cases", _table("Worst cases", note, heads, rows, "bounds", corner="Arm, task, users"))


def cost_table(evaluation: Json) -> Html:
    """What the training of each arm took, a row a stage; nothing where nothing was trained."""
    training: Mapping[str, Sequence[Json]] = evaluation.get("training", {})
    rows = [_cost_row(arm, stage) for arm in in_order(training, ARMS) for stage in training[arm]]
    if not rows:
        return Html("")
    words = ("Stage", "Updates", "Sampled tokens", "Seconds", "Learning rate")
    heads = [element("th", word, scope="col") for word in words]
    note = "Sampled tokens are all that the policy said: prefixes, candidates and look-aheads."
    return _table("What the training cost", note, heads, rows, "costs")


def _cost_row(arm: str, stage: Json) -> Html:
    cells = (
        *(stage["stage"], _grouped(stage["updates"]), _grouped(stage["sampled_tokens"])),
        *(number(stage["seconds"], 0), f"{stage['learning_rate']:g}"),
    )
    return _row(arm, (element("td", cell) for cell in cells))


def _grouped(count: int | None) -> str:
    """A count with a narrow space between thousands; a dash where it is not known."""
    return "–" if count is None else f"{count:,}".replace(",", "\u202f")


def _loss_row(row: Json, decoding: str) -> Html:
    place = f"{row['task']}, {users_named(row['users'])}, {decoding}"
    counts = (element("td", str(row[key])) for key in ("pairs", "left_out", "unscored", "unfinished"))
    reasons = "; ".join(f"{reason} ({count})" for reason, count in row["reasons"].items()) or "–"
    return element("tr", element("th", place, scope="row"), *counts, element("td", reasons, class_="text"))


def _bound_row(row: Json, decoding: str) -> Html:
    name = naming(row["metric"])
    arms = row["arm"] if row["against"] is None else f"{row['arm']} − {row['against']}"
    place = f"{arms}, {row['task']}, {users_named(row['users'])}, {decoding}"
    ends = (element("td", figure(row[end], name)) for end in ("low", "high"))
    return element("tr", element("th", place, scope="row"), element("td", _labelled(name)), *ends)


def _labelled(name: Naming) -> str:
    return f"{name.label}, %" if name.unit == "percent" else name.label


def _table(
    caption: str, note: str, heads: Iterable[Html], rows: Iterable[Html], class_: str, corner: str = "Arm"
) -> Html:
    words = element("caption", element("div", caption, " ", element("small", note)))
    head = element("thead", element("tr", element("th", corner, scope="col"), *heads))
    table = element("table", words, head, element("tbody", *rows), class_=class_)
    return scrolling(caption, table)


def _row(arm: str, cells: Iterable[Html], *more: Html) -> Html:
    return element(
        "tr", element("th", arm, scope="row"), *cells, *more, class_=f"arm-{arm}" if arm.isidentifier() else None
    )


def _metric_head(metric: str) -> Html:
    name = naming(metric)
    unit = element("span", "\u00a0%", class_="unit") if name.unit == "percent" else ""
    return element("th", name.label, unit, scope="col")


def _estimate_cell(estimate: Estimate | None, metric: str) -> Html:
    if estimate is None:
        return element("td", "–")
    name = naming(metric)
    range_ = interval(estimate.low, estimate.high, name)
    return element("td", figure(estimate.mean, name), " ", element("span", range_, class_="interval"))


def _share_cell(estimate: Estimate | None) -> Html:
    share = estimate.of_oracle if estimate else None
    return element("td", number(None if share is None else share * 100, 0))


def _count(estimates: Sequence[Estimate | None]) -> Html:
    counts = [e.n for e in estimates if e is not None and e.n is not None]
    return element("td", _grouped(max(counts)) if counts else "–")
