"""The recogniser: an encoder over frames, a unit or nothing for each step (CTC), and maybe a decoder."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from seqsru.cells import Stack, State
from seqsru.cells.cell import wide
from seqsru.cells.masks import drop_features, zero_invalid
from seqsru.errors import Refused, check_at_least, check_probability
from seqsru.models.attention import init_uniform
from seqsru.models.decoder import Decoder, Memory
from seqsru.ops import apply_linear, linear
from seqsru.ops.cross_entropy import linear_cross_entropy


class Recognizer(nn.Module):
    """Write down what is said, by connectionist temporal classification (Graves et al. 2006).

    1. ``h_t = encoder(x_1 ⊙ m_i … x_T ⊙ m_i)``     input dropout m_i (B, I)
    2. ``p_t = softmax(W (h_t ⊙ m_o) + b)``          output dropout m_o (B, O); V units, then the blank
    3. ``P(y) = Σ_a Π_t p_t[a_t]``                    each a being y with units repeated and blanks between

    With a decoder the same encoder has a second output (Kim et al. 2017, arXiv 1609.06773), that of a
    translator, E being the decoder's size::

        (4) s_u = decoder(√E · E[y_0] … √E · E[y_u]; h)   y_0 the start symbol
        (5) P(y_{u+1} | y_0 … y_u) = softmax(E (s_u ⊙ m_o) + b)

    Variables
    ---------
    ``encoder.*``; ``output.weight`` (V + 1, O) and ``output.bias`` (V + 1,), as `torch.nn.Linear` draws them.
    With a decoder ``decoder.*``, ``embedding.weight`` (V, E): U(±√(3 / E)), and ``embedding_bias`` (V,): 0.

    Parameters
    ----------
    input_size : int
        I, features of a step.
    vocabulary_size : int
        V.
    encoder : Stack
        What reads the steps; with one direction it streams.
    decoder : Decoder, optional
        What writes the text unit by unit, with attention to the encoder's output: a second output beside
        CTC. Its ``memory_size`` is the encoder's ``output_size``, its ``input_size`` its ``output_size``.
    input_dropout : float
        Probability that a feature of the input is 0 for a whole utterance.
    output_dropout : float
        Probability that a feature is 0 for a whole utterance before the last product, of the encoder's output
        and of the decoder's.

    Attributes
    ----------
    blank : int
        V, the output that writes nothing.
    streams : bool
        Whether no step depends on a later one.

    Raises
    ------
    Refused
        An option outside its values.
    """

    def __init__(
        self,
        input_size: int,
        vocabulary_size: int,
        encoder: Stack,
        decoder: Decoder | None = None,
        *,
        input_dropout: float = 0.0,
        output_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_at_least(1, input_size=input_size, vocabulary_size=vocabulary_size)
        check_probability(input_dropout=input_dropout, output_dropout=output_dropout)
        self.input_size, self.vocabulary_size, self.blank = input_size, vocabulary_size, vocabulary_size
        self.input_dropout, self.output_dropout = input_dropout, output_dropout
        self.encoder = encoder
        self.output = nn.Linear(encoder.output_size, vocabulary_size + 1)
        self.decoder = decoder
        if decoder is not None:
            for name, size, expected in (
                ("input_size", decoder.input_size, decoder.output_size),
                ("memory_size", decoder.memory_size, encoder.output_size),
            ):
                if size != expected:
                    do = "the decoder reads its own embeddings and the encoder's output"
                    raise Refused(f"{name} {expected}", str(size), do, "decoder")
            self.embedding = nn.Embedding(vocabulary_size, decoder.input_size)
            self.embedding_bias = nn.Parameter(torch.zeros(vocabulary_size))
            init_uniform(self.embedding.weight)

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.output.weight.device

    @property
    def streams(self) -> bool:
        """Whether no step depends on a later one."""
        return self.encoder.causal

    def forward(
        self, x: Tensor, valid: Tensor | None = None, state: State | None = None
    ) -> tuple[Tensor, State]:
        """Read steps.

        Parameters
        ----------
        x : Tensor of shape (T, B, I)
            Where ``valid`` is False it may hold anything; T may be 0.
        valid : bool Tensor of shape (T, B), optional
            Each row a prefix of True.
        state : State, optional
            What the call before left, where the utterance goes on.

        Returns
        -------
        log_probs : Tensor of shape (T, B, V + 1)
            float64 where the parameters are, else float32; of no meaning where not valid.
        state : State
        """
        h, state = self.encode(x, valid, state)
        return self.outputs(h), state

    def encode(
        self, x: Tensor, valid: Tensor | None = None, state: State | None = None
    ) -> tuple[Tensor, State]:
        """Read steps as `forward` does, up to the encoder's output: h of shape (T, B, O), and the state."""
        x = drop_features(zero_invalid(x, valid), self.input_dropout, self.training)
        h, state = self.encoder(x, state, valid)  # (T, B, O)
        return h, state

    def outputs(self, h: Tensor) -> Tensor:
        """Log probabilities (T, B, V + 1) of CTC for the encoder's output (T, B, O), as of `forward`."""
        h = drop_features(h, self.output_dropout, self.training)
        return torch.log_softmax(wide(apply_linear(self.output, h)), dim=-1)

    def begin(self, h: Tensor, valid: Tensor | None = None) -> tuple[Memory, State]:
        """Compute once what the decoder needs of an utterance.

        Parameters
        ----------
        h : Tensor of shape (T, B, O)
            From `encode`.
        valid : bool Tensor of shape (T, B), optional
            Each row a prefix of True.

        Returns
        -------
        memory : tuple of Tensor, each (B, ...)
        state : State of B rows
        """
        assert self.decoder is not None
        return self.decoder.begin(h, valid)

    def step(
        self, tokens: Tensor, memory: Memory, state: State, with_attention: bool = False
    ) -> tuple[Tensor, Tensor | None, State]:
        """Let the decoder read one unit a row and give the log probabilities of the next one.

        Parameters
        ----------
        tokens : int64 Tensor of shape (N,)
            N = B · K, the K rows of an utterance beside each other.
        memory : tuple of Tensor, each (B, ...)
            From `begin`.
        state : State of N rows
        with_attention : bool
            Whether to give the weights on the steps.

        Returns
        -------
        log_probs : Tensor of shape (N, V)
            float64 where the parameters are, else float32.
        attention : Tensor of shape (N, T), or None
            Of the last layer that attends, averaged over heads; 0 on padding.
        state : State of N rows
        """
        y, attention, state = self._decoded(tokens.unsqueeze(0), memory, state, with_attention)
        scores = linear(y[0], self.embedding.weight, self.embedding_bias)
        log_probs = torch.log_softmax(wide(scores), dim=-1)
        return log_probs, None if attention is None else attention[0], state

    def cross_entropy(
        self,
        memory: Memory,
        state: State,
        units_in: Tensor,
        units_out: Tensor,
        valid: Tensor,
        smoothing: float = 0.0,
    ) -> tuple[Tensor, Tensor]:
        """What the decoder makes of known texts: :func:`seqsru.ops.cross_entropy.linear_cross_entropy`.

        Parameters
        ----------
        memory : tuple of Tensor, each (B, ...)
        state : State of N rows
            From `begin`, N = B · K.
        units_in : int64 Tensor of shape (U, N)
            The start symbol and the text.
        units_out : int64 Tensor of shape (U, N)
            The text and its end.
        valid : bool Tensor of shape (U, N)
            True on the units of `units_out`.
        smoothing : float
            Share of a unit's probability that is spread over all.

        Returns
        -------
        loss : Tensor of shape ()
        nll : Tensor of shape (U, N)
        """
        y, _, _ = self._decoded(units_in, memory, state)
        return linear_cross_entropy(
            y, self.embedding.weight, self.embedding_bias, units_out, valid=valid, smoothing=smoothing
        )

    def _decoded(
        self, units: Tensor, memory: Memory, state: State, with_attention: bool = False
    ) -> tuple[Tensor, Tensor | None, State]:
        """The decoder's output (U, N, E) for units (U, N), its attention, and its state."""
        assert self.decoder is not None
        x = self.embedding(units) * math.sqrt(self.embedding.embedding_dim)
        y, attention, state = self.decoder(x, memory, state, with_attention)
        return drop_features(y, self.output_dropout, self.training), attention, state

    @staticmethod
    def ctc_loss(log_probs: Tensor, valid: Tensor, targets: Tensor, target_valid: Tensor) -> Tensor:
        """Negative log probability of each target, natural logarithm.

        Parameters
        ----------
        log_probs : Tensor of shape (T, B, V + 1)
        valid : bool Tensor of shape (T, B)
        targets : int64 Tensor of shape (S, B)
        target_valid : bool Tensor of shape (S, B)

        Returns
        -------
        Tensor of shape (B,)
            Infinite where no T steps can write the target.
        """
        # On the CPU: torch's backward pass on a GPU adds up in an order that is not fixed, and a run that
        # goes on would not have the same bits.
        losses = functional.ctc_loss(
            log_probs.cpu(),
            targets.t().cpu(),
            valid.sum(0).cpu(),
            target_valid.sum(0).cpu(),
            blank=log_probs.shape[2] - 1,
            reduction="none",
        )
        return losses.to(log_probs.device)
