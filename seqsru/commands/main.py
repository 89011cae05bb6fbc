"""The way in: finds the command, tells a refusal in one sentence, and says what a signal does."""

from __future__ import annotations

import argparse
import importlib
import io
import os
import sys
import warnings
from collections.abc import Sequence
from typing import TextIO

from seqsru import __version__
from seqsru.commands import COMMANDS
from seqsru.commands.parser import Parser
from seqsru.errors import Refused, did_you_mean

ABOUT = """Train recurrent models of text: language models, translation, classification; use and measure them.

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
    for stream, errors in ((sys.stdout, "strict"), (sys.stderr, "backslashreplace")):
        if isinstance(stream, io.TextIOWrapper):  # text is UTF-8 and lines end in \n, in any locale
            stream.reconfigure(encoding="utf-8", errors=errors, newline="\n")
    showwarning, warnings.showwarning = warnings.showwarning, _show_warning
    try:
        try:
            status = _run(arguments)
        except SystemExit as stop:  # argparse's way, after --help or a mistake
            status = int(stop.code or 0)
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        # Whoever read our output has gone, as `head` does. Python would complain again when it closes stdout.
        if isinstance(sys.stdout, io.TextIOWrapper):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        print("seqsru: interrupted", file=sys.stderr)
        return 130
    except (Refused, OSError) as error:  # anything else is a bug, which a traceback should show
        if os.environ.get("SEQSRU_TRACEBACK"):
            raise
        print(sentence(error), file=sys.stderr)
        return 2
    finally:
        warnings.showwarning = showwarning


def _run(arguments: list[str]) -> int:
    if sys.stdout is None:  # so it is where it was closed before Python started
        raise Refused("standard output to write to", "that it is closed", "send it to a file or to /dev/null")
    chosen = arguments[0] if arguments else ""
    if chosen and not chosen.startswith("-") and chosen not in COMMANDS:
        do = did_you_mean(chosen, COMMANDS) or "see `seqsru --help`"
        raise Refused(f"a command ({', '.join(COMMANDS)})", repr(chosen), do)
    if chosen in COMMANDS:
        command = importlib.import_module(f"seqsru.commands.{chosen}")
        parser = Parser(f"seqsru {chosen}", formatter_class=_help)
        command.declare(parser)
        parser.check_flags(arguments[1:])
        status: int = command.run(parser.parse_intermixed_args(arguments[1:]))
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
    print(f"seqsru: warning: {message}", file=sys.stderr)
