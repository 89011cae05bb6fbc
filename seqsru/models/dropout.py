"""Dropout masks that are drawn once and shared over time (Gal and Ghahramani 2016)."""

from __future__ import annotations

from torch import Tensor


def feature_mask(p: float, x: Tensor) -> Tensor:
    """Mask of shape (1, B, D) for x of shape (T, B, D): 0 with probability p, else 1/(1−p)."""
    return x.new_empty(1, *x.shape[1:]).bernoulli_(1.0 - p).div_(1.0 - p)


def type_mask(vocabulary_size: int, p: float, x: Tensor) -> Tensor:
    """Mask of shape (V,) over the words of a vocabulary, of x's type: 0 with probability p, else 1/(1−p)."""
    return x.new_empty(vocabulary_size).bernoulli_(1.0 - p).div_(1.0 - p)
