"""The average of the weights over the updates of a training: when they enter it, and with which share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from seqsru.errors import check_at_least, check_at_most, check_probability
from seqsru.training.checkpoints import rank
from seqsru.training.weights import model_tensors

MOST_EVERY = 1_000_000_000
YOUNG = 9.0  # the average of so few looks back over about a ninth of what it has seen


class Averaging(ABC):
    """A rule for the average of the weights: each time that they enter it, ``mean += share · (w − mean)``.

    Attributes
    ----------
    every : int
        Updates between two times that weights enter; 0 is never.
    """

    every: int

    @property
    def begun(self) -> bool:
        """Whether weights enter from now on."""
        return True

    @abstractmethod
    def share(self, count: Tensor) -> Tensor:
        """Share of the weights that enter as number ``count``, from 1; 1 for the first."""

    def observe(self, validation: Mapping[str, Any]) -> None:  # noqa: B027 (most rules need no note)
        """Take note of a validation, as `checkpoints.rank` takes it; only `nt_asgd` does."""

    def record(self) -> dict[str, Any]:
        """What `observe` has changed, for a checkpoint."""
        return {}

    def load_record(self, record: Mapping[str, Any]) -> None:  # noqa: B027
        """Take back what `record` gave."""


class NoAveraging(Averaging):
    """The weights as the last update left them."""

    every = 0

    @property
    def begun(self) -> bool:
        return False

    def share(self, count: Tensor) -> Tensor:
        return torch.ones_like(count)


class Exponential(Averaging):
    """A mean that forgets: of update t it has the share ``decay`` as often as updates followed.

    With t the number of times that weights entered, the newest have the share
    ``max(1 − decay^every, 9 / (t + 8))``: all of it at first, then about what makes it a mean over the last
    ninth of all updates, until that is more than the decay looks back to. So a short run has an average
    without its first updates in it.

    Parameters
    ----------
    decay : float
        Share of the mean that stays with an update; 0.999 looks back over about 1,000 of them.
    every : int
        Updates between two that enter the mean; it looks back as far with any, and costs less with more.
    """

    def __init__(self, *, decay: float = 0.999, every: int = 1) -> None:
        check_probability(decay=decay)
        check_at_least(1, every=every)
        check_at_most(MOST_EVERY, every=every)
        self.decay, self.every = decay, every

    def share(self, count: Tensor) -> Tensor:
        return (YOUNG / (count + (YOUNG - 1.0))).clamp(min=1.0 - self.decay**self.every)


class TriggeredMean(Averaging):
    """NT-ASGD: the plain mean of all weights since validation stopped improving (Merity et al. 2018).

    It begins after the first validation that is worse than the best of those more than n before it
    (algorithm 1). Until then there is none. It is meant for `sgd` with a constant rate.

    Parameters
    ----------
    checks : int
        n, the last validations that are not compared with; validations come with
        ``training.validate_every``.
    every : int
        Updates between two that enter the mean.
    """

    def __init__(self, *, checks: int = 5, every: int = 1) -> None:
        check_at_least(0, checks=checks)
        check_at_least(1, every=every)
        check_at_most(MOST_EVERY, checks=checks, every=every)
        self.checks, self.every = checks, every
        self._begun = False
        self._before: float | None = None  # the best of those more than n ago, the lower the better
        self._recent: list[float] = []

    @property
    def begun(self) -> bool:
        return self._begun

    def share(self, count: Tensor) -> Tensor:
        return 1.0 / count

    def observe(self, validation: Mapping[str, Any]) -> None:
        if self._begun:
            return
        value = rank(validation)[0]
        self._begun = self._before is not None and value > self._before
        self._recent.append(value)
        while len(self._recent) > self.checks:
            oldest = self._recent.pop(0)
            self._before = oldest if self._before is None else min(self._before, oldest)

    def record(self) -> dict[str, Any]:
        return {"begun": self._begun, "before": self._before, "recent": list(self._recent)}

    def load_record(self, record: Mapping[str, Any]) -> None:
        self._begun, self._before = record["begun"], record["before"]
        self._recent = list(record["recent"])


AVERAGING: dict[str, type[Averaging]] = {
    "none": NoAveraging,
    "exponential": Exponential,
    "nt_asgd": TriggeredMean,
}


class Average:
    """The averaged weights of a model, beside those that training goes on with.

    They take the memory of the weights that are trained once more, from the first that enter on. What is not
    trained is not averaged.

    Parameters
    ----------
    model : nn.Module
    rule : Averaging

    Attributes
    ----------
    rule : Averaging
    weights : dict of str to Tensor
        The averages, by the names that the model saves; empty as long as there is none.
    """

    def __init__(self, model: nn.Module, rule: Averaging) -> None:
        self.rule = rule
        self.weights: dict[str, Tensor] = {}
        self._trained = {
            name: t
            for name, t in model_tensors(model).items()
            if isinstance(t, nn.Parameter) and t.requires_grad
        }
        self._count: Tensor | None = None  # of those that entered: the device alone knows which updates were

    def update(self, number: int, bad: Tensor) -> None:
        """Let the weights after an update enter, if they are to; without waiting for the device.

        Parameters
        ----------
        number : int
            Of the update, from 1.
        bad : bool Tensor of shape ()
            Whether the update was not made: then nothing enters.
        """
        if not self.rule.begun or number % self.rule.every:
            return
        with torch.no_grad():
            if self._count is None:
                self._count = torch.zeros((), dtype=torch.float64, device=bad.device)
                self.weights = {name: t.detach().clone() for name, t in self._trained.items()}
            self._count += ~bad
            share = self.rule.share(self._count).masked_fill(bad, 0.0)
            shares = {dtype: share.to(dtype) for dtype in {t.dtype for t in self.weights.values()}}
            means = list(self.weights.values())
            torch._foreach_lerp_(means, list(self._trained.values()), [shares[t.dtype] for t in means])

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The model with its averaged weights, where there are any: to be measured, not trained."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    def _exchange(self) -> None:
        """Exchange the values of weights and averages; each stays where it is in memory."""
        with torch.no_grad():
            for name, mean in self.weights.items():
                kept = mean.clone()
                mean.copy_(self._trained[name])
                self._trained[name].copy_(kept)

    def beside(self) -> dict[str, Tensor]:
        """What a checkpoint holds besides the averages, which are its weights: ``weights.*`` and a count."""
        if self._count is None:
            return {}
        raw = {f"weights.{name}": t for name, t in self._trained.items()}
        return {**raw, "average.count": self._count}

    def expected(self) -> dict[str, Tensor]:
        """What `beside` gives once there is an average, in shape."""
        raw = {f"weights.{name}": t for name, t in self._trained.items()}
        return {**raw, "average.count": torch.zeros((), dtype=torch.float64)}

    def restore(self, beside: Mapping[str, Tensor]) -> None:
        """Take back what `beside` gave, the averages being in the model; of nothing there is no average."""
        if not beside:
            return
        with torch.no_grad():
            for name, t in self._trained.items():
                self.weights[name] = t.detach().clone()
                t.copy_(beside[f"weights.{name}"])
        device = next(iter(self._trained.values())).device
        self._count = beside["average.count"].to(device)
