"""Simulated tokens a second on this device against a bare batched `generate`, and what training takes of it.

    python benchmarks/gpu.py                        # a random model of 0.5 billion parameters on a GPU, else "tiny"
    python benchmarks/gpu.py --model Qwen/Qwen3-4B --lora
    python benchmarks/gpu.py --model tiny --conversations 64 --steps 2

Conversations of a few turns are played side by side with a user who says as many words a turn as a sentence has. The
bare side is transformers' own `generate`: for every turn one batch of the same prompts, padded on their left, and as
many new tokens as ours drew. Both sides run in turns, the first time left out; the goal is a ratio of 0.8 or more.
Then GRPO and PPO train for a few steps on groceries: seconds a step, and the most memory that the device held.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from duologue.background import BackgroundLoop
from duologue.conversation import Conversation
from duologue.journal import Journal
from duologue.models.base import Sampling
from duologue.models.local import LocalModel
from duologue.recipe import parse
from duologue.run.jobs import run_stage
from duologue.run.wiring import quieten_transformers, wire
from duologue.seeding import derive
from duologue.simulation import Assistant, converse
from duologue.training.lora import open_policy
from duologue.training.settings import LoraSettings
from duologue.training.stage import Stage
from duologue.users.base import Utterance

RANDOM = "random-0.5b"
WORDS = 30
"""Words of a user's message."""
LORA = {"r": 16, "alpha": 16, "dropout": 0.0}
TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|> {{ m.content | trim }} <|end|> {% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SPECIAL = ["<|end|>", "<|user|>", "<|assistant|>", "<|system|>"]


class Talker:
    """Says something else at every turn and never ends the conversation."""

    def __init__(self, request: object = None, seed: int = 0) -> None:
        self._seed = seed

    async def speak(self, conversation: Conversation, *, seed: int) -> Utterance:
        numbers = (derive(self._seed, "word", len(conversation.messages), at) % 1000 for at in range(WORDS))
        return Utterance(" ".join(f"w{number}" for number in numbers))


def random_model(folder: Path) -> Path:
    """Qwen2's architecture at the sizes of its 0.5B model, random weights, and a word for each of its ids."""
    torch.manual_seed(0)
    size = 151_936
    vocabulary = {name: at for at, name in enumerate([*SPECIAL, *(f"w{at}" for at in range(size - len(SPECIAL)))])}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="w0"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    words.decoder = decoders.Fuse()
    words.add_special_tokens(SPECIAL)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<|end|>", eos_token="<|end|>")
    tokenizer.chat_template = TEMPLATE
    config = Qwen2Config(
        vocab_size=size,
        hidden_size=896,
        intermediate_size=4864,
        num_hidden_layers=24,
        num_attention_heads=14,
        num_key_value_heads=2,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        Qwen2ForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


# ---- Simulation -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Turn:
    """What was read and drawn at one turn, by conversation."""

    prompts: list[list[int]]
    drawn: int


async def play(model: LocalModel, arguments: argparse.Namespace, seed: int) -> list[Conversation]:
    assistant = Assistant(model, sampling=Sampling(max_tokens=arguments.tokens))
    seeds = [derive(seed, "conversation", number) for number in range(arguments.conversations)]
    return await asyncio.gather(
        *(converse(assistant, Talker(seed=each), seed=each, turns=arguments.turns) for each in seeds)
    )


def turns_of(model: LocalModel, conversations: Sequence[Conversation], tokens: int) -> list[Turn]:
    """The batches that a bare loop needs for the same conversations."""
    most = max(len(conversation.replied_at) for conversation in conversations)
    found: list[Turn] = []
    for number in range(most):
        at = [(c, c.replied_at[number]) for c in conversations if number < len(c.replied_at)]
        found.append(Turn([list(model.encode(c.messages[:place])) for c, place in at], tokens))
    return found


@torch.inference_mode()
def bare(model: LocalModel, turns: Sequence[Turn]) -> int:
    """`generate` for every turn; the tokens it drew."""
    drawn = 0
    for turn in turns:
        padded = model.tokenizer.pad({"input_ids": turn.prompts}, return_tensors="pt", padding_side="left")
        inputs = {name: tensor.to(model.model.device) for name, tensor in padded.items()}
        out = model.model.generate(
            **inputs, do_sample=True, top_k=0, top_p=1.0, min_new_tokens=turn.drawn, max_new_tokens=turn.drawn
        )
        drawn += out[:, inputs["input_ids"].shape[1] :].numel()
    return drawn


def compare(model: LocalModel, arguments: argparse.Namespace) -> tuple[float, float]:
    """Tokens a second, ours and bare, medians."""
    ours: list[float] = []
    theirs: list[float] = []
    for repeat in range(arguments.repeats + 1):
        model.weights_changed()
        before = model.counters.generated
        seconds, conversations = timed(partial(asyncio.run, play(model, arguments, repeat)))
        drawn = model.counters.generated - before
        model.weights_changed()
        turns = turns_of(model, conversations, arguments.tokens)
        bare_seconds, bare_drawn = timed(partial(bare, model, turns))
        if repeat:  # the first one warms up
            ours.append(drawn / seconds)
            theirs.append(bare_drawn / bare_seconds)
    return statistics.median(ours), statistics.median(theirs)


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds by the clock, all work of the device done."""
    settle()
    began = time.perf_counter()
    result = work()
    settle()
    return time.perf_counter() - began, result


def settle() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


# ---- Training -------------------------------------------------------------------------------------------------


def train(source: str, algorithm: str, arguments: argparse.Namespace) -> tuple[float, float]:
    """Seconds a step, and gigabytes at most: of the GPU, or of the process."""
    stage = {"algorithm": algorithm, "groups": arguments.groups, "candidates": 4, "steps": arguments.steps}
    lora = LoraSettings(**LORA) if arguments.lora else None
    recipe = parse(
        {
            "name": "gpu",
            "task": {"name": "groceries"},
            "assistant": {"model": source, "max_tokens": arguments.tokens},
            "reward": {"samples": 1, "window": 2},
            "train": [{**stage, "save_steps": arguments.steps + 1, "lora": LORA if arguments.lora else None}],
        },
        "benchmark",
    )
    policy = open_policy(source, lora, seed=0)
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    with tempfile.TemporaryDirectory() as folder, BackgroundLoop() as loop:
        wiring = wire(recipe, lambda *_: policy)
        journal = Journal(Path(folder) / "journal.jsonl")
        partners = partial(wiring.partners, fresh=0)
        given = Stage("gpu", "0", Path(folder), 0, wiring.tasks, policy, partners, loop, journal, lambda *_: None)
        run_stage(recipe.stages[0], given)
        seconds = [entry.value["seconds"] for entry in journal.read("step")]
    return statistics.median(seconds[1:] or seconds), held()


def held() -> float:
    """The most memory so far, in gigabytes."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e9
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


# ---- On the terminal ------------------------------------------------------------------------------------------


def main() -> None:
    """Print where it ran, the ratio, and a row an algorithm."""
    arguments = _arguments()
    quieten_transformers()
    if not torch.cuda.is_available():
        torch.set_num_threads(1)
    place = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU, one thread"
    with tempfile.TemporaryDirectory() as folder:
        source = str(random_model(Path(folder))) if arguments.model == RANDOM else arguments.model
        model = LocalModel.load(source, rows=max(256, arguments.conversations))
        size = sum(weight.numel() for weight in model.model.parameters())
        ours, theirs = compare(model, arguments)
        print(f"{place}; torch {torch.__version__}; {arguments.model}, {size / 1e6:,.0f} M parameters")
        print(
            f"{arguments.conversations} conversations of {arguments.turns} turns, {arguments.tokens} tokens a reply: "
            f"ours {ours:,.0f} tokens/s, generate {theirs:,.0f}, ratio {ours / theirs:.2f} (goal 0.80)"
        )
        del model
        table = Table(title=f"{arguments.steps} steps of {arguments.groups} states and 4 replies")
        for column in ("", "seconds a step", "most memory (GB)"):
            table.add_column(column, justify="right")
        for algorithm in arguments.algorithms:
            seconds, memory = train(source, algorithm, arguments)
            table.add_row(algorithm, f"{seconds:.2f}", f"{memory:.2f}")
        Console(width=80).print(table)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    model = RANDOM if torch.cuda.is_available() else "tiny"
    parser.add_argument("--model", default=model, help=f'"{RANDOM}", "tiny", a folder or a hub id')
    parser.add_argument("--conversations", type=int, default=256)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=64 if torch.cuda.is_available() else 16, help="a reply")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--algorithms", nargs="*", default=["grpo", "ppo"])
    parser.add_argument("--groups", type=int, default=8)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--lora", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
