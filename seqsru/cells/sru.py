"""The SRU cell: one matrix product for all steps, then an elementwise recurrence."""

import math
from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from seqsru.cells.cell import Cell, State
from seqsru.cells.highway import Highway, HighwayCell
from seqsru.cells.masks import zero_invalid
from seqsru.errors import check_at_least, check_known
from seqsru.ops import Activation, Backend, linear

Version = Literal[1, 2]


class SRUCell(HighwayCell):
    """Simple Recurrent Unit, versions 1 and 2.

    Lei, Zhang, Wang, Dai, Artzi, *Simple Recurrent Units for Highly Parallelizable Recurrence*, EMNLP 2018
    (arXiv 1709.02755). For all steps at once, then step by step::

        (1) x^ = LayerNorm(x) * m_i                     only the product sees these two
        (2) u0, u1, u2 (, u3) = slices of W x^          or W P x^ with a projection
        (3) f = sigmoid(u1 + v_f * c + b_f)             forget gate
        (4) r = sigmoid(u2 + v_r * c + b_r)             reset gate, from the same c of the step before
        (5) c = (c - u0) * f + u0
        (6) h = x' + (g(c) - x') * m * r                x' is alpha * x, or u3, or 0

    Version 1 has no v. In training the masks m_i (input_dropout) and m (dropout) are drawn once a call.

    Variables
    ---------
    ``weight`` (k·D, I), or (k·D, P) with a projection: k slices of D rows, u0 to u2 and, with a projected
    highway, u3. U(±√(3/I)), that is variance 1/I (1/P); then u0 × √(1−dropout), all × √(1−input_dropout), all
    × 0.1 with layer_norm, u3 × alpha, and in version 2 u1 and u2 × √½.
    ``projection`` (P, I): U(±√(3/I)). ``layer_norm.weight``, ``layer_norm.bias`` (I,). Two directions of a
    layer share these three.
    ``v`` (2, D), version 2 only: forget, reset; U(±√1.5), that is variance ½.
    ``bias`` (2, D): forget, reset; 0 and highway_bias.
    ``_extra_state`` (1,): alpha, √(1 + 2·exp(highway_bias)) with rescale and a highway, else 1. It is saved
    because imported weights bring their own.

    Parameters
    ----------
    input_size : int
        I, features of the input.
    hidden_size : int
        D, features of the state and of the output.
    version : 1 or 2
        Whether the gates read the state (2) or not (1).
    highway : {"auto", "identity", "project", "none"}
        What x' is: a slice of the input, the fourth slice of the product, or nothing. auto is identity where
        the input has the size for it, else project.
    slice : int
        Which slice of the input the identity highway carries, counted from 0; each direction has its own.
    slices : int
        Number of slices of the input; an identity highway needs input_size = slices · hidden_size.
    activation : {"identity", "tanh", "relu"}
        g, applied to the state on its way out.
    highway_bias : float
        Initial bias of the reset gate; below 0 the layer first carries its input.
    rescale : bool
        Whether the highway is scaled so that, at the start, output and input have the same variance.
    dropout : float
        Probability that a feature of g(c) is 0 for a whole sequence; the highway is not masked.
    input_dropout : float
        Probability that a feature of the product's input is 0 for a whole sequence.
    layer_norm : bool
        Whether a LayerNorm stands before the product.
    projection_size : int
        P, the width the input is first projected to; 0 is no projection.
    backend : {"auto", "reference", "cpu", "cuda"}
        What runs the recurrence; auto is the compiled kernel of the tensors' device.

    Raises
    ------
    Refused
        An option outside its values, or options that do not go together.
    """

    set_by_stack = ("dropout", "slice", "slices")

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        version: Version = 2,
        highway: Highway = "auto",
        slice: int = 0,
        slices: int = 1,
        activation: Activation = "identity",
        highway_bias: float = 0.0,
        rescale: bool = False,
        dropout: float = 0.0,
        input_dropout: float = 0.0,
        layer_norm: bool = False,
        projection_size: int = 0,
        backend: Backend = "auto",
    ) -> None:
        super().__init__(
            input_size,
            hidden_size,
            highway=highway,
            slice=slice,
            slices=slices,
            highway_bias=highway_bias,
            rescale=rescale,
            dropout=dropout,
            input_dropout=input_dropout,
            layer_norm=layer_norm,
            backend=backend,
        )
        check_known(get_args(Version), version=version)
        check_known(get_args(Activation), activation=activation)
        check_at_least(0, projection_size=projection_size)
        self.version = version
        self.activation = activation
        self.projection = nn.Parameter(torch.empty(projection_size, input_size)) if projection_size else None
        self.add_weights(projection_size or input_size, with_v=version == 2)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw the parameters anew, as under *Variables*."""
        self.reset_highway()
        for matrix in (self.projection, self.weight):
            if matrix is not None:
                bound = math.sqrt(3.0 / matrix.shape[1])
                matrix.uniform_(-bound, bound)
        slices = self.weight.view(self.k, self.hidden_size, -1)
        slices[0].mul_(math.sqrt(1.0 - self.dropout))
        slices.mul_(math.sqrt(1.0 - self.input_dropout))
        if self.layer_norm is not None:
            slices.mul_(0.1)
        if self.highway == "project":
            slices[3].mul_(self.scale)
        if self.v is not None:
            slices[1:3].mul_(math.sqrt(0.5))
            self.v.uniform_(-math.sqrt(1.5), math.sqrt(1.5))

    def share(self, other: Cell) -> None:
        """Adopt the LayerNorm and the projection of the cell of the other direction."""
        assert isinstance(other, SRUCell)
        self.layer_norm = other.layer_norm
        self.projection = other.projection

    def initial_state(self, batch: int) -> State:
        """Return zeros of shape (batch, D), in float64 if the parameters are, else in float32."""
        return (self.initial_c(batch),)

    def forward(self, x: Tensor, state: State, valid: Tensor | None = None) -> tuple[Tensor, State]:
        """Run over time; see `Cell.forward`. The state is c, of shape (B, D)."""
        h, c = self._run(x, state[0], valid, None)
        return h, (c,)

    def beside(
        self, other: Cell, x: Tensor, states: Sequence[State], valid: Tensor | None
    ) -> tuple[Tensor, State] | None:
        """Run both directions as one product and one scan, on a GPU; see `Cell.beside`."""
        if type(self) is not SRUCell or type(other) is not SRUCell:
            return None  # whose `forward` may do more
        if self.projection is not other.projection or self.activation != other.activation:
            return None
        if not self.runs_beside(other, x):
            return None
        h, c = self._run(x, torch.cat([states[0][0], states[1][0]], 1), valid, other)
        return h, c.chunk(2, 1)

    def _run(
        self, x: Tensor, c: Tensor, valid: Tensor | None, other: "SRUCell | None"
    ) -> tuple[Tensor, Tensor]:
        """Run over time, alone or with the other direction, from a state to a state."""
        x = zero_invalid(x, valid)
        read = self.read(x)  # (T, B, I)
        if self.projection is not None:
            read = linear(read, self.projection)  # (T, B, P)
        product = None if read is x else linear(read, self.stacked(other))
        return self.recur(x, product, c, valid, self.activation, other)

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}, version={self.version}, highway={self.highway}"
