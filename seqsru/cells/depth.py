"""Cells one above the other: what a stack and a decoder share."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence

from seqsru.cells.cell import Cell, State
from seqsru.cells.registry import CELLS
from seqsru.errors import Refused, check_known, unknown

MOST_LAYERS = 10_000  # more would take hours to make, not to train


class CellKind:
    """A cell's name and options, from which the cell of every place is made.

    Parameters
    ----------
    cell : str
        Name in `CELLS`.
    options : mapping of str to object or None
        Options of the cell, without those that say where it is (`Cell.set_by_stack`).

    Attributes
    ----------
    masks_itself : bool
        Whether the cell gets the dropout and masks its own output path; others are masked from outside.

    Raises
    ------
    Refused
        An unknown cell or option, or an option that the place decides.
    """

    def __init__(self, cell: str, options: Mapping[str, object] | None) -> None:
        check_known(CELLS, cell=cell)
        self._make, self._options = CELLS[cell], dict(options or {})
        decided = self._make.set_by_stack
        for name in decided:
            if name in self._options:
                raise Refused(
                    f"options of cell '{cell}' without it, as it is decided for each layer and direction",
                    repr(self._options[name]),
                    "give it beside the options" if name == "dropout" else "leave it out",
                    name,
                )
        check_options(f"cell '{cell}'", self._make, self._options, ("input_size", "hidden_size", *decided))
        self.masks_itself = "dropout" in decided

    def made(
        self,
        input_size: int,
        hidden_size: int,
        *,
        dropout: float,
        layer: int,
        direction: int = 0,
        directions: int = 1,
    ) -> Cell:
        """Make the cell of one layer, counted from 0, and one of its directions."""
        place = {"dropout": dropout, "layer": layer, "slice": direction, "slices": directions}
        given = {option: place[option] for option in self._make.set_by_stack}
        return self._make(input_size, hidden_size, **self._options, **given)


def check_options(
    owner: str, make: Callable[..., object], options: Iterable[str], taken: Sequence[str]
) -> None:
    """Refuse an option that a registry entry does not have.

    Parameters
    ----------
    owner : str
        What the options are of: ``cell 'sru'``.
    make : callable
        The entry.
    options : iterable of str
        Names of what was given.
    taken : sequence of str
        Arguments that are no options.
    """
    known = [name for name in inspect.signature(make).parameters if name not in taken]
    for name in options:
        if name not in known:
            if not known:
                raise Refused(f"no option, as {owner} has none", repr(name), "leave it out", name)
            raise unknown(name, known, name, f"an option of {owner}")


def state_sizes(cells: Iterable[Cell]) -> list[int]:
    """Return how many tensors the state of each cell has."""
    return [len(cell.initial_state(1)) for cell in cells]


def initial_state(cells: Iterable[Cell], batch: int) -> State:
    """Return the state of all cells before the first step: cell by cell, then a cell's own tensors."""
    return tuple(tensor for cell in cells for tensor in cell.initial_state(batch))


def split_state(state: State, sizes: Iterable[int]) -> list[State]:
    """Return the state of each cell, from the state of all."""
    states, first = [], 0
    for size in sizes:
        states.append(state[first : first + size])
        first += size
    return states
