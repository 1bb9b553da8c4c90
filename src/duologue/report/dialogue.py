"""Conversations on the page: which are chosen, and how they look side by side.

The journal is read twice and never held: once for what each conversation came to, once for the words of
the few that are shown.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from duologue.report.folder import Json, RunFolder
from duologue.report.markup import Html, details, element, joined, paragraph
from duologue.report.wording import ARMS, ENDINGS, in_order, number, users_named
from duologue.seeding import digest

LEAD, AGAINST = "trained", "base"


class Occasion(NamedTuple):
    """One visit to a goal by one kind of users: what arms are compared on."""

    task: str
    users: str
    goal: str
    visit: str


@dataclass(frozen=True, slots=True)
class Outline:
    """What one arm's conversation came to."""

    success: bool
    missing: bool
    complete: bool


Outlines = Mapping[Occasion, Mapping[str, Outline]]


@dataclass(frozen=True, slots=True)
class Wish:
    """A kind of occasion worth showing."""

    title: str
    wanted: int
    fits: Callable[[Occasion, Mapping[str, Outline]], bool]


@dataclass(frozen=True, slots=True)
class Choice:
    """An occasion to show, and of how many like it."""

    title: str
    occasion: Occasion
    alike: int
    total: int


@dataclass(frozen=True)
class Survey:
    """All that the first reading of the journal keeps."""

    outlines: Outlines
    counts: Mapping[str, int] = field(default_factory=dict)
    """Conversations an arm, all decodings and users."""
    lost: Mapping[str, int] = field(default_factory=dict)


def survey(run: RunFolder) -> Survey:
    """Read what every conversation came to; sampled ones can be shown."""
    outlines: dict[Occasion, dict[str, Outline]] = defaultdict(dict)
    counts: dict[str, int] = defaultdict(int)
    lost: dict[str, int] = defaultdict(int)
    for value in run.records("conversation"):
        counts[value["arm"]] += 1
        lost[value["arm"]] += value["ending"] == "failed"
        if value["decoding"] == "sampled" and value["ending"] != "failed":
            outlines[_occasion(value)][value["arm"]] = _outline(value)
    return Survey(outlines, counts, lost)


def wishes(arms: Iterable[str]) -> list[Wish]:
    """What to look for, given who took part. Where the trained arm fails is always among it."""
    drawn = Wish("Drawn by lot", 1, lambda occasion, played: True)
    if LEAD not in (arms := set(arms)):
        return [Wish("Drawn by lot", 4, drawn.fits)]
    fails = Wish("The trained model fails", 1, lambda o, played: not played[LEAD].success)
    complete = Wish("Nothing is missing", 1, lambda o, played: _met(o) and played[LEAD].complete)
    unseen = Wish("A user it never met", 1, lambda o, played: not _met(o))
    if AGAINST not in arms:
        return [complete, fails, unseen, drawn]
    gained = Wish(
        "Something is missing: base fails, trained succeeds", 2, lambda o, played: _met(o) and _gained(played)
    )
    return [gained, complete, fails, unseen, drawn]


def choose(outlines: Outlines, task: str) -> tuple[list[Choice], list[str]]:
    """Occasions of a task to show, and the titles of wishes that nothing fits.

    Only occasions that every arm played can be chosen. Among those that fit, the order is that of a
    digest, so nobody picks.
    """
    mine = {o: played for o, played in outlines.items() if o.task == task}
    arms = {arm for played in mine.values() for arm in played}
    full = [o for o, played in mine.items() if len(played) == len(arms)] or list(mine)
    full = sorted((o for o in full if LEAD not in arms or LEAD in mine[o]), key=digest)
    chosen: dict[Occasion, Choice] = {}
    unmet: list[str] = []
    for wish in wishes(arms):
        fitting = [o for o in full if wish.fits(o, mine[o])]
        for occasion in [o for o in fitting if o not in chosen][: wish.wanted]:
            chosen[occasion] = Choice(wish.title, occasion, len(fitting), len(full))
        if not fitting:
            unmet.append(wish.title)
    return list(chosen.values()), unmet


def read_chosen(run: RunFolder, choices: Sequence[Choice]) -> dict[Occasion, dict[str, Json]]:
    """The conversations of the chosen occasions, by arm."""
    wanted = {choice.occasion for choice in choices}
    found: dict[Occasion, dict[str, Json]] = {occasion: {} for occasion in wanted}
    for value in run.records("conversation"):
        if value["decoding"] == "sampled" and (occasion := _occasion(value)) in wanted:
            found[occasion][value["arm"]] = value
    return found


def exchanges(choices: Sequence[Choice], words: Mapping[Occasion, Mapping[str, Json]]) -> Html:
    """Every chosen occasion, its conversations side by side; the first one open."""
    return joined(_exchange(c, words[c.occasion], open_=index == 0) for index, c in enumerate(choices))


def messages(rows: Sequence[Json]) -> Html:
    """Messages as bubbles, in order."""
    return element("ol", *(_bubble(row) for row in rows), class_="bubbles")


def _exchange(choice: Choice, played: Mapping[str, Json], *, open_: bool) -> Html:
    arms = in_order(played, ARMS)
    shared = _shared_opening([played[arm]["messages"] for arm in arms])
    cards = [_card(played[arm], skip=len(shared)) for arm in arms]
    drawn = f"1 of {choice.alike} such among {choice.total}; {users_named(choice.occasion.users)}"
    summary = joined((element("span", choice.title, class_="title"), " ", element("small", drawn)))
    opening = element("div", messages(shared), class_="opening") if shared else ""
    return details(summary, opening, element("div", *cards, class_="cards"), open_=open_, class_="exchange")


def _shared_opening(conversations: Sequence[Sequence[Json]]) -> Sequence[Json]:
    first = conversations[0][:1]
    return first if all(list(c[:1]) == list(first) for c in conversations) else []


def _card(value: Json, skip: int) -> Html:
    arm = value["arm"]
    good = value["ending"] == "satisfied"
    ending = ENDINGS.get(value["ending"]) or str(value["ending"])
    ending += f": {value['reason']}" if value.get("reason") else ""
    head = element("h4", arm, class_="lead-arm" if arm == LEAD else None)
    verdict = element("p", ending, class_="verdict good" if good else "verdict bad")
    foot = element("p", " · ".join(_facts(value)), class_="facts")
    return element("article", head, messages(value["messages"][skip:]), verdict, foot, class_="card")


def _facts(value: Json) -> Iterator[str]:
    replies = sum(row["role"] == "assistant" for row in value["messages"])
    yield f"{replies} {'turn' if replies == 1 else 'turns'}"
    reward = value.get("figures", {}).get("reward")
    if reward and reward[1]:
        yield f"reward {number(reward[0] / reward[1])}"
    reaction = value.get("reaction")
    if reaction:
        yield f"annoyance {reaction['annoyance']:g} of {reaction['limit']:g}"


def _bubble(row: Json) -> Html:
    role = "user" if row["role"] == "user" else "assistant"
    who = element("span", f"{role}: ", class_="unseen")
    text = row["content"] if row["content"].strip() else element("em", "(nothing)")
    return element("li", who, text, class_=f"bubble {role}")


def _occasion(value: Json) -> Occasion:
    return Occasion(value["task"], value["users"], str(value["goal"]), str(value["visit"]))


def _outline(value: Json) -> Outline:
    figures = value.get("figures", {})
    return Outline(
        success=_share(figures, "success") > 0 if "success" in figures else value["ending"] == "satisfied",
        missing=figures.get("asks_when_missing", (0, 0))[1] > 0,
        complete=figures.get("asks_when_complete", (0, 0))[1] > 0,
    )


def _share(figures: Mapping[str, Sequence[float]], name: str) -> float:
    count, base = figures[name]
    return count / base if base else 0.0


def _met(occasion: Occasion) -> bool:
    return not occasion.users.startswith("unseen")


def _gained(played: Mapping[str, Outline]) -> bool:
    lead, against = played[LEAD], played.get(AGAINST)
    return against is not None and lead.missing and lead.success and not against.success


def nothing_fits(titles: Sequence[str]) -> Html:
    """A sentence for wishes that no conversation fits."""
    if not titles:
        return Html("")
    return paragraph(f"No conversation fits: {'; '.join(titles)}.", class_="missing")
