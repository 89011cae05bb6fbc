"""The translation model: an encoder of any stack, and a recurrent decoder that attends to what it wrote."""

# Annotations are read at run time: the settings of a translator are its constructor's arguments.
import math
from typing import TYPE_CHECKING, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from seqsru.cells import Stack, State
from seqsru.cells.masks import drop_features, drop_words
from seqsru.errors import Refused, check_known, check_probability
from seqsru.models.attention import init_uniform
from seqsru.models.decoder import Decoder, Memory
from seqsru.ops import apply_linear, linear
from seqsru.ops.cross_entropy import linear_cross_entropy
from seqsru.ops.embedding import embed

Tying = Literal["all", "target", "none"]


class Translator(nn.Module):
    """Predict each token of a translation from the source and the tokens before it.

    1. ``M = encoder(√E · E_s[w])``                     the whole source, w its tokens and ``</s>``
    2. ``y_t = decoder(√E · E_t[v_1] … √E · E_t[v_t]; M)``   v_1 the start symbol
    3. ``f_t = P drop(y_t)``                            P only where the output is tied and D ≠ E
    4. ``log p(v_{t+1}) = log_softmax(W f_t + b)``      W = E_t when tied

    Embeddings are under dropout in training: a whole word of the vocabulary, and a feature for a whole
    sentence (Gal and Ghahramani 2016). The factor √E gives embeddings drawn with variance 1 / E the variance
    1 that the layers expect, while the same matrix makes logits of variance 1 from the normalised output.

    Variables
    ---------
    ``source_embedding.weight`` (V_s, E), ``target_embedding.weight`` (V_t, E), ``output_weight`` (V_t, E or
    D): U(±√(3 / columns)), one and the same tensor where tied; ``output_bias`` (V_t,): 0;
    ``projection.weight`` (E, D) where the output is tied and D ≠ E; ``encoder.*``; ``decoder.*``.

    Parameters
    ----------
    source_vocabulary : int
        V_s.
    target_vocabulary : int
        V_t.
    encoder : Stack
        One direction or two, with ``encoder.input_size == embedding_size``.
    decoder : Decoder
        With ``input_size == embedding_size`` and ``memory_size == encoder.output_size``.
    embedding_size : int
        E.
    tying : {"all", "target", "none"}
        What one matrix is: the target embedding and the output (target), the source embedding too (all, for a
        joint vocabulary), or nothing.
    embedding_dropout : float
        Probability that a feature of the embeddings is 0 for a whole sentence.
    word_dropout : float
        Probability that a word of a vocabulary is embedded as 0 throughout a batch.
    output_dropout : float
        Probability that a feature of the decoder's output is 0, drawn at each step.

    Raises
    ------
    Refused
        Sizes that do not fit, or an option outside its values.
    """

    def __init__(
        self,
        source_vocabulary: int,
        target_vocabulary: int,
        encoder: Stack,
        decoder: Decoder,
        embedding_size: int,
        *,
        tying: Tying = "target",
        embedding_dropout: float = 0.0,
        word_dropout: float = 0.0,
        output_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        for setting, name, size, expected in (
            ("encoder", "input_size", encoder.input_size, embedding_size),
            ("decoder", "input_size", decoder.input_size, embedding_size),
            ("decoder", "memory_size", decoder.memory_size, encoder.output_size),
        ):
            if size != expected:
                raise Refused(
                    f"{name} {expected}",
                    str(size),
                    "the encoder and the decoder read embeddings, and the decoder's memory is the encoder's "
                    "output",
                    setting,
                )
        check_known(get_args(Tying), tying=tying)
        if tying == "all" and source_vocabulary != target_vocabulary:
            raise Refused(
                "one joint vocabulary for tying 'all'",
                f"{source_vocabulary} source and {target_vocabulary} target types",
                "use 'target', or a joint tokenizer",
                "tying",
            )
        check_probability(
            embedding_dropout=embedding_dropout, word_dropout=word_dropout, output_dropout=output_dropout
        )
        self.source_vocabulary, self.target_vocabulary = source_vocabulary, target_vocabulary
        self.embedding_size = embedding_size
        self.embedding_dropout = embedding_dropout
        self.word_dropout = word_dropout
        self.output_dropout = output_dropout
        self.encoder = encoder
        self.decoder = decoder
        self.source_embedding = nn.Embedding(source_vocabulary, embedding_size)
        self.target_embedding = nn.Embedding(target_vocabulary, embedding_size)
        if tying == "all":
            self.target_embedding.weight = self.source_embedding.weight
        width = decoder.output_size
        self.projection: nn.Linear | None = None
        self.output_weight: Tensor = self.target_embedding.weight
        if tying == "none":
            self.output_weight = nn.Parameter(torch.empty(target_vocabulary, width))
        elif width != embedding_size:
            self.projection = nn.Linear(width, embedding_size, bias=False)
        self.output_bias = nn.Parameter(torch.zeros(target_vocabulary))
        for matrix in (self.source_embedding, self.target_embedding, self.projection):
            if matrix is not None:
                init_uniform(matrix.weight)
        if tying == "none":
            init_uniform(self.output_weight)

    def forward(self, source: Tensor, source_valid: Tensor | None, target_in: Tensor) -> Tensor:
        """Predict every token of known translations.

        Parameters
        ----------
        source : int64 Tensor of shape (S, B)
            Tokens with ``</s>``; any token of the vocabulary where `source_valid` is False.
        source_valid : bool Tensor of shape (S, B), or None
            Each row a prefix of True; None is all.
        target_in : int64 Tensor of shape (T, B)
            The start symbol and the translation without ``</s>``; any token of the vocabulary after its end.

        Returns
        -------
        features : Tensor of shape (T, B, F)
            For `logits` or `cross_entropy`; F = E where the output is tied, else D.
        """
        memory, state = self.begin(source, source_valid)
        y, _, _ = self.decoder(self._embed(self.target_embedding, target_in), memory, state)
        return self._features(y)

    if TYPE_CHECKING:  # nn.Module's own says nothing about arguments and results
        __call__ = forward

    def logits(self, features: Tensor) -> Tensor:
        """Scores of shape (..., V_t) before the softmax, for features of shape (..., F)."""
        return linear(features, self.output_weight, self.output_bias)

    def cross_entropy(
        self, features: Tensor, targets: Tensor, valid: Tensor | None = None, smoothing: float = 0.0
    ) -> tuple[Tensor, Tensor]:
        """Summed loss and the nll of each target: :func:`seqsru.ops.cross_entropy.linear_cross_entropy`."""
        return linear_cross_entropy(
            features, self.output_weight, self.output_bias, targets, valid=valid, smoothing=smoothing
        )

    def begin(self, source: Tensor, valid: Tensor | None = None) -> tuple[Memory, State]:
        """Read a source, once.

        Parameters
        ----------
        source : int64 Tensor of shape (S, B)
            Tokens with ``</s>``.
        valid : bool Tensor of shape (S, B), optional
            Each row a prefix of True.

        Returns
        -------
        memory : tuple of Tensor, each (B, ...)
            Keys and values, computed once a sentence.
        state : State of B rows
        """
        encoded, _ = self.encoder(self._embed(self.source_embedding, source), valid=valid)
        return self.decoder.begin(encoded, valid)

    def step(
        self, tokens: Tensor, memory: Memory, state: State, with_attention: bool = False
    ) -> tuple[Tensor, Tensor | None, State]:
        """Read one token a row and give the next one's log probabilities.

        Parameters
        ----------
        tokens : int64 Tensor of shape (N,)
            N = B · K, the K rows of a sentence beside each other.
        memory : tuple of Tensor, each (B, ...)
            From `begin`.
        state : State of N rows
        with_attention : bool
            Whether to give the weights on the source.

        Returns
        -------
        log_probs : float32 Tensor of shape (N, V_t)
            float64 where the model is.
        attention : Tensor of shape (N, S), or None
            Of the last layer that attends, averaged over heads; 0 on padding.
        state : State of N rows
        """
        x = self._embed(self.target_embedding, tokens.unsqueeze(0))
        y, attention, state = self.decoder(x, memory, state, with_attention)
        scores = self.logits(self._features(y[0]))
        log_probs = torch.log_softmax(scores if scores.dtype == torch.float64 else scores.float(), dim=-1)
        return log_probs, None if attention is None else attention[0], state

    def _embed(self, embedding: nn.Embedding, tokens: Tensor) -> Tensor:
        """Return embeddings (T, N, E) of tokens (T, N)."""
        x = embed(embedding, tokens) * math.sqrt(self.embedding_size)
        x = drop_words(x, tokens, embedding.num_embeddings, self.word_dropout, self.training)
        return drop_features(x, self.embedding_dropout, self.training)

    def _features(self, y: Tensor) -> Tensor:
        """Return the decoder's output (..., D) as the output product wants it, (..., F)."""
        y = functional.dropout(y, self.output_dropout, self.training)
        return y if self.projection is None else apply_linear(self.projection, y)
