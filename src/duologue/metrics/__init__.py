"""The metrics that a recipe can name."""

from __future__ import annotations

from duologue.metrics.base import Counter, Judge, Metric, MetricFactory, Score, Supplies, Weighted
from duologue.metrics.extraction import Extraction, Extractor
from duologue.metrics.judged import accuracy, interactivity
from duologue.metrics.satisfaction import satisfaction
from duologue.metrics.tokens import tokens

METRICS: dict[str, MetricFactory] = {
    "accuracy": accuracy,
    "interactivity": interactivity,
    "satisfaction": satisfaction,
    "tokens": tokens,
}

__all__ = [
    "METRICS",
    "Counter",
    "Extraction",
    "Extractor",
    "Judge",
    "Metric",
    "MetricFactory",
    "Score",
    "Supplies",
    "Weighted",
    "accuracy",
    "interactivity",
    "satisfaction",
    "tokens",
]
