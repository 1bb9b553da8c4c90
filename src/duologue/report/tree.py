"""A reply's candidates with the conversations they lead to, and what each is worth."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from duologue.report.dialogue import messages
from duologue.report.folder import Json
from duologue.report.markup import Html, details, element, joined
from duologue.report.wording import ENDINGS, capital, number

STRIP = 160
"""Width of a candidate's strip of rewards, in pixels."""


def choose_trees(trees: Iterable[Json], wanted: int = 2) -> list[Json]:
    """For each task the `wanted` trees whose best and worst candidates are farthest apart."""
    best: dict[str, list[Json]] = {}
    for tree in trees:
        if _spread(tree) is not None:
            kept = [*best.get(tree["task"], []), tree]
            best[tree["task"]] = sorted(kept, key=lambda t: -(_spread(t) or 0.0))[:wanted]
    return [tree for kept in best.values() for tree in kept]


def tree_parts(trees: Sequence[Json]) -> Html:
    """Each tree; the first one open."""
    return joined(_tree(tree, open_=index == 0) for index, tree in enumerate(trees))


def _spread(tree: Json) -> float | None:
    values = [c["value"] for c in tree["candidates"] if c["value"] is not None]
    return max(values) - min(values) if len(values) > 1 else None


def _tree(tree: Json, *, open_: bool) -> Html:
    ranked = sorted(tree["candidates"], key=lambda c: -(c["value"] if c["value"] is not None else float("-inf")))
    valued = [c for c in ranked if c["value"] is not None]
    span = _span(ranked)
    branches = [
        _candidate(c, span, _rank(c is valued[0], c is valued[-1]), open_=c in (valued[0], valued[-1])) for c in ranked
    ]
    where = (
        f"{tree['arm']}, step {tree['step']}: {len(ranked)} candidates, {number(_spread(tree))} between best and worst"
    )
    summary = joined((element("span", capital(tree["task"]), class_="title"), " ", element("small", where)))
    root = element("div", messages(tree["prefix"]), class_="opening")
    return details(summary, root, element("ol", *branches, class_="branches"), open_=open_, class_="exchange")


def _rank(best: bool, worst: bool) -> str | None:
    return "best" if best else "worst" if worst else None


def _span(candidates: Sequence[Json]) -> tuple[float, float]:
    futures = [f["value"] for c in candidates for f in c["futures"] if f["value"] is not None]
    values = futures + [c["value"] for c in candidates if c["value"] is not None]
    low, high = min(values), max(values)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _candidate(candidate: Json, span: tuple[float, float], rank: str | None, *, open_: bool) -> Html:
    badge = element("span", rank or "", class_=f"badge {rank}" if rank else "badge")
    bubble = element("span", candidate["text"] or element("em", "(nothing)"), class_="bubble assistant")
    worth = element("span", badge, " ", _strip(candidate, span), " ", _worth(candidate), class_="worth")
    futures = [_future(future, index) for index, future in enumerate(candidate["futures"], start=1)]
    parts = element("p", _parts(candidate), class_="facts") if candidate.get("parts") else ""
    inner = element("ol", *futures, class_="branches futures") if futures else element("p", "No look-aheads.")
    return element("li", details(joined((bubble, worth)), parts, inner, open_=open_), class_=rank)


def _worth(candidate: Json) -> Html:
    if candidate["value"] is None:
        return element("span", "no reward: look-aheads lost", class_="amount")
    error = f" ± {number(candidate['stderr'])}" if candidate.get("stderr") is not None else ""
    return element("span", element("b", number(candidate["value"])), error, class_="amount")


def _parts(candidate: Json) -> str:
    return "Means of the metrics: " + ", ".join(f"{k} {number(v)}" for k, v in candidate["parts"].items())


def _strip(candidate: Json, span: tuple[float, float]) -> Html:
    values = [f["value"] for f in candidate["futures"] if f["value"] is not None]
    dots = [element("circle", cx=f"{_place(v, span):.1f}", cy="8", r="3.4", class_="future") for v in values]
    mean = candidate["value"]
    x = f"{_place(mean, span):.1f}" if mean is not None else None
    bar = element("line", x1=x, x2=x, y1="1", y2="15", class_="mean") if x else ""
    axis = element("line", x1="4", x2=str(STRIP - 4), y1="8", y2="8", class_="axis")
    words = f"look-aheads worth {', '.join(number(v) for v in values) or 'nothing that counted'}"
    return element("svg", axis, *dots, bar, viewBox=f"0 0 {STRIP} 16", role="img", aria_label=words, class_="strip")


def _place(value: float, span: tuple[float, float]) -> float:
    return 8 + (value - span[0]) / (span[1] - span[0]) * (STRIP - 16)


def _future(future: Json, index: int) -> Html:
    worth = number(future["value"]) if future["value"] is not None else "lost"
    ending = ENDINGS.get(future["ending"], future["ending"])
    if future["ending"] == "window":
        ending = "cut by the window"
    head = element("p", f"look-ahead {index}: ", element("b", worth), f" · {ending}", class_="facts")
    after = messages(future["messages"]) if future["messages"] else element("p", "Nothing follows.", class_="facts")
    return element("li", head, after)
