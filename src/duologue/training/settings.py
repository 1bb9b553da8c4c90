"""The typed settings of `[[train]]` tables. Free of torch, so that a recipe is checked at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, ValidationInfo, field_validator, model_validator

from duologue.settings import Settings

Probability = Annotated[float, Field(ge=0, le=1)]


def _divides(whole: str) -> Callable[[int | None, ValidationInfo], int | None]:
    """A check that a number, where it is given, divides the field `whole`, which stands before it."""

    def check(part: int | None, info: ValidationInfo) -> int | None:
        if part and info.data.get(whole, 0) % part:
            raise ValueError(f"must divide {whole} = {info.data[whole]}")
        return part

    return check


class ScratchSettings(Settings):
    """The architecture of a model made from nothing (`[assistant.architecture]` in a recipe)."""

    hidden: int = Field(default=128, gt=0)
    intermediate: int = Field(default=384, gt=0)
    layers: int = Field(default=4, gt=0)
    heads: int = Field(default=4, gt=0)
    head_dim: int = Field(default=64, gt=0)
    kv_heads: int = Field(default=1, gt=0)
    rope_theta: float = Field(default=1000.0, gt=0)
    context: int = Field(default=512, gt=0)
    embedding_std: float = Field(default=0.08, gt=0)


class LoraSettings(Settings):
    """`lora = { r = 32 }`: train an adapter beside the weights (https://arxiv.org/abs/2106.09685)."""

    r: int = Field(default=32, gt=0)
    """Its rank."""
    alpha: int = Field(default=16, gt=0)
    """What it adds counts `alpha` ÷ `r` times."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    targets: tuple[str, ...] = ()
    """The ends of the names of layers; all linear ones but the one that predicts words."""
    quantize: Literal["4bit"] | None = None
    """Keep the weights beside it in 4 bits (https://arxiv.org/abs/2305.14314)."""


class StageSettings(Settings):
    """What all algorithms share."""

    lora: LoraSettings | None = None
    """Train an adapter, and not the weights."""

    learning_rate: float = Field(default=1e-5, gt=0)
    warmup: int = Field(default=5, ge=0)
    """Steps until the learning rate is reached; all there are, where those are fewer."""
    hold: Probability = 0.0
    """Share of the steps that keep the full learning rate before it falls, linearly."""
    floor: Probability = 0.2
    """What the learning rate falls to, as a share of it."""
    max_grad_norm: float = Field(default=1.0, gt=0)
    save_steps: int | None = Field(default=10, gt=0)
    """Steps between checkpoints; None writes none."""


class ExploreSettings(StageSettings):
    """Algorithms that reward candidate replies on states the current policy reaches."""

    candidates: int = Field(default=6, ge=2)
    """Replies drawn at each state."""
    deepest: int = Field(default=4, ge=0)
    """Half the states are first turns, the others after 1 to `deepest` turns."""


class GrpoSettings(ExploreSettings):
    """GRPO with MR as the reward of fresh replies (TRL's GRPOTrainer)."""

    algorithm: Literal["grpo"]
    unit: Literal["reply", "conversation"] = "reply"
    """What a group has several of: replies to a state, worth their MR; or whole conversations, worth their R."""
    steps: int = Field(default=60, gt=0)
    groups: int = Field(default=40, gt=0)
    """States a step; goals, with `unit = "conversation"`."""
    micro_groups: int | None = Field(default=None, gt=0)
    """States a forward and backward pass, where not all of a step's fit; must divide `groups`."""
    learning_rate: float = Field(default=1e-6, gt=0)
    scale_rewards: Literal["batch", "group", "none"] = "batch"
    loss_type: Literal["dapo", "grpo", "bnpo", "dr_grpo"] = "dapo"
    beta: float = Field(default=0.0, ge=0)
    """Weight of the KL to the stage's start."""
    shared_prompts: bool = True
    """Compute a group's prompt once (equal gradients, several times faster)."""

    _whole_parts = field_validator("micro_groups")(_divides("groups"))


class PoolSettings(ExploreSettings):
    """Algorithms whose states come from a pool that the current policy plays anew every few steps."""

    steps: int = Field(default=60, gt=0)
    groups: int = Field(default=40, gt=0)
    """States a step."""
    refresh: int = Field(default=4, gt=0)
    """Steps until the states of the next so many are played; their replies are always the current policy's."""


class RlooSettings(PoolSettings):
    """RLOO with MR as the reward of fresh replies (TRL's RLOOTrainer)."""

    algorithm: Literal["rloo"]
    micro_groups: int | None = Field(default=None, gt=0)
    """States a forward and backward pass, where not all of a step's fit; must divide `groups`."""
    learning_rate: float = Field(default=1e-6, gt=0)
    scale_rewards: Literal["batch", "none"] = "none"
    beta: float = Field(default=0.0, ge=0)
    """Weight of the KL to the stage's start, which is taken from the reward."""
    shared_prompts: bool = True
    """Compute a group's prompt once (equal gradients, several times faster)."""

    _whole_parts = field_validator("micro_groups")(_divides("groups"))


class PpoSettings(ExploreSettings):
    """PPO with MR as the reward of a reply's last token, and a value head (our own loop, on accelerate)."""

    algorithm: Literal["ppo"]
    steps: int = Field(default=60, gt=0)
    groups: int = Field(default=40, gt=0)
    """States a step."""
    candidates: int = Field(default=6, ge=1)
    """Replies drawn at each state."""
    epochs: int = Field(default=2, gt=0)
    """Passes over a step's replies."""
    minibatches: int = Field(default=4, gt=0)
    """Updates a pass."""
    micro_batch: int = Field(default=8, gt=0)
    """Replies a forward and backward pass; those of like length go together."""
    learning_rate: float = Field(default=1e-6, gt=0)
    value_learning_rate: float = Field(default=1e-3, gt=0)
    """Of the value head, which starts from nothing."""
    scale_rewards: Literal["batch", "none"] = "batch"
    clip: float = Field(default=0.2, gt=0)
    """How far a token's probability may move before it counts no more, as a share of what it was."""
    value_clip: float = Field(default=0.2, gt=0)
    """How far a value may move before it counts no more, in units of the reward."""
    gamma: float = Field(default=1.0, gt=0, le=1)
    gae_lambda: Probability = 1.0
    kl: Literal["reward", "loss"] = "reward"
    """Where the KL to the stage's start is charged."""
    beta: float = Field(default=0.05, ge=0)
    """Its first weight."""
    target_kl: float | None = Field(default=None, gt=0)
    """Nats a reply that the weight is adapted towards; None leaves the weight as it is."""

    @model_validator(mode="after")
    def _has_a_weight_to_adapt(self) -> Self:
        if self.target_kl is not None and self.beta == 0:
            raise ValueError("target_kl adapts the weight beta, which cannot begin at 0: give beta a small one")
        return self


class PairSettings(StageSettings):
    """What DPO asks of a pair, and how it learns from it."""

    min_gap: float = Field(default=0.1, ge=0)
    noise: float = Field(default=1.0, ge=0)
    """Standard errors a gap must exceed, too."""
    pairs_per_state: int = Field(default=2, gt=0)
    learning_rate: float = Field(default=5e-6, gt=0)
    beta: float = Field(default=0.1, gt=0)
    likelihood: float = Field(default=0.2, ge=0)
    """Weight of the chosen reply's own negative log-likelihood."""


class DpoSettings(PairSettings, ExploreSettings):
    """DPO on pairs of replies, built once by the stage's first policy (TRL's DPOTrainer)."""

    algorithm: Literal["dpo"]
    states: int = Field(default=1344, gt=0)
    """States at which candidates are compared."""
    epochs: int = Field(default=4, gt=0)
    batch: int = Field(default=48, gt=0)
    micro_batch: int | None = Field(default=None, gt=0)
    """Pairs a forward and backward pass, where not all of a batch fit; must divide `batch`."""

    _whole_parts = field_validator("micro_batch")(_divides("batch"))


class OnlineDpoSettings(PairSettings, PoolSettings):
    """DPO on pairs of the current policy's replies, drawn anew at every step (TRL's DPOTrainer)."""

    algorithm: Literal["online-dpo"]
    micro_pairs: int | None = Field(default=None, gt=0)
    """Pairs a forward and backward pass, where not all of a step's fit."""


class SftSettings(StageSettings):
    """Supervised training (TRL's SFTTrainer), on the best of candidate replies or on demonstrations."""

    algorithm: Literal["sft"]
    data: Literal["best", "demonstrations"] = "best"
    """"best": the best reply at each state, by MR; "demonstrations": the tasks' scripted conversations."""
    conversations: dict[str, int] = Field(default_factory=dict[str, int])
    """How many demonstrations of each task, by its name."""
    last_reply: tuple[str, ...] = ()
    """Tasks of which only the last reply of a demonstration is learned."""
    within: int | None = Field(default=None, gt=0)
    """Only demonstrations whose user was satisfied within so many turns: short ones teach what things are."""
    states: int = Field(default=1344, gt=0)
    """States at which candidates are compared."""
    candidates: int = Field(default=6, ge=2)
    """Replies drawn at each state."""
    deepest: int = Field(default=4, ge=0)
    """Half the states are first turns, the others after 1 to `deepest` turns."""
    epochs: int = Field(default=1, gt=0)
    batch: int = Field(default=32, gt=0)
    """Conversations a step."""
    micro_batch: int | None = Field(default=None, gt=0)
    """Conversations at once, where a whole batch does not fit into memory; it divides `batch`."""
    learning_rate: float = Field(default=1e-5, gt=0)
    optimizer: Literal["adamw", "muon"] = "adamw"
    muon_learning_rate: float = Field(default=0.02, gt=0)
    """Of the matrices inside the layers, with `optimizer = "muon"`."""
    warmup: int = Field(default=20, ge=0)
    floor: Probability = 0.05
    save_steps: int | None = Field(default=200, gt=0)

    _whole_parts = field_validator("micro_batch")(_divides("batch"))


def _algorithm(stage: Any) -> Any:
    """What tells the kinds of stages apart."""
    if isinstance(stage, GrpoSettings | PpoSettings | RlooSettings | DpoSettings | OnlineDpoSettings | SftSettings):
        return stage.algorithm
    return stage.get("algorithm") if isinstance(stage, Mapping) else None


TrainSettings = Annotated[
    Annotated[GrpoSettings, Tag("grpo")]
    | Annotated[PpoSettings, Tag("ppo")]
    | Annotated[RlooSettings, Tag("rloo")]
    | Annotated[DpoSettings, Tag("dpo")]
    | Annotated[OnlineDpoSettings, Tag("online-dpo")]
    | Annotated[SftSettings, Tag("sft")],
    Discriminator(_algorithm),
]

ALGORITHMS: dict[str, type[StageSettings]] = {
    "grpo": GrpoSettings,
    "ppo": PpoSettings,
    "rloo": RlooSettings,
    "dpo": DpoSettings,
    "online-dpo": OnlineDpoSettings,
    "sft": SftSettings,
}
"""The kinds of `[[train]]` tables, by algorithm."""
