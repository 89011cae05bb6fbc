"""Masks over (T, B, D): what padding holds reaches nothing, and dropout whose mask all steps share."""

from __future__ import annotations

from torch import Tensor


def zero_invalid(x: Tensor, valid: Tensor | None) -> Tensor:
    """Return x (T, B, D) with 0 where valid (T, B) is False, so that what it held there reaches nothing."""
    return x if valid is None else x.masked_fill(~valid.unsqueeze(-1), 0.0)


def dropout_mask(p: float, like: Tensor, *shape: int) -> Tensor:
    """Return a dropout mask of this shape and of `like`'s type: 0 with probability p, else 1/(1−p).

    Drawn once a forward call and broadcast over time (Gal and Ghahramani 2016, arXiv 1512.05287).
    """
    return like.new_empty(shape).bernoulli_(1.0 - p).div_(1.0 - p)


def drop_features(x: Tensor, p: float, training: bool) -> Tensor:
    """Return x (T, B, D), in training with the same features of a row 0 at every step."""
    return x * dropout_mask(p, x, *x.shape[1:]) if training and p else x


def drop_words(x: Tensor, tokens: Tensor, vocabulary_size: int, p: float, training: bool) -> Tensor:
    """Return embeddings x (T, B, E) of tokens (T, B), in training with some words 0 wherever they stand.

    One draw a call for all rows, as in AWD-LSTM (Merity, Keskar, Socher 2018, arXiv 1708.02182).
    """
    return x * dropout_mask(p, x, vocabulary_size)[tokens].unsqueeze(-1) if training and p else x
