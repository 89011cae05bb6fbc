"""Length and coverage penalties: what turns a sum of log probabilities into a score."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Penalty = Literal["power", "gnmt", "none"]


def power(length: int, alpha: float) -> float:
    """``length ** alpha``; alpha 1 divides by the number of tokens, ``</s>`` included."""
    return float(length**alpha)


def gnmt(length: int, alpha: float) -> float:
    """``((5 + length) / 6) ** alpha``, equation 14 of Wu et al. 2016 (arXiv 1609.08144)."""
    return float(((5 + length) / 6) ** alpha)


def none(length: int, alpha: float) -> float:
    """1: the score is the log probability, and `alpha` has no part in it."""
    return 1.0


PENALTIES: dict[Penalty, Callable[[int, float], float]] = {"power": power, "gnmt": gnmt, "none": none}


def coverage_penalty(coverage: NDArray[Any]) -> float:
    """Return GNMT's coverage term ``sum_j log(min(coverage_j, 1))``, at most 0: equation 14 of Wu et al.

    Parameters
    ----------
    coverage : ndarray of shape (source length,)
        Attention a source position received, summed over the generated tokens. Padded positions do not belong
        in it.
    """
    # A position that softmax rounded to exactly 0 counts as the smallest float32: the score stays finite.
    # One sum, from the first position to the last: any engine that adds so has the same bits.
    least, total = float(np.finfo(np.float32).tiny), 0.0
    for received in coverage.tolist():
        total += math.log(min(max(received, least), 1.0))
    return total
