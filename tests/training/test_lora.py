"""Adapters: what a stage trains of a model, and that what was saved is what was trained."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from duologue.background import BackgroundLoop
from duologue.conversation import Message
from duologue.errors import MissingDependency, ModelError, RecipeError
from duologue.models.loading import is_adapted
from duologue.models.local import LocalModel
from duologue.run.export import export
from duologue.simulation import load_assistant
from duologue.training.dpo import train_dpo
from duologue.training.grpo import grpo_trainer, train_grpo
from duologue.training.lora import check_stages, open_policy, with_lora
from duologue.training.settings import DpoSettings, GrpoSettings, LoraSettings, SftSettings
from duologue.training.sft import Example, train_stage
from small_model import save_small_model
from training_stage import Killed, a_stage, kill_at, timeless, weights

LORA = LoraSettings(r=4, alpha=8)
SFT = SftSettings(algorithm="sft", batch=4, epochs=2, learning_rate=3e-2, warmup=1, save_steps=3)
GRPO = GrpoSettings(
    algorithm="grpo", steps=2, groups=2, candidates=3, deepest=1, learning_rate=3e-2, warmup=0, save_steps=None
)
PROBE = (Message("user", "i need two milk to boston today by card ."),)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_small_model(tmp_path_factory.mktemp("small") / "model")


def examples(count: int = 16) -> list[Example]:
    return [
        Example((Message("user", "i need milk ." + " milk ." * (n % 3)), Message("assistant", "which city ?")))
        for n in range(count)
    ]


def logits(policy: LocalModel) -> torch.Tensor:
    ids = torch.tensor([policy.encode(PROBE)])
    with torch.no_grad():
        return type(policy.model).forward(policy.model.eval(), input_ids=ids).logits


def learned(
    source: Path | str, lora: LoraSettings | None, folder: Path, loop: BackgroundLoop
) -> tuple[LocalModel, Path]:
    """A policy after a stage, and where it was saved."""
    policy = open_policy(source, lora)
    train_stage(SFT, a_stage(folder, policy, loop, name="0-sft"), examples())
    policy.save(folder / "model")
    return policy, folder / "model"


def same(one: torch.Tensor, other: torch.Tensor) -> None:
    torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


# ---- saved and read back


@pytest.mark.parametrize("lora", [None, LORA], ids=["full", "lora"])
def test_a_saved_model_has_the_logits_of_the_trained_one(
    small: Path, tmp_path: Path, loop: BackgroundLoop, lora: LoraSettings | None
) -> None:
    before = logits(LocalModel.load(small))

    policy, folder = learned(small, lora, tmp_path / "a", loop)

    assert not torch.allclose(logits(policy), before, atol=1e-2)
    same(logits(LocalModel.load(folder)), logits(policy))


@pytest.mark.parametrize("second", [None, LORA], ids=["full on lora", "lora on lora"])
def test_a_second_stage_starts_from_the_firsts_adapter_and_its_model_has_both(
    small: Path, tmp_path: Path, loop: BackgroundLoop, second: LoraSettings | None
) -> None:
    first, folder = learned(small, LORA, tmp_path / "a", loop)
    same(logits(open_policy(folder, second)), logits(first))

    policy, again = learned(folder, second, tmp_path / "b", loop)

    assert not torch.allclose(logits(policy), logits(first), atol=1e-2)
    same(logits(LocalModel.load(again)), logits(policy))


def test_an_adapter_on_a_fully_trained_model_has_both(small: Path, tmp_path: Path, loop: BackgroundLoop) -> None:
    _, folder = learned(small, None, tmp_path / "a", loop)

    policy, again = learned(folder, LORA, tmp_path / "b", loop)

    assert not (again / "model.safetensors").exists()
    same(logits(LocalModel.load(again)), logits(policy))


def test_transformers_peft_and_load_assistant_open_what_was_saved(
    small: Path, tmp_path: Path, loop: BackgroundLoop
) -> None:
    from peft import AutoPeftModelForCausalLM

    policy, folder = learned(small, LORA, tmp_path / "a", loop)
    ids = torch.tensor([policy.encode(PROBE)])
    assistant: Any = load_assistant(str(folder)).model

    with torch.no_grad():
        for opened in (
            AutoModelForCausalLM.from_pretrained(folder),
            AutoPeftModelForCausalLM.from_pretrained(folder),
            assistant.model,
        ):
            same(opened.eval()(input_ids=ids).logits, logits(policy))


def test_an_export_is_one_whole_model_with_the_same_logits(small: Path, tmp_path: Path, loop: BackgroundLoop) -> None:
    policy, folder = learned(small, LORA, tmp_path / "a", loop)

    export(str(folder), tmp_path / "whole")
    shutil.rmtree(folder)

    assert (tmp_path / "whole" / "model.safetensors").exists()
    whole = LocalModel.load(tmp_path / "whole")
    assert not is_adapted(whole.model)
    same(logits(whole), logits(policy))


def test_an_export_writes_over_nothing(small: Path, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "notes.txt").write_text("mine")

    with pytest.raises(RecipeError, match="is not empty"):
        export(str(small), tmp_path / "there")


def test_an_adapter_whose_model_is_gone_says_so(small: Path, tmp_path: Path) -> None:
    moved = Path(shutil.copytree(small, tmp_path / "base"))
    policy = open_policy(moved, LORA)
    policy.save(tmp_path / "adapter")
    shutil.rmtree(moved)

    with pytest.raises(ModelError, match=r"stands on the model .*base, which is not there any more"):
        LocalModel.load(tmp_path / "adapter")


# ---- what is trained


def test_only_the_adapter_is_trained(small: Path) -> None:
    model = with_lora(LocalModel.load(small).model, LORA)

    trained = {name.rsplit(".", 3)[1] for name, weight in model.named_parameters() if weight.requires_grad}
    assert trained == {"lora_A", "lora_B"}


def test_equal_seeds_give_equal_adapters_and_nobody_elses_draws_change(small: Path) -> None:
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)

    first, second, other = (open_policy(small, LORA, seed=seed) for seed in (1, 1, 2))

    assert torch.equal(torch.rand(1), expected)
    parts = [torch.cat([w.flatten() for w in policy.model.parameters()]) for policy in (first, second, other)]
    assert torch.equal(parts[0], parts[1]) and not torch.equal(parts[0], parts[2])


def test_an_adapter_is_exported_without_a_warning(
    small: Path, tmp_path: Path, loop: BackgroundLoop, recwarn: pytest.WarningsRecorder
) -> None:
    _, saved = learned(small, LORA, tmp_path / "stage", loop)
    recwarn.clear()

    export(str(saved), tmp_path / "whole")

    assert [str(each.message) for each in recwarn if issubclass(each.category, FutureWarning)] == []


def test_targets_that_no_layer_has_are_refused(small: Path) -> None:
    sentence = r'lora\.targets: no linear layer.s name ends in "q_prj"; did you mean "q_proj"'
    with pytest.raises(RecipeError, match=sentence):
        open_policy(small, LoraSettings(targets=("v_proj", "q_prj")))


def test_an_adapter_of_another_shape_is_refused(small: Path, tmp_path: Path) -> None:
    open_policy(small, LORA).save(tmp_path / "adapter")

    with pytest.raises(RecipeError, match="r = 4, alpha = 8"):
        open_policy(tmp_path / "adapter", LoraSettings(r=8))


def test_stages_that_cannot_go_on_from_one_another_are_refused_before_the_first() -> None:
    one, other = SFT.model_copy(update={"lora": LORA}), GRPO.model_copy(update={"lora": LoraSettings()})

    with pytest.raises(RecipeError, match=r"train\.1\.lora: .*the same lora"):
        check_stages([one, other], from_nothing=False)
    with pytest.raises(RecipeError, match=r'"new" is made from nothing'):
        check_stages([one], from_nothing=True)
    check_stages([SFT, one, one, GRPO], from_nothing=True)


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what is so without a GPU")
def test_four_bits_without_a_gpu_are_explained(small: Path) -> None:
    with pytest.raises(ModelError, match="needs a GPU"):
        open_policy(small, LoraSettings(quantize="4bit"))


def test_four_bits_without_bitsandbytes_name_the_command(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("duologue.models.loading.is_bitsandbytes_available", lambda: False)

    with pytest.raises(MissingDependency, match="pip install bitsandbytes"):
        open_policy(small, LoraSettings(quantize="4bit"))


def test_without_an_adapter_weights_are_trained_in_32_bits(small: Path, tmp_path: Path) -> None:
    AutoModelForCausalLM.from_pretrained(small, dtype=torch.bfloat16).save_pretrained(tmp_path / "half")
    LocalModel.load(small).tokenizer.save_pretrained(tmp_path / "half")

    policy = open_policy(tmp_path / "half", None)

    assert {weight.dtype for weight in policy.model.parameters()} == {torch.float32}


# ---- in the trainers


@pytest.fixture
def adapted(base: Path) -> LocalModel:
    """A policy with an adapter that changes something already."""
    policy = open_policy(base, LORA)
    with torch.no_grad():
        for name, weight in policy.model.named_parameters():
            if "lora_B" in name:
                weight.normal_(0, 0.02)
    return policy


def test_candidates_and_look_aheads_come_from_the_adapter_as_it_is(
    adapted: LocalModel, tmp_path: Path, loop: BackgroundLoop
) -> None:
    trainer: Any = grpo_trainer(GRPO, a_stage(tmp_path, adapted, loop))
    rollouts = trainer.rollout_func

    for _ in range(2):
        with torch.no_grad():
            for weight in adapted.model.parameters():
                if weight.requires_grad:
                    weight.add_(0.05)
        batch = rollouts(["0"] * GRPO.candidates, trainer)
        for prompt, ids, sampled in zip(batch["prompt_ids"], batch["completion_ids"], batch["logprobs"], strict=True):
            adapted.model.eval()
            with torch.no_grad():
                read = type(adapted.model).forward(adapted.model, input_ids=torch.tensor([[*prompt, *ids]])).logits[0]
            expected = read[len(prompt) - 1 : -1].log_softmax(-1).gather(-1, torch.tensor(ids)[:, None])[:, 0]
            assert sampled == pytest.approx(expected.tolist(), abs=1e-4)


@pytest.mark.parametrize("beta", [0.0, 0.1])
def test_grpo_trains_the_adapter_alone_and_saves_what_it_trained(
    small: Path, tmp_path: Path, loop: BackgroundLoop, beta: float
) -> None:
    policy = open_policy(small, LORA)
    frozen = {name: weight.clone() for name, weight in policy.model.named_parameters() if not weight.requires_grad}
    before = logits(policy)

    train_grpo(GRPO.model_copy(update={"beta": beta}), a_stage(tmp_path, policy, loop))
    policy.save(tmp_path / "model")

    after = dict(policy.model.named_parameters())
    assert all(torch.equal(weight, after[name]) for name, weight in frozen.items())
    assert not torch.allclose(logits(policy), before, atol=1e-3)
    same(logits(LocalModel.load(tmp_path / "model")), logits(policy))


def test_the_reference_of_dpo_is_the_adapter_that_the_stage_started_from(
    adapted: LocalModel, tmp_path: Path, loop: BackgroundLoop
) -> None:
    settings = DpoSettings(
        algorithm="dpo",
        states=12,
        candidates=4,
        deepest=1,
        min_gap=0,
        noise=0,
        epochs=2,
        batch=2,
        likelihood=0,
        learning_rate=3e-2,
        warmup=0,
        save_steps=None,
    )
    stage = a_stage(tmp_path, adapted, loop, name="0-dpo", samples=2)

    train_dpo(settings, stage)
    adapted.save(tmp_path / "model")

    first = next(entry.value for entry in stage.journal.read("step"))
    assert first["margin"] == pytest.approx(0.0, abs=1e-5)
    assert sorted(path.name for path in (tmp_path / "model").iterdir() if path.is_dir()) == []
    same(logits(LocalModel.load(tmp_path / "model")), logits(adapted))


def test_a_killed_training_of_an_adapter_goes_on_to_the_same_weights_and_journal(
    small: Path, tmp_path: Path, loop: BackgroundLoop
) -> None:
    plain = LORA.model_copy(update={"dropout": 0.0})
    whole = a_stage(tmp_path / "whole", open_policy(small, plain), loop, name="0-sft")
    train_stage(SFT, whole, examples())
    with pytest.raises(Killed):
        dying = a_stage(tmp_path / "x", open_policy(small, plain), loop, name="0-sft", progress=kill_at(5))
        train_stage(SFT, dying, examples())

    again = a_stage(tmp_path / "x", open_policy(small, plain), loop, name="0-sft")
    train_stage(SFT, again, examples())

    torch.testing.assert_close(weights(again), weights(whole), rtol=1e-5, atol=1e-6)
    assert timeless(again) == timeless(whole)
