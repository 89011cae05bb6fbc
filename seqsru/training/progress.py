"""Where training stands, and how it ended."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


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
    best_tie : float or None
        What decides against an equal value, the lower the better; None where nothing does.
    waited : int
        Validations in a row since then.
    nll, tokens : float, int
        Sums since the last line of metrics.
    records : int
        Lines of metrics written.
    skipped : int
        Updates that were not made, because they were not finite.
    processor_seconds : float
        Time that processors spent in training, earlier processes included: of two at work twice as much.
    peak_bytes : int
        Most memory that training took: on a GPU of its own, else of the whole process.
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
    best_tie: float | None = None
    skipped: int = 0
    processor_seconds: float = 0.0
    peak_bytes: int = 0


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
    signal : int
        Number of the signal that asked to stop, also where it came too late to; 0 where none did.
    """

    reason: str
    step: int
    best: float | None
    best_step: int
    checkpoint: Path
    signal: int = 0

    @property
    def finished(self) -> bool:
        """False where calling again would go on."""
        return self.reason != "interrupted"
