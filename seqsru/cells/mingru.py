"""The minimal GRU: gate and candidate see the input alone, so the recurrence is linear."""

import math
from typing import get_args

import torch
from torch import Tensor, nn

from seqsru.cells.cell import Cell, State, gates, wide
from seqsru.cells.masks import zero_invalid
from seqsru.errors import check_at_least, check_known
from seqsru.ops import Backend, linear, linear_scan, pointwise


class MinGRUCell(Cell):
    """minGRU.

    Feng, Tung, Ahmed, Bengio, Hajimirsadeghi, *Were RNNs All We Needed?*, 2024 (arXiv 2410.01201), section
    3.1 and, for g, the appendix on the log-space form. For all steps at once, then step by step::

        (1) z = sigmoid(W_z x + b_z)
        (2) n = g(W_h x + b_h),         g(a) = a + 1/2 where a >= 0, else sigmoid(a)
        (3) h = (1 - z) h + z n

    g keeps the state positive, which the paper's log-space scan needs; with factors 1 - z from 0 to 1 the
    scan is stable in real space too, where it runs here. The state is h, of shape (B, D), 0 before the first
    step.

    Variables
    ---------
    ``weight`` (2·D, I), ``bias`` (2·D,): rows z, h; both U(±1/√I), as `torch.nn.Linear` draws them.

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
        self.bias = nn.Parameter(torch.empty(2 * hidden_size))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw the parameters anew, as under *Variables*."""
        bound = 1.0 / math.sqrt(self.input_size)
        for parameter in (self.weight, self.bias):
            parameter.uniform_(-bound, bound)

    def initial_state(self, batch: int) -> State:
        """Return zeros of shape (batch, D), in float64 if the parameters are, else in float32."""
        return (wide(self.bias.new_zeros(batch, self.output_size)),)

    def forward(self, x: Tensor, state: State, valid: Tensor | None = None) -> tuple[Tensor, State]:
        """Run over time; see `Cell.forward`."""
        product = linear(zero_invalid(x, valid), self.weight, self.bias)  # (T, B, 2·D)
        z, n = gates(product, 2)  # each (T, B, D)
        z = pointwise(torch.sigmoid, z)
        h, last = linear_scan(1.0 - z, z * positive(n), state[0], valid=valid, backend=self.backend)
        return h.to(product.dtype), (last,)

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.output_size}"


def positive(a: Tensor) -> Tensor:
    """Return g(a) of equation 2: continuous, rising, above 0."""
    return torch.where(a >= 0, a + 0.5, pointwise(torch.sigmoid, a))
