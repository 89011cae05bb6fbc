"""What a run tells: metrics.jsonl, a log, TensorBoard events where it is installed, a bar on a terminal."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from tqdm import tqdm

from seqsru.data.files import check_no_link, write_all
from seqsru.data.room import room
from seqsru.regular import NO_LINK
from seqsru.training.run_directory import RunDirectory

KINDS = ("train", "valid")


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
        self._run = run
        self._metrics = _Appended(run.metrics)
        damaged = self._metrics.keep(records)
        self._log = _Appended(run.log)
        # Without standard error, as in a program without a console, nobody watches.
        silent = True if sys.stderr is None else None
        self._bar = tqdm(total=total, initial=step, unit="step", disable=silent, file=sys.stderr)
        self._events = None
        if tensorboard and importlib.util.find_spec("tensorboard") is not None:
            from torch.utils.tensorboard import SummaryWriter

            with room(run.tensorboard):
                self._events = SummaryWriter(str(run.tensorboard), purge_step=step + 1)
        elif tensorboard:
            self.write_line(
                "metrics are in metrics.jsonl; for TensorBoard events too: pip install 'seqsru[plot]'"
            )

        for line in damaged:
            warnings.warn(line, RuntimeWarning, stacklevel=2)
            self.write_line(line, show=False)

    def __enter__(self) -> RunLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()
        self._metrics.close()
        self._log.close()
        if self._events is not None:
            with room(self._run.tensorboard):
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
        if self._events is not None:
            with room(self._run.tensorboard):
                for name, value in values.items():
                    self._events.add_scalar(f"{kind}/{name}", value, step)

    def write_line(self, line: str, *, show: bool = True) -> None:
        """Write a line to the log, and above the bar where there is one and it is to be shown."""
        self._log.write(line.encode("utf-8", "surrogatepass") + b"\n")
        if show and not self._bar.disable:
            self._bar.write(line, file=sys.stderr)


class _Appended:
    """A file that is only added to: each line reaches the system at once, and nothing is left for closing.

    Parameters
    ----------
    path : Path
        Made where it is not there; a link is not followed.
    """

    def __init__(self, path: Path) -> None:
        check_no_link(path)
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | NO_LINK | getattr(os, "O_NONBLOCK", 0)
        with room(path):
            descriptor = os.open(path, flags | getattr(os, "O_CLOEXEC", 0), 0o666)
        self._path, self._file = path, open(descriptor, "ab", buffering=0)

    def write(self, line: bytes) -> None:
        with room(self._path):
            write_all(self._file, line)

    def close(self) -> None:
        self._file.close()

    def keep(self, records: int) -> list[str]:
        """Cut off what follows so many lines; give what is wrong with those that stay, in sentences."""
        damaged: list[str] = []
        place = 0
        with open(self._path, "rb") as stream:
            for number in range(1, records + 1):
                line = stream.readline()
                if not line:
                    damaged.append(
                        f"expected {records} lines in {self._path}, found {number - 1}; "
                        "what is missing is lost"
                    )
                    break
                place += len(line)
                wrong = _not_metrics(line)
                if wrong:
                    damaged.append(
                        f"{self._path}:{number}: expected a line of metrics, found {wrong}; it stays as it is"
                    )
        with room(self._path):
            self._file.truncate(place)
        return damaged


def _not_metrics(line: bytes) -> str:
    """What a line is that is none of metrics; empty for a good one."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        return f"a damaged one ({str(error)[:100]})"
    good = isinstance(record, dict) and record.get("kind") in KINDS and type(record.get("step")) is int
    if not good or not all(
        value is None or isinstance(value, (int, float, str)) for value in record.values()
    ):
        return "something else"
    return "" if line.endswith(b"\n") else "one without its end"


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
