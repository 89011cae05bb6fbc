"""What stands between a language model's stack and its output's weights: nothing, or several softmaxes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from seqsru.cells.cell import wide
from seqsru.cells.masks import drop_features
from seqsru.errors import check_at_least, check_at_most, check_probability
from seqsru.models.attention import init_uniform
from seqsru.ops import apply_linear

MOST_COMPONENTS = 1000


class Mixture(nn.Module):
    """A mixture of softmaxes, whose table of log probabilities may have any rank (Yang et al. 2018).

    1. ``l_k = tanh(L_k h + a_k) ⊙ m``       a latent for each of K components; dropout m (B, K·F)
    2. ``log π = log_softmax(P h)``          their priors
    3. ``p = Σ_k π_k softmax(W l_k + b)``    W and b being the output's, of all components

    The output's product and its softmax cost K times as much.

    Variables
    ---------
    ``latent.weight`` (K·F, O), ``latent.bias`` (K·F,), ``prior.weight`` (K, O); matrices start as
    U(±√(3/O)), the bias at 0.

    Parameters
    ----------
    input_size : int
        O, features of the stack's output.
    output_size : int
        F, features that the output's weights read.
    components : int
        K.
    dropout : float
        Probability that a feature of the latents is 0 over a whole window.

    Raises
    ------
    Refused
        An option outside its range.
    """

    def __init__(
        self, input_size: int, output_size: int, *, components: int = 5, dropout: float = 0.0
    ) -> None:
        super().__init__()
        check_at_least(1, components=components)
        check_at_most(MOST_COMPONENTS, components=components)
        check_probability(dropout=dropout)
        self.components, self.dropout = components, dropout
        self.latent = nn.Linear(input_size, components * output_size)
        self.prior = nn.Linear(input_size, components, bias=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weights anew."""
        init_uniform(self.latent.weight)
        init_uniform(self.prior.weight)
        nn.init.zeros_(self.latent.bias)

    def forward(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """Latents (..., K, F) and log priors (..., K) for the stack's output (..., O)."""
        latent = torch.tanh(apply_linear(self.latent, h))
        if h.dim() == 3:  # (T, B, O)
            latent = drop_features(latent, self.dropout, self.training)
        log_prior = torch.log_softmax(wide(apply_linear(self.prior, h)), dim=-1)
        return latent.reshape(*h.shape[:-1], self.components, -1), log_prior

    if TYPE_CHECKING:  # nn.Module's own says nothing about arguments and results
        __call__ = forward


def softmax(input_size: int, output_size: int) -> None:
    """One softmax, of the output's product alone.

    Parameters
    ----------
    input_size : int
        O, features of the stack's output.
    output_size : int
        F, features that the output's weights read.
    """


OUTPUTS: dict[str, Callable[..., Mixture | None]] = {"softmax": softmax, "mixture": Mixture}
