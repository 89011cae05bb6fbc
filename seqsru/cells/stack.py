"""Layers of cells: depth, two directions, dropout between layers and highways across them."""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Literal, cast, get_args

import torch
from torch import Tensor, nn

from seqsru.cells.cell import Cell, State
from seqsru.cells.depth import MOST_LAYERS, CellKind, initial_state, split_state, state_sizes
from seqsru.cells.masks import drop_features, zero_invalid
from seqsru.errors import Refused, check_at_least, check_at_most, check_known, check_probability
from seqsru.ops import apply_linear

Skips = Literal["none", "dense", "dense_output"]

_tells: ContextVar[bool] = ContextVar("tells", default=True)


@contextmanager
def trained_already() -> Iterator[None]:
    """Make modules whose weights come from a checkpoint: what matters to their training alone is not told."""
    before = _tells.set(False)
    try:
        yield
    finally:
        _tells.reset(before)


class Stack(nn.Module):
    """Recurrent layers of one kind, in one direction or two.

    For each layer, x being its input and y its output::

        (1) y = [cell(x) | reverse(cell'(reverse(x)))]      the second only with two directions
        (2) y = LayerNorm(y)                                with normalize_after
        (3) y = y * m                                       m (B, O), in training, for all layers but the last
        (4) y = y + x                                       with residual, for all layers but the first

    With dense skips a layer reads [x | y_1 | … | y_l], the input of the first one and what all before it gave
    (Huang et al. 2017; in language models Godin et al. 2017); with dense_output that is given out too.

    Reversal is by length: the second direction runs from each row's last valid step to its first. A cell that
    masks its own output path gets the dropout instead of (3). The cells of a layer's two directions share
    what belongs to the layer (`Cell.share`); a state dictionary holds such a tensor under both names.

    Variables
    ---------
    ``layers.{layer}.{direction}.*`` the cells'; ``norms.{layer}.weight``, ``norms.{layer}.bias`` (O,) with
    normalize_after; ``input_map.weight`` (O, I) with project_input, as `torch.nn.Linear` initialises it.

    Parameters
    ----------
    cell : str
        Name in `CELLS`.
    input_size : int
        I, features of the input.
    hidden_size : int
        D, features of one direction's state.
    num_layers : int
        Depth.
    bidirectional : bool
        Whether a second direction reads from the end; the output is then [forward | backward], O = 2·D, else
        O = D.
    dropout : float
        Probability that a feature of a layer's output is 0 for a whole sequence; none after the last layer,
        so of one layer nothing is dropped, and a warning says so.
    project_input : bool
        Whether a matrix maps the input to O features before the first layer.
    normalize_after : bool
        Whether a LayerNorm stands after each layer.
    norm_eps : float or None
        Epsilon of those LayerNorms; null is torch's own.
    residual : bool
        Whether each layer but the first adds its input to its output.
    skips : {"none", "dense", "dense_output"}
        What a layer reads: what the one before gave, or that beside all before it, which makes its matrices
        wider. dense_output: so does whoever reads the stack, in one direction only.
    options : mapping of str to object, optional
        Options of the cell.

    Attributes
    ----------
    input_size, output_size, num_layers, directions : int
    state_size : int
        Number of tensors in a state: layer by layer, direction by direction, then the cell's own.
    causal : bool
        Whether no output depends on a later input, as it must not in a decoder or a language model.

    Raises
    ------
    Refused
        An unknown cell or option, or one that the stack itself decides; a value out of range.
    """

    def __init__(
        self,
        cell: str,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        bidirectional: bool = False,
        dropout: float = 0.0,
        project_input: bool = False,
        normalize_after: bool = False,
        norm_eps: float | None = None,
        residual: bool = False,
        skips: Skips = "none",
        options: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__()
        kind = CellKind(cell, options)
        check_at_least(1, input_size=input_size, hidden_size=hidden_size, num_layers=num_layers)
        check_at_most(MOST_LAYERS, num_layers=num_layers)
        check_probability(dropout=dropout)
        if dropout and num_layers == 1 and _tells.get():
            found, do = f"dropout {dropout} of one layer, which drops nothing", "add layers, or leave it out"
            warnings.warn(str(Refused("dropout between layers", found, do)), UserWarning, stacklevel=2)
        if norm_eps is not None and not normalize_after:
            raise Refused(
                "a value only with normalize_after",
                f"{norm_eps} without it",
                "set normalize_after to true, or leave norm_eps out",
                "norm_eps",
            )
        check_known(get_args(Skips), skips=skips)
        if residual and skips != "none":
            do = "set one of them alone: a layer would read more features than it gives"
            raise Refused("none with residual", f"'{skips}'", do, "skips")
        if bidirectional and skips == "dense_output":
            do = "take dense, or set bidirectional to false"
            raise Refused("none or dense in two directions", f"'{skips}'", do, "skips")
        self.cell = cell
        self.input_size = input_size
        self.num_layers = num_layers
        self.directions = 2 if bidirectional else 1
        width = hidden_size * self.directions
        first = width if project_input else input_size
        self.output_size = width + (first + width * (num_layers - 1) if skips == "dense_output" else 0)
        self.residual, self.skips = residual, skips
        self.dropout = 0.0 if kind.masks_itself else dropout  # of step (3)
        self.input_map = nn.Linear(input_size, width, bias=False) if project_input else None
        self.layers = nn.ModuleList()
        self.norms = nn.ModuleList()
        for layer in range(num_layers):
            size = first if layer == 0 else width if skips == "none" else first + layer * width
            cells = [
                kind.made(
                    size,
                    hidden_size,
                    dropout=dropout if layer + 1 < num_layers else 0.0,
                    layer=layer,
                    direction=direction,
                    directions=self.directions,
                )
                for direction in range(self.directions)
            ]
            for other in cells[1:]:
                other.share(cells[0])
            self.layers.append(nn.ModuleList(cells))
            if normalize_after:
                norm = nn.LayerNorm(width)
                norm.eps = norm.eps if norm_eps is None else norm_eps
                self.norms.append(norm)
        self.state_sizes = state_sizes(self._cells())
        self.state_size = sum(self.state_sizes)
        self.causal = self.directions == 1 and all(made.causal for made in self._cells())

    def _cells(self) -> list[Cell]:
        """Give the cells in the order of the state."""
        return [cell for layer in self.layers for cell in cast("list[Cell]", layer)]

    def initial_state(self, batch: int) -> State:
        """Return the state before the first step, for ``batch`` rows."""
        return initial_state(self._cells(), batch)

    def forward(
        self,
        x: Tensor,
        state: State | None = None,
        valid: Tensor | None = None,
    ) -> tuple[Tensor, State]:
        """Run over time.

        Parameters
        ----------
        x : Tensor of shape (T, B, I)
            Inputs; T may be 0. Where ``valid`` is False they may hold anything, NaN included.
        state : State, optional
            What `initial_state` or the previous call returned; default the initial state.
        valid : bool Tensor of shape (T, B), optional
            True on real tokens; each row a prefix of True, possibly empty.

        Returns
        -------
        y : Tensor of shape (T, B, O)
            Outputs of the last layer, 0 at invalid steps.
        state : State
            Tensors of shape (B, ...): layer by layer, direction by direction, then the cell's own.

        Raises
        ------
        Refused
            Shapes that do not fit.
        """
        self._check(x, state, valid)
        if self.input_map is not None:
            x = apply_linear(self.input_map, zero_invalid(x, valid))  # (T, B, O)
        order: Tensor | None = None
        new: list[Tensor] = []
        if state is None:
            before = iter([cell.initial_state(x.shape[1]) for cell in self._cells()])
        else:
            before = iter(split_state(state, self.state_sizes))
        for layer, cells in enumerate(self.layers):
            first, *others = cast("list[Cell]", cells)
            states = [next(before), *(next(before) for _ in others)]
            both = first.beside(others[0], x, states, valid) if others else None
            if both is not None:
                y, last = both  # (T, B, O)
            else:
                y, last = first(x, states[0], valid)  # (T, B, D)
                for other in others:
                    order = _reversal(valid) if order is None and valid is not None else order
                    back, further = other(_reverse(x, order), states[1], valid)
                    y, last = torch.cat([y, _reverse(back, order)], dim=-1), (*last, *further)  # (T, B, O)
            new.extend(last)
            if len(self.norms):
                y = zero_invalid(self.norms[layer](y), valid)
            if layer + 1 < self.num_layers:
                y = drop_features(y, self.dropout, self.training)
            if self.skips == "dense_output" or self.skips == "dense" and layer + 1 < self.num_layers:
                x = torch.cat([x if layer else zero_invalid(x, valid), y], dim=-1)
            else:
                x = y + x if self.residual and layer else y
        return x, tuple(new)

    if TYPE_CHECKING:  # nn.Module's own says nothing about arguments and results
        __call__ = forward

    def _check(self, x: Tensor, state: State | None, valid: Tensor | None) -> None:
        if x.dim() != 3 or x.shape[2] != self.input_size:
            raise Refused(
                f"shape (T, B, {self.input_size})",
                str(tuple(x.shape)),
                "make the input_size of the stack the width of what it reads",
                "x",
            )
        if state is not None and len(state) != self.state_size:
            raise Refused(
                f"{self.state_size} tensors",
                str(len(state)),
                "pass what initial_state or forward of this stack returned",
                "state",
            )
        if state is not None and any(tensor.shape[0] != x.shape[1] for tensor in state):
            raise Refused(
                f"{x.shape[1]} rows as x has",
                str([tensor.shape[0] for tensor in state]),
                "pass the state of these rows",
                "state",
            )
        check_valid(valid, x)


def check_valid(valid: Tensor | None, x: Tensor) -> None:
    """Refuse a mask that is not in bool, or has other axes than x before its features."""
    if valid is not None and (valid.dtype != torch.bool or valid.shape != x.shape[:-1]):
        raise Refused(
            f"bool of shape {tuple(x.shape[:-1])} as x has",
            f"{str(valid.dtype).removeprefix('torch.')} of shape {tuple(valid.shape)}",
            "make it True on real tokens, in the layout of x",
            "valid",
        )


def _reversal(valid: Tensor) -> Tensor:
    """Return the indices (T·B,) that turn each row's valid steps around in a tensor of shape (T·B, ...)."""
    T, B = valid.shape
    steps = torch.arange(T, device=valid.device).unsqueeze(1)  # (T, 1)
    source = torch.where(valid, valid.sum(0) - 1 - steps, steps)  # (T, B)
    return (source * B + torch.arange(B, device=valid.device)).flatten()


def _reverse(x: Tensor, order: Tensor | None) -> Tensor:
    """Return x (T, B, ·) turned around in time, by length where an order from `_reversal` is given."""
    return x.flip(0) if order is None else x.flatten(0, 1).index_select(0, order).view(x.shape)
