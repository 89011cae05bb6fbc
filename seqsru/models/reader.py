"""The reader: a question and a paragraph in, scores of the first and the last token of the answer out."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from seqsru.cells import Stack
from seqsru.cells.cell import wide
from seqsru.cells.masks import drop_features, drop_words
from seqsru.errors import Refused, check_at_least, check_probability
from seqsru.models.classifier import sum_over_time
from seqsru.ops import apply_linear, linear


class Reader(nn.Module):
    """Find the answer to a question in a paragraph (Chen et al. 2017, arXiv 1704.00051, section 3.2).

    Of a paragraph w_1 … w_n and a question v_1 … v_s::

        (1) e_t = E[w_t],  g_j = E[v_j]                     word-type and embedding dropout
        (2) a_tj = softmax_j(ReLU(A e_t + b) · ReLU(A g_j + b))      with aligned
        (3) x_t = [e_t | Σ_j a_tj g_j | f_t]                f_t: frequency and matches, given
        (4) h = paragraph(x_1 … x_n),  u = question(g_1 … g_s)       output dropout on both
        (5) q = Σ_j softmax_j(r · u_j) u_j
        (6) start_t = h_t · (S q + c),  end_t = h_t · (Z q + d)

    The probability that the answer goes from token t to token k is softmax(start)_t · softmax(end)_k. What a
    row gives does not depend on its companions or on padding. Masks of dropout are drawn once a forward call
    and shared over its time steps. Of layers the last one's output is taken.

    Variables
    ---------
    ``embedding.weight`` (V, E): U(±0.1); ``align.weight`` (E, E), ``align.bias`` (E,) with aligned;
    ``paragraph.*``, ``question.*``; ``weigh`` (Q,): 0, so that (5) begins as the mean; ``start.weight`` and
    ``end.weight`` (P, Q), their ``bias`` (P,); linear maps as `torch.nn.Linear` draws them. Q and P are the
    outputs of the two stacks.

    Parameters
    ----------
    vocabulary_size : int
        V.
    features : int
        F, what is given of each token besides.
    paragraph : Stack
        Reads (1 + aligned) · E + F features.
    question : Stack
        Reads E features.
    embedding_size : int
        E.
    aligned : bool
        Whether each token of the paragraph sees the words of the question that are like it.
    embedding_dropout : float
        Probability that a feature of the embedding is 0 over a whole text.
    word_dropout : float
        Probability that a word of the vocabulary is embedded as 0 throughout a batch.
    output_dropout : float
        Probability that a feature of what the stacks give is 0 over a whole text.
    frozen_embedding : bool
        Whether the embedding stays as it was loaded.

    Raises
    ------
    Refused
        Sizes that do not fit, or an option outside its values.
    """

    def __init__(
        self,
        vocabulary_size: int,
        features: int,
        paragraph: Stack,
        question: Stack,
        embedding_size: int,
        *,
        aligned: bool = True,
        embedding_dropout: float = 0.0,
        word_dropout: float = 0.0,
        output_dropout: float = 0.0,
        frozen_embedding: bool = False,
    ) -> None:
        super().__init__()
        check_at_least(1, vocabulary_size=vocabulary_size, features=features, embedding_size=embedding_size)
        check_probability(
            embedding_dropout=embedding_dropout, word_dropout=word_dropout, output_dropout=output_dropout
        )
        reads = paragraph_features(embedding_size, features, aligned)
        for name, stack, size in (("paragraph", paragraph, reads), ("question", question, embedding_size)):
            if stack.input_size != size:
                found = f"one that reads {stack.input_size}"
                raise Refused(f"a stack that reads {size} features", found, "make them equal", name)
        self.vocabulary_size, self.features = vocabulary_size, features
        self.embedding_size, self.aligned = embedding_size, aligned
        self.embedding_dropout, self.word_dropout = embedding_dropout, word_dropout
        self.output_dropout = output_dropout
        self.embedding = nn.Embedding(vocabulary_size, embedding_size)
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
        self.embedding.weight.requires_grad_(not frozen_embedding)
        self.align = nn.Linear(embedding_size, embedding_size) if aligned else None
        self.paragraph, self.question = paragraph, question
        self.weigh = nn.Parameter(torch.zeros(question.output_size))
        self.start = nn.Linear(question.output_size, paragraph.output_size)
        self.end = nn.Linear(question.output_size, paragraph.output_size)

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.embedding.weight.device

    def forward(
        self, tokens: Tensor, valid: Tensor, features: Tensor, question: Tensor, question_valid: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Score the tokens of paragraphs.

        Parameters
        ----------
        tokens : int64 Tensor of shape (T, B)
            Where ``valid`` is False any index of the vocabulary.
        valid : bool Tensor of shape (T, B)
            Each row a prefix of True, with a token at least.
        features : Tensor of shape (T, B, F)
        question : int64 Tensor of shape (S, B)
        question_valid : bool Tensor of shape (S, B)
            Each row a prefix of True, with a token at least.

        Returns
        -------
        start, end : Tensor of shape (T, B)
            Scores of the first and of the last token of the answer, -inf where not valid.
        """
        e, g = self._embed(tokens), self._embed(question)  # (T, B, E), (S, B, E)
        parts = [e, features.to(e.dtype)]
        if self.align is not None:
            parts.insert(1, self._aligned(self.align, e, g, question_valid))
        h, _ = self.paragraph(torch.cat(parts, dim=-1), None, valid)  # (T, B, P)
        u, _ = self.question(g, None, question_valid)  # (S, B, Q)
        h = drop_features(h, self.output_dropout, self.training)
        u = drop_features(u, self.output_dropout, self.training)
        weights = wide(linear(u, self.weigh.unsqueeze(0)).squeeze(-1))  # (S, B)
        weights = _softmax(weights.t(), question_valid.t()).t().to(u.dtype)
        q = sum_over_time(u * weights.unsqueeze(-1))  # (B, Q)
        start, end = (
            wide((h * apply_linear(layer, q)).sum(-1)).masked_fill(~valid, -math.inf)
            for layer in (self.start, self.end)
        )
        return start, end

    def _embed(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens)
        x = drop_words(x, tokens, self.vocabulary_size, self.word_dropout, self.training)
        return drop_features(x, self.embedding_dropout, self.training)

    def _aligned(self, align: nn.Linear, e: Tensor, g: Tensor, question_valid: Tensor) -> Tensor:
        """Steps 2 and 3: the question as each token of the paragraph sees it (T, B, E)."""
        seen, asked = (torch.relu(apply_linear(align, x)).transpose(0, 1) for x in (e, g))  # (B, ·, E)
        scores = wide(torch.bmm(seen, asked.transpose(1, 2)))  # (B, T, S)
        weights = _softmax(scores, question_valid.t().unsqueeze(1)).to(g.dtype)
        return torch.bmm(weights, g.transpose(0, 1)).transpose(0, 1)

    @staticmethod
    def cross_entropy(start: Tensor, end: Tensor, answers: Tensor) -> Tensor:
        """The negative log probability of answers (2, B), first and last token: (B,)."""
        return torch.stack(
            [
                functional.cross_entropy(scores.t(), places, reduction="none")
                for scores, places in zip((start, end), answers)
            ]
        ).sum(0)


def paragraph_features(embedding_size: int, features: int, aligned: bool) -> int:
    """What the stack over the paragraph reads: its input size."""
    return embedding_size * (2 if aligned else 1) + features


def _softmax(scores: Tensor, valid: Tensor) -> Tensor:
    """Softmax over the last axis, 0 where not valid."""
    return torch.softmax(scores.masked_fill(~valid, torch.finfo(scores.dtype).min), dim=-1)
