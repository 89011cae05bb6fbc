"""Several corpora with weights, in the slots of an epoch: an order that a seed and the epoch alone decide."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy
from numpy.typing import NDArray

from seqsru.data.shuffling import Draw, draw_from
from seqsru.errors import Refused

Of = TypeVar("Of")
MOST = 1000.0  # of a weight
Ints = NDArray[numpy.int32]


@dataclass(frozen=True)
class Share(Generic[Of]):
    """A corpus, and how often an epoch has each part of it on average.

    Parameters
    ----------
    of : object
        The corpus.
    weight : float
        Above 0, up to 1,000.
    """

    of: Of
    weight: float = 1.0

    def __post_init__(self) -> None:
        """Refuse what is no weight."""
        check_weight(self.weight)


def check_weight(weight: float) -> None:
    """Refuse what is no weight of a corpus."""
    if not 0.0 < weight <= MOST:
        do = "1 takes each part of it once an epoch, 0.5 every second time"
        raise Refused(f"a weight above 0 and up to {MOST:,.0f}", str(weight), do, "weight")


def whole_and_rest(count: int, weight: float) -> tuple[int, int]:
    """How many times an epoch has all of `count` parts, and how many of them once more; never none at all."""
    whole = int(weight)
    rest = round((weight - whole) * count)
    return whole, rest if whole or rest or not count else 1


@dataclass(frozen=True)
class Buckets:
    """Parts of a corpus in order, in buckets of those that are alike.

    Parameters
    ----------
    places : ndarray of shape (n,), int32
        Which parts.
    first, second : ndarray of shape (n,), int32
        What those of a bucket share, `first` from low to high, `second` up and down by turns.
    """

    places: Ints
    first: Ints
    second: Ints

    @classmethod
    def sorted(
        cls, places: Ints, first: Ints, second: Ints, step: int
    ) -> tuple[Buckets, NDArray[numpy.int64]]:
        """Put parts in order, and say where each came from; values of `first` are `step` apart."""
        turn = numpy.where(first // step % 2 == 0, second, -second)
        order = numpy.lexsort((turn, first))
        return cls(places[order], first[order], second[order]), order

    def edges(self) -> NDArray[numpy.int64]:
        """Where buckets begin, and the end of the last."""
        change = (numpy.diff(self.first) != 0) | (numpy.diff(self.second) != 0)
        inner = numpy.flatnonzero(change) + 1
        return numpy.concatenate([[0], inner, [len(self.places)]]).astype(numpy.int64)


class Slots:
    """The slots of an epoch, and what is in each of them.

    Parameters
    ----------
    corpora : sequence of Share of Buckets
        At least one part in all.
    seed : int
        Of the order.
    step : int
        Between values of `Buckets.first`.

    Attributes
    ----------
    counts : list of int
        Slots of each corpus, the same in every epoch.
    first, second : ndarray of int32
        What the slots of each bucket share: no part in them has more.
    sizes : ndarray of int64
        Slots of each bucket.
    """

    def __init__(self, corpora: Sequence[Share[Buckets]], seed: int, step: int) -> None:
        self.counts: list[int] = []
        self._rests: list[tuple[_Rest, int]] = []  # and where its slots begin, before they are put in order
        groups: list[Buckets] = []
        for number, corpus in enumerate(corpora):
            buckets = corpus.of
            whole, rest = whole_and_rest(len(buckets.places), corpus.weight)
            groups += [buckets] * whole
            if rest:
                self._rests.append((_Rest(buckets, rest, (seed, number)), sum(len(g.places) for g in groups)))
                groups.append(self._rests[-1][0].slots())
            self.counts.append(whole * len(buckets.places) + rest)
        if len(groups) == 1:
            slots, order = groups[0], numpy.arange(len(groups[0].places))
        else:
            slots, order = Buckets.sorted(
                numpy.concatenate([group.places for group in groups]),
                numpy.concatenate([group.first for group in groups]),
                numpy.concatenate([group.second for group in groups]),
                step,
            )
        self._places, self._edges = slots.places, slots.edges()
        starts = self._edges[:-1]
        self.first, self.second, self.sizes = (
            slots.first[starts],
            slots.second[starts],
            numpy.diff(self._edges),
        )
        self._at: list[NDArray[numpy.int64]] = []
        if self._rests:
            where = numpy.empty_like(order)
            where[order] = numpy.arange(len(order))
            self._at = [where[begin : begin + rest.count] for rest, begin in self._rests]

    def order(self, epoch: int, draw: Draw) -> Ints:
        """What is in the slots in an epoch, those of each bucket in an order that is drawn."""
        places = self._places
        if self._rests:
            places = places.copy()
            for (rest, _), at in zip(self._rests, self._at):
                places[at] = rest.drawn(epoch)
        return _shuffled_inside(places, self._edges, draw)


class _Rest:
    """Slots for a share of the parts of a corpus, all of them equally likely.

    Part p of n, in an order that is drawn, is in slot j of m if p is the whole part of (j + u) · n / m, where
    u from 0 to 1 is drawn too: so each slot has parts of one place in the order of lengths, in every epoch.
    """

    def __init__(self, buckets: Buckets, count: int, seed: tuple[int, int]) -> None:
        self.count, self._buckets, self._edges, self._seed = count, buckets, buckets.edges(), seed
        steps = numpy.arange(count + 1, dtype=numpy.int64) * len(buckets.places) // count
        self._low, self._high = steps[:-1], numpy.minimum(steps[1:], len(buckets.places) - 1)

    def slots(self) -> Buckets:
        """The slots, empty, as large as the largest part that may come there."""

        def largest(sizes: Ints) -> Ints:
            return numpy.maximum(numpy.maximum.reduceat(sizes, self._low), sizes[self._high])

        empty = numpy.full(self.count, -1, numpy.int32)
        return Buckets(empty, largest(self._buckets.first), largest(self._buckets.second))

    def drawn(self, epoch: int) -> Ints:
        """What is in them in an epoch."""
        seed, number = self._seed
        draw = draw_from(seed, epoch, number + 1)
        places = _shuffled_inside(self._buckets.places, self._edges, draw)
        start = float(draw(1)[0]) / 2.0**64
        at = (numpy.arange(self.count) + start) * len(places) / self.count
        return places[numpy.clip(at.astype(numpy.int64), self._low, self._high)]


def _shuffled_inside(places: Ints, edges: NDArray[numpy.int64], draw: Draw) -> Ints:
    """Places in another order inside each bucket: that of random numbers, one a place."""
    found = numpy.empty_like(places)
    for start, end in zip(edges[:-1].tolist(), edges[1:].tolist()):
        found[start:end] = places[start:end][numpy.argsort(draw(end - start), kind="stable")]
    return found
