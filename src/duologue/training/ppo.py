"""PPO on multiturn-aware rewards, from top to bottom, on accelerate.

An episode is one reply to a state that the current policy reaches; its tokens are the actions. The only reward,
the reply's MR, comes with its last token. A value head says what it expects before each token, from the policy's
last hidden states: they have read the conversation, and no goal. Nothing flows back from it into the policy, so
the head has a learning rate of its own, and the policy learns from the advantages alone.

A step:
    explore    states, replies and their rewards, by the weights as they are
    appraise   each token's value, its log-probability in the stage's start, its advantage and return
    learn      some passes over the replies in minibatches: clipped losses of policy and values
    adapt      the weight of the KL to the stage's start goes where the KL gets near its target

Sources: PPO, Schulman et al., arXiv 1707.06347; advantages, 1506.02438; KL in the reward, Ziegler et al., 1909.08593.

Covered: several processes, with the updates of one; adapters. Not covered: split weights (FSDP, ZeRO-3).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.func import functional_call
from torch.optim import AdamW

from duologue.dataset import Group, visits
from duologue.seeding import derive, generator
from duologue.training import ranks
from duologue.training.arguments import drawing_temperature, shared_arguments
from duologue.training.checkpoints import load_checkpoint, save_checkpoint
from duologue.training.critic import ActorCritic, Episode, episodes, read
from duologue.training.explore import explored
from duologue.training.figures import figures_of, record_trees, refuse_lost
from duologue.training.schedule import schedule
from duologue.training.settings import PpoSettings
from duologue.training.stage import Figures, Stage

ADAPTATION = 0.1
"""Share by which the KL's weight changes in a step at most (0.02 in the source, of far more steps)."""
TOLD = ("loss", "value_loss", "clip_fraction", "entropy", "update_kl")
"""Figures that are means over tokens; the last is the KL to the policy that replied, as ρ − 1 − log ρ."""
EQUAL = 1e-4
"""Replies of no more difference in worth teach nothing; TRL's trainers add as much to a spread they divide by."""
T = TypeVar("T")
R = TypeVar("R")


def train_ppo(settings: PpoSettings, stage: Stage) -> None:
    """Train the stage's policy in place; goes on from its newest checkpoint.

    Raises:
        RecipeError: the replies are drawn greedily.
        ModelError: none of a step's states could be played, or none of its replies scored.
    """
    learner = Learner(settings, stage)
    count = settings.groups * settings.steps
    planned = visits(stage.tasks, count, deepest=settings.deepest, seed=derive(stage.seed, "ppo"))
    explore = partial(explored, stage=stage, candidates=settings.candidates)
    for step in range(learner.resume(), settings.steps):
        began = time.monotonic()
        groups = _each(planned[step * settings.groups :][: settings.groups], explore)
        refuse_lost(groups)
        rollout = {**figures_of(groups, stage.tasks), "rollout_seconds": time.monotonic() - began}
        if step == 0:
            learner.expect(episodes(groups))
        learned = learner.learn(learner.appraise(episodes(groups)), step)
        learner.record(groups, step, {**rollout, **learned, "seconds": time.monotonic() - began})
        if settings.save_steps and (step + 1) % settings.save_steps == 0:
            learner.save(step + 1)
    stage.policy.weights_changed()


# ---- what is learned from


@dataclass(frozen=True, slots=True)
class Appraised:
    """An episode with what its tokens learn from: one number a token each."""

    episode: Episode
    start: Tensor
    """Log-probabilities before the stage; `now` where no KL is asked for."""
    now: Tensor
    """Log-probabilities before the step, computed like those, and equal to them where nothing has changed."""
    values: Tensor
    """What the value head expected before the token."""
    advantages: Tensor
    returns: Tensor
    """What the value head should have expected."""

    @property
    def numbers(self) -> tuple[Tensor, ...]:
        """The tokens' log-probabilities when they were sampled and before the stage, values, advantages, returns."""
        return self.episode.logprobs, self.start, self.values, self.advantages, self.returns


def advantages(rewards: Sequence[float], values: Sequence[float], gamma: float, gae_lambda: float) -> list[float]:
    """How much better each token of an episode turned out than was expected before it.

        Aₜ = δₜ + γ λ Aₜ₊₁,   δₜ = rₜ + γ Vₜ₊₁ − Vₜ,   nothing after the last

    >>> advantages([0.0, 1.0], [0.25, 0.5], gamma=1.0, gae_lambda=1.0)
    [0.75, 0.5]
    """
    found: list[float] = []
    following = carried = 0.0
    for reward, value in zip(reversed(rewards), reversed(values), strict=True):
        carried = reward + gamma * following - value + gamma * gae_lambda * carried
        following = value
        found.append(carried)
    return found[::-1]


# ---- what is minimised, a number a token


def policy_loss(logps: Tensor, old: Tensor, advantages: Tensor, clip: float) -> Tensor:
    """−min(ρ A, clip(ρ, 1 ± ε) A), with ρ = π ÷ π_old."""
    ratio = (logps - old).exp()
    return -torch.minimum(ratio * advantages, ratio.clamp(1 - clip, 1 + clip) * advantages)


def value_loss(values: Tensor, old: Tensor, returns: Tensor, clip: float) -> Tensor:
    """½ max((V − R)², (V_old + clip(V − V_old, ± ε) − R)²)."""
    near = old + (values - old).clamp(-clip, clip)
    return 0.5 * torch.maximum((values - returns) ** 2, (near - returns) ** 2)


def kl_loss(logps: Tensor, old: Tensor, start: Tensor) -> Tensor:
    """ρ ½ (log π − log π_start)², ρ not learned through: what its gradient is on average is the KL's own.

    The other usual estimate, π_start ÷ π − 1 − log(π_start ÷ π), has the KL's value and another KL's gradient.
    """
    return (logps - old).exp().detach() * 0.5 * (logps - start) ** 2


# ---- the learning


class Learner:
    """The policy with its value head and optimizer, and the KL's weight."""

    def __init__(self, settings: PpoSettings, stage: Stage) -> None:
        arguments = shared_arguments(stage.folder, seed=0, save_steps=settings.save_steps)
        self._accelerator = Accelerator(cpu=arguments["use_cpu"], mixed_precision="bf16" if arguments["bf16"] else "no")
        self._settings, self._stage = settings, stage
        self._weight = settings.beta
        temperature, seed = drawing_temperature(stage), derive(stage.seed, "head") % 2**31
        checkpointing = arguments["activation_checkpointing"]
        self._both = both = ActorCritic(stage.policy.model, temperature, seed, checkpointing=checkpointing)
        both.eval()  # dropout would give the replies other probabilities than they were sampled with
        trained = {f"policy.{name}": weight for name, weight in both.policy.named_parameters() if weight.requires_grad}
        self._start = {name: weight.detach().clone() for name, weight in trained.items()} if settings.beta else None
        self._trained = [list(trained.values()), list(both.head.parameters())]
        rates = zip(self._trained, (settings.learning_rate, settings.value_learning_rate), strict=True)
        groups = [{"params": weights, "lr": rate} for weights, rate in rates]
        optimizer = AdamW(groups, betas=(0.9, 0.95), weight_decay=0.0)
        self._schedule = schedule(optimizer, settings, settings.steps)
        self._model, self._optimizer = self._accelerator.prepare(both, optimizer)
        self._accelerator.register_for_checkpointing(self._schedule)

    @torch.no_grad()
    def expect(self, found: Sequence[Episode]) -> None:
        """Let the head begin with the mean reward, which it would else take many steps to reach."""
        self._both.head[-1].bias.fill_(sum(row.reward for row in found) / len(found))  # type: ignore[operator]

    def appraise(self, found: Sequence[Episode]) -> list[Appraised]:
        """What the episodes' tokens learn from; advantages are centred over all of them, and scaled if asked for."""
        told, gamma = _each(found, self._told), self._settings.gamma
        rewards = [self._rewards(row, start, now) for row, (start, now, _) in zip(found, told, strict=True)]
        raw = [
            torch.tensor(advantages(own, values.tolist(), gamma, self._settings.gae_lambda))
            for own, (*_, values) in zip(rewards, told, strict=True)
        ]
        scale = self._scale(rewards, every := torch.cat(raw))
        return [
            Appraised(row, start, now, values, (own - every.mean()) * scale, own + values)
            for row, (start, now, values), own in zip(found, told, raw, strict=True)
        ]

    def _scale(self, rewards: Sequence[Sequence[float]], every: Tensor) -> float:
        """What advantages are multiplied by: 0 where all replies are worth the same, and the rest is the head's error.

        A small number would not do: the optimizer makes full steps of whatever there is.
        """
        worth = [sum(reward * self._settings.gamma**at for at, reward in enumerate(own)) for own in rewards]
        if max(worth) - min(worth) <= EQUAL:
            return 0.0
        return 1 / (every.std(unbiased=False).item() + 1e-8) if self._settings.scale_rewards == "batch" else 1.0

    @torch.no_grad()
    def _told(self, rows: Sequence[Episode]) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Log-probabilities of each episode's tokens by the stage's start and by the policy, and the head's values."""
        before, found = self._start, list[tuple[Tensor, Tensor, Tensor]]()
        for first in range(0, len(rows), self._settings.micro_batch):
            some = rows[first : first + self._settings.micro_batch]
            lengths = [len(row.ids) for row in some]
            now, _, values = read(self._both, some)
            start = now if before is None else read(lambda *given: functional_call(self._both, before, given), some)[0]
            found += zip(*(each.cpu().split(lengths) for each in (start, now, values)), strict=True)
        return found

    def _rewards(self, row: Episode, start: Tensor, now: Tensor) -> list[float]:
        """The MR at the last token, and what each token costs in KL where that is part of the reward."""
        rewards: list[float] = ((start - now) * (self._weight if self._settings.kl == "reward" else 0.0)).tolist()
        return [*rewards[:-1], rewards[-1] + row.reward]

    def learn(self, rows: Sequence[Appraised], step: int) -> Figures:
        """Some passes over the replies, an update a minibatch; what came of it, means over tokens."""
        totals, norms, minibatches = torch.zeros(len(TOLD)), list[float](), self._settings.minibatches
        for epoch in range(self._settings.epochs):
            order = generator(self._stage.seed, "order", step, epoch).sample(range(len(rows)), len(rows))
            for part in range(min(minibatches, len(rows))):
                sums, norm = self._update([rows[index] for index in sorted(order[part::minibatches])], step)
                totals += sums
                norms.append(norm)
        (rate, _), tokens = map(float, self._schedule.get_last_lr()), sum(len(row.episode.ids) for row in rows)
        self._schedule.step()
        told: Figures = dict(zip(TOLD, (totals / (tokens * self._settings.epochs)).tolist(), strict=True))
        told |= {
            "updates": sum(norm > 0 for norm in norms),
            "grad_norm": sum(norms) / len(norms),
            "learning_rate": rate,
        }
        return {**told, "explained_variance": _explained(rows), **self._adapt(rows)}

    def _update(self, rows: Sequence[Appraised], step: int) -> tuple[Tensor, float]:
        """One step of the optimizer; sums over the tokens of what is `TOLD`, and the policy's gradient's length."""
        processes, size = self._accelerator.num_processes, self._settings.micro_batch
        tokens = sum(len(row.episode.ids) for row in rows)
        totals = torch.zeros(len(TOLD), device=self._accelerator.device)
        for first in range(0, math.ceil(len(rows) / processes), size):
            # The last processes may have no rows left, and have to take part all the same.
            some = rows[self._accelerator.process_index :: processes][first : first + size]
            told = self._losses(some or rows[:1]) * bool(some)
            self._accelerator.backward(told[0] * processes / tokens)
            totals += told.detach()
        clip = partial(self._accelerator.clip_grad_norm_, max_norm=self._settings.max_grad_norm)
        norms = [float(clip(weights)) for weights in self._trained]  # type: ignore[arg-type]
        self._stage.check_gradient(step + 1, sum(norms))
        if norms[0] == 0:  # the optimizer's momentum would move the policy all the same
            for weight in self._trained[0]:
                weight.grad = None
        self._optimizer.step()
        self._optimizer.zero_grad()
        return self._accelerator.reduce(totals, "sum").cpu(), norms[0]  # type: ignore[union-attr]

    def _losses(self, rows: Sequence[Appraised]) -> Tensor:
        """The sums over the tokens of what is `TOLD`, of some replies."""
        logps, entropies, values = read(self._model, [row.episode for row in rows])
        columns = zip(*(row.numbers for row in rows), strict=True)
        old, start, before, gains, returns = (torch.cat(column).to(logps) for column in columns)
        of_values = value_loss(values, before, returns, self._settings.value_clip)
        of_kl = kl_loss(logps, old, start) * (self._weight if self._settings.kl == "loss" else 0.0)
        loss = policy_loss(logps, old, gains, self._settings.clip) + of_values + of_kl
        moved = (logps - old).exp() - 1
        each = (loss, of_values, moved.abs() > self._settings.clip, entropies, moved - (logps - old))
        return torch.stack([of_tokens.sum() for of_tokens in each])

    def _adapt(self, rows: Sequence[Appraised]) -> Figures:
        """The KL of a reply to the stage's start, and the weight it had; the weight goes towards the target."""
        if self._start is None:
            return {"kl": None, "beta": 0.0}
        kl = sum((row.now - row.start).sum().item() for row in rows) / len(rows)
        figures: Figures = {"kl": kl, "beta": self._weight}
        if (target := self._settings.target_kl) is not None:
            self._weight *= 1 + ADAPTATION * min(max(kl / target - 1, -1.0), 1.0)
        return figures

    def record(self, groups: Sequence[Group], step: int, figures: Figures) -> None:
        """Journal a step and tell whoever watches."""
        steps = self._settings.steps
        record_trees(groups, step, steps, self._stage)
        self._stage.record_step("ppo", step + 1, steps, figures)
        if self._accelerator.is_main_process:
            self._stage.progress(step + 1, steps, f"reward {figures['reward']:.2f}")

    def save(self, step: int) -> None:
        """Write a checkpoint."""
        save_checkpoint(self._accelerator, self._stage.folder, {"step": step, "beta": self._weight})

    def resume(self) -> int:
        """Go back to the newest whole checkpoint; the steps that were done by then."""
        state = load_checkpoint(self._accelerator, self._stage.folder)
        self._weight = state.get("beta", self._weight)
        return int(state.get("step", 0))


def _each(items: Sequence[T], work: Callable[[Sequence[T]], Sequence[R]]) -> list[R]:
    """Every process does a share of the work; all of it comes back to each, in the items' order."""
    return ranks.joined(work(ranks.share(items)))


def _explained(rows: Sequence[Appraised]) -> float | None:
    """1 − Var(R − V) ÷ Var(R) over the tokens: 1 for a head that knew, 0 for one that knew the mean alone."""
    returns, values = torch.cat([row.returns for row in rows]), torch.cat([row.values for row in rows])
    spread = returns.var(unbiased=False).item()
    return 1 - (returns - values).var(unbiased=False).item() / spread if spread else None
