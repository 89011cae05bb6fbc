"""The gated causal convolution: no recurrence, the yardstick of "as fast as a convolution"."""

import math

import torch
from torch import Tensor, nn

from seqsru.cells.cell import Cell, State
from seqsru.cells.history import extend, latest, windows
from seqsru.cells.masks import zero_invalid
from seqsru.errors import Refused, check_at_least
from seqsru.ops import linear, pointwise


class ConvCell(Cell):
    """Causal convolution with a gated linear unit.

    Dauphin, Fan, Auli, Grangier, *Language Modeling with Gated Convolutional Networks*, ICML 2017 (arXiv
    1612.08083), equation 1, without its weight normalisation. With ``*`` a convolution of x_t to x_{t-k+1}::

        (1) h = (W * x + b) sigmoid(V * x + c)

    The state is the last k - 1 inputs, (B, k - 1, I), 0 before the first step.

    Variables
    ---------
    ``weight`` (2·D, k·I): rows of W, then of V; columns x_t, x_{t-1}, …; N(0, 2/(k·I)), after He et al. 2015.
    ``bias`` (2·D,): b and c, 0.

    Parameters
    ----------
    input_size : int
        I, features of the input.
    hidden_size : int
        D, features of the output.
    window : int
        k, inputs that a step sees, its own among them; at least 2.

    Raises
    ------
    Refused
        A size or a window that is too small.
    """

    def __init__(self, input_size: int, hidden_size: int, *, window: int = 3) -> None:
        super().__init__()
        check_at_least(1, input_size=input_size, hidden_size=hidden_size)
        if window < 2:
            raise Refused("at least 2, as 1 sees no other step", str(window), "raise it", "window")
        self.input_size = input_size
        self.output_size = hidden_size
        self.window = window
        self.weight = nn.Parameter(torch.empty(2 * hidden_size, window * input_size))
        self.bias = nn.Parameter(torch.empty(2 * hidden_size))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw the parameters anew, as under *Variables*."""
        self.weight.normal_(0.0, math.sqrt(2.0 / self.weight.shape[1]))
        self.bias.zero_()

    def initial_state(self, batch: int) -> State:
        """Return zeros of shape (batch, window - 1, I)."""
        return (self.bias.new_zeros(batch, self.window - 1, self.input_size),)

    def forward(self, x: Tensor, state: State, valid: Tensor | None = None) -> tuple[Tensor, State]:
        """Run over time; see `Cell.forward`."""
        (history,) = state
        extended = extend(history, zero_invalid(x, valid))  # (k - 1 + T, B, I)
        product = linear(windows(extended, self.window), self.weight, self.bias)  # (T, B, 2·D)
        content, gate = product.chunk(2, dim=-1)
        h = content * pointwise(torch.sigmoid, gate)
        return zero_invalid(h, valid), (latest(extended, history, valid),)

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.output_size}, window={self.window}"
