"""The simpler simple recurrent unit: a forget gate, a candidate and a linear recurrence."""

import math
from typing import get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from seqsru.cells.cell import Cell, State, gates, wide
from seqsru.cells.masks import zero_invalid
from seqsru.errors import check_at_least, check_known
from seqsru.ops import Backend, linear, linear_scan, pointwise


class SSRUCell(Cell):
    """Simpler Simple Recurrent Unit, the layer of fast translation decoders.

    Kim, Junczys-Dowmunt, Hassan, Fikri Aji, Heafield, Grundkiewicz, Bogoychev, *From Research to Production
    and Back: Ludicrously Fast Neural Machine Translation*, WNGT 2019. For all steps at once, then step by
    step::

        (1) u, v = slices of W x
        (2) f = sigmoid(v + b)
        (3) c = f c + (1 - f) u
        (4) h = relu(c)

    There is neither a reset gate nor a highway; in the paper a residual connection and a LayerNorm stand
    around it, which are the `Stack`'s ``residual`` and ``normalize_after``. The state is c, of shape (B, D).

    Variables
    ---------
    ``weight`` (2·D, I): candidate, forget; each slice U(±√(6/(I + D))), after Glorot and Bengio 2010.
    ``bias`` (D,), of the forget gate: 0.

    Parameters
    ----------
    input_size : int
        I, features of the input.
    hidden_size : int
        D, features of the state and of the output.
    backend : {"auto", "reference", "cpu", "cuda"}
        What runs the recurrence; auto is the compiled kernel of the tensors' device.

    Raises
    ------
    Refused
        An option outside its values.
    """

    def __init__(self, input_size: int, hidden_size: int, *, backend: Backend = "auto") -> None:
        super().__init__()
        check_at_least(1, input_size=input_size, hidden_size=hidden_size)
        check_known(get_args(Backend), backend=backend)
        self.input_size = input_size
        self.output_size = hidden_size
        self.backend = backend
        self.weight = nn.Parameter(torch.empty(2 * hidden_size, input_size))
        self.bias = nn.Parameter(torch.empty(hidden_size))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw the parameters anew, as under *Variables*."""
        bound = math.sqrt(6.0 / (self.input_size + self.output_size))
        self.weight.uniform_(-bound, bound)
        self.bias.zero_()

    def initial_state(self, batch: int) -> State:
        """Return zeros of shape (batch, D), in float64 if the parameters are, else in float32."""
        return (wide(self.bias.new_zeros(batch, self.output_size)),)

    def forward(self, x: Tensor, state: State, valid: Tensor | None = None) -> tuple[Tensor, State]:
        """Run over time; see `Cell.forward`."""
        bias = functional.pad(self.bias, (self.output_size, 0))  # of the gate alone
        product = linear(zero_invalid(x, valid), self.weight, bias)  # (T, B, 2·D)
        u, f = gates(product, 2)  # each (T, B, D)
        f = pointwise(torch.sigmoid, f)
        c, last = linear_scan(f, (1.0 - f) * u, state[0], valid=valid, backend=self.backend)
        return torch.relu(c).to(product.dtype), (last,)

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.output_size}"
