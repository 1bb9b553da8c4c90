"""`duologue cost`: what it estimates is what a run takes, and what it takes for granted it says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from duologue.cli import main
from duologue.conversation import parse_messages
from duologue.errors import RecipeError
from duologue.journal import Journal
from duologue.models.base import Format, Sampling, count_bytes
from duologue.recipe import load_recipe, parse
from duologue.run.cost import Hardware, Row, estimate, sizes_given, totals
from duologue.run.endpoints import calls_made
from duologue.run.speech import SCENARIOS, Speech
from duologue.run.stand_ins import FRAME
from endpoint_server import Asked, ServerThread, completion

ROOT = Path(__file__).parent.parent.parent
QUICKSTART = ROOT / "recipes" / "quickstart.toml"


def call(*arguments: str) -> int:
    with pytest.raises(SystemExit) as done:
        main(arguments)
    return int(done.value.code or 0)


def of_part(rows: list[Row], part: str, role: str) -> Row:
    (found,) = (row for row in rows if row.part == part and row.role == role)
    return found


# ---- a run takes what was estimated


@pytest.mark.parametrize(("task", "window"), [("groceries", "full"), ("twenty-questions", "2")])
def test_the_tokens_of_the_built_in_model_are_those_that_a_run_samples(task: str, window: str, tmp_path: Path) -> None:
    changes = [
        f"task.name={task}", f'reward.window={window if window == "2" else json.dumps(window)}', "reward.samples=2",
        "train.0.steps=2", "train.0.groups=16", 'evaluate.arms=["base", "trained"]', "evaluate.conversations=40",
        'evaluate.decoding=["sampled"]', "run.processes=1",
    ]  # fmt: skip
    sets = [part for change in changes for part in ("--set", change)]

    assert call("train", str(QUICKSTART), "--runs", str(tmp_path), *sets, "--quiet") == 0
    rows = estimate(load_recipe(QUICKSTART, changes), Hardware())

    journal = Journal(tmp_path / "quickstart" / "journal.jsonl")
    sampled = sum(entry.value["sampled_tokens"] for entry in journal.read("step"))
    played = [entry.value["tokens_usage"]["completion"] for entry in journal.read("conversation")]
    training = of_part(rows, "trained 0-grpo", "assistant").amounts["expected"].use.written
    evaluation = of_part(rows, "evaluation", "assistant").amounts["expected"].use.written
    assert 1 / 1.5 < training / sampled < 1.5
    assert len(played) == 80
    assert 1 / 1.5 < evaluation / sum(played) < 1.5


def keeps_to_what_is_assumed() -> Any:
    """A server whose models speak as the estimate expects."""
    speech = Speech(SCENARIOS["expected"], count_bytes)
    speaks = {"helper": speech.reply, "person": speech.message, "judge": speech.verdict}

    async def answer(asked: Asked) -> dict[str, Any]:
        body = asked.body
        form = body.get("response_format", {}).get("json_schema")
        wanted = Format(form["name"], json.dumps(form["schema"])) if form else None
        sampling = Sampling(max_tokens=body["max_tokens"], format=wanted)
        messages = parse_messages(body["messages"], "request")
        text = await speaks[body["model"]](messages, body["seed"], sampling)
        read = sum(count_bytes(message.content) + FRAME for message in messages)
        return completion(text, prompt=read, completion=count_bytes(text))

    return answer


def lab(url: str) -> dict[str, Any]:
    """A recipe in which endpoints play everybody."""
    return {
        "name": "lab",
        "task": {"name": "document-chat"},
        "endpoints": {"lab": {"url": url, "price": {"input": 1.0, "output": 4.0}}},
        "assistant": {"endpoint": "lab", "model": "helper", "max_tokens": 200},
        "user": {"endpoint": "lab", "model": "person"},
        "judge": {"endpoint": "lab", "model": "judge"},
        "reward": {"samples": 2, "window": 1},
        "evaluate": {"arms": ["base", "proactive"], "conversations": 6, "decoding": ["sampled"]},
        "build": {"conversations": 5, "candidates": 2},
    }


@pytest.mark.parametrize(("command", "part"), [("evaluate", "evaluation"), ("build", "build")])
def test_calls_tokens_and_money_are_those_of_a_run_whose_models_keep_to_what_is_assumed(
    command: str, part: str, tmp_path: Path
) -> None:
    with ServerThread(keeps_to_what_is_assumed()) as server:
        table = lab(server.url)
        recipe = tmp_path / "lab.toml"
        import tomli_w

        recipe.write_text(tomli_w.dumps(table))
        assert call(command, str(recipe), "--runs", str(tmp_path), "--quiet") == 0
    rows = [row for row in estimate(parse(table, "lab"), Hardware()) if row.part == part]

    found = {total["role"]: total for total in calls_made(tmp_path / "lab" / "calls.sqlite")}
    assert {row.role for row in rows} == set(found)
    for row in rows:
        total, amount = found[row.role], row.amounts["expected"]
        assert amount.use.calls == pytest.approx(total["calls"] + total["cached"], rel=1e-9)
        if not total["cached"]:
            assert amount.use.written == pytest.approx(total["completion"], rel=0.02)
            assert amount.use.read == pytest.approx(total["prompt"], rel=0.02)
            assert amount.money == pytest.approx(total["cost"], rel=0.02)


def test_whole_conversations_sample_what_a_run_does(tmp_path: Path) -> None:
    changes = [
        'train.0.unit="conversation"', "train.0.steps=2", "train.0.groups=8", 'evaluate.arms=["trained"]',
        "evaluate.conversations=8", 'evaluate.decoding=["sampled"]', "run.processes=1",
    ]  # fmt: skip
    sets = [part for change in changes for part in ("--set", change)]

    assert call("train", str(QUICKSTART), "--runs", str(tmp_path), *sets, "--quiet") == 0
    rows = estimate(load_recipe(QUICKSTART, changes), Hardware())

    journal = Journal(tmp_path / "quickstart" / "journal.jsonl")
    sampled = sum(entry.value["sampled_tokens"] for entry in journal.read("step"))
    assert 1 / 1.5 < of_part(rows, "trained 0-grpo", "assistant").amounts["expected"].use.written / sampled < 1.5


def test_demonstrations_are_as_many_tokens_as_the_recipe_says_they_were() -> None:
    recipe = ROOT / "recipes" / "tiny.toml"
    read = sum(
        row.amounts["expected"].use.read for row in estimate(load_recipe(recipe), Hardware()) if "sft" in row.part
    )

    assert "About 2.7 million tokens of demonstrations" in recipe.read_text()
    assert 1 / 1.5 < read / 2.7e6 < 1.5


# ---- what becomes of tokens


def test_gpu_hours_are_operations_over_what_a_gpu_does() -> None:
    recipe = load_recipe(ROOT / "recipes" / "qwen-one-gpu.toml")
    sizes = {"Qwen/Qwen3-1.7B": 1e9, "Qwen/Qwen3-4B-Instruct-2507": 4e9}

    rows = estimate(recipe, Hardware(flops=1e14, utilisation=0.5, tokens_per_second=1000, sizes=sizes))

    by_role = {row.role: row.amounts["expected"] for row in rows if row.part == "trained 0-grpo"}
    judge, policy, learning = by_role["judge"], by_role["assistant"], by_role["learning"]
    assert judge.gpu_hours == pytest.approx(
        (2 * 4e9 * judge.use.read / 5e13 + 2 * 4e9 * judge.use.written / 1.25e13) / 3600
    )
    assert policy.gpu_hours == pytest.approx((2e9 * policy.use.fresh / 5e13 + policy.use.written / 1000) / 3600)
    assert learning.gpu_hours == pytest.approx(6e9 * learning.use.read / 5e13 / 3600)  # an adapter's


def test_the_range_holds_what_is_expected_and_parts_add_up() -> None:
    rows = estimate(load_recipe(QUICKSTART), Hardware())

    for row in rows:
        low, expected, high = (row.amounts[name].use for name in ("low", "expected", "high"))
        assert low.written <= expected.written <= high.written
        assert low.calls <= expected.calls <= high.calls
    (whole,) = (row for row in totals(rows) if row.role == "assistant")
    parts = [row.amounts["expected"].use.calls for row in rows if row.role == "assistant"]
    assert whole.amounts["expected"].use.calls == pytest.approx(sum(parts))


def test_the_size_of_a_model_on_this_machine_is_known_and_of_another_asked_for(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert call("cost", str(QUICKSTART), "--json") == 0
    known: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert call("cost", str(ROOT / "recipes" / "qwen-one-gpu.toml")) == 0

    assert all(row["expected"]["GPU_hours"] for row in known["rows"])
    assert "give --parameters Qwen/Qwen3-1.7B=8e9, or what it has" in capsys.readouterr().out


def test_sizes_are_the_assistants_or_a_models_by_its_name() -> None:
    assert sizes_given(["8e9", "big=7e10"], "mine") == {"mine": 8e9, "big": 7e10}
    with pytest.raises(RecipeError, match="--parameters much: write a number like 8e9"):
        sizes_given(["much"], "mine")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--gpu-flops", "0"], "--gpu-flops 0: give a number above 0"),
        (["--gpu-flops", "nan"], "--gpu-flops nan: give a number above 0"),
        (["--utilisation", "0"], "--utilisation 0: give a number above 0"),
        (["--utilisation", "2"], "--utilisation 2: it is a share: give 1 at most"),
        (["--tokens-per-second", "0"], "--tokens-per-second 0: give a number above 0"),
        (["--gpu-price=-1"], "--gpu-price -1: give 0 or a number above it"),
        (["--gpu-price", "nan"], "--gpu-price nan: give 0"),
        (["--parameters", "inf"], "--parameters inf: write a number like 8e9"),
        (["--parameters", "tinny=1e9"], 'the recipe has no model "tinny"; did you mean "tiny"?'),
    ],
)
def test_a_number_that_cannot_be_is_refused(
    options: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("cost", str(QUICKSTART), *options) == 2
    assert sentence in capsys.readouterr().err


def test_a_budget_that_will_not_do_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    changes = ["--set", "endpoints.local.price={input=1.0, output=4.0}", "--set", "budget=5.0"]

    assert call("cost", str(ROOT / "recipes" / "qwen-one-gpu.toml"), *changes) == 0

    assert "the budget of 5 ends the run before: calls are expected to cost" in capsys.readouterr().out


def test_nothing_is_asked_of_any_server(capsys: pytest.CaptureFixture[str]) -> None:
    with ServerThread(keeps_to_what_is_assumed()) as server:
        url = f"endpoints.local.url={server.url}"
        assert call("cost", str(ROOT / "recipes" / "qwen-one-gpu.toml"), "--set", url) == 0
        asked = list(server.asked)
    assert not asked
