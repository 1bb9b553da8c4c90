# pyright: basic
"""Tokenizers and weights, from a folder or by their id on the hub, and into a folder.

Covered: whole models, and LoRA adapters that stand on one. An adapter's folder has the adapter, the tokenizer, and
where the model is that it stands on; transformers and peft open it as they open any. Which weights those were stands
there, too, and no others are taken: see `adapters`.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel
from transformers.utils import logging
from transformers.utils.import_utils import is_bitsandbytes_available, is_peft_available
from transformers.utils.peft_utils import find_adapter_config_file

from duologue.errors import AbsentModel, MissingDependency, ModelError
from duologue.models.adapters import base_of, check_base, note_base
from duologue.models.hub import refuse_absent
from duologue.models.memory import gib, refuse_too_large, to_play, to_train
from duologue.models.size import blueprint

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")
LESS = "take a smaller model, free some memory, or have a server play it (assistant.endpoint)"
"""What to do about one that does not fit."""
ADAPTER = "default"
"""The name of the adapter that is trained, as peft calls it."""


def load_tokenizer(place: str | Path) -> Any:
    """The tokenizer of a model.

    Raises:
        ModelError: there is none, or it cannot be read.
    """
    folder = Path(place)
    if folder.is_dir():
        if not any((folder / name).is_file() for name in TOKENIZER_FILES):
            raise AbsentModel(f"{folder} has no tokenizer: save one there with tokenizer.save_pretrained")
    else:
        refuse_absent(str(place))
    try:
        return AutoTokenizer.from_pretrained(place)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"the tokenizer of {place} could not be loaded: {_first_line(error)}") from error


def load_weights(
    place: str | Path, *, device: str | torch.device, dtype: str | torch.dtype | None = None, four_bit: bool = False
) -> nn.Module:
    """A causal language model of transformers, or a PEFT model around the one that an adapter stands on.

    Args:
        dtype: the type the weights are stored in.
        four_bit: the weights in 4 bits (NF4, as in QLoRA); an adapter's are not.

    Raises:
        ModelError: there is no model, it cannot be read, or does not fit into memory; an adapter was trained on other
            weights than those that it names; 4 bits without a GPU.
        MissingDependency: peft or bitsandbytes are not installed.
    """
    options = four_bits() if four_bit else {}
    adapter = _adapter(place)
    whole = str(place) if adapter is None else _base(adapter)
    if (planned := blueprint(whole)) is not None:
        training = gib(to_train(planned, None).bytes)
        then = f"{LESS}. Training all of its weights takes {training}"
        refuse_too_large(place, to_play(planned, dtype, four_bit=four_bit), device, then=then)
    model = _whole(whole, dtype, options)
    if adapter is not None:
        model = _with_adapter(model, adapter, whole)
    if not four_bit:  # those are where they belong, and cannot be moved
        model.to(device)  # type: ignore[arg-type]
    return model


def save_weights(model: nn.Module, folder: Path) -> None:
    """Write a model's weights and configs; of a model with an adapter, the adapter alone, and what it stands on.

    Raises:
        ModelError: what it stands on is not there any more.
    """
    if not is_adapted(model):
        model.save_pretrained(folder)  # type: ignore[operator]
        return
    # Trainers put adapters of their own beside the one that was trained. Layers of words are never trained here, and
    # looking whether they were would ask the hub.
    model.save_pretrained(folder, selected_adapters=[ADAPTER], save_embedding_layers=False)  # type: ignore[operator]
    note_base(folder)


def is_adapted(model: nn.Module) -> bool:
    """Whether it is a PEFT model."""
    if not is_peft_available():
        return False
    from peft import PeftModel

    return isinstance(model, PeftModel)


def plain(model: nn.Module) -> PreTrainedModel:
    """The model of transformers in a PEFT model, with its adapters at work; any other model itself.

    Raises:
        ModelError: it is not a causal language model of transformers.
    """
    base: Any = model.get_base_model() if is_adapted(model) else model  # type: ignore[operator]
    if not isinstance(base, PreTrainedModel) or base.get_output_embeddings() is None:
        raise ModelError(f"{type(base).__name__} is not a causal language model of transformers")
    return base


def merged(model: nn.Module) -> nn.Module:
    """A model with its adapter added to its weights; any other model itself."""
    return model.merge_and_unload() if is_adapted(model) else model  # type: ignore[operator]


def _adapter(place: str | Path) -> Path | None:
    """The folder of an adapter; None where `place` is a whole model."""
    config = find_adapter_config_file(str(place))
    return None if config is None else Path(config).parent


def _base(adapter: Path) -> str:
    """What an adapter stands on.

    Raises:
        ModelError: it does not say, or that is not there, or has other weights.
    """
    base = base_of(adapter)
    if not Path(base).is_dir():
        refuse_absent(base)
    return base


def _with_adapter(model: PreTrainedModel, adapter: Path, base: str) -> nn.Module:
    check_base(adapter, base)  # one of the hub was not here before
    if not is_peft_available():
        raise MissingDependency("a LoRA adapter needs peft: pip install 'duologue[train]'")
    from peft import PeftModel

    try:
        with adapting():
            adapted = PeftModel.from_pretrained(model, str(adapter))
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"the adapter {adapter} could not be loaded: {_first_line(error)}") from error
    adapted.peft_config[ADAPTER].base_model_name_or_path = model.name_or_path  # where it was found
    return adapted


def _whole(place: str | Path, dtype: str | torch.dtype | None, options: dict[str, Any]) -> PreTrainedModel:
    if Path(place).is_dir():
        place = Path(place).resolve()  # an adapter on it notes down where it is
        if not (place / "config.json").is_file():
            raise AbsentModel(f"{place} is not a model: it has no config.json")
    try:
        with _quiet():
            return AutoModelForCausalLM.from_pretrained(place, dtype=dtype or "auto", **options)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"the model {place} could not be loaded: {_first_line(error)}") from error


def four_bits() -> dict[str, Any]:
    """How transformers is told, after QLoRA (https://arxiv.org/abs/2305.14314).

    Raises:
        ModelError: there is no GPU.
        MissingDependency: bitsandbytes is not installed.
    """
    if not torch.cuda.is_available():
        raise ModelError('quantize = "4bit" needs a GPU, and there is none here: leave it out, for plain LoRA')
    if not is_bitsandbytes_available():
        raise MissingDependency('quantize = "4bit" needs bitsandbytes: pip install bitsandbytes')
    from transformers import BitsAndBytesConfig

    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    return {"quantization_config": config, "device_map": {"": torch.cuda.current_device()}}


@contextmanager
def adapting() -> Iterator[None]:
    """Where peft wraps a model: it asks transformers for something by its old name, which warns whoever runs it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        yield


@contextmanager
def _quiet() -> Iterator[None]:
    """transformers' progress bars only where somebody watches."""
    shown = logging.is_progress_bar_enabled()
    if shown and not sys.stderr.isatty():
        logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
