"""Commands of the package, each in a process of its own: what it takes and what breaks is its own too."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from threading import Event, Lock
from typing import BinaryIO, NamedTuple, TypeVar

from seqsru.data.room import room
from seqsru.errors import Busy
from seqsru.training.lock import check_free

T = TypeVar("T")
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


class AtWork:
    """The commands that are at work, which end together: a signal comes to the main thread alone.

    Attributes
    ----------
    ending : Event
        Whether they are asked to end, and none is started.
    """

    def __init__(self) -> None:
        self.ending = Event()
        self._lock = Lock()
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self, command: Sequence[str], log: BinaryIO) -> subprocess.Popen[bytes]:
        """Start one, what it says going to a log; raise KeyboardInterrupt where they are to end."""
        with self._lock:
            self.go_on()
            # In a session of its own, so that Ctrl-C at the terminal comes to it once, from here.
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
            self._processes.append(process)
        return process

    def go_on(self) -> None:
        """Raise KeyboardInterrupt where they are to end."""
        if self.ending.is_set():
            raise KeyboardInterrupt

    def end(self) -> None:
        """Ask all of them to end."""
        with self._lock:
            self.ending.set()
            for process in self._processes:
                process.terminate()  # does nothing to one that has ended and was waited for

    def each(self, work: Callable[[T], object], items: Iterable[T], jobs: int) -> None:
        """Do a work with each item, so many at once; where one raises, all others end.

        Parameters
        ----------
        work : callable
            Spends its time in commands.
        items : iterable
        jobs : int
            One is done in this thread, as if there were no others.
        """
        if jobs == 1:
            for item in items:
                work(item)
            return
        with ThreadPoolExecutor(jobs) as pool:
            begun = [pool.submit(work, item) for item in items]
            try:
                for one in as_completed(begun):
                    one.result()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                self.end()
                raise  # after those at work: a training saves first


def call(arguments: Sequence[str | Path], log: Path, at_work: AtWork) -> Ended:
    """Run a command of the package to its end; what it says goes to a log.

    Ctrl-C and SIGTERM are handed on to it, and it is waited for: a training saves first.

    Parameters
    ----------
    arguments : sequence of str or path
        The command and what follows it.
    log : Path
        Is added to.
    at_work : AtWork
        Those that it ends with.
    """
    start = time.monotonic()
    command = [sys.executable, "-m", "seqsru", *map(str, arguments)]
    with room(log), open(log, "ab") as stream:
        begins = stream.tell()
        process = at_work.start(command, stream)
        try:
            status = process.wait()
        except BaseException:
            process.send_signal(signal.SIGTERM)
            process.wait()
            raise
    at_work.go_on()  # one that was asked to end has not broken
    told = "" if status == 0 else _end(log, begins)
    return Ended(status, time.monotonic() - start, told)


def wait_until_free(folder: Path, tell: Callable[[str], None], at_work: AtWork, pause: float = 0.5) -> None:
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
        at_work.ending.wait(pause)
        at_work.go_on()


def _end(log: Path, begins: int) -> str:
    """The last line of what was added to a log."""
    with open(log, "rb") as stream:
        stream.seek(begins)
        lines = [line.strip() for line in stream.read().decode("utf-8", "replace").splitlines()]
    return next((line[:LAST] for line in reversed(lines) if line), "nothing said")
