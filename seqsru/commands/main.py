"""The way in: finds the command, tells a refusal in one sentence, and says what a signal does."""

from __future__ import annotations

import argparse
import importlib
import io
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TextIO

from seqsru import __version__
from seqsru.commands import COMMANDS
from seqsru.commands.parser import Parser
from seqsru.errors import NO_ROOM, Refused, did_you_mean

ABOUT = """Train recurrent models of text: language models, translation, classification, answers to questions.
Use and measure them.

  seqsru train lm.yaml optimizer.lr=1e-3        # every setting of the file can be overridden
  seqsru translate runs/en-de < in.txt > out.txt
  seqsru COMMAND --help                         # what it reads and writes, every option, examples
"""
NOTES = """Text, numbers and signatures go to stdout; progress, reports and errors to stderr. After a mistake,
told in one sentence, the exit status is 2 (SEQSRU_TRACEBACK=1 shows where it came from); after Ctrl-C, 130.
"""


class Terminated(KeyboardInterrupt):
    """SIGTERM, which ends the work as Ctrl-C does."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status.

    Parameters
    ----------
    arguments : sequence of str, optional
        Default: those of the process.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    with _streams(), _terminable():
        return _flushed(_status(arguments))


def _status(arguments: list[str]) -> int:
    """Run a command, and say what went wrong."""
    try:
        return _run(arguments)
    except SystemExit as stop:  # argparse's way, after --help or a mistake
        return int(stop.code or 0)
    except BrokenPipeError:  # whoever read our output has gone, as `head` does
        return 141
    except KeyboardInterrupt as stop:
        terminated = isinstance(stop, Terminated)
        more = f"; {stop}" if str(stop) else ""
        _say(f"seqsru: {'terminated' if terminated else 'interrupted'}{more}")
        return 143 if terminated else 130
    except (Refused, OSError) as error:  # anything else is a bug, which a traceback should show
        if os.environ.get("SEQSRU_TRACEBACK"):
            raise
        _say(sentence(error))
        return 2


@contextmanager
def _streams() -> Iterator[None]:
    """Make the standard streams safe to use, whichever of them were closed before Python started.

    No file that is opened later gets the number of one, to which libraries write. Standard output stays None
    where it is closed, for `_run` to refuse.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    before = sys.stdout, sys.stderr, warnings.showwarning
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        sys.stdout = None if _is_closed(sys.stdout) else sys.stdout
        sys.stderr = nowhere if _is_closed(sys.stderr) else sys.stderr
        for stream, errors in ((sys.stdout, "strict"), (sys.stderr, "backslashreplace")):
            if isinstance(stream, io.TextIOWrapper):  # text is UTF-8 and lines end in \n, in any locale
                stream.reconfigure(encoding="utf-8", errors=errors, newline="\n")
        warnings.showwarning = _show_warning
        try:
            yield
        finally:
            sys.stdout, sys.stderr, warnings.showwarning = before


def _is_closed(stream: TextIO | None) -> bool:
    return stream is None or stream.closed


@contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM end the work as Ctrl-C does, unless the program around handles it."""
    ours = threading.current_thread() is threading.main_thread()
    if not ours or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return

    def terminate(number: int, frame: FrameType | None) -> None:
        raise Terminated

    signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _flushed(status: int) -> int:
    """The exit status once all is written; Python would try again at its end, and complain."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except OSError as error:
            with suppress(OSError):  # a stream that stands for another has no number
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
            if status == 0 and stream is sys.stdout:
                status = 141 if isinstance(error, BrokenPipeError) else 2
                if status == 2:
                    _say(sentence(error))
    return status


def _say(text: str) -> None:
    with suppress(OSError):  # nobody may be listening
        print(text, file=sys.stderr)


def _run(arguments: list[str]) -> int:
    chosen = arguments[0] if arguments else ""
    if chosen and not chosen.startswith("-") and chosen not in COMMANDS:
        do = did_you_mean(chosen, COMMANDS) or "see `seqsru --help`"
        raise Refused(f"a command ({', '.join(COMMANDS)})", repr(chosen), do)
    closed = Refused("standard output to write to", "that it is closed", "send it to a file or to /dev/null")
    if sys.stdout is None and (chosen not in COMMANDS or {"-h", "--help"} & set(arguments)):
        raise closed
    if chosen in COMMANDS:
        command = importlib.import_module(f"seqsru.commands.{chosen}")
        parser = Parser(f"seqsru {chosen}", formatter_class=_help)
        command.declare(parser)
        parser.check_flags(arguments[1:])
        given = parser.parse_intermixed_args(arguments[1:])
        elsewhere = vars(given).get("output") is not None or vars(given).get("keeps_result", False)
        if sys.stdout is None and not elsewhere:
            raise closed
        status: int = command.run(given)
        return status
    parser = Parser("seqsru", description=ABOUT, epilog=NOTES, formatter_class=_help)
    parser.add_argument("--version", action="version", version=f"seqsru {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", title="commands", required=True)
    for name, text in COMMANDS.items():
        commands.add_parser(name, help=text)
    parser.check_flags(arguments)
    parser.parse_args(arguments)  # prints help or the version, or says what is wrong, and exits
    return 2


def _help(prog: str) -> argparse.HelpFormatter:
    return argparse.RawDescriptionHelpFormatter(prog, max_help_position=30, width=110)


def sentence(error: Refused | OSError) -> str:
    """An error as the user sees it; lines that begin with the place of a setting stay as they are."""
    if not isinstance(error, Refused):
        if error.errno in NO_ROOM:
            where = "standard output" if error.filename is None else error.filename
            return f"seqsru: expected room to write {where}, found {error.strerror}; free some, then go on"
        what = f"{error.filename}: {error.strerror}" if error.filename is not None else str(error)
        return f"seqsru: {what}; check the path and the permissions"
    from seqsru.settings import SettingsError

    placed = isinstance(error, SettingsError) and all(problem.place for problem in error.problems)
    return str(error) if placed else "\n".join(f"seqsru: {line}" for line in str(error).split("\n"))


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    _say(f"seqsru: warning: {message}")
