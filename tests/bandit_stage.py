"""Stages whose best policy is known: replies of one token, each with a known reward; and one of longer replies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from tokenizers.decoders import Fuse
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import PreTrainedTokenizerFast

from duologue.background import BackgroundLoop
from duologue.conversation import Conversation, Goal
from duologue.metrics import Metric, Score, Weighted
from duologue.models.local import LocalModel
from duologue.training.scratch import build_model
from duologue.training.settings import PpoSettings, ScratchSettings
from duologue.training.stage import Stage
from training_stage import GROCERIES, a_stage

WORDS = ["<pad>", "<end>", "<user>", "<assistant>", "?", "poor", "fair", "good"]
REWARDS = {"poor": 0.0, "fair": 0.5, "good": 1.0}
"""Of the replies; any other token is worth nothing."""
TEMPLATE = "<user> {{ messages[0]['content'] }}{% for m in messages[1:] %} {{ m['content'] }}{% endfor %} <assistant>"


def bandit_model() -> LocalModel:
    tokenizer = Tokenizer(WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="?"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    tokenizer.decoder = Fuse()
    made = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<end>", chat_template=TEMPLATE, padding_side="left"
    )
    architecture = ScratchSettings(
        hidden=16, intermediate=16, layers=1, heads=2, head_dim=8, kv_heads=1, context=32, embedding_std=0.15
    )
    return LocalModel(build_model(architecture, made, seed=1), made)


def known_reward() -> Metric:
    async def score(conversation: Conversation, goal: Goal) -> Score:
        return Score(REWARDS.get(conversation.replies[-1], 0.0))

    return score


def a_bandit(
    folder: Path, loop: BackgroundLoop, metric: Callable[[], Metric] = known_reward, max_tokens: int = 1, **named: Any
) -> Stage:
    goals = tuple(GROCERIES.goals("train")[:1])
    task = replace(GROCERIES, metrics={"known": Weighted(metric)}, goal_maker=lambda split: goals)
    return a_stage(folder, bandit_model(), loop, name="0-ppo", task=task, window=0, max_tokens=max_tokens, **named)


BANDIT = PpoSettings(
    algorithm="ppo",
    steps=20,
    groups=4,
    candidates=32,
    deepest=0,
    epochs=2,
    minibatches=2,
    micro_batch=64,
    learning_rate=2e-2,
    scale_rewards="none",
    beta=0.0,
    warmup=1,
    save_steps=None,
)

CHAT = BANDIT.model_copy(
    update={"steps": 5, "candidates": 3, "learning_rate": 5e-3, "beta": 0.1, "target_kl": 0.05, "save_steps": 2}
)
"""Replies of several tokens."""


def chatting(folder: Path, loop: BackgroundLoop, **named: Any) -> Stage:
    return a_bandit(folder, loop, metric=length_if_even, max_tokens=4, **named)


def length_if_even() -> Metric:
    async def score(conversation: Conversation, goal: Goal) -> Score:
        length = len(conversation.replies[-1])
        return Score(length / 10) if length % 2 == 0 else Score(None, "odd")

    return score
