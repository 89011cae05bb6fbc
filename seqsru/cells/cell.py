"""The contract of a cell: one recurrent layer, in one direction, forward in time."""
from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

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
    masks_output : bool
        Class attribute: the cell takes ``dropout`` and masks its own output path. `Stack` gives it the
        dropout for every layer but the last; it masks the outputs of other cells itself.
    carries_slice : bool
        Class attribute: the cell takes ``slice`` and ``slices``, which of how many equal slices of its input
        its highway carries. `Stack` gives each direction its own.
    """

    input_size: int
    output_size: int
    masks_output: ClassVar[bool] = False
    carries_slice: ClassVar[bool] = False

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

    def share(self, other: Cell) -> None:
        """Adopt what belongs to a layer, not to one direction of it, from the cell of the other direction.

        Most cells have none, and keep this method.
        """


def zero_invalid(x: Tensor, valid: Tensor | None) -> Tensor:
    """Return x (T, B, D) with 0 where valid (T, B) is False, so that what it held there reaches nothing."""
    return x if valid is None else x.masked_fill(~valid.unsqueeze(-1), 0.0)


def shared_mask(p: float, like: Tensor, *shape: int) -> Tensor:
    """Return a dropout mask of this shape and of `like`'s type: 0 with probability p, else 1/(1−p).

    Drawn once a forward call and broadcast over time (Gal and Ghahramani 2016, arXiv 1512.05287).
    """
    return like.new_empty(shape).bernoulli_(1.0 - p).div_(1.0 - p)


def check_sizes(name: str, **sizes: int) -> None:
    """Raise a ValueError unless every size is a whole number of at least 1."""
    for size, value in sizes.items():
        if value < 1:
            raise ValueError(f"{name}: expected {size} of at least 1, found {value}; give a number of "
                             f"features or layers.")


def check_probability(name: str, **probabilities: float) -> None:
    """Raise a ValueError unless every dropout probability is from 0 to below 1."""
    for option, p in probabilities.items():
        if not 0.0 <= p < 1.0:
            raise ValueError(f"{name}: expected {option} from 0 to below 1, found {p}; give the share of "
                             f"features to drop.")
