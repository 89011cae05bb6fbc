"""The minimal gated unit: a GRU with one gate."""

import math

import torch
from torch import Tensor, nn

from seqsru.cells.cell import Cell, State, wide
from seqsru.cells.masks import zero_invalid
from seqsru.errors import check_at_least
from seqsru.ops import linear, mgu_loop, product_weight


class MGUCell(Cell):
    """Minimal gated unit.

    Zhou, Wu, Zhang, Zhou, *Minimal Gated Unit for Recurrent Neural Networks*, 2016 (arXiv 1603.09420). What
    the input contributes is computed for all steps at once; a step has two products with the state, one after
    the other::

        (1) f = sigmoid(W_f x + U_f h + b_f)
        (2) n = tanh(W_h x + U_h (f h) + b_h)
        (3) h = (1 - f) h + f n

    f is the share that is *replaced*. The state is h, of shape (B, D), 0 before the first step.

    Variables
    ---------
    ``weight`` (2·D, I), ``recurrent_weight`` (2·D, D), ``bias`` (2·D,): rows f, h; all U(±1/√D), as torch
    draws those of a GRU, with which it is compared.

    Parameters
    ----------
    input_size : int
        I, features of the input.
    hidden_size : int
        D, features of the state and of the output.
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        check_at_least(1, input_size=input_size, hidden_size=hidden_size)
        self.input_size = input_size
        self.output_size = hidden_size
        self.weight = nn.Parameter(torch.empty(2 * hidden_size, input_size))
        self.recurrent_weight = nn.Parameter(torch.empty(2 * hidden_size, hidden_size))
        self.bias = nn.Parameter(torch.empty(2 * hidden_size))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw the parameters anew, as under *Variables*."""
        bound = 1.0 / math.sqrt(self.output_size)
        for parameter in self.parameters():
            parameter.uniform_(-bound, bound)

    def initial_state(self, batch: int) -> State:
        """Return zeros of shape (batch, D), in float64 if the parameters are, else in float32."""
        return (wide(self.bias.new_zeros(batch, self.output_size)),)

    def forward(self, x: Tensor, state: State, valid: Tensor | None = None) -> tuple[Tensor, State]:
        """Run over time; see `Cell.forward`."""
        u = linear(zero_invalid(x, valid), self.weight, self.bias)  # (T, B, 2·D)
        h, last = mgu_loop(u, state[0], product_weight(self.recurrent_weight), valid=valid)
        return h, (last,)

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.output_size}"
