"""Shared prompts: the same numbers as TRL's own, and TRL's own where they are not covered."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from torch import Tensor
from transformers import LlamaForCausalLM, MistralConfig, MistralForCausalLM
from trl import GRPOConfig, GRPOTrainer

from duologue.models.local import LocalModel
from duologue.training import tree
from duologue.training.arguments import shared_arguments
from duologue.training.tree import TreeGRPOTrainer, takes_mask

METHOD = "_get_per_token_logps_and_entropies"
GROUPS = [(7, [3, 5, 1, 5]), (23, [2, 9]), (1, [4, 4]), (12, [6]), (7, [8, 2, 2])]
"""(tokens of the prompt, tokens of its completions)"""


def trainer_of(
    model: Any, tokenizer: Any, folder: Path, *, temperature: float = 0.7, beta: float = 0.0
) -> TreeGRPOTrainer:
    return TreeGRPOTrainer(
        model=model,
        reward_funcs=[lambda prompts, **_: [0.0] * len(prompts)],
        args=GRPOConfig(
            **shared_arguments(folder, seed=0, save_steps=None),
            per_device_train_batch_size=2,
            num_generations=2,
            temperature=temperature,
            beta=beta,
        ),
        train_dataset=Dataset.from_dict({"prompt": ["a"]}),
        processing_class=tokenizer,
    )


@pytest.fixture
def trainer(small_model: Path, tmp_path: Path) -> TreeGRPOTrainer:
    policy = LocalModel.load(small_model, device="cpu")
    return trainer_of(policy.model, policy.tokenizer, tmp_path)


def a_batch(groups: Sequence[tuple[int, Sequence[int]]], vocabulary: int, seed: int = 0) -> tuple[Tensor, Tensor, int]:
    """Padded ids, their mask and the completions' width; rows in a random order."""
    draw = random.Random(seed)
    rows: list[tuple[list[int], list[int]]] = []
    for length, completions in groups:
        prompt = [draw.randrange(5, vocabulary) for _ in range(length)]
        rows += [(prompt, [draw.randrange(5, vocabulary) for _ in range(count)]) for count in completions]
    draw.shuffle(rows)
    left, right = max(len(p) for p, _ in rows), max(len(c) for _, c in rows)
    ids = [[0] * (left - len(p)) + p + c + [0] * (right - len(c)) for p, c in rows]
    mask = [[0] * (left - len(p)) + [1] * (len(p) + len(c)) + [0] * (right - len(c)) for p, c in rows]
    return torch.tensor(ids), torch.tensor(mask), right


def measured(trainer: TreeGRPOTrainer, method: Any, batch: tuple[Tensor, Tensor, int]) -> tuple[Tensor, Tensor, Tensor]:
    """Log-probabilities, entropies, and the gradient of a random weighting of both."""
    ids, mask, keep = batch
    model = trainer.model
    model.zero_grad()
    logps, entropies, _ = method(trainer, model, ids, mask, keep, compute_entropy=True)
    draw = torch.Generator().manual_seed(1)
    loss = (logps * torch.randn(logps.shape, generator=draw)).sum()
    if entropies.requires_grad:
        loss = loss + (entropies * torch.randn(logps.shape, generator=draw)).sum()
    loss.backward()
    gradient = torch.cat([weight.grad.flatten() for weight in model.parameters() if weight.grad is not None])
    return logps.detach(), entropies.detach(), gradient


def assert_as_stock(trainer: TreeGRPOTrainer, batch: tuple[Tensor, Tensor, int]) -> None:
    ours, stock = (measured(trainer, getattr(kind, METHOD), batch) for kind in (TreeGRPOTrainer, GRPOTrainer))
    for mine, theirs in zip(ours, stock, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("limit", [1, 64, 4096])
def test_shuffled_groups_of_several_lengths_come_out_as_stock(
    trainer: TreeGRPOTrainer, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tree, "CPU_TOKENS", limit)

    assert_as_stock(trainer, a_batch(GROUPS, trainer.model.config.vocab_size))


@pytest.mark.parametrize("groups", [[(9, [4])], [(9, [4]), (5, [2]), (9, [1])], [(6, [5] * 6)]])
def test_rows_without_siblings_and_siblings_alone_come_out_as_stock(
    trainer: TreeGRPOTrainer, groups: list[tuple[int, list[int]]]
) -> None:
    assert_as_stock(trainer, a_batch(groups, trainer.model.config.vocab_size))


def test_a_row_whose_completion_is_masked_out_comes_out_as_stock(trainer: TreeGRPOTrainer) -> None:
    ids, mask, keep = a_batch(GROUPS, trainer.model.config.vocab_size)
    mask[3, -keep:] = 0

    assert_as_stock(trainer, (ids, mask, keep))


def test_with_lora_it_comes_out_as_stock(small_model: Path, tmp_path: Path) -> None:
    policy = LocalModel.load(small_model, device="cpu")
    config = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    adapted = get_peft_model(policy.model, config)  # type: ignore[arg-type]

    trainer = trainer_of(adapted, policy.tokenizer, tmp_path)

    assert_as_stock(trainer, a_batch(GROUPS, policy.model.config.vocab_size))


def test_scaled_logits_come_out_as_stock(small_model: Path, tmp_path: Path) -> None:
    policy = LocalModel.load(small_model, device="cpu")
    policy.model.config.logit_scale = 3.0

    trainer = trainer_of(policy.model, policy.tokenizer, tmp_path)

    assert_as_stock(trainer, a_batch(GROUPS, policy.model.config.vocab_size))


def test_eager_attention_comes_out_as_stock(small_model: Path, tmp_path: Path) -> None:
    policy = LocalModel.load(small_model, device="cpu")
    policy.model.set_attn_implementation("eager")

    trainer = trainer_of(policy.model, policy.tokenizer, tmp_path)

    assert_as_stock(trainer, a_batch(GROUPS, policy.model.config.vocab_size))


def test_of_a_reference_model_which_gives_no_entropy_the_log_probabilities_come_out_as_stock(
    small_model: Path, tmp_path: Path
) -> None:
    policy = LocalModel.load(small_model, device="cpu")
    trainer = trainer_of(policy.model, policy.tokenizer, tmp_path, beta=0.1)
    ids, mask, keep = a_batch(GROUPS, policy.model.config.vocab_size)

    with torch.no_grad():
        ours, stock = (
            getattr(kind, METHOD)(trainer, trainer.ref_model, ids, mask, keep)[0]
            for kind in (TreeGRPOTrainer, GRPOTrainer)
        )

    torch.testing.assert_close(ours, stock * mask[:, -keep:], atol=1e-5, rtol=1e-5)


@pytest.fixture
def stock_calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The rows of every call of TRL's own method, which here only records."""
    calls: list[int] = []

    def record(self: Any, model: Any, input_ids: Tensor, *_: Any, **__: Any) -> tuple[Tensor, None, None]:
        calls.append(len(input_ids))
        return torch.zeros(1), None, None

    monkeypatch.setattr(GRPOTrainer, METHOD, record)
    return calls


def test_pictures_and_router_losses_go_to_stock(trainer: TreeGRPOTrainer, stock_calls: list[int]) -> None:
    batch = a_batch(GROUPS, trainer.model.config.vocab_size)

    getattr(trainer, METHOD)(trainer.model, *batch, pixel_values=torch.zeros(1))
    getattr(trainer, METHOD)(trainer.model, *batch, compute_aux_loss=True)

    assert stock_calls == [12, 12]


def test_an_argument_that_trl_adds_goes_to_stock(trainer: TreeGRPOTrainer, stock_calls: list[int]) -> None:
    getattr(trainer, METHOD)(trainer.model, *a_batch(GROUPS, trainer.model.config.vocab_size), sound_waves=1)

    assert stock_calls == [12]


def test_a_model_wrapped_for_several_processes_goes_to_stock(
    trainer: TreeGRPOTrainer, stock_calls: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    wrapped = torch.nn.Sequential(trainer.model)
    monkeypatch.setattr(trainer.accelerator, "unwrap_model", lambda model: model[0])

    getattr(trainer, METHOD)(wrapped, *a_batch(GROUPS, trainer.model.config.vocab_size))

    assert stock_calls == [12]


def test_a_row_without_a_prompt_goes_to_stock(trainer: TreeGRPOTrainer, stock_calls: list[int]) -> None:
    ids, mask, keep = a_batch(GROUPS, trainer.model.config.vocab_size)
    mask[0, :-keep] = 0

    getattr(trainer, METHOD)(trainer.model, ids, mask, keep)

    assert stock_calls == [12]


def test_attention_that_takes_no_mask_or_slides_is_not_covered(trainer: TreeGRPOTrainer) -> None:
    sizes = {"vocab_size": 8, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 1, "num_key_value_heads": 1}
    sliding = MistralForCausalLM(MistralConfig(**sizes, **heads, sliding_window=4))
    model: LlamaForCausalLM = trainer.model

    assert takes_mask(model)
    assert not takes_mask(sliding)
    model.config._attn_implementation = "flash_attention_2"
    assert not takes_mask(model)
