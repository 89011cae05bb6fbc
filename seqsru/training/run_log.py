"""What a run tells: metrics.jsonl, a log, TensorBoard events where it is installed, a bar on a terminal."""

from __future__ import annotations

import importlib.util
import json
import math
import sys
from collections.abc import Mapping
from types import TracebackType

from tqdm import tqdm

from seqsru.training.run_directory import RunDirectory


class RunLog:
    """Write the records of a run.

    Parameters
    ----------
    run : RunDirectory
        Where ``metrics.jsonl``, ``log`` and, with TensorBoard, ``tensorboard/`` are.
    records : int
        Records to keep of a run that goes on; later ones, of a process that was killed, come again.
    step, total : int
        Updates made, and in all.
    tensorboard : bool
        Whether to write events.
    """

    def __init__(self, run: RunDirectory, records: int, step: int, total: int, *, tensorboard: bool) -> None:
        self._metrics = open(run.metrics, "a+b")
        self._metrics.seek(0)
        self._metrics.truncate(sum(len(self._metrics.readline()) for _ in range(records)))
        self._log = open(run.log, "a", encoding="utf-8")
        # Without standard error, as in a program without a console, nobody watches.
        silent = True if sys.stderr is None else None
        self._bar = tqdm(total=total, initial=step, unit="step", disable=silent, file=sys.stderr)
        self._events = None
        if tensorboard and importlib.util.find_spec("tensorboard") is not None:
            from torch.utils.tensorboard import SummaryWriter

            self._events = SummaryWriter(str(run.tensorboard), purge_step=step + 1)
        elif tensorboard:
            self.write_line(
                "metrics are in metrics.jsonl; for TensorBoard events too: pip install 'seqsru[plot]'"
            )

    def __enter__(self) -> RunLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()
        self._metrics.close()
        self._log.close()
        if self._events is not None:
            self._events.close()

    def advance(self) -> None:
        """Count an update."""
        self._bar.update()

    def status(self, text: str) -> None:
        """Show a text beside the bar."""
        self._bar.set_postfix_str(text)

    def write_metrics(self, kind: str, step: int, values: Mapping[str, float]) -> None:
        """Write a line of metrics; ``kind`` is train or valid."""
        # JSON has no infinity: a measure that left all bounds is null.
        finite = {name: value if math.isfinite(value) else None for name, value in values.items()}
        self._metrics.write(json.dumps({"kind": kind, "step": step, **finite}).encode() + b"\n")
        self._metrics.flush()
        if self._events is not None:
            for name, value in values.items():
                self._events.add_scalar(f"{kind}/{name}", value, step)

    def write_line(self, line: str, *, show: bool = True) -> None:
        """Write a line to the log, and above the bar where there is one and it is to be shown."""
        self._log.write(line + "\n")
        self._log.flush()
        if show and not self._bar.disable:
            self._bar.write(line, file=sys.stderr)


class NoLog:
    """A `RunLog` of a process that leaves telling to another."""

    def __enter__(self) -> NoLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def advance(self) -> None:
        """Count nothing."""

    def status(self, text: str) -> None:
        """Show nothing."""

    def write_metrics(self, kind: str, step: int, values: Mapping[str, float]) -> None:
        """Write nothing."""

    def write_line(self, line: str, *, show: bool = True) -> None:
        """Write nothing."""
