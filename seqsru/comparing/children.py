"""One command of the package in a process of its own: what it takes and what breaks is its own too."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from seqsru.data.room import room
from seqsru.errors import Busy
from seqsru.training.lock import check_free

LAST = 400  # characters of a log that are told of a failure


class Ended(NamedTuple):
    """How a process ended.

    Attributes
    ----------
    status : int
        0 where all went well; of a process that a signal ended its number, negative.
    seconds : float
        By the clock.
    told : str
        The end of what it said, where it did not end well.
    """

    status: int
    seconds: float
    told: str


def call(arguments: Sequence[str | Path], log: Path) -> Ended:
    """Run a command of the package to its end; what it says goes to a log.

    Ctrl-C and SIGTERM are handed on to it, and it is waited for: a training saves first.

    Parameters
    ----------
    arguments : sequence of str or path
        The command and what follows it.
    log : Path
        Is added to.
    """
    start = time.monotonic()
    command = [sys.executable, "-m", "seqsru", *map(str, arguments)]
    with room(log), open(log, "ab") as stream:
        begins = stream.tell()
        # In a session of its own, so that Ctrl-C at the terminal comes to it once, from here.
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, start_new_session=True
        )
        try:
            status = process.wait()
        except BaseException:
            process.send_signal(signal.SIGTERM)
            process.wait()
            raise
    told = "" if status == 0 else _end(log, begins)
    return Ended(status, time.monotonic() - start, told)


def wait_until_free(folder: Path, tell: Callable[[str], None], pause: float = 0.5) -> None:
    """Wait for a process that still trains in a folder: one whose starter was killed goes on."""
    said = False
    while True:
        try:
            check_free(folder)
            return
        except Busy as busy:
            if not said:
                tell(f"waits: expected {busy.expected}, found {busy.found}")
                said = True
        time.sleep(pause)


def _end(log: Path, begins: int) -> str:
    """The last line of what was added to a log."""
    with open(log, "rb") as stream:
        stream.seek(begins)
        lines = [line.strip() for line in stream.read().decode("utf-8", "replace").splitlines()]
    return next((line[:LAST] for line in reversed(lines) if line), "nothing said")
