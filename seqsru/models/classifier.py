"""The classifier: embedding, encoder, pooling over time, one linear layer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from seqsru.cells import Stack
from seqsru.cells.cell import wide
from seqsru.cells.masks import drop_features, drop_words, zero_invalid
from seqsru.errors import Refused, check_at_least, check_known, check_probability
from seqsru.ops import apply_linear, linear
from seqsru.ops.cross_entropy import linear_cross_entropy, logits_cross_entropy

Pooling = Literal["last", "max", "mean", "attention"]


class Convolution(nn.Module):
    """Convolutions of several widths over time, side by side (Kim 2014, arXiv 1408.5882).

    For each width w, x being 0 before the first and after the last step of a text::

        (1) y_t = ReLU(W [x_t, x_{t-1}, …, x_{t-w+1}] + b)      t from the first step to w - 1 past the last

    Variables
    ---------
    ``weights.{i}`` (F, w·I) for width i, newest input first, and ``biases.{i}`` (F,): both U(±1/√(w·I)), as
    `torch.nn.Conv1d` draws them.

    Parameters
    ----------
    input_size : int
        I, features of the input.
    widths : sequence of int
        Steps that each convolution sees.
    features : int
        F, features a width.
    """

    def __init__(self, input_size: int, *, widths: Sequence[int] = (3, 4, 5), features: int = 100) -> None:
        super().__init__()
        if not widths:
            raise Refused("at least one width", "none", "3, 4 and 5 are common", "widths")
        for width in widths:
            check_at_least(1, widths=width)
        check_at_least(1, input_size=input_size, features=features)
        self.input_size, self.output_size, self.widths = input_size, features * len(widths), tuple(widths)
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for width in widths:
            bound = 1.0 / math.sqrt(width * input_size)
            self.weights.append(torch.empty(features, width * input_size).uniform_(-bound, bound))
            self.biases.append(torch.empty(features).uniform_(-bound, bound))

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """The maximum over time of each feature.

        Parameters
        ----------
        x : Tensor of shape (T, B, I)
            Where ``valid`` is False it may hold anything.
        valid : bool Tensor of shape (T, B)
            Each row a prefix of True.

        Returns
        -------
        Tensor of shape (B, O)
            0 for a row without a valid step.
        """
        x, pooled = zero_invalid(x, valid), []
        for width, weight, bias in zip(self.widths, self.weights, self.biases):
            wide = functional.pad(x, (0, 0, 0, 0, width - 1, width - 1))  # (T + 2w − 2, B, I)
            steps = len(wide) - width + 1
            seen = torch.cat([wide[back : back + steps] for back in range(width - 1, -1, -1)], dim=-1)
            y = torch.relu(linear(seen, weight, bias))  # (T + w − 1, B, F)
            # Windows whose oldest step is not past the end; 0 is neutral: no output of ReLU is below it.
            reached = functional.pad(valid, (0, 0, width - 1, 0), value=True) & valid[:1]
            pooled.append(zero_invalid(y, reached).amax(0))
        return torch.cat(pooled, dim=-1)


class Classifier(nn.Module):
    """Tell which of some classes a text belongs to.

    1. ``e_t = E[w_t] · k[w_t] ⊙ m_e``         word-type dropout k (V,), embedding dropout m_e (B, E)
    2. ``h_t = encoder(e_1 … e_T)``
    3. ``p = pooling(h_1 … h_n)``              over the n valid steps
    4. ``z = W (p ⊙ m_o) + b``                 output dropout m_o (B, O)

    The poolings, D being the features of one direction::

        last        [h_n, first D | h_1, last D]      each direction where it ends
        max         max_t h_t
        mean        Σ_t h_t / n
        attention   Σ_t a_t h_t,  a = softmax_t(q · h_t / √O)

    What a row gives does not depend on its companions or on padding; a row without a valid step has p = 0.
    Masks are drawn once a forward call and shared over its time steps.

    Variables
    ---------
    ``embedding.weight`` (V, E): U(±0.1), small beside what it learns in a first epoch; ``encoder.*``;
    ``query`` (O,) with attention: 0, so that it begins as the mean; ``output.weight`` (C, O) and
    ``output.bias`` (C,), as `torch.nn.Linear` draws them.

    Parameters
    ----------
    vocabulary_size : int
        V.
    classes : int
        C, at least 2.
    encoder : Stack or Convolution
        What reads the text.
    embedding_size : int
        E.
    pooling : {"last", "max", "mean", "attention"}
        What of the encoder's steps is classified; a convolution has max.
    embedding_dropout : float
        Probability that a feature of the embedding is 0 over a whole text.
    word_dropout : float
        Probability that a word of the vocabulary is embedded as 0 throughout a batch.
    output_dropout : float
        Probability that a pooled feature is 0.
    frozen_embedding : bool
        Whether the embedding stays as it was loaded.

    Raises
    ------
    Refused
        Sizes that do not fit, another pooling of a convolution, or an option outside its values.
    """

    def __init__(
        self,
        vocabulary_size: int,
        classes: int,
        encoder: Stack | Convolution,
        embedding_size: int,
        *,
        pooling: Pooling = "max",
        embedding_dropout: float = 0.0,
        word_dropout: float = 0.0,
        output_dropout: float = 0.0,
        frozen_embedding: bool = False,
    ) -> None:
        super().__init__()
        check_known(get_args(Pooling), pooling=pooling)
        check_at_least(1, vocabulary_size=vocabulary_size, embedding_size=embedding_size)
        check_at_least(2, classes=classes)
        check_probability(
            embedding_dropout=embedding_dropout, word_dropout=word_dropout, output_dropout=output_dropout
        )
        if isinstance(encoder, Convolution) and pooling != "max":
            raise Refused(
                "max with encoder convolution", repr(pooling), "set it to max, or choose a stack", "pooling"
            )
        if encoder.input_size != embedding_size:
            raise Refused(
                f"an encoder that reads embedding_size = {embedding_size} features",
                f"one that reads {encoder.input_size}",
                "make them equal",
                "embedding_size",
            )
        self.vocabulary_size, self.classes, self.embedding_size = vocabulary_size, classes, embedding_size
        self.pooling = pooling
        self.embedding_dropout, self.word_dropout = embedding_dropout, word_dropout
        self.output_dropout = output_dropout
        self.embedding = nn.Embedding(vocabulary_size, embedding_size)
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
        self.embedding.weight.requires_grad_(not frozen_embedding)
        self.encoder = encoder
        self.query = nn.Parameter(torch.zeros(encoder.output_size)) if pooling == "attention" else None
        self.output = nn.Linear(encoder.output_size, classes)

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.embedding.weight.device

    def forward(self, tokens: Tensor, valid: Tensor) -> Tensor:
        """Read texts.

        Parameters
        ----------
        tokens : int64 Tensor of shape (T, B)
            Where ``valid`` is False any index of the vocabulary; T may be 0.
        valid : bool Tensor of shape (T, B)
            Each row a prefix of True, possibly empty.

        Returns
        -------
        Tensor of shape (B, O)
            Input of the output product: the pooled features after their dropout.
        """
        if not len(tokens):  # texts of no token alone: a step of padding, so that there is one to pool
            tokens, valid = functional.pad(tokens, (0, 0, 0, 1)), functional.pad(valid, (0, 0, 0, 1))
        x = self.embedding(tokens)  # (T, B, E)
        x = drop_words(x, tokens, self.vocabulary_size, self.word_dropout, self.training)
        x = drop_features(x, self.embedding_dropout, self.training)
        pooled = self._read(x, valid)  # (B, O)
        return functional.dropout(pooled, self.output_dropout, self.training)

    def _read(self, x: Tensor, valid: Tensor) -> Tensor:
        if isinstance(self.encoder, Convolution):
            return self.encoder(x, valid)  # type: ignore[no-any-return]
        h, _ = self.encoder(x, None, valid)  # (T, B, O), 0 where not valid
        lengths = valid.sum(0)  # (B,)
        if self.pooling == "last":
            columns = torch.arange(h.shape[1], device=h.device)
            size = h.shape[2] // self.encoder.directions
            return torch.cat([h[(lengths - 1).clamp(min=0), columns, :size], h[0, :, size:]], dim=-1)
        if self.pooling == "max":
            real = valid.unsqueeze(-1)
            return h.masked_fill(~real, -math.inf).amax(0).masked_fill(~real[0], 0.0)
        if self.pooling == "mean":
            return sum_over_time(h) / lengths.clamp(min=1).unsqueeze(-1)
        assert self.query is not None
        scores = wide(linear(h, self.query.unsqueeze(0)).squeeze(-1)) / math.sqrt(h.shape[2])  # (T, B)
        scores = scores.masked_fill(~valid, torch.finfo(scores.dtype).min)
        weights = torch.softmax(scores.t(), dim=-1).t().to(h.dtype)  # (T, B)
        return sum_over_time(h * weights.unsqueeze(-1))

    def log_probs(self, features: Tensor) -> Tensor:
        """Log probabilities (B, C) of features (B, O), in float64 where the parameters are, else float32."""
        return torch.log_softmax(wide(apply_linear(self.output, features)), dim=-1)

    def cross_entropy(
        self, features: Tensor, labels: Tensor, smoothing: float = 0.0
    ) -> tuple[Tensor, Tensor]:
        """Summed loss and the nll of each label: :func:`seqsru.ops.cross_entropy.linear_cross_entropy`."""
        if type(self.output) is not nn.Linear:  # another was put in its place
            return logits_cross_entropy(apply_linear(self.output, features), labels, smoothing=smoothing)
        return linear_cross_entropy(
            features, self.output.weight, self.output.bias, labels, smoothing=smoothing
        )


def sum_over_time(h: Tensor) -> Tensor:
    """Sum h (T, B, O) over T, each row in an order that does not depend on the others.

    Over the first axis torch adds up a feature in another order when more stand beside it, and so does a
    batched product.
    """
    return h.transpose(0, 1).contiguous().sum(1)  # (B, O)
