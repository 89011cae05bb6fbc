"""Which of several translations of a line is closest to its reference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

from seqsru.errors import check_known

Closeness = Literal["chrf", "bleu"]


class Closest:
    """Choose the translation with the best score of its own against a reference (Kim and Rush 2016, 4.3).

    Parameters
    ----------
    by : {"chrf", "bleu"}
        sacrebleu's chrF of a sentence, which needs no words, or its smoothed BLEU with effective order.

    Raises
    ------
    Refused
        Another name.
    """

    def __init__(self, by: Closeness = "chrf") -> None:
        check_known(get_args(Closeness), pick=by)
        from sacrebleu.metrics.bleu import BLEU
        from sacrebleu.metrics.chrf import CHRF

        # A sentence may have no four words in a row in common with its reference, or not have four.
        self._metric: Any = CHRF() if by == "chrf" else BLEU(effective_order=True)

    def __call__(self, texts: Sequence[str], reference: str) -> int:
        """Index of the closest of some texts, at least one; of equally close ones the first."""
        scores = [self._metric.sentence_score(text, [reference]).score for text in texts]
        return scores.index(max(scores))
