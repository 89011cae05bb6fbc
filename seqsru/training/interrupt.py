"""Ctrl-C and SIGTERM as a request to stop after the step."""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import suppress
from types import FrameType, TracebackType

AT_ONCE = 2.0


class Interrupt:
    """While it is entered, the first SIGINT or SIGTERM sets ``requested``.

    A second one acts as it did before. Outside the main thread signals are left alone, as Python asks.

    Parameters
    ----------
    several : bool
        Whether torchrun may pass on a signal that a terminal has sent already: then two that come within
        `AT_ONCE` seconds are one.

    Attributes
    ----------
    number : int
        Of the signal that came; 0 before one did.
    """

    def __init__(self, several: bool = False) -> None:
        self.number = 0
        self._several, self._since = several, 0.0
        self._before: dict[int, object] = {}

    @property
    def requested(self) -> bool:
        """Whether one came."""
        return self.number != 0

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()

    def _note(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.number and now - self._since < AT_ONCE:
            return
        if self.number or not self._several:
            self._restore()
        if self.number:
            signal.raise_signal(number)
            return
        self.number, self._since = number, now
        # Not print: the signal may have come in the middle of one.
        with suppress(OSError):  # nobody may be listening
            os.write(2, b"\nfinishing this step, then saving; once more to stop at once\n")

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        self._before.clear()
