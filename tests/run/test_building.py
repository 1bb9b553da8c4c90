"""`duologue build`: from a recipe to a data set that others load, train on and publish, whatever is stopped when."""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest
from huggingface_hub import constants

from duologue.cli import main
from duologue.dataset.published import read
from duologue.errors import NothingMeasured, RecipeError
from duologue.journal import Journal
from duologue.recipe import Recipe, merged, parse
from duologue.run.building import Product, build, build_key
from endpoint_server import Asked, ServerThread, failure
from hub_server import HubThread
from killed_command import begun, finished, key, keys, killed
from lab_server import answer

SCRIPTED: dict[str, Any] = {
    "name": "set",
    "task": {"name": "groceries"},
    "assistant": {"model": "scripted:oracle"},
    "arms": {"hasty": {"train": [], "assistant": {"model": "scripted:guess"}}},
    "reward": {"samples": 2, "window": 1},
    "build": {"assistants": ["base", "hasty"], "conversations": 20, "candidates": 1, "format": "jsonl"},
}
SETS = ("sft", "preference", "prompt")


def recipe(**changes: Any) -> Recipe:
    return parse(merged(SCRIPTED, changes), "recipe")


def built(folder: Path, settings: Recipe | None = None, **options: Any) -> Product:
    return build(settings or recipe(), folder / "set", watch=lambda *_: None, **options)


def rows(product: Product, name: str) -> list[dict[str, Any]]:
    files = sorted((product.folder / name).glob("*.jsonl"))
    return [orjson.loads(line) for file in files for line in file.read_bytes().splitlines()]


# ---- what is made ---------------------------------------------------------------------------------------------------


def test_a_recipe_becomes_conversations_and_sets(tmp_path: Path) -> None:
    product = built(tmp_path)
    counts = json.loads((tmp_path / "set" / "dataset.json").read_text())
    assert counts["planned"] == counts["finished"] == product.summary.finished == 20
    assert counts["turns"] == len(rows(product, "prompt")) == sum(counts["sets"]["prompt"].values())
    pairs = rows(product, "preference")
    assert pairs and {row["assistant_chosen"] for row in pairs} == {"base"}, "the oracle does better than a guess"
    assert all(row["gap"] > 0.1 for row in pairs)
    assert (product.folder / "README.md").exists()


def test_the_same_call_makes_nothing_again_and_writes_the_same(tmp_path: Path) -> None:
    first = built(tmp_path)
    journal = (tmp_path / "set" / "journal.jsonl").read_bytes()
    before = {name: rows(first, name) for name in SETS}
    second = built(tmp_path)
    assert (tmp_path / "set" / "journal.jsonl").read_bytes() == journal
    assert {name: rows(second, name) for name in SETS} == before


def test_other_pairs_of_the_same_conversations_cost_no_conversation(tmp_path: Path) -> None:
    built(tmp_path)
    journal = (tmp_path / "set" / "journal.jsonl").read_bytes()
    strict = built(tmp_path, recipe(build={"min_gap": 5.0, "test_share": 0.5}))
    assert (tmp_path / "set" / "journal.jsonl").read_bytes() == journal
    assert rows(strict, "preference") == []


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"build": {"min_gap": 0.5, "noise": 2.0, "test_share": 0.3, "format": "parquet", "concurrency": 2}}, True),
        ({"build": {"conversations": 9, "retrospective": True, "license": "mit", "temperature": 9.0}}, True),
        ({"evaluate": {"conversations": 9}}, True),
        ({"build": {"candidates": 2}}, False),
        ({"build": {"choose": "softmax"}}, False),
        ({"build": {"assistants": ["hasty", "base"]}}, False),
        ({"reward": {"samples": 3}}, False),
        ({"user": {"profiles": "unseen"}}, False),
        ({"seed": 1}, False),
    ],
)
def test_conversations_are_made_anew_where_something_changed_that_they_depend_on(
    change: dict[str, Any], same: bool
) -> None:
    assert (build_key(recipe(**change)) == build_key(recipe())) is same


def test_rows_have_the_outcome_of_their_conversation_where_it_is_asked_for(tmp_path: Path) -> None:
    product = built(tmp_path, recipe(build={"retrospective": True}))
    said = [row["outcome"] for row in rows(product, "sft") if row["outcome"] is not None]
    assert said and all(isinstance(value, float) for value in said)
    outcomes = {entry.value["value"] for entry in Journal(tmp_path / "set" / "journal.jsonl").read("outcome")}
    assert set(said) <= outcomes


def test_what_is_exported_in_the_published_layouts_is_read_back(tmp_path: Path) -> None:
    product = built(tmp_path, recipe(build={"format": "parquet"}), layouts=["collabllm", "collabllm-nested"])
    flat = sorted(map(repr, read(product.folder / "collabllm")))
    assert flat == sorted(map(repr, read(product.folder / "collabllm-nested")))
    assert len(flat) == product.summary.candidates


def test_the_command_prints_what_was_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "set.toml"
    path.write_text(
        'name = "set"\ntask.name = "groceries"\nassistant.model = "scripted:oracle"\nbuild.candidates = 1\n'
    )
    arguments = ["build", str(path), "--runs", str(tmp_path), "--set", "build.conversations=3"]
    with pytest.raises(SystemExit) as done:
        main(arguments)
    told = capsys.readouterr().out
    assert done.value.code == 0
    assert "3 of 3 conversations finished (3 satisfied)" in told and "with equal replies" in told
    with pytest.raises(SystemExit):
        main([*arguments, "--json"])
    assert json.loads(capsys.readouterr().out)["finished"] == 3


# ---- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"reward": {"samples": 1}}, "set reward.samples to 2 or more"),
        ({"reward": {"samples": "adaptive"}, "build": {"choose": "softmax"}}, "a softmax is over values"),
        ({"assistant": {"temperature": 0}, "build": {"candidates": 2}}, "draws equal candidates"),
        ({"assistant": {"model": "scripted:oracel"}}, 'did you mean "oracle"'),
        ({"train": [{"algorithm": "grpo"}], "build": {"assistants": ["trained"]}}, "cannot be trained"),
    ],
)
def test_a_recipe_that_could_not_build_is_refused(change: dict[str, Any], told: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=told):
        built(tmp_path, recipe(**change))
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"assistants": ["bse"]}, 'build.assistants: there is no arm "bse"; did you mean "base"'),
        ({"assistants": ["base", "base"]}, "build.assistants names an arm twice"),
        ({"candidate": 2}, 'there is no key "build.candidate"; did you mean "candidates"'),
        ({"choose": "worst"}, "build.choose"),
    ],
)
def test_a_wrong_key_of_build_names_the_right_one(change: dict[str, Any], told: str) -> None:
    with pytest.raises(RecipeError, match=told):
        recipe(build=change)


def test_an_unknown_layout_and_a_set_without_a_licence_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match='did you mean "collabllm"'):
        built(tmp_path, layouts=["colabllm"])
    with pytest.raises(RecipeError, match="name it like OWNER/NAME"):
        built(tmp_path, repository="set")
    with pytest.raises(RecipeError, match="under which licence"):
        built(tmp_path, repository="owner/set")


# ---- endpoints ------------------------------------------------------------------------------------------------------

LAB = """
name = "lab"
task = {{ name = "groceries" }}
endpoints.lab = {{ url = "{url}", in_flight = 8, retries = 1, price = {{ input = 1.0, output = 2.0 }} }}
assistant = {{ endpoint = "lab", model = "helper" }}
user = {{ endpoint = "lab", model = "person" }}
judge = {{ endpoint = "lab", model = "judge" }}
reward = {{ samples = 2, window = 1, metrics = {{ interactivity = 1.0 }} }}
build = {{ conversations = 8, candidates = 2, format = "jsonl", retrospective = true }}
evaluate.arms = ["base"]
"""


async def slowly(asked: Asked) -> Any:
    await asyncio.sleep(0.01 + 0.02 * random.random())
    return await answer(asked)


def made(recipe: Path, runs: Path) -> tuple[list[Any], dict[str, bytes]]:
    """The journal of a call that was left alone, sorted by key, and the files of its data set."""
    finished(begun("build", recipe, runs))
    folder = runs / "lab"
    entries = map(orjson.loads, (folder / "journal.jsonl").read_bytes().splitlines())
    files = {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("dataset/*/*"))}
    return sorted(entries, key=lambda entry: entry["key"]), files


@pytest.mark.timeout(200)
def test_killed_again_and_again_it_ends_with_the_same_rows_and_asks_nothing_twice(tmp_path: Path) -> None:
    draws = random.Random(1)
    with ServerThread(slowly) as server:
        path = tmp_path / "lab.toml"
        path.write_text(LAB.format(url=server.url))
        whole = made(path, tmp_path / "whole")
        calls = len(server.asked)
        server.asked.clear()
        recorded: set[bytes] = set()
        for _ in range(4):
            before = len(server.asked)
            killed(begun("build", path, tmp_path / "killed"), server, draws.randint(calls // 8, calls // 2))
            assert not recorded & {key(asked) for asked in server.asked[before:]}, "nothing recorded is asked again"
            recorded = keys(tmp_path / "killed" / "lab" / "calls.sqlite")
        assert recorded, "it got somewhere"
        assert made(path, tmp_path / "killed") == whole
        assert len({key(asked) for asked in server.asked}) == calls, "every call of the whole run, and no other"
    assert len(whole[1]) >= 3 and all(whole[1].values())


def lab(url: str, **changes: Any) -> Recipe:
    return parse(merged(tomllib.loads(LAB.format(url=url)), changes), "lab")


def test_a_goal_whose_calls_fail_is_listed_and_tried_again_by_the_same_call(tmp_path: Path) -> None:
    healthy = False

    async def script(asked: Asked) -> Any:
        bad = "apples" in json.dumps(asked.body["messages"][0]) and not healthy
        return failure(400, "this one is refused") if bad and asked.body["model"] == "person" else await answer(asked)

    with ServerThread(script) as server:
        settings = lab(server.url, build={"conversations": 20})
        product = built(tmp_path, settings)
        assert 0 < len(product.lost) < 20
        assert product.summary.finished == 20 - len(product.lost)
        assert all("this one is refused" in each.why for each in product.lost)
        listed = json.loads((tmp_path / "set" / "dataset.json").read_text())["lost"]
        assert [each["goal"] for each in listed] == [each.goal for each in product.lost]
        healthy = True
        product = built(tmp_path, settings)
    assert (product.lost, product.summary.finished) == ([], 20)


def test_where_nothing_could_be_made_nothing_is_written(tmp_path: Path) -> None:
    with ServerThread(lambda asked: failure(400, "no")) as server, pytest.raises(NothingMeasured, match="none of 8"):
        built(tmp_path, lab(server.url))
    assert not (tmp_path / "set" / "dataset").exists()


def test_the_card_names_models_and_no_address(tmp_path: Path) -> None:
    with ServerThread(answer) as server:
        product = built(tmp_path, lab(server.url))
    card = (product.folder / "README.md").read_text()
    assert "`helper`" in card and "`person`" in card and "`judge`" in card
    for private in ("127.0.0.1", "http", "endpoint", str(tmp_path)):
        assert private not in card.replace("https://", ""), private


def test_an_endpoint_that_only_a_building_arm_has_is_opened_and_paid_for(tmp_path: Path) -> None:
    with ServerThread(answer) as server:
        arms = {"remote": {"assistant": {"endpoint": server.url, "model": "oracle"}}}
        settings = recipe(arms=arms, build={"assistants": ["base", "remote"], "conversations": 3})
        product = built(tmp_path, settings)
    assert [(total["role"], total["model"]) for total in product.calls] == [("assistant", "oracle")]


# ---- what others do with it -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def parquet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a data set in Parquet."""
    settings = recipe(build={"format": "parquet", "conversations": 30, "retrospective": True, "test_share": 0.3})
    return built(tmp_path_factory.mktemp("parquet"), settings).folder


def loaded(folder: Path, name: str, cache: Path) -> Any:
    import datasets

    return datasets.load_dataset(str(folder), name, cache_dir=str(cache))


def test_trl_makes_a_step_of_supervised_training_on_it(parquet: Path, small_model: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    sets = loaded(parquet, "sft", tmp_path / "cache")
    arguments = SFTConfig(output_dir=str(tmp_path), max_steps=1, per_device_train_batch_size=2, **QUIET)
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(small_model),
        args=arguments,
        train_dataset=sets["train"],
        eval_dataset=sets["test"],
        processing_class=AutoTokenizer.from_pretrained(small_model),
    )
    trainer.train()
    assert trainer.state.global_step == 1


def test_trl_makes_a_step_of_dpo_on_it(parquet: Path, small_model: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import DPOConfig, DPOTrainer

    sets = loaded(parquet, "preference", tmp_path / "cache")
    arguments = DPOConfig(output_dir=str(tmp_path), max_steps=1, per_device_train_batch_size=2, **QUIET)
    trainer = DPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(small_model),
        args=arguments,
        train_dataset=sets["train"],
        processing_class=AutoTokenizer.from_pretrained(small_model),
    )
    trainer.train()
    assert trainer.state.global_step == 1


QUIET: Mapping[str, Any] = {
    "use_cpu": True,
    "report_to": [],
    "save_strategy": "no",
    "disable_tqdm": True,
    "bf16": False,
}


PUSH = """
import sys
from pathlib import Path
from duologue.dataset.hub import push
from duologue.errors import DuologueError
try:
    print(push(Path(sys.argv[1]), "owner/name", sys.argv[2]))
except DuologueError as error:
    print("refused:", error)
"""


def pushed(folder: Path, message: str, url: str, token: str) -> str:
    """What a process says that puts a folder on a hub: the library reads where the hub is when it is imported."""
    environment = {**os.environ, "HF_ENDPOINT": url, "HF_TOKEN": token, "HF_HUB_OFFLINE": "0"}
    command = [sys.executable, "-c", PUSH, str(folder), message]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100, check=True).stdout


@pytest.mark.timeout(200)
def test_a_data_set_is_put_on_the_hub_as_one_commit_in_a_private_repository(parquet: Path) -> None:
    with HubThread() as hub:
        hub.files |= {"sft/validation.parquet": b"of an earlier version", "figure.png": b"somebody's own"}
        said = pushed(parquet, "first", hub.url, hub.token)
        assert said.startswith(f"{hub.url}/datasets/owner/name/commit/")
        assert hub.made is not None and hub.made["visibility"] == "private"
        here = {str(file.relative_to(parquet)): file.read_bytes() for file in parquet.rglob("*.*")}
        assert hub.files == {**here, "figure.png": b"somebody's own"}
        assert hub.commits == ["first"]
        assert pushed(parquet, "second", hub.url, "hf_wrong").startswith("refused:")
        assert hub.commits == ["first"]


def test_what_may_not_be_published_from_here_is_said_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(RecipeError, match=r"keeps this process from the hub \(HF_HUB_OFFLINE\): unset it"):
        built(tmp_path, recipe(build={"license": "cc0-1.0"}), repository="owner/set")
    assert not any(tmp_path.iterdir())


@pytest.mark.timeout(200)
def test_the_command_builds_and_publishes(tmp_path: Path) -> None:
    path = tmp_path / "set.toml"
    path.write_text(
        'name = "set"\ntask.name = "groceries"\nassistant.model = "scripted:oracle"\nbuild.candidates = 1\n'
    )
    options = ["--set", "build.conversations=3", "--set", "build.license=cc0-1.0", "--push-to-hub", "owner/name"]
    command = [sys.executable, "-m", "duologue", "build", str(path), "--runs", str(tmp_path), *options]
    with HubThread() as hub:
        environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_TOKEN": hub.token, "HF_HUB_OFFLINE": "0"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100)
        assert done.returncode == 0, done.stderr
        assert f"on the hub: {hub.url}/datasets/owner/name/commit/" in done.stdout
        assert "license: cc0-1.0" in hub.files["README.md"].decode()
        assert hub.token not in "".join(file.read_text(errors="replace") for file in tmp_path.rglob("*.*"))
