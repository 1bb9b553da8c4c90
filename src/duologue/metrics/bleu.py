"""BLEU, on words: how much of a text's wording is the reference's.

What it does not see: meaning. A good text in other words scores low, and so does one that is cut: short of the
reference's length the score falls with it (the brevity penalty). Unrelated English texts of equal length get about
0.02. (On *characters*, as in the code released with CollabLLM, they get 0.35 and more.)
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

from duologue.conversation import Goal
from duologue.errors import MissingDependency
from duologue.metrics.base import Metric
from duologue.metrics.extraction import Extractor
from duologue.metrics.overlap import DOCUMENT, apart, over_floor, overlap

if TYPE_CHECKING:
    from sacrebleu.metrics.bleu import BLEU


def bleu(extract: Extractor, artefact: str = DOCUMENT) -> Metric:
    """Sentence BLEU of the artefact and the goal's reference: 0 to 1; 0 where the assistant gave none.

    Up to four words in a row, tokenized as in WMT ("13a"), by sacrebleu. (Papineni et al., 2002.) Where a script sets
    no space between words, as Chinese does, each of its characters is one. One call to extract, shared with other
    metrics of the same artefact; then milliseconds. None where the reference has no text, or
    extraction fails.

    Raises:
        MissingDependency: sacrebleu is not installed.
    """
    library()
    return overlap(word_bleu, extract, artefact)


def bleu_over_floor(extract: Extractor, goals: Sequence[Goal], artefact: str = DOCUMENT) -> Metric:
    """BLEU minus what the same text scores on average against other goals' references as long: −1 to 1.

    Costs and fails as `bleu`, nine times the milliseconds.

    Raises:
        MissingDependency: sacrebleu is not installed.
        RecipeError: fewer than two other goals have a text as their reference.
    """
    library()
    return over_floor(word_bleu, extract, goals, artefact)


def word_bleu(text: str, reference: str) -> float:
    """BLEU of one text and one reference: 0 to 1. Texts of fewer than four words count the runs that they have.

    >>> round(word_bleu("the cat sat on the mat", "the cat sat on a mat"), 2)
    0.54
    """
    return min(1.0, library().sentence_score(apart(text), [apart(reference)]).score / 100)


@cache
def library() -> BLEU:
    try:
        from sacrebleu.metrics.bleu import BLEU
    except ImportError as error:
        raise MissingDependency("BLEU needs sacrebleu: pip install 'duologue[tasks]'") from error
    return BLEU(tokenize="13a", effective_order=True)
