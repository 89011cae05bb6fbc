"""Which width gives a system a number of parameters: found by halving, as sizes grow with widths."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from seqsru.errors import Refused

WIDEST = 2**17
HOLE = 64  # multiples in a row that a model may not have, as where heads divide the width


@dataclass(frozen=True)
class Width:
    """A width and the parameters that it gives."""

    width: int
    parameters: int


def solved(size: Callable[[int], int], wanted: int, within: float, multiple: int, by: str) -> Width:
    """The width whose parameters come nearest to a number; of two as near the narrower one.

    Parameters
    ----------
    size : callable
        Gives the parameters of a width, more for a larger one, and refuses one that the model cannot have.
    wanted : int
        Parameters.
    within : float
        Share of them that the size may be off.
    multiple : int
        What the width is a multiple of.
    by : str
        What is solved for, for a refusal.

    Raises
    ------
    Refused
        No width comes near enough: with the nearest two; or no width can be had.
    """
    known: dict[int, int | None] = {}
    last: list[Refused] = []

    def at(step: int) -> int | None:
        """The parameters of a number of multiples, None where the model cannot have that width."""
        if step not in known:
            try:
                known[step] = size(step * multiple)
            except Refused as refusal:
                known[step] = None
                last[:] = [refusal]
        return known[step]

    low, high = _bracket(at, wanted, max(1, WIDEST // multiple))
    if all(one is None for one in known.values()) and all(at(step) is None for step in range(1, HOLE)):
        raise last[0]
    while high - low > 1:
        middle = (low + high) // 2
        found = at(middle)
        # Where a width cannot be had, the next larger one that can decides for it.
        step = middle
        while found is None and step + 1 < min(high, middle + HOLE):
            step += 1
            found = at(step)
        if found is not None and found <= wanted:
            low = step
        else:
            high = middle
    sizes = [Width(step * multiple, found) for step, found in sorted(known.items()) if found is not None]
    below = [one for one in sizes if one.parameters <= wanted][-1:]
    above = [one for one in sizes if one.parameters > wanted][:1]
    near = min([*below, *above], key=lambda one: (abs(one.parameters - wanted), one.width))
    if abs(near.parameters - wanted) <= within * wanted:
        return near
    nearest = " and ".join(f"{one.parameters:,} with {one.width}" for one in [*below, *above])
    raise Refused(
        f"{wanted:,} parameters within {100 * within:g} % for some {by}, a multiple of {multiple}",
        f"{nearest} as the nearest",
        "set count to one of these, or widen within",
    )


def _bracket(at: Callable[[int], int | None], wanted: int, most: int) -> tuple[int, int]:
    """A number of multiples that is too few, or 0, and one that is too many, or beyond the last."""
    low, high = 0, 1
    while high < most:
        found = at(high)
        if found is not None and found > wanted:
            return low, high
        low = high if found is not None else low
        high *= 2
    return low, min(high, most)
