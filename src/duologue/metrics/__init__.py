"""The metrics that a recipe can name."""

from __future__ import annotations

from duologue.metrics.base import Counter, Metric, MetricFactory, Score, Supplies, Weighted
from duologue.metrics.satisfaction import satisfaction
from duologue.metrics.tokens import tokens

METRICS: dict[str, MetricFactory] = {"tokens": tokens, "satisfaction": satisfaction}

__all__ = ["METRICS", "Counter", "Metric", "MetricFactory", "Score", "Supplies", "Weighted", "satisfaction", "tokens"]
