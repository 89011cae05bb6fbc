"""The minimal LSTM: two gates that see the input alone and add up to 1, so the recurrence is linear."""

import math
from typing import get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from seqsru.cells.cell import Cell, State, gates, wide
from seqsru.cells.masks import zero_invalid
from seqsru.cells.mingru import positive
from seqsru.errors import check_at_least, check_known
from seqsru.ops import Backend, linear, linear_scan, pointwise


class MinLSTMCell(Cell):
    """minLSTM, with gates that are normalised.

    Feng, Tung, Ahmed, Bengio, Hajimirsadeghi, *Were RNNs All We Needed?*, 2024 (arXiv 2410.01201), section
    3.2. For all steps at once, then step by step::

        (1) f = sigmoid(k_f),  k_f = W_f x + b_f
        (2) i = sigmoid(k_i),  k_i = W_i x + b_i
        (3) n = g(W_h x + b_h),         g(a) = a + 1/2 where a >= 0, else sigmoid(a)
        (4) h = f / (f + i) h + i / (f + i) n

    The quotients of (4) are 0/0 where both gates are closed. So they are computed as sigmoid(d) and
    sigmoid(-d) of ``d = log f - log i = softplus(-k_i) - softplus(-k_f)``. The state is h, of shape (B, D), 0
    before the first step.

    Variables
    ---------
    ``weight`` (3·D, I), ``bias`` (3·D,): rows f, i, h; both U(±1/√I), as `torch.nn.Linear` draws them.

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
        self.weight = nn.Parameter(torch.empty(3 * hidden_size, input_size))
        self.bias = nn.Parameter(torch.empty(3 * hidden_size))
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
        product = linear(zero_invalid(x, valid), self.weight, self.bias)  # (T, B, 3·D)
        f, i, _ = gates(-product, 3)  # each (T, B, D)
        d = pointwise(functional.softplus, i) - pointwise(functional.softplus, f)
        _, _, n = gates(product, 3)
        h, last = linear_scan(
            pointwise(torch.sigmoid, d),
            pointwise(torch.sigmoid, -d) * positive(n),
            state[0],
            valid=valid,
            backend=self.backend,
        )
        return h.to(product.dtype), (last,)

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.output_size}"
