"""The prototypical recurrent unit: one gate, and an output that is not the state."""

import math

import torch
from torch import Tensor, nn

from seqsru.cells.cell import Cell, State, wide
from seqsru.cells.masks import zero_invalid
from seqsru.errors import check_at_least
from seqsru.ops import linear, product_weight, pru_loop


class PRUCell(Cell):
    """Prototypical recurrent unit.

    Long, Zhang, Mao, *Prototypical Recurrent Unit*, 2016 (arXiv 1611.06530). The equations are from a
    secondary source, two public implementations that agree, and their output map is taken to be tanh. (The
    *Pyramidal* Recurrent Unit is another thing.) What the input contributes and the output are computed for
    all steps at once; a step has one product with the state::

        (1) n = tanh(W_n x + U_n s + b_n)
        (2) c = sigmoid(W_c x + U_c s + b_c)
        (3) s = c s + (1 - c) n
        (4) y = tanh(W_y s + b_y)

    c is the share that is *kept*. The state is s, of shape (B, D), 0 before the first step.

    Variables
    ---------
    ``weight`` (2·D, I), ``recurrent_weight`` (2·D, D), ``bias`` (2·D,): rows n, c. ``output_weight`` (D, D),
    ``output_bias`` (D,). All U(±1/√D), as torch draws those of a GRU, with which it is compared.

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
        self.output_weight = nn.Parameter(torch.empty(hidden_size, hidden_size))
        self.output_bias = nn.Parameter(torch.empty(hidden_size))
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
        s, last = pru_loop(u, state[0], product_weight(self.recurrent_weight), valid=valid)
        y = torch.tanh(linear(s, self.output_weight, self.output_bias))  # (T, B, D)
        return zero_invalid(y, valid), (last,)

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.output_size}"
