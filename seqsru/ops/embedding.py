"""Embeddings in training: of a weight that the output shares, no second table of gradients is made.

Torch's gradient of an embedding is a table as large as the weight, nearly all of it 0, which is written and
then added to that of the output product. Here the rows that were read are kept, and added in their places.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from seqsru.ops.watchers import hooked, watched


class Rows:
    """Gradients of weights, of the rows that `embed` has read while these were `kept`."""

    def __init__(self) -> None:
        self._weights: list[Tensor] = []
        self._found: list[tuple[Tensor, Tensor, Tensor]] = []

    def await_from(self, weight: Tensor) -> None:
        """Expect gradients of rows of this weight."""
        if not any(weight is one for one in self._weights):
            self._weights.append(weight)

    def keep(self, weight: Tensor, read: Tensor, rows: Tensor) -> None:
        """Keep gradients (n, E) of rows (n,) of a weight (V, E), no row twice."""
        self._found.append((weight, read, rows))

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of a loss to ``grad``, in the order in which autograd would."""
        before = [weight.grad for weight in self._weights]
        for weight in self._weights:
            weight.grad = None
        loss.backward()  # type: ignore[no-untyped-call]
        for weight, read, rows in self._found:
            if weight.grad is None:
                weight.grad = torch.zeros_like(weight, requires_grad=False)
            weight.grad.index_add_(0, read, rows)
        self._found.clear()
        for weight, earlier in zip(self._weights, before):
            if earlier is not None:
                weight.grad = earlier if weight.grad is None else earlier.add_(weight.grad)


_rows: ContextVar[Rows | None] = ContextVar("rows", default=None)


@contextmanager
def kept() -> Iterator[Rows]:
    """Have `embed` keep its gradients in what this gives, whose `Rows.backward` is to be called.

    For who wants gradients in ``grad`` and nowhere else.
    """
    rows = Rows()
    token = _rows.set(rows)
    try:
        yield rows
    finally:
        _rows.reset(token)


def embed(embedding: nn.Embedding, tokens: Tensor) -> Tensor:
    """Return ``embedding(tokens)``.

    Parameters
    ----------
    embedding : Embedding of shape (V, E)
    tokens : int64 Tensor

    Returns
    -------
    Tensor of shape (*tokens, E)
        The same, and with `kept` its gradient has the same bits.
    """
    rows = _rows.get()
    if rows is None or not torch.is_grad_enabled():
        return embedding(tokens)  # type: ignore[no-any-return]
    weight = embedding.weight
    if (
        not weight.requires_grad
        or weight.device.type != "cpu"
        or type(embedding) is not nn.Embedding
        or embedding.padding_idx is not None
        or embedding.max_norm is not None
        or embedding.scale_grad_by_freq
        or embedding.sparse
        or hooked(embedding)
        or watched(weight, tokens)
        or not weight.is_leaf
        or weight._backward_hooks
        or weight._post_accumulate_grad_hooks
    ):
        return embedding(tokens)  # type: ignore[no-any-return]
    rows.await_from(weight)
    return _Embed.apply(weight, tokens, rows)  # type: ignore[no-any-return,no-untyped-call]


class _Embed(torch.autograd.Function):
    """Rows of a weight, whose gradient is kept."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, tokens: Tensor, rows: Rows) -> Tensor:
        ctx.save_for_backward(tokens)
        ctx.weight, ctx.rows = weight, rows
        return functional.embedding(tokens, weight)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, None, None]:
        (tokens,) = ctx.saved_tensors
        read, places = tokens.unique(return_inverse=True)
        # Summed as torch does it for the whole table, so in the same order.
        rows = torch.ops.aten.embedding_dense_backward(gradient, places, len(read), -1, False)
        ctx.rows.keep(ctx.weight, read, rows)
        return None, None, None
