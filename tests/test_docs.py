"""The README and the docs say what is so: code runs, commands work, links lead somewhere, tables agree.

A fenced block says what it is. `python` is executed, a page's blocks in one namespace; `python sketch` is
compiled, and what it imports is looked up. A second word with a dot is the name of the file that a reader
would save the block as. `sh` holds commands, and those of `duologue` and `make` are tried.
"""

from __future__ import annotations

import ast
import asyncio
import importlib
import inspect
import io
import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from duologue import recipe as recipes
from duologue.cli import main
from duologue.dataset.settings import BuildSettings
from duologue.evaluation import METRICS as FIGURES
from duologue.integrations.settings import ScaleSettings
from duologue.metrics import METRICS
from duologue.metrics.base import SUPPLIED
from duologue.models import settings as endpoints
from duologue.recipe import load_recipe
from duologue.sandbox.settings import SandboxSettings
from duologue.training import settings
from duologue.training.engines.settings import RolloutSettings

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "CONTRIBUTING.md"]
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]


class Block(NamedTuple):
    """A fenced block of a page."""

    page: Path
    line: int
    kind: str
    word: str
    """What stands after the kind: a file's name, "sketch", or nothing."""
    text: str

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path) -> Iterator[Block]:
    text = page.read_text()
    for found in re.finditer(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        line = text.count("\n", 0, found.start()) + 1
        yield Block(page, line, found[1], found[2] or "", found[3])


ALL = [block for page in PAGES for block in blocks(page)]


# ---- code


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_python_blocks_run(page: Path) -> None:
    namespace: dict[str, Any] = {"__name__": "page"}
    for block in blocks(page):
        if block.kind == "python" and not block.word:
            code = compile(block.text, block.place, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
            if code.co_flags & inspect.CO_COROUTINE:
                asyncio.run(eval(code, namespace))
            else:
                exec(code, namespace)


@pytest.mark.parametrize("block", [b for b in ALL if b.word == "sketch"], ids=lambda b: b.place)
def test_sketches_compile_and_what_they_name_exists(block: Block) -> None:
    tree = ast.parse(block.text, block.place)
    known = {a.asname or a.name: a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    modules = {name: importlib.import_module(module) for name, module in known.items()}
    for node in ast.walk(tree):
        dotted = ast.unparse(node) if isinstance(node, ast.Attribute) else ""
        name, _, rest = dotted.partition(".")
        if name in modules and re.fullmatch(r"[\w.]+", rest):
            found: Any = modules[name]
            for part in rest.split("."):
                found = getattr(found, part)


@pytest.mark.parametrize("block", [b for b in ALL if b.kind in ("json", "toml")], ids=lambda b: b.place)
def test_json_and_toml_blocks_can_be_read(block: Block) -> None:
    assert (json.loads if block.kind == "json" else tomllib.loads)(block.text)


def test_the_recipe_of_datasets_md_is_the_one_that_there_is() -> None:
    (shown,) = (block for block in ALL if block.kind == "toml" and block.page.name == "datasets.md")
    assert recipes.parse(tomllib.loads(shown.text), "datasets.md") == load_recipe(ROOT / "recipes" / "build.toml")


def test_the_readmes_recipe_is_the_demos() -> None:
    (shown,) = (block for block in ALL if block.word == "quickstart.toml")
    real = load_recipe(ROOT / "recipes" / "quickstart.toml")
    assert recipes.parse(tomllib.loads(shown.text), "README") == real


# ---- commands

SMALL = {
    "train.0.steps": "1",
    "train.0.groups": "2",
    "train.0.candidates": "2",
    "evaluate.conversations": "2",
    "evaluate.arms": '["base", "trained"]',
    "run.processes": "1",
}
"""What makes any run a matter of seconds."""


def commands() -> list[tuple[str, list[str]]]:
    found: dict[str, str] = {}
    for block in ALL:
        if block.kind == "sh":
            for line in block.text.replace("\\\n", " ").splitlines():
                if line.startswith("duologue "):
                    found.setdefault(shlex.join(shlex.split(line, comments=True)), block.place)
    return [(place, shlex.split(line)[1:]) for line, place in found.items()]


def shrunk(arguments: list[str]) -> list[str]:
    """A command that takes a recipe with less to do; the arms that it names itself stay."""
    if arguments[0] == "build":
        return [*arguments, "--set", "build.conversations=3"]
    if arguments[0] not in ("train", "sweep", "evaluate", "simulate", "reward"):
        return arguments
    named = any(part.startswith("evaluate.arms=") for part in arguments)
    changes = [f"{key}={value}" for key, value in SMALL.items() if key != "evaluate.arms" or not named]
    return [*arguments, *(part for change in changes for part in ("--set", change))]


def call(arguments: list[str]) -> int:
    """The exit code of a command, in this process."""
    try:
        main(arguments)
    except SystemExit as done:
        return int(done.code or 0)
    return 0


def test_every_command_in_readme_and_docs_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("recipes", "examples"):
        (tmp_path / name).symlink_to(ROOT / name)
    for block in ALL:
        if "." in block.word:
            (tmp_path / block.word).write_text(block.text)
    monkeypatch.chdir(tmp_path)
    for place, arguments in commands():
        monkeypatch.setattr("sys.stdin", io.StringIO("i need two milk to boston today by card .\n/quit\n"))
        code = call(shrunk(arguments))
        told = capsys.readouterr()
        assert code == 0, f"{place}: duologue {shlex.join(arguments)}\n{told.err}"
        assert told.out + told.err, f"{place}: duologue {shlex.join(arguments)} says nothing"
    (line,) = (tmp_path / "rewards.jsonl").read_text().splitlines()
    assert json.loads(line)["id"] == "a" and json.loads(line)["value"] is not None


def test_every_command_there_is_stands_in_the_readme() -> None:
    from duologue.cli import app

    commanded = [command for command in app.registered_commands if command.callback]
    known = {command.name or command.callback.__name__ for command in commanded if command.callback}
    shown = {arguments[0] for place, arguments in commands() if place.startswith("README")}
    told = set(re.findall(r"`duologue ([\w-]+)", (ROOT / "README.md").read_text()))  # in a sentence: not run here
    assert shown | told == known


def test_options_that_are_named_exist() -> None:
    from typer.main import get_command

    from duologue.cli import app

    group: Any = get_command(app)
    known = {option for command in group.commands.values() for parameter in command.params for option in parameter.opts}
    for page in PAGES:
        assert set(re.findall(r"`(--[a-z-]+)", page.read_text())) <= known | {"--help"}, page.name


def test_make_targets_that_are_named_exist() -> None:
    made = set(re.findall(r"^(\w[\w-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for block in ALL:
        if block.kind == "sh":
            named = re.findall(r"^make ([\w-]+)", block.text, re.MULTILINE)
            assert set(named) <= made, block.place


# ---- links


def anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if target.startswith(("https://", "http://")):
            continue
        file, _, anchor = target.partition("#")
        path = (page.parent / file).resolve() if file else page
        assert path.exists(), target
        assert not anchor or anchor in anchors(path), target


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda p: p.name)
def test_every_page_can_be_reached_from_the_readme(page: Path) -> None:
    assert f"docs/{page.name}" in (ROOT / "README.md").read_text()


# ---- tables that must agree with the code

TABLES: dict[str, type[BaseModel]] = {
    "The recipe itself": recipes.Recipe,
    "[task]": recipes.TaskSettings,
    "[assistant]": recipes.AssistantSettings,
    "[assistant.architecture]": settings.ScratchSettings,
    "[user]": recipes.UserSettings,
    "[judge]": recipes.JudgeSettings,
    "[endpoints.NAME]": endpoints.EndpointSettings,
    "price": endpoints.PriceSettings,
    "[reward]": recipes.RewardSettings,
    "[train.lora]": settings.LoraSettings,
    "[rollouts]": RolloutSettings,
    "[sweep]": recipes.SweepSettings,
    "[evaluate]": recipes.EvaluateSettings,
    "[evaluate.family]": recipes.FamilySettings,
    "[build]": BuildSettings,
    "[sandbox]": SandboxSettings,
    "[run]": recipes.RunSettings,
    "[scale]": ScaleSettings,
}
ALGORITHMS: dict[str, type[BaseModel]] = {
    "grpo": settings.GrpoSettings,
    "ppo": settings.PpoSettings,
    "rloo": settings.RlooSettings,
    "dpo": settings.DpoSettings,
    "online-dpo": settings.OnlineDpoSettings,
    "sft": settings.SftSettings,
}


def table(page: str, heading: str) -> list[list[str]]:
    """The rows of the table under a heading, its head first, cells without their backquotes."""
    text = (ROOT / "docs" / page).read_text()
    start = re.search(rf"^#+ {re.escape(heading)}$", text, re.MULTILINE)
    assert start, f'docs/{page} has no heading "{heading}"'
    section = re.split(r"^#", text[start.end() :], maxsplit=1, flags=re.MULTILINE)[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    rows = [[cell.strip().strip("`") for cell in line.split("|")[1:-1]] for line in lines]
    return [row for row in rows if row[0] != "---"]


def written(cell: str) -> Any:
    """What a cell says a default is: a word of the page, or TOML."""
    return cell if cell in ("required", "unset", "table", "–") else tomllib.loads(f"v = {cell}")["v"]


def defaults(model: type[BaseModel]) -> dict[str, Any]:
    """The defaults of a table's keys as the page writes them."""
    found: dict[str, Any] = {}
    for key, field in model.model_fields.items():
        value = field.get_default(call_default_factory=True)
        if value is PydanticUndefined:
            found[key] = "required"
        elif value is None:
            found[key] = "unset"
        else:
            found[key] = "table" if isinstance(value, BaseModel) else list(value) if isinstance(value, tuple) else value
    return found


@pytest.mark.parametrize("heading", TABLES)
def test_recipes_md_has_every_key_and_its_default(heading: str) -> None:
    _, *rows = table("recipes.md", heading)
    assert {row[0]: written(row[1]) for row in rows} == defaults(TABLES[heading])
    assert all(row[2] for row in rows)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_recipes_md_has_every_key_of_an_algorithm_and_its_default(algorithm: str) -> None:
    head, *rows = table("recipes.md", "[[train]]")
    column = head.index(algorithm)
    shown = {row[0]: written(row[column]) for row in rows if row[column] != "–"}
    assert shown == defaults(ALGORITHMS[algorithm])
    assert all(row[-1] for row in rows)


def test_recipes_md_knows_every_algorithm() -> None:
    head, *_ = table("recipes.md", "[[train]]")
    assert set(head[1:-1]) == set(ALGORITHMS)


def test_recipes_md_has_every_arm() -> None:
    _, *rows = table("recipes.md", "Arms")
    assert {row[0] for row in rows} == set(recipes.ARMS)


def test_metrics_md_has_every_metric_with_its_options() -> None:
    _, *rows = table("metrics.md", "The metrics there are")
    shown: dict[str, dict[str, Any]] = {}
    for name, option, default, meaning in rows:
        assert meaning
        shown.setdefault(name or next(reversed(shown)), {})
        if option:
            shown[next(reversed(shown))][option] = written(default)
    real = {
        name: {p.name: p.default for p in inspect.signature(f).parameters.values() if p.name not in SUPPLIED}
        for name, f in METRICS.items()
    }
    assert shown == real


def test_runs_md_has_every_figure() -> None:
    text = (ROOT / "docs" / "runs.md").read_text()
    assert [figure for figure in FIGURES if f"`{figure}`" not in text] == []
