"""Several processes that wait for one another: each is seen to live, and none waits for one that has gone.

A collective operation waits for as long as it takes, and cannot be called off. So each process says once a
second, through torchrun's store, that it lives and how often it has come to a meeting. A thread of each reads
what the others say, and ends its process, in one sentence, when one of them is silent or does not come.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

BEAT = 1.0  # seconds
# Without a sign of life: well under what people wait for a machine, well over what a busy one takes.
SILENT = 15.0
# Waiting for the others in an update: at least so long, or so many times the longest of them.
LATE = 20.0
TIMES = 10.0
AGAIN = "`torchrun --max-restarts=3` starts all of them again from the last checkpoint"


class Watch:
    """The thread that says and reads who lives.

    Parameters
    ----------
    store : a Store of torch.distributed
        Of all processes; a connection of its own, since one that waits blocks it.
    rank, count : int
        Number of this process, and how many there are.
    """

    def __init__(self, store: Any, rank: int, count: int) -> None:
        self._store, self._rank, self._count = store, rank, count
        self._stopped = threading.Event()
        self._meetings = 0
        self._waiting_since: float | None = None
        self._left: float | None = None  # when the last meeting was left, if the next comes at once
        self._longest = 0.0
        self._thread = threading.Thread(target=self._run, daemon=True, name="watch")

    def start(self) -> None:
        """Begin to say and to read."""
        self._store.set(f"who/{self._rank}", f"{socket.gethostname()} {os.getpid()}")
        self._thread.start()

    def stop(self) -> None:
        """Leave in peace."""
        with suppress(RuntimeError):
            self._store.set(f"alive/{self._rank}", "left")
        self._stopped.set()
        # A thread that comes back from the store while Python ends aborts the process.
        self._thread.join(timeout=SILENT)

    @contextmanager
    def waiting(self, at_once: bool) -> Iterator[None]:
        """Around a meeting of all processes; ``at_once`` where the others are known to come soon."""
        now = time.monotonic()
        if at_once and self._left is not None:
            self._longest = max(self._longest, now - self._left)
        self._meetings += 1
        self._waiting_since = now if at_once else None
        try:
            yield
        finally:
            self._waiting_since = None
            self._left = time.monotonic() if at_once else None

    def _run(self) -> None:
        heard = {rank: ("", time.monotonic()) for rank in range(self._count) if rank != self._rank}
        beat, before = 0, time.monotonic()
        while not self._stopped.wait(BEAT):
            beat += 1
            try:
                self._store.set(f"alive/{self._rank}", f"{beat} {self._meetings}")
                said = {rank: self._said(f"alive/{rank}") for rank in heard}
            except RuntimeError as error:
                if self._stopped.is_set():
                    return
                self._end(
                    "torchrun to answer",
                    f"that it has gone ({str(error).strip().splitlines()[0][:200]})",
                    None,
                )
            now = time.monotonic()
            asleep = now - before > 5 * BEAT  # it was we who stood still
            before = now
            for rank, text in said.items():
                if text != heard[rank][0] or asleep:
                    heard[rank] = text, now
                if text == "left":
                    continue
                if now - heard[rank][1] > SILENT:
                    self._end(*self._sentence(f"no sign of life of process {rank} for {SILENT:.0f} s"), rank)
                since = self._waiting_since
                limit = max(LATE, TIMES * self._longest)
                behind = text == "" or int(text.split()[1]) < self._meetings
                if since is not None and now - since > limit and behind:
                    self._end(*self._sentence(f"process {rank} away from an update for {limit:.0f} s"), rank)

    def _said(self, key: str) -> str:
        said: bytes = self._store.get(key) if self._store.check([key]) else b""
        return said.decode()

    def _sentence(self, found: str) -> tuple[str, str]:
        return f"all {self._count} processes to go on", f"{found}, as process {self._rank} sees it"

    def _end(self, expected: str, found: str, rank: int | None) -> None:
        """End this process, and the one that stands still where it is ours to end: no signal reaches it."""
        with suppress(OSError):
            os.write(
                2, f"seqsru: expected {expected}, found {found}; see above what ended it; {AGAIN}\n".encode()
            )
        if rank is not None:
            with suppress(RuntimeError, OSError, ValueError):
                host, number = self._said(f"who/{rank}").rsplit(" ", 1)
                if host == socket.gethostname():
                    os.kill(int(number), signal.SIGKILL)
        os._exit(1)
