"""The quasi-recurrent cell: a causal convolution for all steps, then pooling by a linear recurrence."""

import math
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from seqsru.cells.cell import Cell, State, gates, wide
from seqsru.cells.history import extend, latest, windows
from seqsru.cells.masks import zero_invalid
from seqsru.errors import check_at_least, check_known, check_probability
from seqsru.ops import Backend, linear, linear_scan, pointwise

Pooling = Literal["f", "fo", "ifo"]


class QRNNCell(Cell):
    """Quasi-recurrent layer with f-, fo- or ifo-pooling.

    Section 2 of Bradbury, Merity, Xiong, Socher, *Quasi-Recurrent Neural Networks*, ICLR 2017 (arXiv
    1611.01576). For all steps at once, then step by step, ``*`` being a convolution of x_t to x_{t-k+1}::

        (1) z = tanh(W_z * x + b_z)
        (2) f = sigmoid(W_f * x + b_f)
        (3) o = sigmoid(W_o * x + b_o)                      fo and ifo
        (4) i = sigmoid(W_i * x + b_i)                      ifo, else 1 - f
        (5) f = 1 - m (1 - f)                               zoneout, in training; m is 0 with probability p
        (6) c = f c + i z
        (7) h = o c                                         c with f-pooling

    In (5) m is drawn for every element and not scaled; in evaluation it is its mean 1 - p (Krueger et al.
    2017, arXiv 1606.01305). With ifo-pooling zoneout acts on f alone. f is what is *kept*: the package
    ``torchqrnn`` calls its opposite F.

    The state is c, of shape (B, D), and with a window above 1 the last k - 1 inputs, (B, k - 1, I); before
    the first step both are 0.

    Variables
    ---------
    ``weight`` (n·D, k·I): rows z, f, o, i, as far as the pooling has them; columns x_t, x_{t-1}, ….
    ``bias`` (n·D,). Both U(±1/√(k·I)), as the authors' package draws them.

    Parameters
    ----------
    input_size : int
        I, features of the input.
    hidden_size : int
        D, features of the state and of the output.
    window : int
        k, inputs that a step sees, its own among them.
    pooling : {"f", "fo", "ifo"}
        Which gates there are.
    zoneout : float
        p, the probability that a feature keeps its state at a step.
    backend : {"auto", "reference", "cpu", "cuda"}
        What runs the recurrence; auto is the compiled kernel of the tensors' device.

    Raises
    ------
    Refused
        An option outside its values.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        window: int = 2,
        pooling: Pooling = "fo",
        zoneout: float = 0.0,
        backend: Backend = "auto",
    ) -> None:
        super().__init__()
        check_at_least(1, input_size=input_size, hidden_size=hidden_size, window=window)
        check_probability(zoneout=zoneout)
        check_known(get_args(Pooling), pooling=pooling)
        check_known(get_args(Backend), backend=backend)
        self.input_size = input_size
        self.output_size = self.hidden_size = hidden_size
        self.window = window
        self.pooling = pooling
        self.zoneout = zoneout
        self.backend = backend
        rows = (1 + len(pooling)) * hidden_size
        self.weight = nn.Parameter(torch.empty(rows, window * input_size))
        self.bias = nn.Parameter(torch.empty(rows))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw the parameters anew, as under *Variables*."""
        bound = 1.0 / math.sqrt(self.weight.shape[1])
        for parameter in (self.weight, self.bias):
            parameter.uniform_(-bound, bound)

    def initial_state(self, batch: int) -> State:
        """Return zeros (batch, D) and, with a window above 1, zeros (batch, window - 1, I)."""
        c = wide(self.bias.new_zeros(batch, self.hidden_size))
        if self.window == 1:
            return (c,)
        return c, self.bias.new_zeros(batch, self.window - 1, self.input_size)

    def forward(self, x: Tensor, state: State, valid: Tensor | None = None) -> tuple[Tensor, State]:
        """Run over time; see `Cell.forward`."""
        x, history = zero_invalid(x, valid), state[1:]
        if self.window > 1:
            extended = extend(history[0], x)
            x, history = windows(extended, self.window), (latest(extended, history[0], valid),)
        product = linear(x, self.weight, self.bias)  # (T, B, n·D)
        z, f, *others = gates(product, 1 + len(self.pooling))  # each (T, B, D)
        f = pointwise(torch.sigmoid, f)
        if self.zoneout:
            moves = 1.0 - self.zoneout
            f = 1.0 - (1.0 - f) * (torch.empty_like(f).bernoulli_(moves) if self.training else moves)
        i = pointwise(torch.sigmoid, others[1]) if self.pooling == "ifo" else 1.0 - f
        c, last = linear_scan(f, i * pointwise(torch.tanh, z), state[0], valid=valid, backend=self.backend)
        h = c if self.pooling == "f" else pointwise(torch.sigmoid, others[0]) * c
        return h.to(product.dtype), (last, *history)

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}, window={self.window}, pooling={self.pooling}"
