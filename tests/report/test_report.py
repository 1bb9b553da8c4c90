"""The page made from a run: honest, readable by anyone, and asking for nothing from outside."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson
import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from duologue.errors import DataError, RunError
from duologue.evaluation import summarise
from duologue.journal import Journal
from duologue.report import write_report
from duologue.report.wording import METRICS
from report.made_up_run import NASTY, make_run

CHROMIUM = Path("/usr/bin/chromium")
QUIET = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
OPEN_ALL = "document.querySelectorAll('details').forEach(part => part.open = true)"


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "quickstart")


@pytest.fixture(scope="module")
def report(run_folder: Path) -> Path:
    return write_report(run_folder)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if not CHROMIUM.exists():
        pytest.skip("needs Chromium: run `make system`")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=list(QUIET))
        yield chromium
        chromium.close()


def opened(browser: Browser, page_path: Path, **context: Any) -> Page:
    page = browser.new_context(**context).new_page()
    page.goto(page_path.as_uri())
    return page


def section(text: str, name: str) -> str:
    start = text.index(f'id="{name}"')
    return text[start : text.index("</section>", start)]


# ---- What it says -----------------------------------------------------------------------------------------


def test_every_figure_of_the_evaluation_is_on_the_page(run_folder: Path, report: Path) -> None:
    evaluation = json.loads((run_folder / "evaluation.json").read_bytes())
    shown = set(re.findall(r'<data value="([^"]*)"', report.read_text("utf-8")))
    figures = [
        estimate["mean"]
        for part in (evaluation, evaluation["greedy"])
        for tasks in part["arms"].values()
        for users in tasks.values()
        for metrics in users.values()
        for estimate in metrics.values()
    ]
    differences = [row["mean"] for part in (evaluation, evaluation["greedy"]) for row in part["differences"]]
    assert len(figures) == 8 * 2 * 5 * len(METRICS)
    assert {repr(value) for value in figures + differences} <= shown


def test_a_figure_stands_in_the_row_of_its_arm_with_its_interval(run_folder: Path, report: Path) -> None:
    found = json.loads((run_folder / "evaluation.json").read_bytes())["arms"]["proactive"]["groceries"]["train"]
    expected = found["success"]
    table = re.search(r"groceries, users as in training, sampled.*?</table>", report.read_text("utf-8"), re.DOTALL)
    row = re.search(r'<th scope="row">proactive</th>(.*?)</tr>', table[0] if table else "", re.DOTALL)
    first_cell = row[1].split("</td>")[0] if row else ""
    assert f">{expected['mean'] * 100:.1f}</data>" in first_cell
    assert f"[{expected['low'] * 100:.1f}, {expected['high'] * 100:.1f}]" in first_cell


def test_the_headline_claims_what_the_intervals_support(run_folder: Path, report: Path) -> None:
    own = json.loads((run_folder / "evaluation.json").read_bytes())["arms"]["trained"]["groceries"]["train"]
    headline = re.sub(r"<[^>]*>", "", report.read_text("utf-8").split("<main>")[0])
    missing = own["asks_when_missing"]
    interval = f"[{missing['low'] * 100:.1f}, {missing['high'] * 100:.1f}]"
    assert f"trained asks in {missing['mean'] * 100:.1f}\u00a0% {interval} of requests where" in headline
    assert "in a scripted world" in headline


def test_the_headline_claims_nothing_that_the_intervals_do_not_support(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "flat", tasks=("groceries",))
    evaluation = json.loads((folder / "evaluation.json").read_bytes())
    for row in evaluation["differences"]:
        row.update(mean=0.01, low=-0.02, high=0.04)
    (folder / "evaluation.json").write_bytes(orjson.dumps(evaluation))
    headline = write_report(folder).read_text("utf-8").split("<main>")[0]
    assert "The intervals support no difference between trained and another arm." in headline
    assert "No difference in success from base is shown: +1.0 points [−2.0, +4.0]." in headline
    assert "succeeds in" not in headline


def test_holm_can_take_back_what_an_interval_gave(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "corrected", tasks=("groceries",))
    evaluation = json.loads((folder / "evaluation.json").read_bytes())
    for row in evaluation["differences"]:
        row["holm"] = 0.2
    (folder / "evaluation.json").write_bytes(orjson.dumps(evaluation))
    assert "succeeds in" not in write_report(folder).read_text("utf-8").split("<main>")[0]


def test_arms_that_are_quick_because_their_users_leave_are_not_called_quicker(report: Path) -> None:
    headline = re.sub(r"<[^>]*>", "", report.read_text("utf-8").split("<main>")[0])
    turns = re.search(r"trained takes [^;]*; ([^.]*\.\d+[^.]*\.\d+)", headline)
    assert turns is not None
    assert "proactive" in turns[1] and "single-turn" not in turns[1]


def test_conversations_show_the_same_goal_under_each_arm_and_where_training_fails(report: Path) -> None:
    text = section(report.read_text("utf-8"), "conversations")
    assert "Something is missing: base fails, trained succeeds" in text
    assert "The trained model fails" in text
    for exchange in re.findall(r'<details[^>]* class="exchange">.*?</details>', text, re.DOTALL):
        assert exchange.count("<article") == 8


def test_what_the_training_cost_stands_beside_how_it_went(report: Path) -> None:
    text = section(report.read_text("utf-8"), "learning")
    table = text[text.index("What the training cost") :]
    rows = re.findall(r'<th scope="row">([^<]*)</th>(.*?)</tr>', table)
    cells = {arm: re.findall(r"<td>([^<]*)</td>", row) for arm, row in rows}
    assert cells == {
        "single-turn": ["0-grpo", "60", "104\u202f200", "31", "0.0007"],
        "dpo": ["0-dpo", "40", "–", "55", "0.00015"],
        "trained": ["0-grpo", "60", "260\u202f848", "69", "0.0007"],
    }


def test_a_run_without_training_shows_no_cost_of_it(tmp_path: Path) -> None:
    page = write_report(make_run(tmp_path / "plain", arms=("base", "oracle"), visits=1))
    assert "What the training cost" not in page.read_text("utf-8")


def test_the_best_and_the_worst_candidate_are_marked(report: Path) -> None:
    tree = section(report.read_text("utf-8"), "trees").split('class="exchange"')[1]
    assert tree.count("badge best") == tree.count("badge worst") == 1
    assert "no reward: look-aheads lost" in tree


def test_the_page_reads_what_an_evaluation_writes(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "real", tasks=("groceries",), visits=40)
    records = [entry.value for entry in Journal(folder / "journal.jsonl").read("conversation")]
    evaluation = summarise(records)
    (folder / "evaluation.json").write_bytes(orjson.dumps(evaluation))
    text = write_report(folder).read_text("utf-8")
    success = evaluation["arms"]["trained"]["groceries"]["train"]["success"]["mean"]
    assert f'<data value="{success!r}">' in text
    assert "Nowhere were more than 2 % of pairs lost" in text
    assert all(note.split(":")[0] in section(text, "making") for note in evaluation["notes"])


def test_the_recipe_and_its_revision_are_told(report: Path) -> None:
    text = section(report.read_text("utf-8"), "making")
    assert "<dd>0f3c9a1</dd>" in text
    assert "algorithm = &quot;grpo&quot;" in text
    assert "the server did not answer in 60 s (2)" in text


def test_every_revision_that_worked_in_the_run_is_told(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "continued", visits=1)
    recipe = folder / "recipe.toml"
    recipe.write_text(recipe.read_text().replace("0f3c9a1", "0f3c9a1\n# continued at 7d2e5b4", 1))
    text = section(write_report(folder).read_text("utf-8"), "making")
    assert "<dd>0f3c9a1, continued at 7d2e5b4</dd>" in text


def test_conversations_of_earlier_settings_are_not_shown(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "twice", tasks=("groceries",), visits=3)
    before = write_report(folder).read_bytes()
    played = [line for line in (folder / "journal.jsonl").read_text().splitlines() if '"evaluate/' in line]
    with (folder / "journal.jsonl").open("a") as journal:
        journal.writelines(line.replace('"evaluate/', '"evaluate/earlier/') + "\n" for line in played)
    evaluation = json.loads((folder / "evaluation.json").read_bytes())
    (folder / "evaluation.json").write_bytes(orjson.dumps({**evaluation, "keys": keys_of(evaluation)}))
    assert write_report(folder).read_bytes() == before


def keys_of(evaluation: dict[str, Any]) -> list[str]:
    arms: dict[str, dict[str, Any]] = evaluation["arms"]
    return [f"evaluate/{arm}/{task}/{users}/" for arm, tasks in arms.items() for task in tasks for users in tasks[task]]


def test_the_same_folder_gives_the_same_page(run_folder: Path, report: Path) -> None:
    before = report.read_bytes()
    assert write_report(run_folder).read_bytes() == before


# ---- What may be missing ----------------------------------------------------------------------------------


def test_missing_parts_are_named_in_a_sentence(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "bare", arms=("base",), visits=2, steps=False, greedy=False, trees=False)
    text = write_report(folder).read_text("utf-8")
    assert "No trained arm took part" in text
    assert "Greedy decoding was not evaluated." in text
    assert "The journal holds no training steps." in text
    assert "The journal holds no candidates with their look-aheads." in text
    assert "a comparison needs two arms" in text


def test_a_run_that_is_not_evaluated_yet_claims_nothing(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "young", visits=0)
    (folder / "evaluation.json").unlink()
    text = write_report(folder).read_text("utf-8")
    assert "has not been evaluated yet" in text
    assert "mean reward of the candidates" in text


def test_without_matplotlib_the_figures_are_left_out_with_the_command_that_brings_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    text = write_report(make_run(tmp_path / "plain", visits=2)).read_text("utf-8")
    assert "pip install" in text and "duologue[train]" in text
    assert "<data" in text


def test_a_figure_that_could_not_be_had_is_a_dash(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "gaps", tasks=("groceries",), visits=2)
    evaluation = json.loads((folder / "evaluation.json").read_bytes())
    nothing = {"mean": None, "low": None, "high": None, "n": 0, "of_oracle": None}
    evaluation["arms"]["trained"]["groceries"]["train"]["success"] = nothing
    evaluation["arms"]["base"]["groceries"]["train"]["reward"].update(low=None, high=None)
    evaluation["differences"][0].update(mean=None, low=None, high=None, p=None)
    (folder / "evaluation.json").write_bytes(orjson.dumps(evaluation))
    row = re.search(r'<th scope="row">trained</th><td>(.*?)</td>', write_report(folder).read_text("utf-8"))
    assert row is not None and row[1] == "–"


def test_a_folder_without_anything_to_report_gets_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="there is no run folder"):
        write_report(tmp_path / "nowhere")
    with pytest.raises(RunError, match="train or evaluate first"):
        write_report(tmp_path)


def test_an_evaluation_of_nothing_is_refused(tmp_path: Path) -> None:
    (tmp_path / "evaluation.json").write_text("{}")
    with pytest.raises(DataError, match="it has no arms"):
        write_report(tmp_path)


def test_a_damaged_evaluation_gets_a_sentence(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "damaged", visits=1)
    (folder / "evaluation.json").write_text("{", "utf-8")
    with pytest.raises(DataError, match="is not JSON"):
        write_report(folder)
    (folder / "evaluation.json").write_text('{"arms": {"base": 3}}', "utf-8")
    with pytest.raises(DataError, match="not the shape of an evaluation"):
        write_report(folder)


def test_twenty_thousand_conversations_make_a_page_below_two_megabytes(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "large", visits=625)
    lines = (folder / "journal.jsonl").read_bytes().count(b"\n")
    assert lines > 20_000
    assert write_report(folder).stat().st_size < 2_000_000


# ---- How it reads -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [320, 360, 800, 1280])
def test_the_page_does_not_scroll_sideways(browser: Browser, report: Path, width: int) -> None:
    page = opened(browser, report, viewport={"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.evaluate(OPEN_ALL)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_long_word_from_a_model_does_not_widen_the_page(browser: Browser, tmp_path: Path) -> None:
    folder = make_run(tmp_path / "long", tasks=("groceries",), visits=6)
    journal = folder / "journal.jsonl"
    (folder / "recipe.toml").write_text(f'name = "{"n" * 200}"', "utf-8")
    journal.write_bytes(journal.read_bytes().replace(b"this is taking too long", b"x" * 400))
    page = opened(browser, write_report(folder), viewport={"width": 360, "height": 800})
    page.evaluate(OPEN_ALL)
    assert page.locator(".card .bubble", has_text="x" * 400).count() > 0
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


CONTRAST = """() => {
  document.querySelectorAll('details').forEach(part => part.open = true);
  // WCAG 2.2: relative luminance and contrast ratio.
  const channel = v => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const luminance = c => 0.2126 * channel(c[0]) + 0.7152 * channel(c[1]) + 0.0722 * channel(c[2]);
  const ratio = (a, b) => {
    const [low, high] = [luminance(a), luminance(b)].sort((x, y) => x - y);
    return (high + 0.05) / (low + 0.05);
  };
  const parse = text => {
    const parts = text.match(/[\\d.]+/g).map(Number);
    return [parts[0], parts[1], parts[2], parts.length > 3 ? parts[3] : 1];
  };
  const over = (top, below) => [0, 1, 2].map(i => top[i] * top[3] + below[i] * (1 - top[3])).concat(1);
  const behind = node => {
    const layers = [];
    for (; node; node = node.parentElement) {
      const colour = parse(getComputedStyle(node).backgroundColor);
      if (colour[3] > 0) layers.push(colour);
      if (colour[3] === 1) break;
    }
    return layers.reverse().reduce((below, top) => over(top, below), [255, 255, 255, 1]);
  };
  const opacity = node => node ? parseFloat(getComputedStyle(node).opacity) * opacity(node.parentElement) : 1;
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const text = walker.currentNode.nodeValue.trim(), node = walker.currentNode.parentElement;
    if (!text || ['STYLE', 'SCRIPT'].includes(node.tagName)) continue;
    const style = getComputedStyle(node);
    const colour = parse(node instanceof SVGElement ? style.fill : style.color);
    colour[3] *= opacity(node);
    const ground = behind(node);
    found.push({text, svg: node instanceof SVGElement, ratio: ratio(over(colour, ground), ground)});
  }
  return found;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_has_contrast_enough_in_light_and_dark(browser: Browser, report: Path, scheme: Any) -> None:
    page = opened(browser, report, color_scheme=scheme, viewport={"width": 1000, "height": 800})
    texts = page.evaluate(CONTRAST)
    assert sum(text["svg"] for text in texts) > 100
    assert [text for text in texts if text["ratio"] < 4.5] == []


def test_light_and_dark_differ_in_text_ground_and_figures(browser: Browser, report: Path) -> None:
    look = """() => [document.body, document.querySelector('svg.chart text')].map(node =>
        getComputedStyle(node)[node instanceof SVGElement ? 'fill' : 'backgroundColor'])"""
    light, dark = (opened(browser, report, color_scheme=scheme).evaluate(look) for scheme in ("light", "dark"))
    assert light[0] != dark[0] and light[1] != dark[1]


def test_nothing_is_asked_from_outside(browser: Browser, report: Path) -> None:
    asked: list[str] = []
    page = browser.new_context().new_page()
    page.on("request", lambda request: asked.append(request.url))
    page.goto(report.as_uri())
    page.evaluate(OPEN_ALL)
    page.wait_for_load_state("networkidle")
    assert asked == [report.as_uri()]


def test_the_page_reads_the_same_without_script(browser: Browser, report: Path) -> None:
    with_script = opened(browser, report).locator("body").text_content()
    without = opened(browser, report, java_script_enabled=False).locator("body").text_content()
    assert without == with_script and "trained succeeds in" in (without or "")
    assert "<script" not in report.read_text("utf-8").lower()


def test_what_models_say_is_shown_and_never_run(browser: Browser, tmp_path: Path) -> None:
    folder = make_run(tmp_path / "nasty", tasks=("groceries",), visits=1)
    (folder / "recipe.toml").write_text(f"name = {json.dumps(NASTY)}\n", "utf-8")
    page = opened(browser, write_report(folder))
    page.evaluate(OPEN_ALL)
    assert page.title() == f"{NASTY} · Duologue"
    assert page.locator("h1").inner_text() == NASTY
    assert f"assistant: {NASTY}" in page.locator(".card .bubble").all_text_contents()
    assert page.locator("script").count() == 0


def test_headings_descend_and_tables_and_figures_are_named(browser: Browser, report: Path) -> None:
    page = opened(browser, report)
    levels = page.evaluate("[...document.querySelectorAll('h1,h2,h3,h4,h5')].map(h => Number(h.tagName[1]))")
    assert levels.count(1) == 1 and levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert page.evaluate("document.documentElement.lang") == "en"
    assert page.evaluate("[...document.querySelectorAll('table')].every(t => t.caption?.textContent.trim())")
    assert page.evaluate("[...document.querySelectorAll('svg')].every(s => s.getAttribute('aria-label'))")
    assert page.evaluate("[...document.querySelectorAll('.scroll')].every(s => s.tabIndex === 0)")
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map(node => node.id)")
    assert len(ids) == len(set(ids))
