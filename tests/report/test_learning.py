"""What the report draws of the training: what matters at once, the rest where it is asked for."""

from __future__ import annotations

import re

from duologue.report.charts import Step, learning_curves


def steps(**figures: float) -> list[Step]:
    """Three steps; what is given as a number grows by it, and by 0 stays at 0."""
    return [Step("trained", "0-ppo", at, {name: grown * at for name, grown in figures.items()}) for at in (1, 2, 3)]


def panels(drawn: str) -> list[str]:
    return re.findall(r"<h4>(.*?)</h4>", drawn)


def test_parts_losses_diagnostics_tokens_and_money_are_drawn() -> None:
    figures = (
        "kl",
        "entropy",
        "clip_fraction",
        "explained_variance",
        "unscored_share",
        "counted",
        "user_tokens",
        "cost",
    )

    drawn = learning_curves(
        steps(reward=1, asks=0.1, tokens=3, **{"parts/outcome": 0.2}, **dict.fromkeys(figures, 0.1))
    )

    shown, _, folded = drawn.partition("<details")
    assert panels(shown) == ["mean reward of the candidates", "share of candidates that ask", "tokens a candidate"]
    assert panels(folded) == [
        "outcome, a part of the reward",
        "share of candidates that were not scored",
        "share of look-aheads that counted",
        "KL to the stage&#x27;s start",
        "entropy a token",
        "share of tokens clipped",
        "explained variance of the values",
        "tokens of the user&#x27;s model",
        "cost of the calls to endpoints",
    ]


def test_what_never_changed_is_told_and_not_drawn() -> None:
    drawn = learning_curves(steps(reward=1, unscored_share=0, kl=0.1))

    assert "The same in every step: share of candidates that were not scored 0." in drawn
    assert "share of candidates that were not scored" not in panels(drawn)


def test_a_stage_with_nothing_more_folds_nothing_away() -> None:
    assert "<details" not in learning_curves(steps(reward=1))
