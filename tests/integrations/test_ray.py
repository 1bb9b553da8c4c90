"""An evaluation on a local Ray cluster of two workers is the evaluation of this machine."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import orjson
import pytest

import pieces_to_play
from duologue.errors import BudgetSpent, MissingDependency, ModelError, RecipeError, RunError
from duologue.integrations import ray as ray_module
from duologue.integrations.settings import ScaleSettings
from duologue.recipe import Recipe, merged, parse
from duologue.run import scale
from duologue.run.commands import evaluate
from endpoint_server import ServerThread
from lab_server import answer

PLAIN: dict[str, Any] = {
    "name": "plain",
    "task": {"name": "groceries", "test": 14},
    "assistant": {"model": "scripted:oracle"},
    "evaluate": {"arms": ["base", "oracle"], "conversations": 30, "decoding": ["sampled"]},
}
TOLD = 2 * 30
MEMORY = 200 * 2**20

Watch = Callable[[str, int, int, str], None]


def unwatched(job: str, done: int, total: int, what: str) -> None:
    pass


def recipe(**changes: Any) -> Recipe:
    return parse(merged(PLAIN, changes), "plain.toml")


def journal(run: Path) -> list[dict[str, Any]]:
    """A journal, sorted by key."""
    entries = [orjson.loads(line) for line in (run / "journal.jsonl").read_bytes().splitlines()]
    return sorted(entries, key=lambda entry: entry["key"])


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of this machine."""
    run = tmp_path_factory.mktemp("whole") / "plain"
    evaluate(recipe(), run, watch=unwatched)
    return run


@pytest.fixture(scope="module")
def cluster() -> Generator[Any]:
    """A head without work of its own, and two machines, a worker each."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        for name, value in ray_module.QUIET.items():
            patch.setenv(name, value)
        patch.setenv("PYTHONPATH", str(Path(pieces_to_play.__file__).parent), prepend=os.pathsep)
        head = {"num_cpus": 0, "object_store_memory": MEMORY, "include_dashboard": False}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        for _ in range(2):
            cluster.add_node(num_cpus=1, object_store_memory=MEMORY)
        cluster.wait_for_nodes()
        yield cluster
        cluster.shutdown()


def on_ray(run: Path, cluster: Any, watch: Watch = unwatched, **scale: Any) -> dict[str, Any]:
    return evaluate(recipe(scale={"engine": "ray", "address": cluster.address, **scale}), run, watch=watch)


# ---- the same run -------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_cluster_plays_the_run_of_one_machine(tmp_path: Path, whole: Path, cluster: Any) -> None:
    told: list[tuple[Any, ...]] = []
    on_ray(tmp_path / "plain", cluster, lambda *progress: told.append(progress))
    assert journal(tmp_path / "plain") == journal(whole)
    assert (tmp_path / "plain" / "evaluation.json").read_bytes() == (whole / "evaluation.json").read_bytes()
    assert len(told) > 2 and told[-1] == ("evaluate on Ray", TOLD, TOLD, "conversations")
    assert [done for _, done, _, _ in told] == sorted({done for _, done, _, _ in told})


@pytest.mark.slow
def test_the_shard_of_a_killed_worker_is_played_again(
    tmp_path: Path, whole: Path, cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scale, "play_piece", pieces_to_play.play_and_be_killed_once)
    on_ray(tmp_path / "plain", cluster, shards=4)
    assert (tmp_path / "plain" / "killed").read_text().endswith("/4")
    assert journal(tmp_path / "plain") == journal(whole)
    assert (tmp_path / "plain" / "evaluation.json").read_bytes() == (whole / "evaluation.json").read_bytes()


@pytest.mark.slow
def test_a_machine_may_be_lost(tmp_path: Path, whole: Path, cluster: Any) -> None:
    doomed = cluster.add_node(num_cpus=1, object_store_memory=MEMORY)
    cluster.wait_for_nodes()

    def watch(job: str, done: int, total: int, what: str) -> None:
        if doomed in cluster.worker_nodes:
            cluster.remove_node(doomed, allow_graceful=False)

    on_ray(tmp_path / "plain", cluster, watch, shards=12)
    assert doomed not in cluster.worker_nodes
    assert journal(tmp_path / "plain") == journal(whole)


@pytest.mark.slow
def test_what_is_recorded_is_not_played_again(tmp_path: Path, whole: Path, cluster: Any) -> None:
    run = tmp_path / "plain"
    evaluate(recipe(evaluate={"conversations": 20}), run, watch=unwatched)
    before = (run / "journal.jsonl").read_bytes()
    told: list[int] = []
    on_ray(run, cluster, lambda job, done, total, what: told.append(done))
    assert (run / "journal.jsonl").read_bytes().startswith(before)
    assert told[0] > 2 * 20 and told[-1] == TOLD
    assert journal(run) == journal(whole)


def asked_for(found: dict[str, Any]) -> list[dict[str, Any]]:
    """What the calls amount to, times left out."""
    return [{name: value for name, value in total.items() if name != "seconds"} for total in found["calls"]]


@pytest.mark.slow
def test_what_the_workers_calls_cost_is_in_the_figures(tmp_path: Path, cluster: Any) -> None:
    with ServerThread(answer) as server:
        priced = {"lab": {"url": server.url, "price": {"input": 1.0, "output": 10.0}}}
        lab = recipe(endpoints=priced, assistant={"endpoint": "lab", "model": "oracle"}, budget=1.0)
        there = lab.model_copy(update={"scale": ScaleSettings(engine="ray", address=cluster.address, shards=3)})
        found = evaluate(there, tmp_path / "there", watch=unwatched)
        assert asked_for(found) == asked_for(evaluate(lab, tmp_path / "here", watch=unwatched))
        assert asked_for(found)[0]["cost"] > 0


@pytest.mark.slow
def test_the_shards_stop_before_the_budget_is_exceeded(tmp_path: Path, cluster: Any) -> None:
    with ServerThread(answer) as server:
        priced = {"lab": {"url": server.url, "price": {"input": 1e6, "output": 1e6}}}
        lab = recipe(endpoints=priced, assistant={"endpoint": "lab", "model": "oracle"}, budget=5.0)
        there = lab.model_copy(update={"scale": ScaleSettings(engine="ray", address=cluster.address, shards=3)})
        with pytest.raises(BudgetSpent):
            evaluate(there, tmp_path / "there", watch=unwatched)
        assert server.asked == []


@pytest.mark.slow
def test_a_whole_run_needs_no_cluster(whole: Path) -> None:
    before = (whole / "journal.jsonl").read_bytes()
    evaluate(recipe(scale={"engine": "ray", "address": "127.0.0.1:1"}), whole, watch=unwatched)
    assert (whole / "journal.jsonl").read_bytes() == before


@pytest.mark.slow
def test_without_an_address_a_cluster_is_started_here_and_stopped(tmp_path: Path, whole: Path) -> None:
    import ray

    evaluate(recipe(scale={"engine": "ray", "shards": 2}), tmp_path / "plain", watch=unwatched)
    assert not ray.is_initialized()
    assert journal(tmp_path / "plain") == journal(whole)


LISTENING = """
import pieces_to_play
from duologue.integrations.ray import joined
from duologue.integrations.settings import ScaleSettings
before = pieces_to_play.listening()
with joined(ScaleSettings(engine="ray")) as cluster:
    print(*sorted(pieces_to_play.listening() - before))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_cluster_of_our_own_listens_to_this_machine_alone() -> None:
    tests = str(Path(pieces_to_play.__file__).parent)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([tests, os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(
        [sys.executable, "-c", LISTENING], env=environment, capture_output=True, text=True, timeout=120
    )
    addresses = {place.partition(":")[0] for place in done.stdout.split()}
    assert addresses and addresses <= {"0100007F", "0000000000000000FFFF00000100007F"}
    assert done.stderr == ""


# ---- what cannot be done ------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("play", "error", "sentence"),
    [
        (pieces_to_play.be_refused, ModelError, r"^the server does not answer$"),
        (pieces_to_play.have_a_fault, RunError, r"(?s)a fault of ours, or of a task.*division by zero"),
        (
            pieces_to_play.play_another_recipe,
            RunError,
            rf"{TOLD} conversations are not what was asked for: the Ray workers have another",
        ),
        (pieces_to_play.play_and_be_killed, RunError, r"the worker of a shard was lost 3 times.*WorkerCrashed"),
    ],
)
def test_what_goes_wrong_on_a_worker_ends_the_run_with_a_sentence(
    tmp_path: Path,
    cluster: Any,
    monkeypatch: pytest.MonkeyPatch,
    play: Callable[..., Any],
    error: type[Exception],
    sentence: str,
) -> None:
    monkeypatch.setattr(scale, "play_piece", play)
    monkeypatch.setattr(ray_module, "RETRIES", 2)
    with pytest.raises(error, match=sentence):
        on_ray(tmp_path / "plain", cluster, shards=2)


@pytest.mark.slow
def test_more_than_any_machine_has_is_refused(tmp_path: Path, cluster: Any) -> None:
    with pytest.raises(RunError, match="no machine of the Ray cluster has 3 cores and 0 GPUs for a shard"):
        on_ray(tmp_path / "plain", cluster, cpus=3)


def test_an_address_where_nobody_answers_is_a_sentence(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(RunError, match=rf"the Ray cluster at {address} cannot be joined .*`ray start --address="):
        evaluate(recipe(scale={"engine": "ray", "address": address}), tmp_path / "plain", watch=unwatched)


@pytest.mark.parametrize("address", ["auto", "ray://10.0.0.5:10001", "10.0.0.5"])
def test_an_address_is_a_host_and_a_port(address: str) -> None:
    with pytest.raises(RecipeError, match=r"scale.address: it is HOST:PORT, like 10.0.0.5:6379"):
        recipe(scale={"engine": "ray", "address": address})


def test_without_ray_the_command_that_installs_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingDependency, match=r"pip install 'duologue\[ray\]'"):
        evaluate(recipe(scale={"engine": "ray"}), tmp_path / "plain", watch=unwatched)
