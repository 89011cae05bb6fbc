"""What the commands share: flags read from signatures, the run they load, text in and text out."""
import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import torch

from seqsru import build, config
from seqsru.data import Report, iter_lines, read_lines
from seqsru.data.files import write_whole
from seqsru.schema import REQUIRED, Section, Setting, describe, from_signature, kind_text, shown

__all__ = ["add_run", "add_settings", "chunks", "describe", "given", "open_run", "output", "say", "write_json"]

LOADING = from_signature(build.load, skip=["run"])
CHUNK = 4096                            # lines of standard input that are worked on together


def say(line: str) -> None:
    """Tell the person at the terminal something that is no result."""
    print(line, file=sys.stderr, flush=True)


def add_settings(parser: argparse.ArgumentParser, title: str, section: Section, default: str = "") -> None:
    """Give a command one flag for each setting of a section.

    Parameters
    ----------
    parser : ArgumentParser
        The command's.
    title : str
        Heading of the flags in the help.
    section : Section
        Settings only.
    default : str
        What holds where a flag is not given, in words; empty for the setting's own default.
    """
    group = parser.add_argument_group(title)
    for name, setting in section.entries.items():
        assert isinstance(setting, Setting)
        held = default or ("" if setting.default is REQUIRED else f"default {shown(setting.default)}")
        text = f"{setting.text} ({'; '.join(filter(None, [kind_text(setting.kind), held]))})"
        group.add_argument(flag(name), dest=name, metavar=name.rpartition("_")[2].upper(),
                           help=text.replace("``", "`").replace("%", "%%"))


def flag(name: str) -> str:
    """The flag of a setting: ``--n-best``."""
    return "--" + name.replace("_", "-")


def complete(options: argparse.Namespace, section: Section) -> dict[str, Any]:
    """The settings of a section: flags that were given, checked, and defaults."""
    texts = {name: getattr(options, name) for name in section.entries if getattr(options, name) is not None}
    return config.check(section, texts).values


def given(options: argparse.Namespace, section: Section) -> dict[str, Any]:
    """The settings of a section whose flags were given, checked."""
    asked = {name: setting for name, setting in section.entries.items() if getattr(options, name) is not None}
    return complete(options, Section(asked))


def add_run(parser: argparse.ArgumentParser) -> None:
    """Declare the run directory and how to load it."""
    parser.add_argument("run_directory", metavar="RUN", type=Path, help="what `seqsru train` wrote")
    add_settings(parser, "what to load", LOADING)


def open_run(options: argparse.Namespace) -> build.Run:
    """Load the run that a command names."""
    return build.open_run(options.run_directory, **complete(options, LOADING))


def add_threads(parser: argparse.ArgumentParser) -> None:
    """Declare the number of threads."""
    parser.add_argument("--threads", metavar="N", type=int,
                        help="threads of the CPU (a whole number; default torch's own choice)")


def use_threads(options: argparse.Namespace) -> None:
    """Set the number of threads that was asked for."""
    if options.threads is not None:
        if options.threads < 1:
            raise ValueError(f"expected --threads of at least 1, found {options.threads}; leave it out for "
                             "torch's own choice")
        torch.set_num_threads(options.threads)


def chunks(path: Path | None) -> Iterator[list[str]]:
    """Lines to work on together: all of a file; of standard input, up to `CHUNK`, or one from a terminal."""
    if path is not None:
        yield read_lines(path).lines
        return
    size = 1 if sys.stdin.isatty() else CHUNK
    lines: list[str] = []
    for _, line in iter_lines(sys.stdin.buffer, Report("<stdin>")):
        lines.append(line)
        if len(lines) == size:
            yield lines
            lines = []
    if lines:
        yield lines


@contextmanager
def output(path: Path | None) -> Iterator[TextIO]:
    """A file to write to, or standard output."""
    if path is None:
        yield sys.stdout
    else:
        with open(path, "w", encoding="utf-8", newline="\n") as stream:
            yield stream


def write_json(path: Path | None, content: Mapping[str, Any]) -> None:
    """Write a result where ``--json`` says, if it was given."""
    if path is not None:
        write_whole(path, (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())
