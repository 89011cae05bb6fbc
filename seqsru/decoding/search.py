"""The beam of one sentence: live hypotheses as back pointers, and those that are finished."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seqsru.decoding.decoding import Decoding
from seqsru.decoding.hypothesis import Hypothesis
from seqsru.decoding.penalties import PENALTIES, coverage_penalty


class Search:
    """One sentence's side of `beam_search`, which explains the arguments.

    Parameters
    ----------
    limit : int
        Most tokens of an output, ``</s>`` included.
    valid : ndarray of shape (S,), bool, or None
        True on real source positions; needed with a coverage penalty.
    eos, decoding, with_attention
        As in `beam_search`.

    Attributes
    ----------
    totals : ndarray of shape (rows,), float64
        Summed log probability of each row; minus infinity where a row holds no hypothesis.
    parents, tokens : list of ndarray of shape (beam,)
        For each step, the row that each row came from, and its token.
    finished : list of Hypothesis
        Best first.
    done : bool
        Whether the sentence needs no further step.
    """

    def __init__(
        self,
        limit: int,
        valid: NDArray[Any] | None,
        *,
        eos: int,
        decoding: Decoding,
        with_attention: bool,
    ) -> None:
        self.limit, self.valid, self.eos, self.with_attention = limit, valid, eos, with_attention
        self.beam, self.stop, self.coverage = decoding.beam, decoding.stop, decoding.coverage
        self.penalty, self.alpha = PENALTIES[decoding.penalty], decoding.alpha
        self.totals = np.zeros(1)
        self.parents: list[NDArray[Any]] = []
        self.tokens: list[NDArray[Any]] = []
        self.attention: list[Tensor] = []  # for each step, the weights of the rows before it
        self.finished: list[Hypothesis] = []
        self.done = False

    def advance(
        self, totals: NDArray[Any], parents: NDArray[Any], tokens: NDArray[Any], attention: Tensor | None
    ) -> None:
        """Take one step's candidates, best first.

        Parameters
        ----------
        totals, parents, tokens : ndarray of shape (candidates,)
            Summed log probability, row and token of each candidate.
        attention : Tensor of shape (rows, S), float32 on the CPU, or None
            Weights on the source with which the rows predicted the candidates.
        """
        if attention is not None:
            self.attention.append(attention)
        live: list[tuple[float, int, int]] = []
        ended: list[Hypothesis] = []
        for place, (total, row, token) in enumerate(zip(totals.tolist(), parents.tolist(), tokens.tolist())):
            if total == -np.inf:
                break
            if token != self.eos:
                if len(live) < self.beam:
                    live.append((total, row, token))
            elif place < self.beam:
                ended.append(self._hypothesis(total, row, [token]))
        # The sort is stable: of equal scores, the one that finished first stays first.
        self.finished = sorted(self.finished + ended, key=lambda hypothesis: -hypothesis.score)
        if live:
            self._extend(live)
        self.done = not live or self._settled()
        if self.done and not self.finished:
            # The model leaves no way on and none to end; what was live before this step is all there is.
            live_rows = [(row, total) for row, total in enumerate(self.totals.tolist()) if total > -np.inf]
            self.finished = [self._hypothesis(total, row, []) for row, total in live_rows]

    def _extend(self, live: list[tuple[float, int, int]]) -> None:
        """Make `live` the rows, filled up to the beam with rows that hold no hypothesis."""
        rows = live + [(-np.inf, 0, self.eos)] * (self.beam - len(live))
        self.totals = np.array([total for total, _, _ in rows])
        self.parents.append(np.array([row for _, row, _ in rows]))
        self.tokens.append(np.array([token for _, _, token in rows]))

    def _settled(self) -> bool:
        """Return whether the finished hypotheses end the search although some are live."""
        if self.stop == "all" or len(self.finished) < self.beam:
            return False
        if self.stop == "first":
            return True
        # A log probability only falls and a coverage penalty is never positive, so this bounds what is live.
        bound = self.totals[0] / self.penalty(self.limit, self.alpha)
        return bool(bound <= self.finished[self.beam - 1].score)

    def _hypothesis(self, total: float, row: int, ending: list[int]) -> Hypothesis:
        """Follow the back pointers from `row`, with `ending`, ``</s>`` or nothing, after it."""
        tokens, weights = list(ending), [self.attention[-1][row]] if ending and self.attention else []
        for step in range(len(self.parents) - 1, -1, -1):
            tokens.append(int(self.tokens[step][row]))
            row = int(self.parents[step][row])
            if self.attention:
                weights.append(self.attention[step][row])
        score = total / self.penalty(max(len(tokens), 1), self.alpha)
        attention = torch.stack(weights[::-1]) if weights else None  # (length, S)
        if self.coverage and attention is not None and self.valid is not None:
            covered = np.zeros(attention.shape[1])
            for row_weights in attention.numpy():  # in the order of time, as any engine can add
                covered += row_weights
            score += self.coverage * coverage_penalty(covered[self.valid])
        return Hypothesis(tokens[::-1], total, score, attention if self.with_attention else None)
