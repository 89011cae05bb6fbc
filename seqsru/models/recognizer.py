"""The recogniser: an encoder over frames, and a unit or nothing for each of its steps (CTC)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from seqsru.cells import Stack, State
from seqsru.cells.cell import wide
from seqsru.cells.masks import drop_features, zero_invalid
from seqsru.errors import check_at_least, check_probability
from seqsru.ops import apply_linear


class Recognizer(nn.Module):
    """Write down what is said, by connectionist temporal classification (Graves et al. 2006).

    1. ``h_t = encoder(x_1 ⊙ m_i … x_T ⊙ m_i)``     input dropout m_i (B, I)
    2. ``p_t = softmax(W (h_t ⊙ m_o) + b)``          output dropout m_o (B, O); V units, then the blank
    3. ``P(y) = Σ_a Π_t p_t[a_t]``                    each a being y with units repeated and blanks between

    Variables
    ---------
    ``encoder.*``; ``output.weight`` (V + 1, O) and ``output.bias`` (V + 1,), as `torch.nn.Linear` draws them.

    Parameters
    ----------
    input_size : int
        I, features of a step.
    vocabulary_size : int
        V.
    encoder : Stack
        What reads the steps; with one direction it streams.
    input_dropout : float
        Probability that a feature of the input is 0 for a whole utterance.
    output_dropout : float
        Probability that a feature of the encoder's output is 0 for a whole utterance.

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
        x = drop_features(zero_invalid(x, valid), self.input_dropout, self.training)
        h, state = self.encoder(x, state, valid)  # (T, B, O)
        h = drop_features(h, self.output_dropout, self.training)
        return torch.log_softmax(wide(apply_linear(self.output, h)), dim=-1), state

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
