"""Something that is tried in a process of its own: what it ends with, what it says, and that it ends."""

import errno
import os
import signal
import sys
import tempfile
import time
import traceback
import warnings
from typing import NamedTuple

WRITES = ("os.rename", "os.mkdir", "os.truncate", "os.link", "os.symlink")  # what needs room besides opening
CHANGES = (*WRITES, "os.remove", "os.rmdir")


class Ended(NamedTuple):
    """How a try ended: its status, minus the number of a signal, or None where it hung; and its words."""

    status: int | None
    said: str

    @property
    def wrong(self):
        """What is wrong with it in a word; empty where it ended well or with sentences."""
        if self.status is None:
            return "hung"
        if "Traceback" in self.said:
            return "traceback"
        return f"signal {-self.status}" if self.status < 0 else ""


def tried(action, *, seconds=60.0, signals=()):
    """Call an action in a process of its own, which it ends with the status that it returns.

    Parameters
    ----------
    action : callable
        Returns an exit status.
    seconds : float
        After which it counts as hung.
    signals : sequence of (float, int)
        Signals to send, each so many seconds after the one before.
    """
    with tempfile.TemporaryFile() as heard:
        process = os.fork()
        if not process:
            status = 1
            try:
                nothing = os.open(os.devnull, os.O_RDONLY)
                os.dup2(nothing, 0)
                os.dup2(heard.fileno(), 1)
                os.dup2(heard.fileno(), 2)
                sys.stdin, sys.stdout, sys.stderr = (
                    open(n, mode) for n, mode in ((0, "r"), (1, "w"), (2, "w"))
                )
                warnings.resetwarnings()  # what a test makes of them is not tried here
                warnings.showwarning = lambda message, *place: print(message, file=sys.stderr)
                status = action()
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush(), sys.stderr.flush()
                os._exit(status & 0xFF)
        for pause, number in signals:
            time.sleep(pause)
            os.kill(process, number)
        status, deadline = None, time.monotonic() + seconds
        while time.monotonic() < deadline:
            done, found = os.waitpid(process, os.WNOHANG)
            if done:
                status = os.waitstatus_to_exitcode(found)
                break
            time.sleep(0.002)
        else:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
        heard.seek(0)
        return Ended(status, heard.read().decode("utf-8", "replace"))


def at_operation(number, act, events, only_writing, folder):
    """Act before the operation of this number, from 1, on a file in a folder; for a process that ends soon.

    Python tells of every operation on files before it is made; an exception takes its place.
    """
    seen = [0]
    inside = str(folder)

    def hook(event, arguments):
        if event == "open":
            path, _, flags = arguments
            writing = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR)
            if not isinstance(path, (str, bytes)) or (only_writing and not writing):
                return
        elif event in events:
            path = arguments[0]
        else:
            return
        if inside not in str(os.fsdecode(path) if isinstance(path, (str, bytes)) else ""):
            return
        seen[0] += 1
        if seen[0] == number:
            act(os.fsdecode(path))

    sys.addaudithook(hook)
    return seen


def killed(path):
    """End this process at once, as kill -9 does."""
    os.kill(os.getpid(), signal.SIGKILL)


def full(path):
    """Say what the system says when a disk is full."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
