"""Length and coverage penalties: what turns a sum of log probabilities into a score."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable

import numpy as np


def power(length: int, alpha: float) -> float:
    """``length ** alpha``; alpha 1 divides by the number of tokens, ``</s>`` included."""
    return float(length) ** alpha


def gnmt(length: int, alpha: float) -> float:
    """``((5 + length) / 6) ** alpha``, equation 14 of Wu et al. 2016 (arXiv 1609.08144)."""
    return ((5 + length) / 6) ** alpha


def none(length: int, alpha: float) -> float:
    """1: the score is the log probability, and `alpha` has no part in it."""
    return 1.0


PENALTIES = {"power": power, "gnmt": gnmt, "none": none}
STOPS = ("first", "exact", "all")


def coverage_penalty(coverage: np.ndarray) -> float:
    """Return GNMT's coverage term ``sum_j log(min(coverage_j, 1))`` (arXiv 1609.08144, equation 14), at most
    0.

    Parameters
    ----------
    coverage : ndarray of shape (source length,)
        Attention a source position received, summed over the generated tokens. Padded positions do not belong
        in it.
    """
    # A position that softmax rounded to exactly 0 counts as the smallest float32: the score stays finite.
    return float(np.log(np.clip(coverage, np.finfo(np.float32).tiny, 1.0)).sum())


def check_name(kind: str, name: str, known: Iterable[str]) -> None:
    """Raise ValueError, with the nearest known name, unless `name` is one of `known`."""
    names = list(known)
    if name not in names:
        near = difflib.get_close_matches(str(name), names, n=1, cutoff=0.0)
        raise ValueError(
            f"{kind}: expected one of {', '.join(names)}, found {name!r}; did you mean {near[0]!r}?"
        )


def check_search(beam: int, penalty: str, alpha: float, coverage: float, stop: str, n_best: int) -> None:
    """Raise ValueError for the first setting of a search that cannot be meant."""
    if beam < 1:
        raise ValueError(f"beam: expected at least 1, found {beam}; 1 is greedy search")
    if not 1 <= n_best <= beam:
        raise ValueError(
            f"n_best: expected 1 to the beam's {beam}, found {n_best}; widen the beam or ask for fewer"
        )
    check_name("penalty", penalty, PENALTIES)
    check_name("stop", stop, STOPS)
    for name, value in (("alpha", alpha), ("coverage", coverage)):
        if not (value >= 0 and math.isfinite(value)):
            raise ValueError(
                f"{name}: expected a finite number of at least 0, found {value}; 0 switches it off"
            )
