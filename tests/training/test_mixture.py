"""An adapter stands beside a model's linear layers, and beside nothing else: the experts of a mixture get none."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from duologue.background import BackgroundLoop
from duologue.conversation import Message
from duologue.errors import RecipeError
from duologue.models.local import LocalModel
from duologue.models.memory import adapter_size
from duologue.models.size import blueprint
from duologue.run.export import export
from duologue.training.lora import check_start, open_policy, with_lora
from duologue.training.settings import LoraSettings, SftSettings
from duologue.training.sft import Example, train_stage
from small_model import save_small_model
from training_stage import a_stage

ATTENTION = {"q_proj", "k_proj", "v_proj", "o_proj"}
SFT = SftSettings(algorithm="sft", batch=4, epochs=2, learning_rate=3e-2, warmup=1, save_steps=3)
ASKED = (Message("user", "i need milk ."),)


def small_config(model_type: str, words: int = 100) -> Any:
    """An architecture by transformers' name, a few numbers wide."""
    attention = {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8, "n_embd": 16, "n_head": 2}
    experts = {"num_experts": 4, "n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 8}
    groups = {"n_group": 1, "topk_group": 1, "pad_token_id": 0}
    sizes = {"vocab_size": words, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "n_layer": 2}
    return AutoConfig.for_model(model_type, **sizes, **attention, **experts, **groups)


def save_mixture(folder: Path, model_type: str) -> Path:
    """A random model of an architecture, with a tokenizer for groceries."""
    tokenizer = AutoTokenizer.from_pretrained(save_small_model(folder / "small"))
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(small_config(model_type, len(tokenizer))).save_pretrained(folder / "mixture")
    tokenizer.save_pretrained(folder / "mixture")
    return folder / "mixture"


@pytest.fixture
def mixture(tmp_path: Path) -> Path:
    return save_mixture(tmp_path, "qwen3_moe")


def adapted(model: torch.nn.Module) -> set[str]:
    return {name.rpartition(".lora_A")[0] for name, _ in model.named_parameters() if ".lora_A." in name}


def logits(model: Any, ids: Sequence[int]) -> torch.Tensor:
    with torch.no_grad():
        return type(model).forward(model.eval(), input_ids=torch.tensor([list(ids)])).logits


def test_its_layers_get_an_adapter_and_its_experts_none(mixture: Path) -> None:
    planned = blueprint(mixture)
    assert planned is not None

    policy = open_policy(mixture, LoraSettings(r=4))

    assert {name.rpartition(".")[2] for name in adapted(policy.model)} == ATTENTION
    made = sum(weight.numel() for weight in policy.model.parameters() if weight.requires_grad)
    assert adapter_size(planned, 4, ()) == made


def test_its_adapter_is_read_back_and_exported_with_the_same_logits(
    mixture: Path, tmp_path: Path, loop: BackgroundLoop
) -> None:
    policy = open_policy(mixture, LoraSettings(r=4))
    ids = policy.encode(ASKED)
    before = logits(policy.model, ids)
    train_stage(
        SFT,
        a_stage(tmp_path, policy, loop, name="0-sft"),
        [Example((*ASKED, Message("assistant", "which city ?")))] * 8,
    )
    after = logits(policy.model, ids)

    policy.save(tmp_path / "adapter")
    export(str(tmp_path / "adapter"), tmp_path / "whole")

    assert not torch.allclose(after, before, atol=1e-3)
    for opened in (
        LocalModel.load(tmp_path / "adapter").model,
        LocalModel.load(tmp_path / "whole").model,
        AutoModelForCausalLM.from_pretrained(tmp_path / "adapter"),
    ):
        torch.testing.assert_close(logits(opened, ids), after, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize("targets", [(), ("o_proj", "down_proj")])
def test_where_peft_would_adapt_experts_instead_it_is_refused_before_anything_is_loaded(
    tmp_path: Path, targets: tuple[str, ...], dropout: float
) -> None:
    small_config("glm4_moe").save_pretrained(tmp_path)

    with pytest.raises(
        RecipeError, match=r"lora\.targets: peft takes the names of some of these layers for the packed"
    ):
        check_start(tmp_path, LoraSettings(targets=targets, dropout=dropout))


def test_where_peft_would_adapt_experts_instead_other_layers_may_be_named(tmp_path: Path) -> None:
    policy = open_policy(save_mixture(tmp_path, "glm4_moe"), LoraSettings(targets=("q_proj", "o_proj")))

    assert {name.rpartition(".")[2] for name in adapted(policy.model)} == {"q_proj", "o_proj"}


@pytest.mark.parametrize("model_type", ["llama", "qwen3", "gpt2"])
def test_the_layers_of_others_are_those_that_peft_calls_all_linear(model_type: str) -> None:
    from peft import LoraConfig, get_peft_model

    ours, theirs, planned = (AutoModelForCausalLM.from_config(small_config(model_type)) for _ in range(3))
    expected = get_peft_model(theirs, LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"))

    model = with_lora(ours, LoraSettings(r=4))

    assert adapted(model) == adapted(expected)
    made = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    assert adapter_size(planned, 4, ()) == made
