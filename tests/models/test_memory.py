"""A model that is too large is refused before it is loaded, with what it would take."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, LlamaConfig

from duologue.cli import main
from duologue.errors import ModelError
from duologue.models.local import LocalModel
from duologue.models.memory import GIB, adapter_size, free_memory, to_play, to_train
from duologue.models.size import blueprint, parameters
from duologue.training.lora import open_policy
from duologue.training.settings import LoraSettings
from small_model import save_small_model

EIGHT_BILLION = LlamaConfig(
    vocab_size=128256,
    hidden_size=4096,
    intermediate_size=14336,
    num_hidden_layers=32,
    num_attention_heads=32,
    num_key_value_heads=8,
    dtype="bfloat16",
)
"""Llama 3.1's."""


@pytest.fixture
def giant(tmp_path: Path) -> Path:
    """The folder of a model with a hundred trillion parameters, as far as its config goes; it has no weights."""
    small = save_small_model(tmp_path / "small")
    folder = tmp_path / "giant"
    AutoTokenizer.from_pretrained(small).save_pretrained(folder)
    config = EIGHT_BILLION.to_dict() | {"hidden_size": 2**17, "intermediate_size": 2**19, "num_hidden_layers": 350}
    LlamaConfig(**config).save_pretrained(folder)
    return folder


def test_it_is_said_before_anything_is_loaded_with_the_estimate(giant: Path) -> None:
    with pytest.raises(ModelError) as refused:
        LocalModel.load(giant, device="cpu")

    told = str(refused.value)
    assert "billion parameters and takes about" in told and "2 bytes a weight" in told
    assert re.search(r"[\d.,]+ GiB are free on this machine: take a smaller model", told)


def test_one_that_is_too_large_to_play_says_what_training_it_takes(giant: Path) -> None:
    with pytest.raises(ModelError) as refused:
        LocalModel.load(giant, device="cpu")

    playing, training = (
        float(re.findall(pattern, str(refused.value))[0].replace(",", ""))
        for pattern in (r"takes about (\S+) GiB \(2 bytes", r"Training all of its weights takes (\S+) GiB")
    )
    assert training == pytest.approx(8 * playing, rel=0.01)


@pytest.mark.parametrize(
    ("lora", "told"),
    [
        (None, r"16 bytes a weight for itself, its gradient and AdamW.*train an adapter"),
        (LoraSettings(r=8), r"2 bytes a weight, and 16 for each of [\d.e+]+ million in the adapter.*4 bits"),
    ],
)
def test_training_takes_more_and_says_what_takes_less(lora: LoraSettings | None, told: str, giant: Path) -> None:
    with pytest.raises(ModelError, match=told):
        open_policy(giant, lora)


def test_a_command_says_it_in_a_sentence(giant: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        main(["export", str(giant), "--output", str(tmp_path / "out")])

    assert done.value.code == 1
    assert re.match(r"duologue: .*giant has .* billion parameters and takes about", capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


def test_what_fits_is_loaded(tmp_path: Path) -> None:
    LocalModel.load(save_small_model(tmp_path / "small"), device="cpu")


def test_bytes_are_those_of_an_8b_model(tmp_path: Path) -> None:
    EIGHT_BILLION.save_pretrained(tmp_path)
    model = blueprint(tmp_path)
    assert model is not None
    adapter = adapter_size(model, 32, ())

    assert parameters(model) == 8_030_261_248
    assert adapter == 83_886_080  # what peft makes of r = 32 on all linear layers
    assert to_play(model, None).bytes == 2 * 8_030_261_248
    assert to_play(model, torch.float32).bytes == 4 * 8_030_261_248
    assert to_train(model, None).bytes == 16 * 8_030_261_248
    assert to_train(model, adapter).bytes == 2 * 8_030_261_248 + 16 * adapter
    assert to_train(model, adapter, four_bit=True).bytes / GIB < 6


def test_an_adapters_weights_are_counted_as_peft_makes_them(tmp_path: Path) -> None:
    folder = save_small_model(tmp_path / "small")
    planned = blueprint(folder)
    assert planned is not None

    for targets in ((), ("q_proj",), ("self_attn.q_proj", "down_proj")):
        policy = open_policy(folder, LoraSettings(r=4, targets=targets))
        made = sum(weight.numel() for weight in policy.model.parameters() if weight.requires_grad)
        assert adapter_size(planned, 4, targets) == made


def test_free_memory_is_no_more_than_the_machine_has() -> None:
    free = free_memory(torch.device("cpu"))
    total = int(re.findall(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())[0]) * 1024
    assert free is not None and 0 < free < total


def test_a_damaged_config_is_left_to_who_loads_it(tmp_path: Path) -> None:
    folder = save_small_model(tmp_path / "small")
    (folder / "config.json").write_text("{")
    assert blueprint(folder) is None
    shutil.rmtree(folder)
    assert blueprint(folder) is None
