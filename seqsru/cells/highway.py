"""What the SRU and the SRU++ share: all but their product, the recurrence and its highway above all."""

import math
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from seqsru.cells.cell import Cell, wide
from seqsru.cells.masks import drop_features, dropout_mask
from seqsru.errors import Refused, check_at_least, check_known, check_probability
from seqsru.ops import Activation, Backend, product_dtype, product_scan, scans_both, sru_scan
from seqsru.ops.watchers import hooked

Highway = Literal["auto", "identity", "project", "none"]


class HighwayCell(Cell):
    """A cell with equations (1) and (3) to (6) of `seqsru.cells.sru.SRUCell` around a product of its own.

    Variables
    ---------
    ``layer_norm.weight``, ``layer_norm.bias`` (I,); and what `add_weights` adds: ``weight`` (k·D, P), which
    the cell itself draws, ``v`` (2, D), too, ``bias`` (2, D): 0 and highway_bias. ``_extra_state`` (1,):
    alpha, √(1 + 2·exp(highway_bias)) with rescale and a highway, else 1. It is saved because imported weights
    bring their own.

    Parameters
    ----------
    input_size, hidden_size, highway, slice, slices, highway_bias, rescale, dropout, input_dropout
        As in `SRUCell`.
    layer_norm, backend
        As in `SRUCell`.

    Attributes
    ----------
    highway : {"identity", "project", "none"}
        What auto has become.
    k : int
        Slices of the product.
    scale : float
        alpha.
    """

    weight: nn.Parameter
    v: nn.Parameter | None
    bias: nn.Parameter

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        highway: Highway,
        slice: int,
        slices: int,
        highway_bias: float,
        rescale: bool,
        dropout: float,
        input_dropout: float,
        layer_norm: bool,
        backend: Backend,
    ) -> None:
        super().__init__()
        check_at_least(1, input_size=input_size, hidden_size=hidden_size, slices=slices)
        check_probability(dropout=dropout, input_dropout=input_dropout)
        check_known(get_args(Highway), highway=highway)
        check_known(get_args(Backend), backend=backend)
        most = 80.0 if rescale else 1000.0  # beyond, its exponential is no float32, or no gate ever moves
        if not -1000 <= highway_bias <= most:
            raise Refused(f"from -1000 to {most:g}", str(highway_bias), "0 is common", "highway_bias")
        if not 0 <= slice < slices:
            raise Refused(f"from 0 to {slices - 1}", str(slice), "slices counts them all", "slice")
        fits = input_size == slices * hidden_size
        if highway == "auto":
            highway = "identity" if fits else "project"
        if highway == "identity" and not fits:
            raise Refused(
                f"input_size = slices * hidden_size = {slices * hidden_size} for an identity highway",
                str(input_size),
                "use highway 'project' or 'auto'",
                "highway",
            )
        if rescale and highway == "none":
            raise Refused("a highway to scale", "highway 'none'", "set rescale to false", "rescale")
        self.input_size = input_size
        self.output_size = self.hidden_size = hidden_size
        self.highway = highway
        self.slice, self.slices = slice, slices
        self.highway_bias = highway_bias
        self.rescale = rescale
        self.dropout = dropout
        self.input_dropout = input_dropout
        self.backend = backend
        self.scale = 1.0
        self.k = 4 if highway == "project" else 3
        self.layer_norm = nn.LayerNorm(input_size) if layer_norm else None

    def add_weights(self, columns: int, *, with_v: bool = True) -> None:
        """Add the parameters of the recurrence, after those that the cell has already."""
        self.weight = nn.Parameter(torch.empty(self.k * self.hidden_size, columns))
        self.v = nn.Parameter(torch.empty(2, self.hidden_size)) if with_v else None
        self.bias = nn.Parameter(torch.empty(2, self.hidden_size))

    @torch.no_grad()
    def reset_highway(self) -> None:
        """Set alpha, the biases and the LayerNorm to what *Variables* says."""
        self.scale = math.sqrt(1.0 + 2.0 * math.exp(self.highway_bias)) if self.rescale else 1.0
        self.bias[0].zero_()
        self.bias[1].fill_(self.highway_bias)
        if self.layer_norm is not None:
            self.layer_norm.reset_parameters()

    def initial_c(self, batch: int) -> Tensor:
        """Return zeros of shape (batch, D), in float64 if the parameters are, else in float32."""
        return wide(self.bias.new_zeros(batch, self.hidden_size))

    def read(self, x: Tensor) -> Tensor:
        """Return what the product sees of x (T, B, I), equation (1)."""
        return drop_features(
            x if self.layer_norm is None else self.layer_norm(x), self.input_dropout, self.training
        )

    def recur(
        self,
        x: Tensor,
        product: Tensor | None,
        c: Tensor,
        valid: Tensor | None,
        activation: Activation = "identity",
        other: "HighwayCell | None" = None,
    ) -> tuple[Tensor, Tensor]:
        """Run equations (3) to (6).

        Parameters
        ----------
        x : Tensor of shape (T, B, I)
            Inputs, 0 where they are invalid.
        product : Tensor of shape (T, B, k·D) or None
            Its slices are u0, u1, u2 and, with a projected highway, u3. None is that of `stacked` and x.
        c : Tensor of shape (B, D)
            State before the first step.
        valid : bool Tensor of shape (T, B) or None
            True on real tokens.
        activation : {"identity", "tanh", "relu"}
            g.
        other : HighwayCell or None
            That of the second direction, whose features are in the product, the state and the results beside
            those of this.

        Returns
        -------
        h : Tensor of shape (T, B, D)
        c : Tensor of shape (B, D)
        """
        D, first = self.hidden_size, self.slice * self.hidden_size
        carries, mask = self.highway == "identity", None
        if self.training and self.dropout:
            like = x.new_empty(0, dtype=product_dtype(self.weight)) if product is None else product
            mask = dropout_mask(self.dropout, like, x.shape[1], D)  # (B, D)
            if other is not None:
                mask = torch.cat([mask, dropout_mask(self.dropout, like, x.shape[1], D)], 1)
        v: Tensor | None = self.v
        b: Tensor = self.bias
        if other is not None:
            v = None if v is None or other.v is None else torch.cat([v, other.v], 1)
            b, D = torch.cat([b, other.bias], 1), 2 * D
        v, b = None if v is None else wide(v), wide(b)
        scale = self.scale if carries else 1.0
        if product is None:
            return product_scan(
                x,
                self.stacked(other),
                c,
                v,
                b,
                highway=first if carries else None,
                directions=1 if other is None else 2,
                mask=mask,
                valid=valid,
                activation=activation,
                scale=scale,
                backend=self.backend,
            )
        slices = (self.k, D) if other is None else (2, self.k, self.hidden_size)
        u = product.view(*product.shape[:-1], *slices)  # (T, B, k, D) or (T, B, 2, k, D/2)
        return sru_scan(
            u,
            x.narrow(2, first, D).to(u.dtype) if carries else None,  # (T, B, D)
            c,
            v,
            b,
            mask=mask,
            valid=valid,
            activation=activation,
            scale=scale,
            backend=self.backend,
        )

    def stacked(self, other: "HighwayCell | None") -> Tensor:
        """Return the weight, above that of the other direction."""
        return self.weight if other is None else torch.cat([self.weight, other.weight])

    def runs_beside(self, other: "HighwayCell", x: Tensor) -> bool:
        """Say whether the directions of a layer are alike, read the same, and take less at once."""
        alike = (
            self.layer_norm is other.layer_norm,
            self.dropout == other.dropout,
            self.scale == other.scale,
        )
        carried = self.highway != "identity" or (self.slice, other.slice, self.slices) == (0, 1, 2)
        return (
            scans_both(x, self.backend)
            and all(alike)
            and carried
            and (self.highway, self.k, self.backend) == (other.highway, other.k, other.backend)
            and (self.v is None) == (other.v is None)
            and not (self.training and self.input_dropout)  # of which each draws its own
            and self.training == other.training
            and not hooked(self)
            and not hooked(other)
        )

    def get_extra_state(self) -> Tensor:
        """Return alpha as a tensor of shape (1,), for the state dictionary."""
        return torch.tensor([self.scale], dtype=torch.float64)

    def set_extra_state(self, state: Tensor) -> None:
        """Take alpha from a state dictionary."""
        self.scale = float(state)
