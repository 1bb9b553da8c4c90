"""What a step's groups say: its figures and its trees, or why there is nothing to learn from them."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence

from duologue.dataset import Group
from duologue.errors import ModelError
from duologue.reward import Reward
from duologue.tasks.base import Task
from duologue.training.stage import Figures, Stage

TREES = 2
"""Groups a recorded step shows in the report."""
ASKS = ("asks_when_missing", "asks_when_complete")
"""A task's figures that say whether a first reply asks."""


def refuse_lost(groups: Sequence[Group]) -> None:
    """Refuse groups that teach nothing because everything failed.

    Raises:
        ModelError: none of the states could be played, or none of the candidates scored.
    """
    if all(group.failed for group in groups):
        raise ModelError(f"none of a step's {len(groups)} states could be played; the last: {groups[-1].failed}")
    if all(reward.value is None for group in groups for reward in group.rewards):
        raise ModelError(f"none of a step's candidates could be scored, mostly: {_commonest_failure(groups)}")


def _commonest_failure(groups: Sequence[Group]) -> str:
    reasons = Counter(why for group in groups for reward in group.rewards for why in reward.failures)
    return reasons.most_common(1)[0][0]


def figures_of(groups: Sequence[Group], tasks: Sequence[Task]) -> Figures:
    """A step's figures: means over candidates, and what was left out.

    "unscored" and "skipped" are numbers of candidates and groups; "unscored_share" is that of the candidates,
    "counted" of their look-aheads.
    """
    rewards = [reward for group in groups for reward in group.rewards]
    values = [reward.value for reward in rewards if reward.value is not None]
    looked = [value for reward in rewards for value in reward.values]
    replies = [reply for group in groups for reply in group.replies]
    return {
        "reward": _mean(values),
        "asks": _asks(groups, {task.name: task for task in tasks}),
        "tokens": _mean([float(reply.usage.completion) for reply in replies]),
        "unscored": float(len(rewards) - len(values)),
        "skipped": float(sum(group.failed is not None for group in groups)),
        "unscored_share": (len(rewards) - len(values)) / len(rewards) if rewards else None,
        "counted": sum(value is not None for value in looked) / len(looked) if looked else None,
        "sampled_tokens": float(sum(group.sampled for group in groups)),
        **_parts(rewards),
    }


def _parts(rewards: Sequence[Reward]) -> Figures:
    """Every metric's unweighted mean over the candidates that were scored, as "parts/NAME"."""
    scored = [reward.parts for reward in rewards if reward.value is not None]
    names = dict.fromkeys(name for parts in scored for name in parts)
    return {f"parts/{name}": _mean([parts[name] for parts in scored if name in parts]) for name in names}


def _asks(groups: Sequence[Group], tasks: Mapping[str, Task]) -> float | None:
    """The share of first replies that ask, by their tasks' own figures; None where there are none."""
    shares = [
        tasks[group.task].figures[name](group.prefix.replied(reply.text), group.goal)
        for group in groups
        if len(group.prefix.messages) == 1
        for name in ASKS
        if name in tasks[group.task].figures
        for reply in group.replies
    ]
    base = sum(share.base for share in shares)
    return sum(share.count for share in shares) / base if base else None


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def record_trees(groups: Sequence[Group], step: int, steps: int, stage: Stage) -> None:
    """Journal the groups whose rewards lie furthest apart, in the first, the middle and the last step."""
    if step in (0, steps // 2, steps - 1):
        for index, group in enumerate(sorted(groups, key=_spread, reverse=True)[:TREES]):
            stage.record_tree(group, step, index)


def _spread(group: Group) -> float:
    """How far apart a group's rewards lie."""
    values = [reward.value for reward in group.rewards if reward.value is not None]
    return max(values) - min(values) if values else 0.0


def quieten_unscored(logger: str) -> None:
    """TRL prints a whole candidate where one has no reward; here it is counted, and left out of the loss."""
    logging.getLogger(logger).addFilter(_is_not_of_unscored)


def _is_not_of_unscored(record: logging.LogRecord) -> bool:
    return "All reward functions returned None" not in record.getMessage()
