"""The page itself: its sections in order, and the one function that writes it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.resources import files
from pathlib import Path

from duologue.journal import write_atomically
from duologue.report.charts import Step, comparison, learning_curves, or_reason
from duologue.report.claims import LEAD, supported, undecided
from duologue.report.dialogue import Survey, choose, exchanges, nothing_fits, read_chosen, survey
from duologue.report.folder import Json, RunFolder, open_folder
from duologue.report.grid import grid_parts
from duologue.report.markup import Html, details, element, joined, paragraph, scrolling
from duologue.report.tables import cost_table, difference_tables, figure_tables, loss_tables
from duologue.report.tree import choose_trees, tree_parts
from duologue.report.wording import ARMS, METRICS, QUALITIES, capital, in_order, users_named

TEMPLATED = ("groceries", "support", "twenty-questions")
"""The built-in tasks, whose scripted users speak from templates."""

POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def write_report(folder: Path) -> Path:
    """Write `report.html` into a run folder: one file, no outside request, no script.

    Parts that the run has not reached are named in a sentence. The same folder gives the same page.

    Returns:
        The path of the page.

    Raises:
        RunError: there is no such folder, or nothing in it to report.
        DataError: a file in it is damaged.
    """
    run = open_folder(Path(folder))
    page = run.path / "report.html"
    write_atomically(page, ("<!doctype html>\n" + _document(run)).encode("utf-8", "replace"))
    return page


def _document(run: RunFolder) -> Html:
    style = Html(files("duologue.report").joinpath("style.css").read_text("utf-8"))
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("meta", http_equiv="Content-Security-Policy", content=POLICY),
        element("title", f"{run.name} · Duologue"),
        element("style", style),
    )
    seen = survey(run)
    figures = (_grid(run), _figures(run), _curves(run))
    main = element("main", *figures, _conversations(run, seen), _trees(run), _making(run, seen))
    return element("html", head, element("body", _headline(run), main), lang="en")


def _section(title: str, id_: str, *children: str) -> Html:
    return element("section", element("h2", title, id=id_), *children, aria_labelledby=id_)


def _missing(text: str) -> Html:
    return paragraph(text, class_="missing")


def _headline(run: RunFolder) -> Html:
    day = element("time", f"{run.date.day} {run.date:%B %Y}", datetime=f"{run.date:%Y-%m-%d}")
    tasks = run.sampled.tasks or list(dict.fromkeys(_task_names(run.recipe)))
    line = paragraph("Duologue · ", day, *(f" · {task}" for task in tasks), class_="kicker")
    return element("header", line, element("h1", run.name), _world(run, tasks), *_claims(run))


def _task_names(recipe: Json) -> list[str]:
    tasks = recipe.get("task", [])
    rows: Sequence[Json] = tasks if isinstance(tasks, list) else [tasks]
    return [str(row.get("name")) for row in rows if row.get("name")]


def _world(run: RunFolder, tasks: Sequence[str]) -> Html:
    model = str(run.recipe.get("user", {}).get("model", "scripted"))
    if model != "scripted":
        return paragraph(f"The users are simulated by {model}.", class_="world")
    speech = " and speak templated English" if tasks and all(task in TEMPLATED for task in tasks) else ""
    return paragraph(f"All of this happens in a scripted world: users follow rules{speech}.", class_="world")


def _claims(run: RunFolder) -> Iterator[Html]:
    figures = run.sampled
    if run.evaluation is None:
        yield _missing("This run has not been evaluated yet, so nothing is claimed.")
        return
    if "sweep" in run.evaluation:
        yield _missing("This is a sweep: how its cells compare is the grid's to show.")
        return
    if LEAD not in figures.arms:
        yield _missing("No trained arm took part, so nothing is claimed; the figures stand below.")
        return
    places = [(task, kind) for task in figures.tasks for kind in figures.main_users(task)]
    yield element("div", *(_claim_list(run, task, users) for task, users in places), class_="claim-lists")


def _claim_list(run: RunFolder, task: str, users: str) -> Html:
    sentences = supported(run.sampled, task, users)
    open_questions = undecided(run.sampled, task, users)
    title = element("h2", capital(f"{task}, {users_named(users)}"), class_="small")
    if not sentences:
        sentences = [Html("The intervals support no difference between trained and another arm.")]
    items = [element("li", sentence) for sentence in sentences]
    items += [element("li", sentence, class_="undecided") for sentence in open_questions]
    return element("div", title, element("ul", *items), class_="claims" if users == "train" else "claims second")


def _grid(run: RunFolder) -> Html:
    parts = grid_parts(run)
    return _section("The grid", "grid", *parts) if parts else Html("")


def _figures(run: RunFolder) -> Html:
    if not run.sampled.arms:
        return _section("Figures", "figures", _missing("There are no figures: run “duologue evaluate” on this recipe."))
    tasks = [_task_figures(run, task) for task in run.sampled.tasks]
    return _section("Figures", "figures", _glossary(run), *tasks, _greedy(run))


def _task_figures(run: RunFolder, task: str) -> Html:
    return joined(
        (
            element("h3", capital(task)),
            or_reason(comparison, run.sampled, task),
            figure_tables(run.sampled, task, "sampled"),
            element("h4", "Differences"),
            difference_tables(run.sampled, task, "sampled"),
        )
    )


def _greedy(run: RunFolder) -> Html:
    if not run.greedy.arms:
        return _missing("Greedy decoding was not evaluated.")
    parts = (
        joined(
            (
                element("h3", capital(task)),
                figure_tables(run.greedy, task, "greedy"),
                difference_tables(run.greedy, task, "greedy"),
            )
        )
        for task in run.greedy.tasks
    )
    return details("The same with greedy decoding", *parts)


def _glossary(run: RunFolder) -> Html:
    arms = [(arm, ARMS.get(arm, "an arm of this recipe's own")) for arm in in_order(run.sampled.arms, ARMS)]
    measured = {
        metric
        for task in run.sampled.tasks
        for kind in run.sampled.users(task)
        for metric in run.sampled.metrics(task, kind)
    }
    names = [*METRICS.values(), *(name for metric, name in QUALITIES.items() if metric in measured)]
    metrics = [(name.label, name.meaning) for name in names]
    lists = (element("dl", *(_entry(word, meaning) for word, meaning in words)) for words in (arms, metrics))
    return details("What the words mean", element("div", *lists, class_="glossary"), class_="quiet")


def _entry(word: str, meaning: str) -> Html:
    return element("div", element("dt", word), element("dd", meaning))


def _curves(run: RunFolder) -> Html:
    steps = [
        Step(v["arm"], v["stage"], v["step"], {k: x for k, x in v.items() if isinstance(x, int | float) or x is None})
        for v in run.records("step")
    ]
    if not steps:
        return _section("Learning", "learning", _missing("The journal holds no training steps."))
    return _section("Learning", "learning", or_reason(learning_curves, steps), cost_table(run.evaluation or {}))


def _conversations(run: RunFolder, seen: Survey) -> Html:
    if not seen.outlines:
        return _section("Conversations", "conversations", _missing("The journal holds no sampled conversations."))
    intro = paragraph(
        "The same goal, the same user, the same luck, under each arm. What is shown is drawn by lot among the"
        " conversations that fit each heading."
    )
    parts: list[Html] = []
    for task in dict.fromkeys(occasion.task for occasion in seen.outlines):
        choices, unmet = choose(seen.outlines, task)
        parts += [element("h3", capital(task)), exchanges(choices, read_chosen(run, choices)), nothing_fits(unmet)]
    return _section("Conversations", "conversations", intro, *parts)


def _trees(run: RunFolder) -> Html:
    trees = choose_trees(run.records("tree"))
    title = "Where a reward comes from"
    if not trees:
        return _section(title, "trees", _missing("The journal holds no candidates with their look-aheads."))
    intro = paragraph(
        "One moment in training: the candidates for one reply, each followed by look-aheads. A candidate's reward is"
        " the mean of what its look-aheads are worth: dots are look-aheads, the bar is their mean, all on one scale."
        " Shown are those whose best and worst candidate are farthest apart."
    )
    return _section(title, "trees", intro, tree_parts(trees))


def _making(run: RunFolder, seen: Survey) -> Html:
    evaluation = run.evaluation or {}
    facts = [("Git revision", run.revision or "not recorded")]
    facts += [("Training seed", str(run.recipe["seed"]))] if "seed" in run.recipe else []
    listed = element("dl", *(_entry(word, text) for word, text in facts), class_="facts-list")
    lost = loss_tables(evaluation) if run.evaluation is not None else Html("")
    recipe = (
        scrolling("recipe", element("pre", run.recipe_text)) if run.recipe_text else _missing("There is no recipe.")
    )
    parts = (listed, _notes(evaluation), _counts(seen), lost, details("The recipe", recipe))
    return _section("How it was made", "making", *parts)


def _notes(evaluation: Json) -> Html:
    notes = [str(note) for note in evaluation.get("notes", ())]
    return element("ul", *(element("li", note) for note in notes), class_="notes") if notes else Html("")


def _counts(seen: Survey) -> Html:
    if not seen.counts:
        return _missing("No conversations are recorded.")
    rows = [
        element(
            "tr",
            element("th", arm, scope="row"),
            element("td", str(seen.counts[arm])),
            element("td", str(seen.lost[arm])),
        )
        for arm in in_order(seen.counts, ARMS)
    ]
    heads = [element("th", text, scope="col") for text in ("Arm", "Recorded", "Lost")]
    words = "Conversations recorded, all tasks, users and decodings. A lost one leaves every arm of its pair."
    caption = element("caption", element("div", words))
    table = element("table", caption, element("thead", element("tr", *heads)), element("tbody", *rows))
    return scrolling("Conversations recorded", table)
