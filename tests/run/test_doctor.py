"""`duologue doctor` against servers that can all, little, and nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from duologue.cli import main
from duologue.errors import RecipeError
from duologue.recipe import Recipe, parse
from duologue.run.doctor import Finding, examine
from duologue.seeding import generator
from endpoint_server import Asked, Script, ServerThread, completion, failure

SUM = json.dumps({"evidence": "added", "total": 42})


def recipe(url: str) -> Recipe:
    lab = {"endpoint": "lab", "model": "small"}
    endpoints = {"lab": {"url": url}}
    return parse({"name": "lab", "endpoints": endpoints, "assistant": lab, "user": lab, "judge": lab}, "lab.toml")


def test_what_is_ignored_is_not_taken_for_what_works() -> None:
    found = findings(lambda asked: SUM if "The object:" in asked.last else "forty-two")
    assert "the server does not see to it" in found["fills in forms"].said


def findings(script: Script) -> dict[str, Finding]:
    with ServerThread(script) as server:
        found = list(examine(recipe(server.url)))
    assert {finding.roles for finding in found} == {("assistant", "user", "judge")}
    return {finding.question: finding for finding in found}


def able(asked: Asked) -> Any:
    if "19 and 23" in asked.last:
        return SUM
    return str(generator(asked.body.get("seed", 0)).random())


def test_a_server_that_can_all(tmp_path: Path) -> None:
    found = findings(able)
    works = {question: finding.works for question, finding in found.items()}
    assert works == {
        "answers": True,
        "counts tokens": True,
        "fills in forms": True,
        "keeps seeds": True,
        "context": None,
    }
    assert "the server holds replies to the form" in found["fills in forms"].said


def test_a_server_without_schemas_seeds_and_usage_says_what_to_change() -> None:
    def plain(asked: Asked) -> Any:
        if "response_format" in asked.body:
            return failure(400, "response_format is not supported")
        return completion(SUM if "The object:" in asked.last else f"reply {asked.number}", prompt=None)

    found = findings(plain)
    assert found["fills in forms"].works is True
    assert "the server does not see to it" in found["fills in forms"].said
    assert found["keeps seeds"].works is False and "two replies" in found["keeps seeds"].said
    assert found["counts tokens"].works is False
    assert all(finding.advice for finding in found.values() if finding.works is False)


def test_a_model_that_cannot_fill_in_a_form_should_not_judge() -> None:
    found = findings(lambda asked: "I would rather not .")
    assert found["fills in forms"].works is False
    assert "take another model to judge" in (found["fills in forms"].advice or "")


def test_a_refused_key_is_one_sentence_and_nothing_more_is_asked() -> None:
    found = findings(lambda asked: failure(401, "no such key"))
    assert list(found) == ["answers"]
    assert found["answers"].works is False and "key" in found["answers"].said


def test_a_recipe_without_endpoints_has_nothing_to_ask() -> None:
    with pytest.raises(RecipeError, match="names no endpoint"):
        list(examine(parse({"name": "here"}, "here.toml")))


@pytest.mark.parametrize(("script", "code"), [(able, 0), (lambda asked: failure(401), 1)])
def test_the_command_shows_all_and_says_by_its_status_whether_work_can_begin(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], script: Script, code: int
) -> None:
    with ServerThread(script) as server:
        path = tmp_path / "lab.toml"
        path.write_text(f'name = "lab"\n[judge]\nendpoint = "{server.url}"\nmodel = "small"\n')
        with pytest.raises(SystemExit) as ended:
            main(["doctor", str(path)])
    assert (ended.value.code or 0) == code
    shown = capsys.readouterr().out
    assert f"{server.url} · small (judge)" in shown
    assert ("FAILS" in shown) == bool(code)
