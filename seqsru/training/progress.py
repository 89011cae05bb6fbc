"""Where training stands, how it ended, and the tensors a resumed run takes back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from seqsru.training.task import State


@dataclass
class Progress:
    """Everything a resumed run takes back besides tensors.

    Attributes
    ----------
    step : int
        Updates made.
    epoch : int
        The current epoch, from 1.
    batch : int
        Batches of it already used.
    seconds : float
        Time spent in training, earlier processes included.
    best : float or None
        Best value of the headline metric.
    best_step : int
        The step it was found at.
    waited : int
        Validations in a row since then.
    nll, tokens : float, int
        Sums since the last line of metrics.
    records : int
        Lines of metrics written.
    """

    step: int = 0
    epoch: int = 1
    batch: int = 0
    seconds: float = 0.0
    best: float | None = None
    best_step: int = 0
    waited: int = 0
    nll: float = 0.0
    tokens: int = 0
    records: int = 0


@dataclass(frozen=True)
class Outcome:
    """How a call of :meth:`seqsru.training.trainer.Trainer.fit` ended.

    Attributes
    ----------
    reason : str
        ``steps``, ``epochs``, ``patience``, ``time`` or ``interrupted``.
    step : int
        Updates made.
    best : float or None
        Best value of the headline metric.
    best_step : int
        The step it was found at.
    checkpoint : Path
        The last one written.
    """

    reason: str
    step: int
    best: float | None
    best_step: int
    checkpoint: Path

    @property
    def finished(self) -> bool:
        """False where calling again would go on."""
        return self.reason != "interrupted"


def training_tensors(
    optimizer: torch.optim.Optimizer, carried: State | None, device: torch.device
) -> dict[str, Tensor]:
    """Optimizer state, carried state and generators, by name."""
    tensors = {
        f"optimizer.{index}.{name}": value
        for index, values in optimizer.state_dict()["state"].items()
        for name, value in values.items()
        if value is not None  # SGD without momentum keeps an empty buffer
    }
    tensors |= {f"carried.{i}": t for i, t in enumerate(carried or ())}
    tensors["generator.cpu"] = torch.get_rng_state()
    if device.type == "cuda":
        tensors["generator.cuda"] = torch.cuda.get_rng_state(device)
    return tensors


def restore_training(
    tensors: Mapping[str, Tensor], optimizer: torch.optim.Optimizer, device: torch.device
) -> State | None:
    """Put back what :func:`training_tensors` gave, and return the carried state.

    The optimizer keeps its own settings: those of the configuration.
    """
    state: dict[int, dict[str, Tensor]] = {}
    carried = []
    for name, tensor in tensors.items():
        kind, _, rest = name.partition(".")
        if kind == "optimizer":
            index, _, key = rest.partition(".")
            state.setdefault(int(index), {})[key] = tensor
        elif kind == "carried":
            carried.append((int(rest), tensor.to(device)))
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    torch.set_rng_state(tensors["generator.cpu"])
    if "generator.cuda" in tensors and device.type == "cuda":
        torch.cuda.set_rng_state(tensors["generator.cuda"], device)
    return tuple(t for _, t in sorted(carried, key=lambda pair: pair[0])) or None
