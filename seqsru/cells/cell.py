"""The contract of a cell: one recurrent layer, in one direction, forward in time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

State = tuple[Tensor, ...]


class Cell(nn.Module, ABC):
    """One recurrent layer, in one direction, forward in time.

    A cell is made as ``CELLS[name](input_size, hidden_size, **options)``, every option a named argument with
    a default and an annotation, so that settings are checked against the signature. A step is a call with one
    time step.

    Attributes
    ----------
    input_size : int
        I, features of the input.
    output_size : int
        O, features of the output.
    set_by_stack : tuple of str
        Class attribute: the options that say where in a stack the cell is, which its `Stack` or decoder
        gives it. With ``dropout`` the cell masks its own output path, and gets the stack's dropout, 0 in the
        last layer; the outputs of other cells the stack masks itself. With ``slice`` and ``slices`` its
        highway carries one of so many equal slices of its input; each direction has its own. ``layer`` is
        counted from 0.
    causal : bool
        Whether no output depends on a later input; only such a cell streams, and decodes.
    """

    input_size: int
    output_size: int
    set_by_stack: ClassVar[tuple[str, ...]] = ()
    causal: bool = True

    @abstractmethod
    def initial_state(self, batch: int) -> State:
        """Return the state before the first step: tensors (batch, ...), placed and typed like parameters."""

    @abstractmethod
    def forward(self, x: Tensor, state: State, valid: Tensor | None = None) -> tuple[Tensor, State]:
        """Run over time.

        Parameters
        ----------
        x : Tensor of shape (T, B, I)
            Inputs; T may be 0. Where ``valid`` is False they may hold anything, NaN included.
        state : State
            What `initial_state` or the previous call returned.
        valid : bool Tensor of shape (T, B), optional
            True on real tokens; each row a prefix of True, possibly empty. An invalid step outputs 0 and
            leaves the state as it is.

        Returns
        -------
        y : Tensor of shape (T, B, O)
        state : State
            Same shapes and dtypes as the one given.
        """

    if TYPE_CHECKING:  # nn.Module's own says nothing about arguments and results
        __call__ = forward

    def share(self, other: Cell) -> None:
        """Adopt what belongs to a layer, not to one direction of it, from the cell of the other direction.

        Most cells have none, and keep this method.
        """

    def beside(
        self, other: Cell, x: Tensor, states: Sequence[State], valid: Tensor | None
    ) -> tuple[Tensor, State] | None:
        """Run both directions of a layer at once, where that takes less than one after the other.

        Parameters
        ----------
        other : Cell
            That of the second direction, of the same class.
        x, valid
            As of `forward`, both forward in time.
        states : sequence of State
            Of the two.

        Returns
        -------
        (y, state) or None
            y (T, B, 2·O), the outputs side by side and forward in time, and the states one after the other;
            None where they are to run one after the other, as most cells always do.
        """
        return None


def wide(tensor: Tensor) -> Tensor:
    """Return a tensor in the dtype that recurrences compute in: float64 stays, all else is float32.

    A forget gate near 1 rounded to bfloat16 is 1, or forgets within 256 steps: gates are never that narrow.
    """
    dtype = tensor.dtype
    return tensor if dtype is torch.float32 or dtype is torch.float64 else tensor.float()


def gates(product: Tensor, count: int) -> tuple[Tensor, ...]:
    """Return so many slices (T, B, D) of a product (T, B, count · D), wide."""
    return wide(product).chunk(count, dim=-1)
