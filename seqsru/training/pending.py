"""Updates that were made and not yet looked at: what they gave is on the device, and looking waits for it."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

MOST = 4096  # numbers that wait for a look


class Made(NamedTuple):
    """An update whose numbers are on the device.

    Attributes
    ----------
    step : int
        Its number, from 1.
    epoch, first : int
        Its epoch, and the number of its first batch there.
    batches : tuple of int
        Numbers in the epoch of the batches that this process computed.
    tokens : int
        Targets of the whole update.
    nll : tuple of Tensor of shape ()
        Of each of these batches, summed.
    whole : Tensor of shape () or None
        Of the whole update, where processes share it.
    norm : Tensor of shape ()
        Of the gradient, before clipping.
    """

    step: int
    epoch: int
    batches: tuple[int, ...]
    tokens: int
    nll: tuple[Tensor, ...]
    whole: Tensor | None
    norm: Tensor


class Seen(NamedTuple):
    """An update as a look found it.

    Attributes
    ----------
    made : Made
    nll : float
        Of the whole update.
    norm : float
    wrong : tuple of int
        Of its batches those that the trouble may come from: the ones whose nll is not finite, else all.
    """

    made: Made
    nll: float
    norm: float
    wrong: tuple[int, ...]

    @property
    def finite(self) -> bool:
        """Whether the update was one; what is not finite was not made."""
        return math.isfinite(self.nll) and math.isfinite(self.norm)


class Pending:
    """What was not looked at yet."""

    def __init__(self) -> None:
        self._made: list[Made] = []
        self._numbers = 0

    def add(self, made: Made) -> None:
        """Keep an update for the next look."""
        self._made.append(made)
        self._numbers += len(made.nll)

    @property
    def full(self) -> bool:
        """Whether a look is due, so that memory has a bound."""
        return self._numbers >= MOST

    def look(self) -> list[Seen]:
        """Wait for the device once, and give what came since the last look, in order."""
        made, self._made, self._numbers = self._made, [], 0
        if not made:
            return []
        numbers = [
            t for one in made for t in (*one.nll, *(() if one.whole is None else (one.whole,)), one.norm)
        ]
        values = iter(torch.stack([t.double() for t in numbers]).tolist())
        seen = []
        for one in made:
            nlls = [next(values) for _ in one.nll]
            nll = 0.0
            for value in nlls:
                nll += value
            if one.whole is not None:
                nll = next(values)
            wrong = tuple(n for n, value in zip(one.batches, nlls) if not math.isfinite(value))
            seen.append(Seen(one, nll, next(values), wrong or one.batches))
        return seen
