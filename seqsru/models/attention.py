"""Attention of a decoder over the encoded source: multi-head dot product, and additive."""

# Annotations are read at run time: the settings of an attention are its constructor's arguments.
import math
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from seqsru.errors import Refused, check_at_least, check_probability
from seqsru.ops import apply_linear
from seqsru.ops.products import product


class Attention(nn.Module, ABC):
    """Weighted sums of a memory, with weights that depend on a query.

    Queries are (T, N, Q) and N = B * K: K rows beside each other, a beam, belong to one sentence and read the
    one memory it has. Keys and values are computed once a sentence, by `remember`.
    """

    @abstractmethod
    def remember(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Return keys and values, batch first, of a memory of shape (S, B, memory_size)."""

    @abstractmethod
    def forward(
        self, query: Tensor, keys: Tensor, values: Tensor, bias: Tensor, with_weights: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """Read the memory.

        Parameters
        ----------
        query : Tensor of shape (T, N, query_size)
            One query a step and row; row n belongs to sentence ``n // (N // B)``.
        keys, values : Tensor
            From `remember`.
        bias : Tensor of shape (B, S)
            Added to the scores: 0 on real source positions, the type's most negative number on padding, where
            weights become exactly 0.
        with_weights : bool
            Whether to give the weights.

        Returns
        -------
        context : Tensor of shape (T, N, output_size)
        weights : Tensor of shape (T, N, S), or None
            Averaged over heads; each row sums to 1.
        """

    if TYPE_CHECKING:  # nn.Module's own says nothing about arguments and results
        __call__ = forward


class DotAttention(Attention):
    """Multi-head scaled dot product (Vaswani et al. 2017, arXiv 1706.03762, section 3.2).

    With d = size / heads, for each head, q one query and M the memory::

        (1) k, v = W_k M, W_v M                         d rows of each
        (2) a = softmax(k . (W_q q) / sqrt(d))          padding has weight 0
        (3) context = W_o [a_1 v_1 | a_2 v_2 | ...]     weights under dropout in training

    Variables
    ---------
    ``query.weight`` (size, query_size), ``key.weight``, ``value.weight`` (size, memory_size),
    ``output.weight`` (output_size, size): U(±√(3 / columns)), that is variance 1 / columns.

    Parameters
    ----------
    query_size : int
        Features of a query.
    memory_size : int
        Features of the memory.
    output_size : int
        Features of the context.
    heads : int
        Number of heads.
    size : int
        Features of all heads together, a multiple of `heads`; 0 is `output_size`.
    dropout : float
        Probability that a weight is 0.

    Raises
    ------
    Refused
        A size that `heads` does not divide, or an option outside its values.
    """

    def __init__(
        self,
        query_size: int,
        memory_size: int,
        output_size: int,
        *,
        heads: int = 4,
        size: int = 0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_at_least(
            1, query_size=query_size, memory_size=memory_size, output_size=output_size, heads=heads
        )
        check_at_least(0, size=size)
        check_probability(dropout=dropout)
        blamed, size = "size" if size else "heads", size or output_size
        if size % heads:
            raise Refused(f"a size that {heads} heads divide", str(size), "change size or heads", blamed)
        self.heads, self.width, self.dropout = heads, size // heads, dropout
        self.query = nn.Linear(query_size, size, bias=False)
        self.key = nn.Linear(memory_size, size, bias=False)
        self.value = nn.Linear(memory_size, size, bias=False)
        self.output = nn.Linear(size, output_size, bias=False)
        for layer in (self.query, self.key, self.value, self.output):
            init_uniform(layer.weight)

    def remember(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Return keys (B, heads, d, S) and values (B, heads, S, d)."""
        by_head = *memory.shape[:2], self.heads, self.width
        keys = apply_linear(self.key, memory).view(by_head)  # (S, B, heads, d)
        values = apply_linear(self.value, memory).view(by_head)
        return keys.permute(1, 2, 3, 0).contiguous(), values.permute(1, 2, 0, 3).contiguous()

    def forward(
        self, query: Tensor, keys: Tensor, values: Tensor, bias: Tensor, with_weights: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """Read the memory; see `Attention.forward`."""
        (steps, rows, _), (sentences, length) = query.shape, bias.shape
        beam, heads, width = rows // sentences, self.heads, self.width
        q = apply_linear(self.query, query) * (1.0 / math.sqrt(width))  # (T, N, size)
        q = q.view(steps, sentences, beam, heads, width).permute(1, 3, 0, 2, 4)  # (B, heads, T, K, d)
        q = q.reshape(sentences * heads, steps * beam, width)
        scores = product(q, keys.flatten(0, 1)).view(sentences, heads, steps * beam, length)
        weights = torch.softmax(scores + bias.view(sentences, 1, 1, length), dim=-1)
        used = functional.dropout(weights, self.dropout, self.training)
        context = product(used.flatten(0, 1), values.flatten(0, 1))  # (B * heads, T * K, d)
        context = context.view(sentences, heads, steps, beam, width).permute(2, 0, 3, 1, 4)
        context = apply_linear(self.output, context.reshape(steps, rows, heads * width))
        if not with_weights:
            return context, None
        averaged = weights.mean(1).view(sentences, steps, beam, length).transpose(0, 1)  # (T, B, K, S)
        return context, averaged.reshape(steps, rows, length)


class AdditiveAttention(Attention):
    """Additive attention, of one head (Bahdanau et al. 2015, arXiv 1409.0473, appendix A.1.2).

    With q one query and M the memory::

        (1) k = W_k M                                   biases are W_q's
        (2) a = softmax(v . tanh(W_q q + k))            padding has weight 0
        (3) context = W_o (a M)                         weights under dropout in training

    Variables
    ---------
    ``query.weight`` (size, query_size), ``key.weight`` (size, memory_size), ``output.weight`` (output_size,
    memory_size): U(±√(3 / columns)); ``query.bias`` (size,): 0; ``score`` (size,): U(±√(3 / size)).

    Parameters
    ----------
    query_size : int
        Features of a query.
    memory_size : int
        Features of the memory.
    output_size : int
        Features of the context.
    size : int
        Features that queries and keys are compared in; 0 is `output_size`.
    dropout : float
        Probability that a weight is 0.

    Raises
    ------
    Refused
        An option outside its values.
    """

    def __init__(
        self, query_size: int, memory_size: int, output_size: int, *, size: int = 0, dropout: float = 0.0
    ) -> None:
        super().__init__()
        check_at_least(1, query_size=query_size, memory_size=memory_size, output_size=output_size)
        check_at_least(0, size=size)
        check_probability(dropout=dropout)
        size = size or output_size
        self.dropout = dropout
        self.query = nn.Linear(query_size, size)
        self.key = nn.Linear(memory_size, size, bias=False)
        self.score = nn.Parameter(torch.empty(size))
        self.output = nn.Linear(memory_size, output_size, bias=False)
        for matrix in (self.query.weight, self.key.weight, self.output.weight, self.score.unsqueeze(0)):
            init_uniform(matrix)
        nn.init.zeros_(self.query.bias)

    def remember(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Return keys (B, S, size) and values (B, S, memory_size), the memory itself."""
        keys = apply_linear(self.key, memory)
        return keys.transpose(0, 1).contiguous(), memory.transpose(0, 1).contiguous()

    def forward(
        self, query: Tensor, keys: Tensor, values: Tensor, bias: Tensor, with_weights: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """Read the memory; see `Attention.forward`."""
        (steps, rows, _), (sentences, length) = query.shape, bias.shape
        beam = rows // sentences
        q = apply_linear(self.query, query).view(steps, sentences, beam, -1)
        q = q.transpose(0, 1).reshape(sentences, steps * beam, 1, -1)  # (B, T * K, 1, size)
        # A sum, not a product: that of a matrix and a vector gives a row other bits in another batch.
        scores = (torch.tanh(q + keys.unsqueeze(1)) * self.score).sum(-1)  # (B, T * K, S)
        weights = torch.softmax(scores + bias.unsqueeze(1), dim=-1)
        used = functional.dropout(weights, self.dropout, self.training)
        context = product(used, values).view(sentences, steps, beam, -1).transpose(0, 1)
        context = apply_linear(self.output, context.reshape(steps, rows, -1))
        if not with_weights:
            return context, None
        weights = weights.view(sentences, steps, beam, length).transpose(0, 1)
        return context, weights.reshape(steps, rows, length)


def init_uniform(matrix: Tensor) -> None:
    """Fill a matrix with U(±√(3 / columns)): products with it keep the variance of their input."""
    bound = math.sqrt(3.0 / matrix.shape[-1])
    nn.init.uniform_(matrix, -bound, bound)


ATTENTIONS: dict[str, type[Attention]] = {"dot": DotAttention, "additive": AdditiveAttention}
