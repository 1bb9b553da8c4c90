"""An adapter stands on the weights that it was trained on, wherever they are now, and on no others."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from transformers import AutoModelForCausalLM

from duologue.errors import ModelError
from duologue.models import BUILT_IN
from duologue.models.adapters import CONFIG, NOTE, base_of, check_base, note_base
from duologue.models.local import LocalModel
from duologue.run.export import export
from duologue.run.weights import weights_digest
from duologue.training.lora import open_policy
from duologue.training.settings import LoraSettings
from small_model import save_small_model

LORA = LoraSettings(r=2, alpha=4)
STAGE = Path("stages", "trained", "0-sft", "model")


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(input_ids=torch.tensor([[5, 6, 7, 8]])).logits


def opened(folder: Path) -> torch.Tensor:
    return logits(LocalModel.load(folder).model)


def same(one: torch.Tensor, other: torch.Tensor) -> None:
    torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def a_run(run: Path) -> Path:
    """A run whose stages trained all weights and then an adapter; its adapter."""
    save_small_model(run / STAGE)
    return adapted(run / STAGE, run / "models" / "trained")


def adapted(base: str | Path, folder: Path) -> Path:
    """An adapter that changes something."""
    policy = open_policy(base, LORA)
    with torch.no_grad():
        for name, weight in policy.model.named_parameters():
            if "lora_B" in name:
                weight.fill_(0.1)
    policy.save(folder)
    return folder


def trained_anew(model: Path) -> None:
    """Other weights in a model's place."""
    whole = AutoModelForCausalLM.from_pretrained(model)
    with torch.no_grad():
        for weight in whole.parameters():
            weight.add_(0.1)
    whole.save_pretrained(model)


def noted_place(adapter: Path) -> str:
    return json.loads((adapter / CONFIG).read_text())["base_model_name_or_path"]


@pytest.mark.parametrize("another", [False, True], ids=["nothing there", "another run there"])
def test_a_run_that_is_moved_takes_its_own_weights_along(tmp_path: Path, another: bool) -> None:
    before = opened(a_run(tmp_path / "runs" / "mine"))
    shutil.move(tmp_path / "runs" / "mine", tmp_path / "elsewhere" / "kept")
    if another:
        a_run(tmp_path / "runs" / "mine")
        trained_anew(tmp_path / "runs" / "mine" / STAGE)

    same(opened(tmp_path / "elsewhere" / "kept" / "models" / "trained"), before)


def test_a_copy_of_all_runs_is_exported_and_has_the_digest_of_its_own_weights(tmp_path: Path) -> None:
    adapter = a_run(tmp_path / "runs" / "mine")
    before, digest = opened(adapter), weights_digest(str(adapter))
    shutil.copytree(tmp_path / "runs", tmp_path / "copy")
    shutil.rmtree(tmp_path / "runs")

    export(str(tmp_path / "copy" / "mine"), tmp_path / "whole")

    same(opened(tmp_path / "whole"), before)
    assert weights_digest(str(tmp_path / "copy" / "mine" / "models" / "trained")) == digest


def test_an_adapter_that_is_trained_further_where_its_run_was_moved_names_the_new_place(tmp_path: Path) -> None:
    a_run(tmp_path / "mine")
    shutil.move(tmp_path / "mine", tmp_path / "moved")

    open_policy(tmp_path / "moved" / "models" / "trained", LORA).save(tmp_path / "moved" / "further")

    assert noted_place(tmp_path / "moved" / "further") == str(tmp_path / "moved" / STAGE)


def test_other_weights_than_it_was_trained_on_are_refused_with_what_to_do(tmp_path: Path) -> None:
    adapter = a_run(tmp_path)
    trained_anew(tmp_path / STAGE)
    sentence = rf"{adapter} was trained on other weights than {tmp_path / STAGE} has now: put those back, or name"

    with pytest.raises(ModelError, match=sentence):
        LocalModel.load(adapter)
    with pytest.raises(ModelError, match=sentence):
        export(str(tmp_path), tmp_path / "whole")
    with pytest.raises(ModelError, match=sentence):
        weights_digest(str(adapter))
    assert not (tmp_path / "whole").exists()


def test_weights_that_were_put_elsewhere_are_taken_where_the_adapter_is_told_so(tmp_path: Path) -> None:
    adapter = a_run(tmp_path)
    before = opened(adapter)
    shutil.copytree(tmp_path / STAGE, tmp_path / "put")
    trained_anew(tmp_path / STAGE)

    settings = json.loads((adapter / CONFIG).read_text())
    (adapter / CONFIG).write_text(json.dumps(settings | {"base_model_name_or_path": str(tmp_path / "put")}))

    same(opened(adapter), before)


def test_what_comes_with_the_package_is_found_where_the_package_is(tmp_path: Path) -> None:
    adapter = adapted("tiny", tmp_path / "adapter")
    settings = json.loads((adapter / CONFIG).read_text())
    (adapter / CONFIG).write_text(json.dumps(settings | {"base_model_name_or_path": "/another/machine/tiny"}))

    assert base_of(adapter) == str(BUILT_IN["tiny"])


def test_an_adapter_without_a_note_is_believed(tmp_path: Path) -> None:
    adapter = a_run(tmp_path)
    (adapter / NOTE).unlink()
    trained_anew(tmp_path / STAGE)

    assert base_of(adapter) == str(tmp_path / STAGE)


@pytest.mark.parametrize("content", ["{", "{}", "[]"])
def test_a_damaged_note_is_named(content: str, tmp_path: Path) -> None:
    adapter = a_run(tmp_path)
    (adapter / NOTE).write_text(content)

    with pytest.raises(ModelError, match=rf"{NOTE} is damaged"):
        LocalModel.load(adapter)


def test_a_model_of_the_hub_is_compared_when_it_is_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    kept = tmp_path / "models--someone--small"
    weights = kept / "snapshots" / ("0" * 40) / "model.safetensors"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"a")
    (kept / "refs").mkdir()
    (kept / "refs" / "main").write_text("0" * 40)
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / CONFIG).write_text('{"base_model_name_or_path": "someone/small"}')
    note_base(adapter)
    check_base(adapter, base_of(adapter))

    weights.write_bytes(b"b, as the hub has it now")

    with pytest.raises(ModelError, match="was trained on other weights than someone/small has now"):
        check_base(adapter, base_of(adapter))
