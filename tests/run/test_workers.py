from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Generator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import jobs_to_do
from duologue.errors import DataError, RunError
from duologue.run import workers
from duologue.run.jobs import perform
from duologue.run.workers import Job, run_jobs


@pytest.fixture(autouse=True)
def nothing_is_left() -> Generator[None]:
    yield
    assert multiprocessing.active_children() == []


def jobs(folder: Path, *names: str) -> list[Job]:
    """Jobs like "train a"; an evaluation needs the training of its arm."""
    made: list[Job] = []
    for name in names:
        kind, arm = name.split()
        needs = f"train {arm}" if kind == "evaluate" else None
        made.append(Job(kind, (arm,), {}, str(folder), needs))  # type: ignore[arg-type]
    return made


def performed(perform: Callable[..., None], todo: list[Job], *, processes: int = 1) -> list[Any]:
    seen: list[Any] = []
    run_jobs(todo, perform, processes=processes, threads=1, watch=lambda *progress: seen.append(progress))
    return seen


def done(folder: Path) -> list[str]:
    return (folder / "done").read_text().splitlines()


def test_a_job_waits_for_the_one_it_needs(tmp_path: Path) -> None:
    todo = jobs(tmp_path, "evaluate a", "evaluate b", "train b")
    performed(jobs_to_do.note, todo, processes=2)
    order = done(tmp_path)
    assert sorted(order) == ["evaluate a", "evaluate b", "train b"]
    assert order.index("train b") < order.index("evaluate b")


def test_whoever_watches_sees_each_jobs_progress(tmp_path: Path) -> None:
    assert performed(jobs_to_do.note, jobs(tmp_path, "train a")) == [
        ("train a", 1, 2, "half"),
        ("train a", 2, 2, "whole"),
    ]


@pytest.mark.parametrize(("visible", "seen"), [(None, "0"), ("2,3", "2"), ("", "")])
def test_a_worker_sees_one_gpu(visible: str | None, seen: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)

    performed(jobs_to_do.note_gpus, jobs(tmp_path, "train a"))

    assert (tmp_path / "done").read_text() == seen


def test_nothing_to_do_starts_nothing(tmp_path: Path) -> None:
    assert performed(jobs_to_do.note, []) == []


def test_the_first_failure_is_raised_and_stops_the_others(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the goals are gone"):
        performed(jobs_to_do.fail_if_trained, jobs(tmp_path, "evaluate x", "train a"), processes=2)


@pytest.mark.parametrize(
    ("perform", "sentence"),
    [(jobs_to_do.fail_in_arm_a, "the goals are gone"), (jobs_to_do.be_killed_in_arm_a, "its process was killed")],
)
def test_where_failures_are_taken_they_cost_what_needs_them_and_no_other(
    tmp_path: Path, perform: Callable[..., None], sentence: str
) -> None:
    failures: list[tuple[str, str]] = []
    run_jobs(
        jobs(tmp_path, "train a", "evaluate a", "train b", "evaluate b"),
        perform,
        processes=1,
        threads=1,
        watch=lambda *progress: None,
        failed=lambda job, error: failures.append((job.name, str(error))),
    )
    assert done(tmp_path) == ["train b", "evaluate b"]
    ((name, told),) = failures
    assert name == "train a" and sentence in told


def test_a_process_that_was_killed_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"train a: its process was killed \(exit status -9\).*goes on"):
        performed(jobs_to_do.be_killed, jobs(tmp_path, "train a"))


def test_a_full_disk_is_named_whatever_the_library_says(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="the disk is full: train a could not write") as refused:
        performed(jobs_to_do.fill_the_disk, jobs(tmp_path, "train a"))
    assert "Traceback" not in str(refused.value)


def test_an_error_of_torch_on_a_full_disk_is_known_by_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (job,) = jobs(tmp_path, "train a")
    error = RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 41856 vs 41744")
    assert "fault of ours" in str(workers.explained(error, job))
    full = SimpleNamespace(total=10**12, used=10**12, free=4096)
    monkeypatch.setattr("shutil.disk_usage", lambda folder: full)
    assert str(workers.explained(error, job)).startswith("the disk is full: train a")


def test_an_error_of_the_system_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="train a: /somewhere/else: Permission denied"):
        performed(jobs_to_do.lack_permission, jobs(tmp_path, "train a"))


def test_a_fault_of_ours_shows_where_it_is(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"(?s)fault of ours.*perform"):
        performed(perform, [Job("train", ("a",), {"name": "x"}, None)])  # type: ignore[arg-type]


def test_a_fault_in_a_tasks_own_code_names_its_place(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^train a: \S+jobs_to_do.py, line \d+: ZeroDivisionError: division by zero$"):
        performed(jobs_to_do.have_a_fault, jobs(tmp_path, "train a"))


def test_a_worker_without_work_ends_tidily(tmp_path: Path) -> None:
    performed(jobs_to_do.tell_when_it_ends, jobs(tmp_path, "train a"))
    assert (tmp_path / "ended").exists()


def test_an_interrupt_is_the_parents_to_answer(tmp_path: Path) -> None:
    performed(jobs_to_do.be_interrupted, jobs(tmp_path, "train a"))
    assert done(tmp_path) == ["train a"]


def test_what_libraries_print_stays_out_of_the_results(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    performed(jobs_to_do.print_something, jobs(tmp_path, "train a"))
    out, err = capfd.readouterr()
    assert out == ""
    assert "chatty" in err and "another one" in err
