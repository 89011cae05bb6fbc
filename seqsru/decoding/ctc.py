"""CTC: the best path, and the best texts by prefix beam search, with a language model added in.

Nothing here knows what a model or a text is: units are numbers, and the language model is a `Fusion`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from weakref import WeakValueDictionary

import numpy
from numpy.typing import NDArray

from seqsru.errors import Refused

Floats = NDArray[numpy.float64]


@dataclass(frozen=True)
class CtcHypothesis:
    """One text of an utterance.

    Attributes
    ----------
    tokens : list of int
        Its units.
    log_prob : float
        Of the units, over the paths that were kept, natural logarithm; of the best path alone where that
        was asked for.
    score : float
        What hypotheses are ordered by: `log_prob` and what a language model adds.
    """

    tokens: list[int]
    log_prob: float
    score: float


class Fusion(Protocol):
    """What a language model adds to the scores of prefixes; a state is its own affair."""

    def begin(self) -> Any:
        """The state of the empty prefix."""
        ...

    def gains(self, states: Sequence[Any]) -> list[Floats]:
        """What each unit, appended, adds to the score: an array (V,) for each state."""
        ...

    def extend(self, states: Sequence[Any], units: Sequence[int]) -> list[Any]:
        """The states after one unit each."""
        ...

    def ends(self, states: Sequence[Any]) -> list[float]:
        """What the end of the text adds."""
        ...


def best_path(log_probs: NDArray[Any], blank: int) -> CtcHypothesis:
    """The units of the likeliest path: of each step the likeliest output, equal neighbours joined.

    Parameters
    ----------
    log_probs : ndarray of shape (T, V + 1)
    blank : int
        Output that writes nothing.
    """
    path = BestPath(blank)
    path.advance(log_probs)
    return path.best()[0]


class BestPath:
    """`best_path` of steps that arrive in pieces.

    Parameters
    ----------
    blank : int
    """

    def __init__(self, blank: int) -> None:
        self._blank, self._last = blank, blank
        self._tokens: list[int] = []
        self._total = 0.0

    def advance(self, log_probs: NDArray[Any]) -> None:
        """Take steps (T, V + 1)."""
        _check(log_probs)
        for token, value in zip(log_probs.argmax(1).tolist(), log_probs.max(1, initial=-numpy.inf).tolist()):
            self._total += value
            if token not in (self._last, self._blank):
                self._tokens.append(token)
            self._last = token

    def best(self, count: int = 1) -> list[CtcHypothesis]:
        """The one text that there is so far."""
        return [CtcHypothesis(list(self._tokens), self._total, self._total)][:count]


class _Prefix:
    """A prefix of units in the tree of all that were kept."""

    __slots__ = (
        "__weakref__", "blank", "children", "fused", "gains", "number", "parent", "state", "token", "unit",
    )  # fmt: skip

    def __init__(self, parent: _Prefix | None, token: int) -> None:
        self.parent, self.token = parent, token
        self.number, self.fused = 0, 0.0
        self.state: Any = None
        # One that is not kept and that nothing kept goes on from is forgotten; all others are found again.
        self.children: WeakValueDictionary[int, _Prefix] = WeakValueDictionary()
        self.gains: Floats | None = None
        self.blank = self.unit = -numpy.inf  # of the paths that end in the blank, or in the last unit
        if parent is not None:
            parent.children[token] = self

    def tokens(self) -> list[int]:
        """Give its units."""
        found, node = [], self
        while node.parent is not None:
            found.append(node.token)
            node = node.parent
        return found[::-1]


class PrefixBeam:
    """Prefix beam search (Hannun et al. 2014, arXiv 1408.2873) of steps that arrive in pieces.

    For each prefix y that is kept, b_t being the probability of its paths that end in the blank and u_t of
    those that end in its last unit::

        (1) b_t(y) = (b_{t-1}(y) + u_{t-1}(y)) · p_t[blank]
        (2) u_t(y) = u_{t-1}(y) · p_t[y's last]  +  what y without its last unit gives it by (3)
        (3) u_t(y c) = (b_{t-1}(y) + u_{t-1}(y) unless c is y's last) · p_t[c]
        (4) score(y) = log(b_t + u_t) + what the language model adds

    Kept are the best `beam` by (4), equal ones in the order in which they were found. With as many as there
    are prefixes, the result is that of a sum over all paths of all texts.

    Parameters
    ----------
    blank : int
        Output that writes nothing; the units are all others.
    beam : int
        Prefixes that are kept.
    candidates : int
        Units that may be appended at a step, the likeliest ones; 0 is all.
    fusion : Fusion, optional
        The language model.
    """

    def __init__(self, blank: int, *, beam: int, candidates: int = 0, fusion: Fusion | None = None) -> None:
        self._blank, self._beam, self._candidates, self._fusion = blank, beam, candidates, fusion
        root = _Prefix(None, -1)
        root.state = fusion.begin() if fusion is not None else None
        root.blank = 0.0
        self._live, self._made = [root], 1

    def advance(self, log_probs: NDArray[Any]) -> None:
        """Take steps (T, V + 1)."""
        _check(log_probs)
        for row in log_probs.astype(numpy.float64):
            self._step(row)

    def best(self, count: int = 1) -> list[CtcHypothesis]:
        """The best texts so far, the end included in what the language model adds."""
        ends = [0.0] * len(self._live)
        if self._fusion is not None:
            ends = self._fusion.ends([node.state for node in self._live])
        found = [
            (-(log_prob + node.fused + end), node.number, node, log_prob)
            for node, end in zip(self._live, ends)
            if (log_prob := float(numpy.logaddexp(node.blank, node.unit))) > -numpy.inf
        ]
        found.sort(key=lambda one: one[:2])
        texts = [CtcHypothesis(node.tokens(), log_prob, -score) for score, _, node, log_prob in found[:count]]
        return texts or [CtcHypothesis([], -numpy.inf, -numpy.inf)]

    def _step(self, row: Floats) -> None:
        """Take one step (V + 1,)."""
        live = self._live
        blanks, units = (numpy.array([getattr(node, side) for node in live]) for side in ("blank", "unit"))
        totals = numpy.logaddexp(blanks, units)  # (K,)
        lasts = numpy.array([node.token for node in live])
        grown = totals[:, None] + row[: self._blank]  # (K, V), the blank being the last output
        there = numpy.flatnonzero(lasts >= 0)
        grown[there, lasts[there]] = blanks[there] + row[lasts[there]]
        if 0 < self._candidates < self._blank:
            order = numpy.argsort(-row[: self._blank], kind="stable")
            grown[:, order[self._candidates :]] = -numpy.inf
        stay_unit = numpy.full(len(live), -numpy.inf)
        stay_unit[there] = units[there] + row[lasts[there]]
        stay_blank = totals + row[self._blank]
        places = {id(node): place for place, node in enumerate(live)}
        for place, node in enumerate(live):
            at = places.get(id(node.parent))
            if at is not None:  # what its parent gives it is no new prefix
                stay_unit[place] = numpy.logaddexp(stay_unit[place], grown[at, node.token])
                grown[at, node.token] = -numpy.inf
        fused = numpy.array([node.fused for node in live])
        added = numpy.zeros(grown.shape)
        if self._fusion is not None:
            added = self._gains()
        stay = numpy.logaddexp(stay_blank, stay_unit) + fused
        scores = numpy.concatenate([stay, (grown + fused[:, None] + added).ravel()])
        # What is kept already comes first among equals, then by prefix and unit.
        order = _best(scores, self._beam)
        kept, fresh = [], []
        for place in order.tolist():
            if place < len(live):
                node = live[place]
                node.blank, node.unit = float(stay_blank[place]), float(stay_unit[place])
            else:
                parent, token = divmod(place - len(live), self._blank)
                found = live[parent].children.get(token)
                node = found or _Prefix(live[parent], token)
                if found is None:
                    node.fused = live[parent].fused + float(added[parent, token])
                    fresh.append(node)
                node.blank, node.unit = -numpy.inf, float(grown[parent, token])
            kept.append(node)
        self._name(fresh)
        if not kept:  # no path can go on: the search ends with nothing
            kept = live[:1]
            kept[0].blank = kept[0].unit = -numpy.inf
        self._live = kept

    def _name(self, fresh: Sequence[_Prefix]) -> None:
        """Give new prefixes their numbers and the states of the language model."""
        for node in fresh:
            node.number, self._made = self._made, self._made + 1
        if self._fusion is not None and fresh:
            parents = [node.parent.state for node in fresh if node.parent is not None]
            for node, state in zip(fresh, self._fusion.extend(parents, [node.token for node in fresh])):
                node.state = state

    def _gains(self) -> Floats:
        """What the language model adds for each unit after each prefix, (K, V)."""
        assert self._fusion is not None
        new = [node for node in self._live if node.gains is None]
        if new:
            for node, gains in zip(new, self._fusion.gains([node.state for node in new])):
                node.gains = gains
        return numpy.stack([node.gains for node in self._live if node.gains is not None])


def _best(scores: Floats, count: int) -> NDArray[numpy.int64]:
    """Places of the best scores, from the best down, equal ones in their order; none of minus infinity."""
    if count < len(scores):
        least = numpy.partition(scores, len(scores) - count)[len(scores) - count]
        candidates = numpy.flatnonzero(scores >= least)
    else:
        candidates = numpy.arange(len(scores))
    candidates = candidates[scores[candidates] > -numpy.inf]
    return candidates[numpy.argsort(-scores[candidates], kind="stable")][:count]


def _check(log_probs: NDArray[Any]) -> None:
    if numpy.isnan(log_probs).any():
        do = "the weights are damaged or training diverged: load another checkpoint"
        raise Refused("log probabilities", "NaN", do)
