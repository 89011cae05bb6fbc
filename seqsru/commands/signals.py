"""What SIGTERM and Ctrl-C do to a command: end it, with the work undone in good order, whenever they come.

The first one raises, so that what is half done is cleaned up. An exception may get lost, in a library's
import or in a callback from C: then it is raised again after a while. Whatever comes when a command has not
begun, is leaving, or was asked already, ends the process at once. No moment shows a traceback.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)
AGAIN = 5.0  # seconds after which a command that goes on is stopped again
NAMES = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}


class Terminated(KeyboardInterrupt):
    """SIGTERM, which ends the work as Ctrl-C does."""


def end_at_once(number: int, frame: FrameType | None = None) -> None:
    """End the process; nothing is cleaned up, because nothing was begun or all was asked for already."""
    with suppress(OSError):  # nobody may be listening
        os.write(2, f"seqsru: {NAMES[signal.Signals(number)]}\n".encode())
    os._exit(128 + number)


def before_the_start() -> None:
    """Let SIGTERM and Ctrl-C end the process at once, while what it needs is imported."""
    for number in SIGNALS:
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, end_at_once)


def after_the_end() -> None:
    """Let the process end with its status: it is on its way, and Python would put the system's way back."""
    for number in SIGNALS:
        if signal.getsignal(number) is end_at_once:
            signal.signal(number, signal.SIG_IGN)


class Stop:
    """Whether the command in this process was asked to stop.

    Attributes
    ----------
    number : int
        Of the signal that came; 0 before one did.
    working : bool
        Whether there is something that an exception would unwind.
    """

    def __init__(self) -> None:
        self.number, self.working, self._times = 0, False, 0

    def asked(self, number: int, frame: FrameType | None) -> None:
        """Take a signal: raise, or end at once."""
        if self.number or not self.working:
            end_at_once(number)
        self.number = number
        self._raise()

    def again(self, number: int, frame: FrameType | None) -> None:
        """Raise once more: the exception has got lost, or what it unwinds takes too long."""
        if self.working:
            self._raise()

    def heard(self) -> None:
        """Say that the exception arrived, so that only a few last words are left."""
        self.working = False
        _alarm(0.0)

    def _raise(self) -> None:
        self._times += 1
        if self._times > 2:
            end_at_once(self.number)
        _alarm(AGAIN)
        raise Terminated if self.number == signal.SIGTERM else KeyboardInterrupt

    def hide(self, lost: Any) -> None:
        """Show what Python cannot raise, but for our own exception, which comes again."""
        if not (self.number and issubclass(lost.exc_type, KeyboardInterrupt)):
            sys.__unraisablehook__(lost)


@contextmanager
def stoppable() -> Iterator[Stop]:
    """Let SIGTERM and Ctrl-C stop the work inside, unless the program around handles them."""
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    ours = (signal.SIG_DFL, signal.default_int_handler, end_at_once)
    before: dict[int, Any] = {number: signal.getsignal(number) for number in SIGNALS}
    taken = {number: handler for number, handler in before.items() if handler in ours}
    alarm, hook = getattr(signal, "SIGALRM", None), sys.unraisablehook  # Windows has none
    try:
        if alarm is not None and taken:
            taken[alarm] = signal.signal(alarm, stop.again)
        sys.unraisablehook = stop.hide
        for number in SIGNALS:
            if number in taken:
                signal.signal(number, stop.asked)
        yield stop
    finally:
        stop.heard()
        for one, handler in taken.items():
            signal.signal(one, handler)
        sys.unraisablehook = hook


def _alarm(seconds: float) -> None:
    if sys.platform != "win32":
        signal.setitimer(signal.ITIMER_REAL, seconds)
