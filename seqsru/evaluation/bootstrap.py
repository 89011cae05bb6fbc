"""The bootstrap of every number: 1,000 resamples of the lines of a test, seed 12345 (Koehn 2004)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 1000
SEED = 12345
EQUAL = 1e-9  # numbers that differ by less are equal but for rounding


def resamples(lines: int, draw: np.random.Generator | None = None) -> NDArray[np.int64]:
    """Lines with replacement, as many as there are, in each of `RESAMPLES` rows.

    Parameters
    ----------
    lines : int
    draw : Generator, optional
        Where several tests are resampled one after the other; a new one with `SEED` otherwise.
    """
    draw = np.random.default_rng(SEED) if draw is None else draw
    return draw.choice(lines, size=(RESAMPLES, lines), replace=True)


def p_value(difference: float, distances: NDArray[np.float64], lines: int) -> float:
    """Probability of a difference this large if two systems were equally good.

    (c + 1) / (n + 1), of n resamples c whose distance is, once the mean of all is taken off, at least the
    difference that was found. Equal numbers have 1; so has a single line, which has no other resample.

    Parameters
    ----------
    difference : float
        Of the two numbers, without sign.
    distances : array of shape (n,)
        The same of each resample.
    lines : int
    """
    if difference < EQUAL or lines == 1:
        return 1.0
    more = int((distances - distances.mean() >= difference - EQUAL).sum())
    return (more + 1) / (len(distances) + 1)
