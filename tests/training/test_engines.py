"""A policy that a vLLM server plays: it replies with the weights as they are, and training is what it is here."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter

from duologue.background import BackgroundLoop
from duologue.models.base import Reply, Sampling
from duologue.models.calls import Calls
from duologue.run.jobs import run_stage
from duologue.training.engines.played import own_logprobs
from duologue.training.grpo import grpo_trainer, train_grpo
from duologue.training.lora import open_policy
from duologue.training.settings import LoraSettings, TrainSettings
from duologue.training.stage import Stage
from played_policy import ASKED, DRAWN, LORA, SMALL, move, played, replies_asked, say, through
from training_stage import a_stage, steps, weights
from vllm_server import BASE, VllmServer as Served, VllmThread


def served(stage: Stage, server: Served, folder: Path) -> Stage:
    """A stage whose policy the server plays."""
    return through(stage, played(stage.policy, server, folder))


# ---- the current weights


def test_a_reply_is_of_the_policys_weights_as_they_are(
    base: Path, tmp_path: Path, loop: BackgroundLoop, server: Served, lora: LoraSettings | None
) -> None:
    policy = open_policy(base, lora)
    engine = played(policy, server, tmp_path / "weights")
    before = say(engine, loop)

    move(policy, 0.05)
    after = say(engine, loop)

    ours = own_logprobs(policy, after.prompt_ids or (), after.ids or ())
    assert torch.allclose(torch.tensor(after.logprobs), ours, atol=1e-4)
    assert (after.ids, after.logprobs) != (before.ids, before.logprobs)


def test_a_reply_is_the_one_that_this_process_would_have_drawn(
    base: Path, tmp_path: Path, loop: BackgroundLoop, server: Served, lora: LoraSettings | None
) -> None:
    policy = open_policy(base, lora)
    engine = played(policy, server, tmp_path / "weights")
    move(policy, 0.05)

    theirs, ours = say(engine, loop), loop.run(policy.reply(ASKED, seed=1, sampling=DRAWN))

    assert replace(theirs, logprobs=None) == replace(ours, logprobs=None)
    assert theirs.logprobs == pytest.approx(ours.logprobs, abs=1e-4)


def test_training_through_a_server_is_training_here(
    base: Path, tmp_path: Path, loop: BackgroundLoop, server: Served, lora: LoraSettings | None
) -> None:
    here = a_stage(tmp_path / "here", open_policy(base, lora), loop)
    there = served(a_stage(tmp_path / "there", open_policy(base, lora), loop), server, tmp_path / "weights")

    for stage in (here, there):
        train_grpo(SMALL, stage)

    assert [step["reward"] for step in steps(there)] == pytest.approx([step["reward"] for step in steps(here)])
    # Adam makes a step of a gradient near nothing, too, and divides the rounding in it by its size.
    assert torch.allclose(weights(there), weights(here), atol=1e-4)
    assert not torch.allclose(weights(here), weights(a_stage(tmp_path / "start", open_policy(base, lora), loop)))


def test_every_step_says_how_far_the_server_is_from_the_policy(
    base: Path, tmp_path: Path, loop: BackgroundLoop, server: Served
) -> None:
    here = a_stage(tmp_path / "here", open_policy(base, None), loop)
    there = served(a_stage(tmp_path / "there", open_policy(base, None), loop), server, tmp_path / "weights")

    for stage in (here, there):
        train_grpo(SMALL.model_copy(update={"steps": 2}), stage)

    assert all(0 <= step["logprob_gap"] < 1e-4 for step in steps(there))
    assert not any("logprob_gap" in step for step in steps(here))


def test_each_steps_adapter_has_a_name_and_the_one_before_is_unloaded(
    base: Path, tmp_path: Path, loop: BackgroundLoop, server: Served
) -> None:
    stage = served(a_stage(tmp_path / "there", open_policy(base, LORA), loop), server, tmp_path / "weights")

    train_grpo(SMALL, stage)

    names = list(dict.fromkeys(body["model"] for body in replies_asked(server)))
    assert names == [f"duologue-abc-{version:06d}" for version in (1, 2, 3)]
    assert list(server.loaded) == names[-1:]
    assert [path.name for path in (tmp_path / "weights").iterdir()] == names[-1:]


def test_what_a_server_kept_of_the_old_weights_is_forgotten_before_it_replies_with_the_new(
    base: Path, tmp_path: Path, loop: BackgroundLoop, server: Served
) -> None:
    policy = open_policy(base, None)
    engine = played(policy, server, tmp_path / "weights")
    say(engine, loop)
    server.asked.clear()

    move(policy, 0.05)
    say(engine, loop)

    sent = [path for path, _ in server.asked]
    assert sent[:3] == ["/collective_rpc", "/reset_prefix_cache", "/update_weight_version"]
    assert set(sent[3:]) == {"/v1/completions"}


def test_weights_are_sent_once_a_change_however_many_ask(
    base: Path, tmp_path: Path, loop: BackgroundLoop, server: Served
) -> None:
    engine = played(open_policy(base, LORA), server, tmp_path / "weights")

    async def many() -> None:
        await asyncio.gather(*(engine.reply(ASKED, seed=seed, sampling=DRAWN) for seed in range(5)))

    loop.run(many())
    loop.run(many())

    assert server.paths() == ["/v1/models", "/v1/load_lora_adapter"]


def test_of_processes_that_train_together_one_sends_the_weights(
    base: Path, tmp_path: Path, loop: BackgroundLoop, server: Served
) -> None:
    engines = [played(open_policy(base, LORA), server, tmp_path / "weights") for _ in range(3)]

    async def all_of_them() -> list[Reply]:
        return await asyncio.gather(*(each.reply(ASKED, seed=1, sampling=DRAWN) for each in engines))

    first, second, third = loop.run(all_of_them())

    assert first.ids == second.ids == third.ids
    assert server.paths().count("/v1/load_lora_adapter") == 1


def test_a_shorter_context_of_the_server_cuts_a_reply(base: Path, tmp_path: Path, loop: BackgroundLoop) -> None:
    policy = open_policy(base, LORA)
    room = len(policy.encode(ASKED)) + 50
    with VllmThread(base) as server:
        server.model.context = room
        engine = played(policy, server, tmp_path / "weights")

        reply = loop.run(engine.reply(ASKED, seed=1, sampling=Sampling(max_tokens=500)))

    assert policy.context == room
    assert len(reply.ids or ()) <= 50


def test_at_the_end_the_server_has_no_adapter_and_the_disk_no_weights(
    base: Path, tmp_path: Path, loop: BackgroundLoop, server: Served
) -> None:
    engine = played(open_policy(base, LORA), server, tmp_path / "weights")
    say(engine, loop)

    loop.run(engine.close())

    assert not server.loaded
    assert not (tmp_path / "weights").exists()


# ---- every algorithm

EXPLORES: dict[str, dict[str, Any]] = {
    "grpo": {"steps": 1, "groups": 2},
    "ppo": {"steps": 1, "groups": 2, "minibatches": 1, "epochs": 1},
    "rloo": {"steps": 1, "groups": 2, "refresh": 1},
    "online-dpo": {"steps": 1, "groups": 4, "refresh": 1, "min_gap": 0, "noise": 0},
    "dpo": {"states": 4, "epochs": 1, "batch": 2, "min_gap": 0, "noise": 0},
    "sft": {"states": 4, "epochs": 1, "batch": 2},
}


@pytest.mark.parametrize("algorithm", EXPLORES)
def test_this_process_draws_nothing_where_a_server_plays_the_policy(
    base: Path, tmp_path: Path, loop: BackgroundLoop, server: Served, algorithm: str
) -> None:
    plain = {"algorithm": algorithm, "candidates": 4, "deepest": 1, "save_steps": None, "lora": LORA.model_dump()}
    stage = a_stage(tmp_path / "there", open_policy(base, LORA), loop, name=f"0-{algorithm}")
    stage = through(stage, played(stage.policy, server, tmp_path / "weights"), samples=2)

    run_stage(TypeAdapter(TrainSettings).validate_python({**plain, **EXPLORES[algorithm]}), stage)

    assert stage.policy.counters.generated == 0
    assert len(replies_asked(server)) > 8


def test_grpo_weighs_replies_by_how_likely_the_policy_finds_them(
    base: Path, tmp_path: Path, loop: BackgroundLoop, server: Served
) -> None:
    stage = served(a_stage(tmp_path / "there", open_policy(base, None), loop), server, tmp_path / "weights")
    trainer = grpo_trainer(SMALL, stage)
    draw: Any = trainer.rollout_func

    def likelier(prompts: list[str], own: Any) -> dict[str, list[Any]]:
        """As if the server had found each reply's first token likelier than the policy does: by 0.1 nats."""
        rows = draw(prompts, own)
        return {**rows, "logprobs": [[first + 0.1, *rest] for first, *rest in rows["logprobs"]]}

    trainer.rollout_func = likelier
    stage.policy.model.train()
    batch = trainer._generate_and_score_completions([{"prompt": str(row // 3)} for row in range(9)])

    assert batch["importance_sampling_ratio"].flatten().tolist() == pytest.approx([math.exp(-0.1)] * 9, abs=1e-4)


# ---- the calls


def test_a_reply_is_booked_and_never_answered_from_memory(
    base: Path, tmp_path: Path, loop: BackgroundLoop, server: Served
) -> None:
    calls = Calls(tmp_path / "calls.sqlite")
    engine = played(open_policy(base, LORA), server, tmp_path / "weights", calls=calls)
    say(engine, loop)
    before = len(replies_asked(server))

    say(engine, loop)

    (total,) = calls.totals()
    calls.close()
    assert len(replies_asked(server)) == before + 1
    assert (total.role, total.model, total.calls, total.cached) == ("assistant", BASE, before + 1, 0)


def test_a_request_leaves_nothing_to_the_models_own_settings(
    base: Path, tmp_path: Path, loop: BackgroundLoop, server: Served
) -> None:
    say(played(open_policy(base, LORA), server, tmp_path / "weights"), loop)

    asked = replies_asked(server)[-1]
    assert (asked["top_k"], asked["min_p"], asked["repetition_penalty"]) == (0, 0, 1)
    assert (asked["temperature"], asked["top_p"], asked["logprobs"]) == (1, 1, 0)
