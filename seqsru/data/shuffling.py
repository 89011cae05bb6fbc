"""Random orders that a seed alone decides, now and with any later release of numpy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy
from numpy.typing import NDArray

Item = TypeVar("Item")
Draw = Callable[[int], NDArray[numpy.uint64]]  # so many random numbers


def draw_from(*seed: int) -> Draw:
    """What draws random numbers from a seed of one or more numbers, none of them negative."""
    # Raw output of the bit generator is what numpy promises not to change; its shuffles may.
    return numpy.random.PCG64(numpy.random.SeedSequence(seed)).random_raw


def shuffled(items: Sequence[Item], draw: Draw) -> list[Item]:
    """The items in an order that is drawn."""
    return [items[i] for i in numpy.argsort(draw(len(items)), kind="stable")]


def batches_alike(buckets: NDArray[numpy.int32], size: int, draw: Draw) -> list[list[int]]:
    """Places in batches of a size, those of the same bucket side by side.

    The cuts between batches are the same for any draw, which decides who sits beside whom within a bucket,
    and the order of the batches.
    """
    order = numpy.lexsort((draw(len(buckets)), buckets)).tolist()
    return shuffled([order[at : at + size] for at in range(0, len(order), size)], draw)
