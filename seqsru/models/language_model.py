"""The language model: embedding, recurrent stack, output, with the dropouts of the published recipes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from seqsru.cells import Stack, State
from seqsru.cells.cell import wide
from seqsru.cells.depth import check_options
from seqsru.cells.masks import drop_features, drop_words, zero_invalid
from seqsru.errors import Refused, check_known, check_probability, within
from seqsru.models.attention import init_uniform
from seqsru.models.mixture import OUTPUTS
from seqsru.ops import apply_linear
from seqsru.ops.cross_entropy import linear_cross_entropy, logits_cross_entropy
from seqsru.ops.embedding import embed
from seqsru.ops.mixture import mixture_cross_entropy, mixture_log_probs


class LanguageModel(nn.Module):
    """Predict each token of a stream from those before it.

    1. ``e_t = E[w_t] · k[w_t] ⊙ m_e``               word-type dropout k (V,), embedding dropout m_e (B, E)
    2. ``h_t = stack(e_1 … e_t)``                    carried between windows by the caller
    3. ``f_t = P (h_t ⊙ m_o)``                       output dropout m_o (B, O); P only where tied and O ≠ E
    4. ``log p(w_{t+1}) = log_softmax(W f_t + b)``   W = E when tied

    With a mixture as output, f_t is ``h_t ⊙ m_o`` and step 4 that of `seqsru.models.mixture.Mixture`.

    Every mask is drawn once a forward call and shared over its time steps (Gal and Ghahramani 2016; word-type
    dropout as in AWD-LSTM, Merity et al. 2018: one draw a call for all rows). E and W start as
    U(±√(3/width)), the published recipe of the SRU paper; b starts at 0.

    Variables
    ---------
    ``embedding.weight`` (V, E); ``stack.*``; ``projection.weight`` (E, O) where tied and O ≠ E, or
    ``mixture.*``;
    ``output.weight`` (V, E) the same tensor when tied, else (V, O); ``output.bias`` (V,).

    Parameters
    ----------
    vocabulary_size : int
        V.
    stack : Stack
        One direction, with ``stack.input_size == embedding_size``.
    embedding_size : int
        E.
    tied : bool
        Whether the output weights are the embedding.
    embedding_dropout : float
        Probability that a feature of the embedding is 0 over a whole window.
    word_dropout : float
        Probability that a word of the vocabulary is embedded as 0 throughout a window.
    output_dropout : float
        Probability that a feature of the stack's output is 0 over a whole window.
    output : str
        Name in `OUTPUTS`: what gives the probabilities.
    output_options : mapping of str to object, optional
        Options of the output.

    Raises
    ------
    Refused
        A stack of two directions, one that reads another size, or a dropout outside [0, 1).
    """

    def __init__(
        self,
        vocabulary_size: int,
        stack: Stack,
        embedding_size: int,
        *,
        tied: bool = True,
        embedding_dropout: float = 0.0,
        word_dropout: float = 0.0,
        output_dropout: float = 0.0,
        output: str = "softmax",
        output_options: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__()
        if not stack.causal:
            raise Refused(
                "a stack whose steps depend on no later one",
                "one that reads in two directions or attends to all and would see the words it predicts",
                "set bidirectional to false, and attention to causal",
                "bidirectional" if stack.directions == 2 else "stack",
            )
        if stack.input_size != embedding_size:
            raise Refused(
                f"a stack that reads embedding_size = {embedding_size} features",
                f"one that reads {stack.input_size}",
                "make them equal",
                "stack",
            )
        check_probability(
            embedding_dropout=embedding_dropout, word_dropout=word_dropout, output_dropout=output_dropout
        )
        check_known(OUTPUTS, output=output)
        options = dict(output_options or {})
        check_options(f"output '{output}'", OUTPUTS[output], options, ("input_size", "output_size"))
        self.vocabulary_size = vocabulary_size
        self.embedding_size = embedding_size
        self.embedding_dropout = embedding_dropout
        self.word_dropout = word_dropout
        self.output_dropout = output_dropout
        self.embedding = nn.Embedding(vocabulary_size, embedding_size)
        self.stack = stack
        width = stack.output_size
        read = embedding_size if tied else width
        with within("output"):
            self.mixture = OUTPUTS[output](width, read, **options)
        self.projection: nn.Linear | None = None
        if read != width and self.mixture is None:
            self.projection = nn.Linear(width, embedding_size, bias=False)
        self.output = nn.Linear(read, vocabulary_size)
        if tied:
            self.output.weight = self.embedding.weight
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weights outside the stack anew."""
        for matrix in (self.embedding, self.projection, self.output):
            if matrix is not None:
                init_uniform(matrix.weight)
        nn.init.zeros_(self.output.bias)
        if self.mixture is not None:
            self.mixture.reset_parameters()

    def initial_state(self, batch: int) -> State:
        """State before the first token, for ``batch`` rows."""
        return self.stack.initial_state(batch)

    def forward(
        self, tokens: Tensor, state: State | None = None, valid: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Read a window.

        Parameters
        ----------
        tokens : int64 Tensor of shape (T, B)
            Inputs; where ``valid`` is False any index of the vocabulary.
        state : State, optional
            What the previous window left; default the initial state.
        valid : bool Tensor of shape (T, B), optional
            Each row a prefix of True.

        Returns
        -------
        features : Tensor of shape (T, B, F)
            Input of the output product, or of the mixture; F = E when tied without a mixture, else the
            stack's width.
        state : State
            To be carried to the next window (detach it there).
        """
        x = embed(self.embedding, tokens)  # (T, B, E)
        x = drop_words(x, tokens, self.vocabulary_size, self.word_dropout, self.training)
        x = drop_features(x, self.embedding_dropout, self.training)
        h, state = self.stack(x, state, valid)  # (T, B, O)
        h = drop_features(h, self.output_dropout, self.training)
        return (h if self.projection is None else apply_linear(self.projection, h)), state

    if TYPE_CHECKING:  # nn.Module's own says nothing about arguments and results
        __call__ = forward

    def logits(self, features: Tensor) -> Tensor:
        """Scores of shape (..., V) before the softmax, for features of shape (..., F).

        Of a mixture they are log probabilities, which a softmax leaves as they are.
        """
        if self.mixture is None:
            return apply_linear(self.output, features)
        latent, log_prior = self.mixture(features)
        return mixture_log_probs(log_prior, apply_linear(self.output, latent))

    def cross_entropy(
        self, features: Tensor, targets: Tensor, valid: Tensor | None = None, smoothing: float = 0.0
    ) -> tuple[Tensor, Tensor]:
        """Summed loss and the nll of each target: :func:`seqsru.ops.cross_entropy.linear_cross_entropy`.

        Of a mixture those of :func:`seqsru.ops.mixture.mixture_cross_entropy`.
        """
        if self.mixture is not None:
            features = zero_invalid(features, valid)
        if type(self.output) is not nn.Linear:  # another was put in its place
            return logits_cross_entropy(self.logits(features), targets, valid=valid, smoothing=smoothing)
        if self.mixture is not None:
            weight, bias = self.output.weight, self.output.bias
            both = self.mixture(features)
            return mixture_cross_entropy(*both, weight, bias, targets, valid=valid, smoothing=smoothing)
        return linear_cross_entropy(
            features, self.output.weight, self.output.bias, targets, valid=valid, smoothing=smoothing
        )

    def begin(self, prompt: Tensor, valid: Tensor | None = None) -> tuple[tuple[()], State]:
        """Read a prompt before decoding.

        Parameters
        ----------
        prompt : int64 Tensor of shape (S, B)
            Everything before the token that the first ``step`` reads; S may be 0.
        valid : bool Tensor of shape (S, B), optional
            Each row a prefix of True.

        Returns
        -------
        memory : ()
            A language model has none.
        state : State
        """
        state = self.initial_state(prompt.shape[1])
        if len(prompt):
            _, state = self(prompt, state, valid)
        return (), state

    def step(self, tokens: Tensor, memory: tuple[()], state: State) -> tuple[Tensor, None, State]:
        """Read one token a row and give the next one's log probabilities.

        Parameters
        ----------
        tokens : int64 Tensor of shape (N,)
        memory : ()
        state : State of N rows

        Returns
        -------
        log_probs : Tensor of shape (N, V)
            float64 where the parameters are, else float32.
        attention : None
        state : State of N rows
        """
        features, state = self(tokens.unsqueeze(0), state)
        return torch.log_softmax(wide(self.logits(features[0])), dim=-1), None, state
