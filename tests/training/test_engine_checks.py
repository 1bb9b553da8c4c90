"""An engine that does not reply with the policy's weights, or cannot, ends the run with a sentence."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from duologue.background import BackgroundLoop
from duologue.errors import EndpointUnusable
from duologue.training.engines.played import MOVED, Probe, followed
from duologue.training.lora import open_policy
from duologue.training.settings import LoraSettings
from played_policy import ASKED, DRAWN, LORA, move, played, say
from vllm_server import VllmServer as Served, VllmThread

# ---- a server


def test_a_server_that_keeps_old_weights_is_noticed(
    base: Path, tmp_path: Path, loop: BackgroundLoop, server: Served, lora: LoraSettings | None
) -> None:
    policy = open_policy(base, lora)
    engine = played(policy, server, tmp_path / "weights")
    say(engine, loop)
    server.keeps_old = True

    with pytest.raises(EndpointUnusable, match="keeps old weights"):
        for _ in range(20):
            move(policy, 0.005)
            say(engine, loop)


def test_a_server_with_another_model_is_refused(
    base: Path, tmp_path: Path, loop: BackgroundLoop, server: Served
) -> None:
    with torch.no_grad():
        for weight in server.model.model.parameters():
            weight *= 1.5

    with pytest.raises(EndpointUnusable, match="is it served from the model that the training starts from"):
        say(played(open_policy(base, LORA), server, tmp_path / "weights"), loop)


def test_a_server_without_ids_is_refused(base: Path, tmp_path: Path, loop: BackgroundLoop) -> None:
    with (
        VllmThread(base, gives_ids=False) as server,
        pytest.raises(EndpointUnusable, match=r"gives no ids of what it read and sampled.*vLLM 0.10.2 or newer"),
    ):
        say(played(open_policy(base, LORA), server, tmp_path / "weights"), loop)


def test_a_server_that_gives_other_log_probabilities_is_refused(
    base: Path, tmp_path: Path, loop: BackgroundLoop
) -> None:
    with (
        VllmThread(base, raw=True) as server,
        pytest.raises(EndpointUnusable, match="start it with --logprobs-mode processed_logprobs"),
    ):
        say(played(open_policy(base, LORA), server, tmp_path / "weights"), loop)


@pytest.mark.parametrize(
    ("lora", "sentence"),
    [
        (LORA, "VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 and --enable-lora --max-lora-rank 4"),
        (None, "VLLM_SERVER_DEV_MODE=1"),
    ],
)
def test_a_server_that_takes_no_weights_is_told_how_to_be_started(
    base: Path, tmp_path: Path, loop: BackgroundLoop, lora: LoraSettings | None, sentence: str
) -> None:
    with VllmThread(base, adapters=False, dev=False) as server, pytest.raises(EndpointUnusable, match=sentence):
        say(played(open_policy(base, lora), server, tmp_path / "weights"), loop)


def restarted(server: Served) -> None:
    """The server's process ended, and was started again."""
    server.version = "default"
    server.loaded.clear()


def test_a_server_that_was_started_anew_ends_the_run(
    base: Path, tmp_path: Path, loop: BackgroundLoop, server: Served, lora: LoraSettings | None
) -> None:
    engine = played(open_policy(base, lora), server, tmp_path / "weights")
    say(engine, loop)

    restarted(server)

    with pytest.raises(EndpointUnusable, match=r"was it started anew|does not exist"):
        say(engine, loop, seed=2)


def test_a_server_of_before_versions_plays_all_the_same(base: Path, tmp_path: Path, loop: BackgroundLoop) -> None:
    policy = open_policy(base, None)
    with VllmThread(base, versions=False) as server:
        engine = played(policy, server, tmp_path / "weights")
        move(policy, 0.05)

        theirs, ours = say(engine, loop), loop.run(policy.reply(ASKED, seed=1, sampling=DRAWN))

    assert theirs.ids == ours.ids


# ---- following, in numbers


def probe(ours: list[float], theirs: list[float], ids: tuple[int, ...] = (1, 2)) -> Probe:
    return Probe(ids, torch.tensor(theirs), torch.tensor(ours))


@pytest.mark.parametrize(
    ("now", "follows"),
    [
        (probe([-1.1, -2.1], [-1.1, -2.1]), True),
        (probe([-1.1, -2.1], [-1.12, -2.07]), True),
        (probe([-1.1, -2.1], [-1.0, -2.0]), False),
        (probe([-1.1, -2.1], [-0.9, -1.9]), False),
        (probe([-1.1, -2.1], [-1.0, -2.0], ids=(1, 3)), True),
        (probe([-1.0 - MOVED, -2.0], [-1.0, -2.0]), True),
    ],
    ids=["the same", "nearly", "not at all", "the other way", "other words", "too little to tell"],
)
def test_an_engine_follows_where_its_log_probabilities_do(now: Probe, follows: bool) -> None:
    before = probe([-1.0, -2.0], [-1.0, -2.0])

    if follows:
        followed(now, before, "it")
    else:
        with pytest.raises(EndpointUnusable, match="it keeps old weights"):
            followed(now, before, "it")


def test_small_moves_add_up_until_they_can_be_told() -> None:
    before = probe([-1.0, -2.0], [-1.0, -2.0])
    a_little = probe([-1.0 - 0.8 * MOVED, -2.0 - 0.8 * MOVED], [-1.0, -2.0])
    twice_that = probe([-1.0 - 1.6 * MOVED, -2.0 - 1.6 * MOVED], [-1.0, -2.0])

    kept = followed(a_little, before, "it")

    assert kept is before
    with pytest.raises(EndpointUnusable, match=r"keeps old weights"):
        followed(twice_that, kept, "it")
