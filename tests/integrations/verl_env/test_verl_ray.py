"""A step of verl's own trainer as far as a CPU goes: Ray actors, its load balancer, its queue and replay buffer.

The servers decode with the built-in model. What follows in verl, log-probabilities and updates, wants a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import ray
import torch
import transfer_queue as tq
from tensordict import TensorDict
from verl.protocol import DataProto
from verl.trainer.ppo.v1 import AgentLoopManagerTQ
from verl.trainer.ppo.v1.utils import compute_advantage_for_multi_trajectories
from verl.utils import tensordict_utils as tu
from verl.utils.dataset.rl_dataset import RLHFDataset, collate_fn
from verl.utils.import_utils import load_extern_object
from verl.utils.tokenizer import hf_tokenizer
from verl.workers.rollout.llm_server import LLMServerClient
from verl.workers.rollout.router import GlobalRequestLoadBalancer

from duologue.models import BUILT_IN
from verl_server import TinyServer

PROMPTS, COPIES = 4, 2


@pytest.fixture
def cluster() -> Iterator[None]:
    ray.init("local", num_cpus=8, include_dashboard=False, object_store_memory=256 * 2**20, log_to_driver=False)
    try:
        yield
    finally:
        ray.shutdown()


def prompts_of(config: Any) -> TensorDict:
    """The first prompts, as verl's trainer submits them."""
    found = RLHFDataset(config.data.train_files, hf_tokenizer(BUILT_IN["tiny"]), config.data)
    batch = collate_fn([found[i] for i in range(PROMPTS)])
    batch["uid"] = np.array([f"prompt-{i}" for i in range(PROMPTS)], dtype=object)
    submitted = tu.get_tensordict(batch)
    tu.assign_non_tensor_data(submitted, "global_steps", 1)
    return submitted


def test_a_step_gives_whole_groups_with_their_rewards_and_figures(
    configured: Callable[..., Any], cluster: None
) -> None:
    config = configured(
        "grpo",
        f"actor_rollout_ref.rollout.n={COPIES}",
        "actor_rollout_ref.rollout.agent.num_workers=2",
        "transfer_queue.backend.SimpleStorage.num_data_storage_units=1",
    )
    tq.init(config.transfer_queue)
    servers = {f"server-{i}": ray.remote(TinyServer).remote() for i in range(2)}
    balancer = ray.remote(GlobalRequestLoadBalancer).remote(servers)
    client = LLMServerClient(config, balancer)
    manager = AgentLoopManagerTQ.create(config=config, llm_client=client, reward_loop_worker_handles=["nobody"])
    sampler = config.trainer.v1.sampler
    buffer = load_extern_object(sampler.custom_sampler.path, sampler.custom_sampler.name)(
        trainer_mode="sync",
        trainer_config=config.trainer.v1.sync,
        max_off_policy_threshold=sampler.max_off_policy_threshold,
        max_off_policy_strategy=sampler.max_off_policy_strategy,
        sampler_kwargs=sampler.sampler_kwargs,
        refill_fn=None,
        poll_interval=0.2,
    )
    batch = prompts_of(config)
    pending = [{"is_prompt": True, "status": "pending", "global_steps": 1}] * PROMPTS
    tq.kv_batch_put(keys=list(batch["uid"]), partition_id="train", tags=pending)

    manager.generate_sequences(batch)
    found, metrics = buffer.sample(global_steps=1, partition_id="train", batch_size=PROMPTS)

    assert len(found.keys) == PROMPTS * COPIES
    assert {tag["min_global_steps"] for tag in found.tags} == {1}
    fields = ["uid", "prompts", "responses", "response_mask", "rm_scores"]
    data = tq.kv_batch_get(keys=found.keys, partition_id="train", select_fields=fields)
    uids = data.pop("uid").tolist()
    prompts = {uid: {tuple(p.tolist()) for u, p in zip(uids, data["prompts"], strict=True) if u == uid} for uid in uids}
    assert all(len(each) == 1 for each in prompts.values())
    scores = data["rm_scores"].to_padded_tensor(padding=0.0).sum(dim=1)
    assert len(set(scores.tolist())) > 1
    assert metrics["duologue/look_aheads"] == 3.0 and metrics["duologue/unscored"] == 0.0
    assert -5 < metrics["duologue/satisfaction"] < 5
    assert metrics["duologue/multiturn_reward"] == pytest.approx(float(scores.mean()))

    padded = DataProto(batch=data.select("response_mask", "rm_scores").to_padded_tensor())
    padded.batch["token_level_rewards"] = padded.batch["rm_scores"]
    padded.non_tensor_batch["uid"] = np.array(uids, dtype=object)
    learnt = compute_advantage_for_multi_trajectories(padded, found.keys, "grpo", norm_adv_by_std_in_grpo=False)
    advantages = learnt.batch["advantages"][:, 0]
    means = torch.stack([scores[[other == uid for other in uids]].mean() for uid in uids])
    assert torch.allclose(advantages, scores - means, atol=1e-5)
