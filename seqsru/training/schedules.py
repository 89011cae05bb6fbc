"""Learning rates over time, by name."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

from seqsru.errors import check_at_least, check_at_most, check_known, check_share

MOST = 1_000_000_000_000  # of what is counted in updates, a hundred thousand years of them


class Position(NamedTuple):
    """Where in training an update stands.

    Attributes
    ----------
    step : int
        Number of the update about to be made, from 1.
    epoch : int
        Number of the epoch it belongs to, from 1.
    total_steps : int
        Number of updates in the whole training; 0 for a schedule that does not say that it needs it.
    share : float
        Share of its time that training has used, from 0 to 1; 0 for a schedule that needs none.
    """

    step: int
    epoch: int
    total_steps: int
    share: float = 0.0


class Schedule(ABC):
    """A learning rate as a function of the position, and for `plateau` of what validation found.

    Attributes
    ----------
    needs_total : bool
        Whether `rate` reads `Position.total_steps`. Such a run cannot go on to another end than the one that
        it began with: the rates of its past would have been others.
    needs_time : bool
        The same of `Position.share`, and of the time that training may take.
    """

    needs_total: bool = False
    needs_time: bool = False

    @abstractmethod
    def rate(self, at: Position) -> float:
        """Learning rate of the update at this position."""

    def observe(self, improved: bool) -> None:  # noqa: B027 (most schedules need no note)
        """Take note of a validation; only `plateau` does."""

    def record(self) -> dict[str, float]:
        """What `observe` has changed, for a checkpoint."""
        return {}

    def load_record(self, record: Mapping[str, float]) -> None:  # noqa: B027
        """Take back what `record` gave."""


class Constant(Schedule):
    """The peak, after a linear rise.

    Parameters
    ----------
    peak : float
        The optimizer's learning rate.
    warmup : int
        Updates over which the rate rises linearly to the peak.
    """

    def __init__(self, peak: float, *, warmup: int = 0) -> None:
        check_at_least(0, warmup=warmup)
        check_at_most(MOST, warmup=warmup)
        self.peak, self.warmup = peak, warmup

    def rate(self, at: Position) -> float:
        return self.peak * _rise(at.step, self.warmup)


class InverseSqrt(Schedule):
    """Linear to the peak over w updates, then ``peak·√(w/t)`` at update t.

    Parameters
    ----------
    peak : float
        The optimizer's learning rate.
    warmup : int
        w, at least 1.
    """

    def __init__(self, peak: float, *, warmup: int = 4000) -> None:
        check_at_least(1, warmup=warmup)
        check_at_most(MOST, warmup=warmup)
        self.peak, self.warmup = peak, warmup

    def rate(self, at: Position) -> float:
        return self.peak * min(at.step / self.warmup, math.sqrt(self.warmup / at.step))


class Noam(Schedule):
    """``lr·d^−½·min(t^−½, t·w^−1.5)`` (Vaswani et al. 2017).

    Here the optimizer's rate is a factor, not the peak.

    Parameters
    ----------
    peak : float
        The optimizer's learning rate, lr of the formula (1 or 2 in the recipes that use it).
    warmup : int
        w, at least 1.
    width : int
        d, the model's width.
    """

    def __init__(self, peak: float, *, warmup: int = 4000, width: int = 512) -> None:
        check_at_least(1, warmup=warmup, width=width)
        check_at_most(MOST, warmup=warmup)
        check_at_most(1_000_000, width=width)
        self.factor, self.warmup, self.width = peak, warmup, width

    def rate(self, at: Position) -> float:
        rate: float = self.factor * self.width**-0.5 * min(at.step**-0.5, at.step * self.warmup**-1.5)
        return rate


class Cosine(Schedule):
    """Linear to the peak over w updates, then half a cosine down to the floor at the last update.

    ``floor·peak + (1 − floor)·peak·½(1 + cos(π(t − w)/(total − w)))`` at update t > w. Over the time, s being
    the share of it that is used, ``peak·min(1, t/w)·(floor + (1 − floor)·½(1 + cos(π s)))``.

    Parameters
    ----------
    peak : float
        The optimizer's learning rate.
    warmup : int
        w.
    floor : float
        Share of the peak that is left at the end.
    over : {"updates", "time"}
        What the cosine goes over: all updates, or the time of training.max_minutes or max_processor_minutes,
        so that a slow model has the whole of it as a fast one has. No two trainings have the same bits then.
    """

    needs_total = True

    def __init__(
        self,
        peak: float,
        *,
        warmup: int = 0,
        floor: float = 0.0,
        over: Literal["updates", "time"] = "updates",
    ) -> None:
        check_at_least(0, warmup=warmup)
        check_at_most(MOST, warmup=warmup)
        check_share(floor=floor)
        check_known(("updates", "time"), over=over)
        self.peak, self.warmup, self.floor = peak, warmup, floor
        self.needs_total, self.needs_time = over == "updates", over == "time"

    def rate(self, at: Position) -> float:
        way, top = at.share, self.peak * _rise(at.step, self.warmup)
        if self.needs_total:
            if at.step <= self.warmup:
                return top
            way = (at.step - self.warmup) / max(1, at.total_steps - self.warmup)
        return top * (self.floor + (1.0 - self.floor) * 0.5 * (1.0 + math.cos(math.pi * min(1.0, way))))


class Plateau(Schedule):
    """The peak, multiplied by a factor whenever validation has not improved for a while.

    Parameters
    ----------
    peak : float
        The optimizer's learning rate.
    warmup : int
        Updates over which the rate rises linearly to the peak.
    factor : float
        What the rate is multiplied by, between 0 and 1.
    patience : int
        Validations in a row without a new best that are let pass; the next one lowers the rate.
    floor : float
        Share of the peak below which the rate does not fall.
    """

    def __init__(
        self, peak: float, *, warmup: int = 0, factor: float = 0.5, patience: int = 0, floor: float = 0.0
    ) -> None:
        check_at_least(0, warmup=warmup, patience=patience)
        check_at_most(MOST, warmup=warmup)
        check_share(factor=factor, floor=floor)
        self.peak, self.warmup = peak, warmup
        self.factor, self.patience, self.floor = factor, patience, floor
        self.level, self.waited = 1.0, 0

    def rate(self, at: Position) -> float:
        return self.peak * self.level * _rise(at.step, self.warmup)

    def observe(self, improved: bool) -> None:
        self.waited = 0 if improved else self.waited + 1
        if self.waited > self.patience:
            self.level, self.waited = max(self.floor, self.level * self.factor), 0

    def record(self) -> dict[str, float]:
        return {"level": self.level, "waited": self.waited}

    def load_record(self, record: Mapping[str, float]) -> None:
        self.level, self.waited = record["level"], int(record["waited"])


class Exponential(Schedule):
    """The peak until an epoch, and from that epoch on a factor lower each epoch.

    The rate of epoch e is ``peak·decay^(e − start + 1)`` then. The SRU paper's Penn Treebank recipe is
    ``decay: 0.98, start: 175``.

    Parameters
    ----------
    peak : float
        The optimizer's learning rate.
    decay : float
        Factor of an epoch.
    start : int
        First epoch with a lowered rate, counted from 1.
    """

    def __init__(self, peak: float, *, decay: float = 0.98, start: int = 2) -> None:
        check_share(decay=decay)
        check_at_least(1, start=start)
        self.peak, self.decay, self.start = peak, decay, start

    def rate(self, at: Position) -> float:
        return self.peak * self.decay ** max(0, at.epoch - self.start + 1)


def _rise(step: int, warmup: int) -> float:
    return min(1.0, step / warmup) if warmup else 1.0


SCHEDULES: dict[str, Callable[..., Schedule]] = {
    "constant": Constant,
    "inverse_sqrt": InverseSqrt,
    "noam": Noam,
    "cosine": Cosine,
    "plateau": Plateau,
    "exponential": Exponential,
}
