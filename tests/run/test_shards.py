"""What machines do of one run, each its shard, is what one machine does."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, strategies as st

from duologue.conversation import Goal, Request
from duologue.errors import DataError, RecipeError, RunError
from duologue.evaluation import visits
from duologue.recipe import Recipe, load_recipe, merged, parse
from duologue.run import commands
from duologue.run.commands import evaluate, evaluate_shard
from duologue.run.evaluating import wanted
from duologue.run.filter import score_file
from duologue.run.folder import RunFolder
from duologue.run.jobs import perform
from duologue.run.merge import merge_rewards, merge_runs
from duologue.run.shards import Shard, all_shards, make_part, shard_of
from duologue.run.workers import Job
from duologue.tasks import load_task
from endpoint_server import ServerThread
from lab_server import answer

PLAIN: dict[str, Any] = {
    "name": "plain",
    "task": {"name": "groceries", "test": 14},
    "assistant": {"model": "scripted:oracle"},
    "reward": {"samples": 2, "window": 1},
    "evaluate": {
        "arms": ["base", "oracle"],
        "conversations": 18,
        "decoding": ["sampled"],
        "users": {"unseen": {"profiles": "unseen"}},
    },
}
TOLD = 2 * 2 * 18
"""Conversations: arms × kinds of users × conversations."""
TASK = load_task("groceries")


def unwatched(*progress: Any) -> None:
    pass


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    def run_jobs(jobs: Sequence[Job], perform_: Any, *, watch: Any, **_: Any) -> None:
        for job in jobs:
            perform(job, lambda *progress, name=job.name: watch(name, *progress))

    monkeypatch.setattr(commands, "run_jobs", run_jobs)


def recipe(**changes: Any) -> Recipe:
    return parse(merged(PLAIN, changes), "plain.toml")


def journal(run: Path) -> list[dict[str, Any]]:
    """The conversations of a journal, sorted by key."""
    entries = [orjson.loads(line) for line in (run / "journal.jsonl").read_bytes().splitlines()]
    return sorted(entries, key=lambda entry: entry["key"])


def played(folder: Path, of: int = 3, **changes: Any) -> list[Path]:
    """The folders of all shards."""
    return [evaluate_shard(recipe(**changes), folder / "plain", shard, watch=unwatched) for shard in all_shards(of)]


# ---- a shard ------------------------------------------------------------------------------------------------


@given(st.text(), st.integers(1, 20))
def test_every_goal_is_in_one_shard(goal: str, of: int) -> None:
    assert [shard.holds(goal) for shard in all_shards(of)].count(True) == 1


def test_which_shard_holds_a_goal_never_changes() -> None:
    assert [Shard.holding(f"goal-{index}", 4).index for index in range(8)] == [3, 3, 1, 3, 2, 2, 4, 3]


@given(st.integers(1, 30), st.integers(0, 70), st.integers(1, 6))
def test_the_visits_of_all_shards_are_those_of_the_whole(goals: int, conversations: int, of: int) -> None:
    some = [Goal(f"g{index}", Request("you want milk")) for index in range(goals)]
    whole = list(visits(some, conversations))
    parts = [visit for shard in all_shards(of) for visit in visits(*shard.part(some, conversations))]
    assert sorted((goal.id, visit) for goal, visit in parts) == sorted((goal.id, visit) for goal, visit in whole)


def test_a_shard_is_read_as_it_is_written() -> None:
    assert Shard.parse("2/8") == Shard(2, 8)
    assert str(Shard(2, 8)) == "2/8"
    assert Shard(2, 8).folder(Path("runs/maths")) == Path("runs/maths.2-of-8")


@pytest.mark.parametrize("text", ["0/8", "9/8", "2", "2/", "two/8", "-1/8", "2/8/3", "", "1/0", "2-of-8"])
def test_nonsense_is_no_shard(text: str) -> None:
    with pytest.raises(RecipeError, match="is no shard: write 2/8 for the second of eight"):
        Shard.parse(text)


# ---- conversations ------------------------------------------------------------------------------------------


def test_the_merged_shards_are_the_run_of_one_machine(tmp_path: Path) -> None:
    whole = evaluate(recipe(), tmp_path / "whole", watch=unwatched)
    parts = played(tmp_path)
    assert merge_runs(parts, tmp_path / "merged") == whole
    assert journal(tmp_path / "merged") == journal(tmp_path / "whole")
    for name in ("evaluation.json", "recipe.toml"):
        assert (tmp_path / "merged" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert (tmp_path / "merged" / "report.html").exists()


def test_a_shard_plays_its_own_goals_and_makes_no_figures(tmp_path: Path) -> None:
    parts = played(tmp_path)
    assert [part.name for part in parts] == ["plain.1-of-3", "plain.2-of-3", "plain.3-of-3"]
    for part, shard in zip(parts, all_shards(3), strict=True):
        assert shard_of(part) == shard
        assert all(shard.holds(entry["value"]["goal"]) for entry in journal(part))
        assert {path.name for path in part.iterdir()} == {"shard", "recipe.toml", "journal.jsonl"}
    assert sum(len(journal(part)) for part in parts) == TOLD


def test_progress_counts_the_conversations_of_the_shard(tmp_path: Path) -> None:
    told: list[tuple[Any, ...]] = []
    part = evaluate_shard(recipe(), tmp_path / "plain", Shard(1, 3), watch=lambda *progress: told.append(progress))
    assert sum(progress[2] for progress in told if progress[1] == progress[2]) == len(journal(part))


def test_more_shards_than_goals_leave_some_empty(tmp_path: Path) -> None:
    parts = played(tmp_path, of=40)
    assert sum(len(journal(part)) for part in parts) == TOLD
    merge_runs(parts, tmp_path / "merged")


def test_a_shard_given_twice_is_merged_once(tmp_path: Path) -> None:
    parts = played(tmp_path)
    merge_runs([*parts, parts[1]], tmp_path / "merged")
    assert len(journal(tmp_path / "merged")) == TOLD


def test_merging_again_does_nothing_twice(tmp_path: Path) -> None:
    parts = played(tmp_path)
    first = merge_runs(parts, tmp_path / "merged")
    content = (tmp_path / "merged" / "journal.jsonl").read_bytes()
    assert merge_runs(parts, tmp_path / "merged") == first
    assert (tmp_path / "merged" / "journal.jsonl").read_bytes() == content


def test_a_shard_that_was_played_again_adds_nothing(tmp_path: Path) -> None:
    (first, *_) = played(tmp_path)
    content = (first / "journal.jsonl").read_bytes()
    played(tmp_path)
    assert (first / "journal.jsonl").read_bytes() == content


def test_a_missing_shard_is_named_and_nothing_is_written(tmp_path: Path) -> None:
    first, second, third = played(tmp_path)
    missing = len(journal(second))
    with pytest.raises(
        RunError, match=rf"{missing} of {TOLD} conversations .*: {missing} of shard 2/3; play those with"
    ):
        merge_runs([first, third], tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_a_shard_that_was_not_finished_is_named(tmp_path: Path) -> None:
    parts = played(tmp_path)
    lines = (parts[2] / "journal.jsonl").read_bytes().splitlines(keepends=True)
    (parts[2] / "journal.jsonl").write_bytes(b"".join(lines[:-2]) + lines[-2][:30])
    with pytest.raises(RunError, match=rf"2 of {TOLD} conversations are in none of the parts: 2 of shard 3/3"):
        merge_runs(parts, tmp_path / "merged")


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"seed": 1}, "seed was 0 and is now 1"),
        ({"evaluate": {"conversations": 5}}, "evaluate.conversations was 18 and is now 5"),
        ({"user": {"profiles": "unseen"}}, "user.profiles was 'train' and is now 'unseen'"),
    ],
)
def test_a_part_of_another_recipe_is_refused(tmp_path: Path, changes: dict[str, Any], difference: str) -> None:
    first, *_ = played(tmp_path, of=2)
    other = evaluate_shard(recipe(**changes), tmp_path / "other", Shard(2, 2), watch=unwatched)
    with pytest.raises(RunError, match=rf"other.2-of-2 is of another recipe than .*plain.1-of-2 \(.*{difference}"):
        merge_runs([first, other], tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_parts_may_differ_in_how_they_were_worked_on(tmp_path: Path) -> None:
    first, _ = played(tmp_path, of=2)
    busier = recipe(name="busier", run={"processes": 7}, evaluate={"concurrency": 3})
    second = evaluate_shard(busier, tmp_path / "busier", Shard(2, 2), watch=unwatched)
    merge_runs([first, second], tmp_path / "merged")


def test_a_damaged_line_is_named_and_nothing_is_written(tmp_path: Path) -> None:
    parts = played(tmp_path)
    lines = (parts[1] / "journal.jsonl").read_bytes().splitlines(keepends=True)
    (parts[1] / "journal.jsonl").write_bytes(b"".join([lines[0], b'{"key": 1}\n', *lines[2:]]))
    with pytest.raises(RunError, match=r"plain.2-of-3/journal.jsonl, line 2 is damaged"):
        merge_runs(parts, tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_what_is_no_run_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunError, match="empty is no folder of a run"):
        merge_runs([*played(tmp_path), tmp_path / "empty"], tmp_path / "merged")


def test_the_calls_of_all_shards_are_added_up(tmp_path: Path) -> None:
    with ServerThread(answer) as server:
        priced = {"lab": {"url": server.url, "price": {"input": 1.0, "output": 10.0}}}
        lab = {"endpoints": priced, "assistant": {"endpoint": "lab", "model": "oracle"}}
        whole = evaluate(recipe(**lab), tmp_path / "whole", watch=unwatched)
        parts = played(tmp_path, **lab)
    for _ in range(2):
        merged_calls, whole_calls = merge_runs(parts, tmp_path / "merged")["calls"], whole["calls"]
        assert [{**total, "seconds": 0} for total in merged_calls] == [{**total, "seconds": 0} for total in whole_calls]


def test_a_folder_is_of_one_shard(tmp_path: Path) -> None:
    make_part(tmp_path / "part", tmp_path / "plain", Shard(1, 2))
    with pytest.raises(RunError, match="holds shard 1/2, not 2/2"):
        make_part(tmp_path / "part", tmp_path / "plain", Shard(2, 2))


def test_a_shard_finds_the_models_that_the_run_has_trained(tmp_path: Path) -> None:
    run, part = RunFolder(tmp_path / "plain"), RunFolder(tmp_path / "part")
    run.model("trained").mkdir(parents=True)
    (part.path / "models").parent.mkdir()
    (part.path / "models").symlink_to(tmp_path / "where it was")
    make_part(part.path, run.path, Shard(1, 2))
    assert part.model("trained").samefile(run.model("trained"))


def test_a_shard_of_an_arm_that_is_not_trained_is_refused(tmp_path: Path) -> None:
    untrained = recipe(assistant={"model": "tiny"}, train=[{"algorithm": "grpo"}], evaluate={"arms": ["trained"]})
    with pytest.raises(RunError, match=r"trained: not trained yet in .*plain: train first"):
        evaluate_shard(untrained, tmp_path / "plain", Shard(1, 2), watch=unwatched)
    assert list(tmp_path.iterdir()) == []


def test_a_runs_own_recipe_asks_for_the_same_conversations(tmp_path: Path) -> None:
    kinds = {"user": {"temperature": 0.5}, "evaluate": {"users": {"unseen": {"profiles": "unseen"}}}}
    asked = recipe(**kinds)
    RunFolder(tmp_path / "plain").begin(asked, restart=False)
    assert list(wanted(load_recipe(tmp_path / "plain" / "recipe.toml"))) == list(wanted(asked))


# ---- rewards ------------------------------------------------------------------------------------------------


def lines(count: int) -> list[str]:
    """Lines of a file of replies, one of them without a goal, one that is not JSON."""
    made = [
        {
            "id": index,
            "goal": {"request": goal.request.text, "facts": dict(goal.request.facts), "reference": goal.reference},
            "messages": [{"role": "user", "content": "i need milk ."}],
            "reply": "which city ?" if index % 2 else "hello !",
        }
        for index in range(count)
        for goal in [TASK.goals("test")[index % 9]]
    ]
    return [*map(json.dumps, made), '{"id": "no goal"}', "{"]


def answered(folder: Path, of: int = 3, count: int = 25, **changes: Any) -> list[Path]:
    """The files of all shards; and `whole.jsonl`, of all lines."""
    source = folder / "replies.jsonl"
    source.write_text("".join(f"{line}\n" for line in lines(count)))
    targets = [folder / f"{shard.index}.jsonl" for shard in all_shards(of)]
    for shard, target in zip(all_shards(of), targets, strict=True):
        score_file(recipe(**changes), source, target, shard=shard, watch=unwatched)
    if not (folder / "whole.jsonl").exists():
        score_file(recipe(**changes), source, folder / "whole.jsonl", watch=unwatched)
    return targets


@pytest.mark.parametrize("of", [1, 3, 30])
def test_the_merged_rewards_are_the_bytes_of_one_machine(tmp_path: Path, of: int) -> None:
    parts = answered(tmp_path, of)
    assert merge_rewards(parts[::-1], tmp_path / "merged.jsonl") == 27
    assert (tmp_path / "merged.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_an_answer_of_a_shard_says_which_line_it_answers(tmp_path: Path) -> None:
    parts = answered(tmp_path)
    told = [json.loads(line) for part in parts for line in part.read_text().splitlines()]
    assert sorted(row["line"] for row in told) == list(range(1, 28))
    assert {row["of"] for row in told} == {27}
    assert all(list(row)[:5] == ["line", "of", "shard", "run", "id"] for row in told)


def test_a_shard_of_rewards_that_was_cut_short_goes_on(tmp_path: Path) -> None:
    class Stopped(Exception):
        pass

    def stop(done: int, total: int) -> None:
        if done == 3:
            raise Stopped

    first, *_ = answered(tmp_path)
    whole = first.read_bytes()
    first.unlink()
    told: list[tuple[int, int]] = []
    with pytest.raises(Stopped):
        score_file(recipe(), tmp_path / "replies.jsonl", first, shard=Shard(1, 3), watch=stop)
    score_file(recipe(), tmp_path / "replies.jsonl", first, shard=Shard(1, 3), watch=lambda *p: told.append(p))
    assert first.read_bytes() == whole
    count = len(whole.splitlines())
    assert told == [(done, count) for done in range(4, count + 1)]


def test_rewards_given_twice_are_merged_once(tmp_path: Path) -> None:
    parts = answered(tmp_path)
    merge_rewards([*parts, *parts], tmp_path / "merged.jsonl")
    assert (tmp_path / "merged.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def left_behind(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if "merged" in path.name]


def test_missing_rewards_are_counted_and_their_shard_is_named(tmp_path: Path) -> None:
    first, second, third = answered(tmp_path)
    missing = len(second.read_bytes().splitlines())
    with pytest.raises(
        RunError, match=rf"{missing} of 27 lines are in none of the parts, line \d+ the first; no line is of shard 2/3"
    ):
        merge_rewards([first, third], tmp_path / "merged.jsonl")
    assert left_behind(tmp_path) == []


def test_rewards_of_another_recipe_are_refused(tmp_path: Path) -> None:
    first, *_ = answered(tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    _, *others = answered(other, seed=1)
    with pytest.raises(RunError, match=r"other/\d.jsonl answers another recipe or input than .*|than .*other"):
        merge_rewards([first, *others], tmp_path / "merged.jsonl")
    assert left_behind(tmp_path) == []


@pytest.mark.parametrize("damage", [b"{}\n", b"", b'{"line":1,"of":27,"shard":"1/3","run":"0123456789abcdef",\n'])
def test_a_damaged_line_of_rewards_is_named(tmp_path: Path, damage: bytes) -> None:
    first, *others = answered(tmp_path)
    rows = first.read_bytes().splitlines(keepends=True)
    first.write_bytes(b"".join([*rows[:2], damage or rows[2][:50], *([] if not damage else rows[3:])]))
    with pytest.raises(DataError, match=r"1.jsonl, line 3 is damaged, or was not written by `duologue reward --shard`"):
        merge_rewards([first, *others], tmp_path / "merged.jsonl")
    assert left_behind(tmp_path) == []


def test_an_output_that_is_there_already_is_kept(tmp_path: Path) -> None:
    parts = answered(tmp_path)
    with pytest.raises(DataError, match=r"whole.jsonl is there already"):
        merge_rewards(parts, tmp_path / "whole.jsonl")


def test_a_part_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no file .*4.jsonl"):
        merge_rewards([*answered(tmp_path), tmp_path / "4.jsonl"], tmp_path / "merged.jsonl")


def test_empty_parts_are_not_an_answer(tmp_path: Path) -> None:
    (tmp_path / "1.jsonl").touch()
    with pytest.raises(RunError, match="they are all empty"):
        merge_rewards([tmp_path / "1.jsonl"], tmp_path / "merged.jsonl")
