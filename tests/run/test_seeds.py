"""Whether effects of behaviours are paired: an evaluation asks the servers that play, and says what they showed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from duologue.cli import main
from duologue.journal import Journal
from duologue.recipe import Recipe, merged, parse
from duologue.run.endpoints import calls_made
from duologue.run.seeds import QUESTION, merged_pairing, pairing
from duologue.seeding import generator
from endpoint_server import Asked, Script, ServerThread, failure
from lab_server import answer


def table(url: str, **changes: Any) -> dict[str, Any]:
    """Users that a model plays: some just answer, and the same, who leave."""
    person = {"endpoint": "lab", "model": "person"}
    base: dict[str, Any] = {
        "name": "lab",
        "task": {"name": "groceries"},
        "endpoints": {"lab": {"url": url, "timeout": 5.0}},
        "assistant": {"endpoint": "lab", "model": "helper"},
        "user": person,
        "reward": {"metrics": {"outcome": 1.0}},
        "evaluate": {
            **{"arms": ["base"], "conversations": 2, "decoding": ["sampled"]},
            "users": {"leaving": {**person, "behaviours": {"leaves": 1.0}, "behaviour_turn": 1}},
        },
    }
    return merged(base, changes)


def lab(url: str, **changes: Any) -> Recipe:
    return parse(table(url, **changes), "lab.toml")


def server_that(writes: Callable[[Asked], Any]) -> Script:
    """What plays the groceries, and writes ten random words so."""
    return lambda asked: writes(asked) if asked.last == QUESTION.content else answer(asked)


def by_seed(asked: Asked) -> str:
    return str(generator(asked.body["seed"]).random())


def by_chance(asked: Asked) -> str:
    return f"the words number {asked.number}"


def notes(writes: Callable[[Asked], Any], folder: Path, **changes: Any) -> list[str]:
    """What an evaluation says of the servers that played in it."""
    with ServerThread(server_that(writes)) as server:
        return paired(lab(server.url, **changes), folder)


def paired(recipe: Recipe, folder: Path) -> list[str]:
    return pairing(recipe, folder / "calls.sqlite", Journal(folder / "journal.jsonl"))


def test_where_a_server_keeps_seeds_effects_are_paired(tmp_path: Path) -> None:
    assistant, user = notes(by_seed, tmp_path)
    assert "plays the assistant (lab, helper) keeps seeds" in assistant
    assert "plays the user (lab, person) keeps seeds" in user
    assert not any(note.startswith("Warning") for note in (assistant, user))


def test_where_a_server_ignores_seeds_effects_are_unpaired_and_a_note_says_so(tmp_path: Path) -> None:
    for note, role in zip(notes(by_chance, tmp_path), ("assistant", "user"), strict=True):
        assert note.startswith(f"Warning: effects: the server that plays the {role} ")
        assert "ignores seeds: the effects of behaviours are unpaired from the message on" in note


def test_each_role_is_asked_by_itself(tmp_path: Path) -> None:
    def one_of_two(asked: Asked) -> str:
        return (by_seed if asked.body["model"] == "helper" else by_chance)(asked)

    assistant, user = notes(one_of_two, tmp_path)
    assert "keeps seeds" in assistant and "ignores seeds" in user


@pytest.mark.parametrize(
    ("writes", "temperature", "why"),
    [
        (lambda asked: "the same ten words", 1.0, "all seeds gave the same reply"),
        (lambda asked: "the same ten words", 0.0, "the same call gave the same reply, at temperature 0"),
        (lambda asked: failure(400, "no words here"), 1.0, "it could not be asked: "),
    ],
)
def test_what_cannot_be_told_is_said_to_be_so(
    writes: Callable[[Asked], Any], temperature: float, why: str, tmp_path: Path
) -> None:
    roles = {"temperature": temperature}
    changes = {"user": roles, "assistant": roles, "evaluate": {"users": {"leaving": roles}}}
    for note in notes(writes, tmp_path, **changes):
        assert "keeps seeds cannot be told (" in note and why in note


def test_what_is_asked_is_charged_and_asked_once(tmp_path: Path) -> None:
    with ServerThread(server_that(by_seed)) as server:
        first, again = (paired(lab(server.url), tmp_path) for _ in range(2))
    assert first == again and len(server.asked) == 6
    totals = calls_made(tmp_path / "calls.sqlite")
    assert [(total["role"], total["model"], total["calls"], total["cached"]) for total in totals] == [
        ("seeds", "helper", 3, 0),
        ("seeds", "person", 3, 0),
    ]


def test_a_server_that_could_not_be_asked_is_asked_again(tmp_path: Path) -> None:
    with ServerThread(server_that(lambda asked: failure(400, "no words here"))) as server:
        paired(lab(server.url), tmp_path)
        before = len(server.asked)
        paired(lab(server.url), tmp_path)
    assert len(server.asked) == 2 * before > 0


def test_a_budget_that_is_spent_is_no_fault_of_what_was_played(tmp_path: Path) -> None:
    with ServerThread(server_that(by_seed)) as server:
        dear = lab(server.url, endpoints={"lab": {"price": {"input": 1.0, "output": 1.0}}}, budget=1e-9)
        found = paired(dear, tmp_path)
        assert not server.asked
    assert len(found) == 2 and all("it could not be asked: the budget" in note for note in found)


def test_nothing_is_asked_without_pairs(tmp_path: Path) -> None:
    recipe = lab("http://127.0.0.1:9/v1", evaluate={"users": {"leaving": {"profiles": "unseen"}}})
    assert paired(recipe, tmp_path) == merged_pairing(recipe) == []


def test_models_that_play_here_are_paired(tmp_path: Path) -> None:
    users = {"leaving": {"behaviours": {"leaves": 1.0}}}
    evaluated = {"arms": ["base"], "users": users}
    here = parse({"name": "here", "task": {"name": "groceries"}, "evaluate": evaluated}, "here.toml")
    (note,) = paired(here, tmp_path)
    assert "effects are paired" in note and merged_pairing(here) == [note]
    assert not (tmp_path / "calls.sqlite").exists()


def test_parts_that_are_merged_do_not_ask_and_say_so() -> None:
    (note,) = merged_pairing(lab("http://127.0.0.1:9/v1"))
    assert "was not asked" in note and "`duologue doctor`" in note


@pytest.mark.parametrize(("writes", "warns"), [(by_seed, 0), (by_chance, 2)])
def test_the_command_warns_of_unpaired_effects(
    writes: Callable[[Asked], Any], warns: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with ServerThread(server_that(writes)) as server:
        path = tmp_path / "lab.toml"
        path.write_text(tomli_w.dumps(table(server.url)))
        with pytest.raises(SystemExit) as ended:
            main(["evaluate", str(path), "--runs", str(tmp_path), "--json"])
    assert not ended.value.code
    shown = capsys.readouterr()
    told = [line for line in shown.err.splitlines() if "ignores seeds" in line]
    assert len(told) == warns and all(line.startswith("duologue: warning: effects: the server") for line in told)
    written = [note for note in json.loads(shown.out)["notes"] if "the server that plays" in note]
    assert len(written) == 2 and sum(note.startswith("Warning") for note in written) == warns
