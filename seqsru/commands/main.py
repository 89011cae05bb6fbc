"""The way in: finds the command, tells a refusal in one sentence, and says what a signal does."""

from __future__ import annotations

import argparse
import importlib
import io
import os
import re
import signal
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TextIO

from seqsru import __version__
from seqsru.commands import COMMANDS, TOGETHER
from seqsru.commands.parser import Parser
from seqsru.commands.signals import Stop, Terminated, stoppable
from seqsru.errors import NO_ROOM, Elsewhere, Refused, did_you_mean

ABOUT = """Train recurrent models: of language, translation, classification, answers to questions, speech.
Use and measure them.

  seqsru train lm.yaml optimizer.lr=1e-3        # every setting of the file can be overridden
  seqsru translate runs/en-de < in.txt > out.txt
  seqsru COMMAND --help                         # what it reads and writes, every option, examples
"""
NOTES = """Text, numbers and signatures go to stdout; progress, reports and errors to stderr. After a mistake,
told in one sentence, the exit status is 2 (SEQSRU_TRACEBACK=1 shows where it came from); after Ctrl-C, 130.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status.

    Parameters
    ----------
    arguments : sequence of str, optional
        Default: those of the process.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    with stoppable() as stop, _streams():
        status = _status(arguments, stop)
        if stop.number and status in (0, 128 + stop.number):  # where it came too late to stop anything, too
            return _flushed(128 + stop.number)
        return _flushed(status)


def _status(arguments: list[str], stop: Stop) -> int:
    """Run a command, and say what went wrong; whatever a stop turned into on its way is told as one."""
    try:
        try:
            stop.working = True
            return _answer(arguments)
        finally:
            stop.heard()
    except BaseException as error:
        if not stop.number:
            raise
        _say_stopped(error, stop.number == signal.SIGTERM)
        return 128 + stop.number


def _say_stopped(error: BaseException, terminated: bool) -> None:
    more = f"; {error}" if isinstance(error, KeyboardInterrupt) and str(error) else ""
    _say(f"seqsru: {'terminated' if terminated else 'interrupted'}{more}")


def _answer(arguments: list[str]) -> int:
    """Run a command, and say what it refused."""
    try:
        return _run(arguments)
    except SystemExit as end:  # argparse's way, after --help or a mistake
        return int(end.code or 0)
    except BrokenPipeError:  # whoever read our output has gone, as `head` does
        return 141
    except KeyboardInterrupt as error:
        _say_stopped(error, isinstance(error, Terminated))
        return 143 if isinstance(error, Terminated) else 130
    except (MemoryError, RuntimeError) as error:
        told = _no_memory(error)
        if told is None or os.environ.get("SEQSRU_TRACEBACK"):
            raise
        _say(sentence(told))
        return 2
    except (Refused, OSError) as error:  # anything else is a bug, which a traceback should show
        if os.environ.get("SEQSRU_TRACEBACK"):
            raise
        if not isinstance(error, Elsewhere):
            _say(sentence(error))
        return 2


def _no_memory(error: Exception) -> Refused | None:
    """The refusal where memory could not be had, with how much of it was asked for; None for other errors."""
    from seqsru.data.room import memory
    from seqsru.regular import size_text

    text = str(error)
    asked = re.search(r"(?:tried to allocate|[Uu]nable to allocate) ([0-9.]+ ?(?:bytes|[KMGTPE]iB))", text)
    if asked is None and not isinstance(error, MemoryError):
        return None
    what = asked[1].replace(" bytes", "") if asked else ""
    if what.isdecimal():
        what = size_text(int(what))
    found = f"that {what or 'so much'} more cannot be had of {size_text(memory())}"
    return Refused("memory for the work", found, "lower a size, such as that of a batch, a beam or a model")


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
    processes = os.environ.get("WORLD_SIZE") or "1"
    if processes not in ("0", "1") and chosen in COMMANDS and chosen not in TOGETHER:
        do = f"start it without torchrun; several work on {', '.join(TOGETHER)}"
        raise Refused(f"one process for seqsru {chosen}", processes, do)
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
            from seqsru.data.room import no_room

            return f"seqsru: {no_room(1 if error.filename is None else error.filename, error)}"
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
