"""What `--restart` moves aside still opens as what it was."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from duologue.models.local import LocalModel
from duologue.recipe import Recipe, parse
from duologue.run.export import export
from duologue.run.folder import RunFolder
from duologue.training.lora import open_policy
from duologue.training.settings import LoraSettings
from small_model import save_small_model


@pytest.fixture
def recipe() -> Recipe:
    return parse({"name": "plain", "task": {"name": "groceries"}, "evaluate": {"arms": ["base"]}}, "plain.toml")


def trained(run: RunFolder, change: float) -> Path:
    """A stage that trained all weights, by so much, and one that trained an adapter on them; the adapter."""
    first, second = run.stage("trained", "0-sft") / "model", run.stage("trained", "1-grpo") / "model"
    whole = LocalModel.load(save_small_model(first))
    with torch.no_grad():
        for weight in whole.model.parameters():
            weight.add_(change)
    whole.save(first)
    open_policy(first, LoraSettings(r=2)).save(second)
    run.finish_model("trained", second)
    return run.model("trained")


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(input_ids=torch.tensor([[5, 6, 7, 8]])).logits


def test_after_a_restart_the_old_runs_adapter_stands_on_the_old_runs_weights(tmp_path: Path, recipe: Recipe) -> None:
    from peft import AutoPeftModelForCausalLM

    run = RunFolder(tmp_path / "plain")
    before = logits(LocalModel.load(trained(run, 0.1)).model)

    run.begin(recipe, restart=True)
    trained(run, 0.2)

    (aside,) = (path for path in tmp_path.iterdir() if path != run.path)
    export(str(aside), tmp_path / "whole")
    old = aside / "models" / "trained"
    for model in (
        LocalModel.load(old).model,
        LocalModel.load(tmp_path / "whole").model,
        AutoModelForCausalLM.from_pretrained(old),
        AutoPeftModelForCausalLM.from_pretrained(old),
    ):
        torch.testing.assert_close(logits(model), before, atol=1e-5, rtol=1e-5)


def test_a_checkpoint_that_a_kill_cut_short_keeps_no_run_from_its_restart(tmp_path: Path, recipe: Recipe) -> None:
    run = RunFolder(tmp_path / "plain")
    checkpoint = run.stage("trained", "0-sft") / "checkpoint-3"
    checkpoint.mkdir(parents=True)
    (checkpoint / "adapter_config.json").write_text('{"base_model')

    run.begin(recipe, restart=True)

    assert not run.stage("trained", "0-sft").exists()
