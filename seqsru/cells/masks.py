"""Masks over (T, B, D): what padding holds reaches nothing, and dropout whose mask all steps share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor

_part: tuple[int, int, int] | None = None  # of the rows of a batch that processes share


def zero_invalid(x: Tensor, valid: Tensor | None) -> Tensor:
    """Return x (T, B, D) with 0 where valid (T, B) is False, so that what it held there reaches nothing."""
    return x if valid is None else x.masked_fill(~valid.unsqueeze(-1), 0.0)


@contextmanager
def rows_of(first: int, last: int, rows: int) -> Iterator[None]:
    """Say that what is computed are the rows from `first` to before `last` of so many, for one process.

    Masks with a row each are then those of the whole batch, so that it does not matter who computes a row.
    """
    global _part
    before, _part = _part, (first, last, rows)
    try:
        yield
    finally:
        _part = before


def dropout_mask(p: float, like: Tensor, *shape: int) -> Tensor:
    """Return a dropout mask of this shape and of `like`'s type: 0 with probability p, else 1/(1−p).

    Drawn once a forward call and broadcast over time (Gal and Ghahramani 2016, arXiv 1512.05287).
    """
    if _part is not None and len(shape) == 2:  # (B, D): as it is for all rows, and of it these
        first, last, rows = _part
        return like.new_empty(rows, shape[1]).bernoulli_(1.0 - p).div_(1.0 - p)[first:last]
    return like.new_empty(shape).bernoulli_(1.0 - p).div_(1.0 - p)


def drop_features(x: Tensor, p: float, training: bool) -> Tensor:
    """Return x (T, B, D), in training with the same features of a row 0 at every step."""
    return x * dropout_mask(p, x, *x.shape[1:]) if training and p else x


def drop_words(x: Tensor, tokens: Tensor, vocabulary_size: int, p: float, training: bool) -> Tensor:
    """Return embeddings x (T, B, E) of tokens (T, B), in training with some words 0 wherever they stand.

    One draw a call for all rows, as in AWD-LSTM (Merity, Keskar, Socher 2018, arXiv 1708.02182).
    """
    return x * dropout_mask(p, x, vocabulary_size)[tokens].unsqueeze(-1) if training and p else x
