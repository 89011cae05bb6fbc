"""What the commands share: flags read from signatures, the run they load, text in and text out.

The flags of a command are parameters of what it calls, read as settings are: a new option of the search is a
flag of ``seqsru translate`` with no edit here, and so is a flag that a task's answer takes.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import torch
from tqdm import tqdm

from seqsru import runs
from seqsru import settings as strict
from seqsru.data import LineReport, iter_lines, read_lines
from seqsru.data.files import write_whole
from seqsru.data.lines import standard_input
from seqsru.errors import Refused, check_threads
from seqsru.settings import REQUIRED, Section, Setting, Values, from_signature, kind_text, shown
from seqsru.settings.kinds import alternatives, element, without_null
from seqsru.tasks import TASKS
from seqsru.tasks.task import Trained

LOADING = from_signature(runs.load, skip=["run", "kind"])
CHUNK = 1024  # lines that are worked on together


def tell(line: str) -> None:
    """Tell the person at the terminal something that is no result."""
    print(line, file=sys.stderr, flush=True)


# ---- flags -----------------------------------------------------------------------------------------


def flag(name: str) -> str:
    """The flag of a setting: ``--n-best``."""
    return "--" + name.replace("_", "-")


def add_settings(parser: argparse.ArgumentParser, title: str, section: Section) -> None:
    """Give a command one flag for each setting of a section; a list is given by repeating the flag."""
    group = parser.add_argument_group(title)
    for name, setting in section.entries.items():
        assert isinstance(setting, Setting)
        kind = element(setting.kind)
        held = "" if setting.default in (REQUIRED, None) else f"default {shown(setting.default)}"
        if kind is not None:
            held = "may be repeated"
        words = kind_text(kind or without_null(setting.kind))
        text = f"{setting.text.rstrip('.')} ({'; '.join(filter(None, [words, held]))})"
        group.add_argument(
            flag(name),
            dest=name,
            metavar="FILE" if Path in alternatives(setting.kind) else name.rpartition("_")[2].upper(),
            action="store" if kind is None else "append",
            help=text.replace("``", "`").replace("%", "%%"),
        )


def complete(arguments: argparse.Namespace, section: Section) -> Values:
    """The settings of a section: flags that were given, checked, and defaults."""
    named = vars(arguments)
    texts = {name: named[name] for name in section.entries if named[name] is not None}
    return strict.check(section, texts)


def given(arguments: argparse.Namespace, section: Section) -> Values:
    """The settings of a section whose flags were given, checked."""
    named = vars(arguments)
    asked = {name: setting for name, setting in section.entries.items() if named[name] is not None}
    return complete(arguments, Section(asked))


# ---- the run and its task --------------------------------------------------------------------------


def add_run(parser: argparse.ArgumentParser) -> None:
    """Declare the run directory and how to load it."""
    parser.add_argument("run_directory", metavar="RUN", type=Path, help="what `seqsru train` wrote")
    add_settings(parser, "what to load", LOADING)


def open_run(arguments: argparse.Namespace, directory: Path | None = None) -> Trained:
    """Load the run that a command names, or another one in the same way."""
    return runs.open_run(directory or arguments.run_directory, **complete(arguments, LOADING))


def add_answers(parser: argparse.ArgumentParser, command: str) -> None:
    """Declare the flags that a command has for each task that answers it; those of several tasks once."""
    declared: set[str] = set()
    for task in TASKS.values():
        if command not in task.answers:
            continue
        entries = task.answers[command].flags.entries
        new = {name: setting for name, setting in entries.items() if name not in declared}
        declared |= new.keys()
        if new:
            add_settings(parser, task.noun.partition(" ")[2] + "s", Section(new))


def ask(trained: Trained, command: str, arguments: argparse.Namespace, *given_to_it: object) -> Any:
    """Ask a run's task for what a command needs, with the flags that were given.

    Raises
    ------
    Refused
        The task does not answer the command, or a flag that was given belongs to another task.
    """
    able, named = [task for task in TASKS.values() if command in task.answers], vars(arguments)
    if command not in trained.task.answers:
        raise Refused(
            f"a run of {' or '.join(task.noun for task in able)}",
            f"one of {trained.task.noun}",
            f"use this one with {', '.join(trained.task.answers)}",
        )
    answer = trained.task.answers[command]
    for task in able:
        for name in task.answers[command].flags.entries:
            if named[name] is not None and name not in answer.flags.entries:
                raise Refused(f"{flag(name)} with {task.noun}", trained.task.noun, "leave it out")
    flags = given(arguments, answer.flags)
    try:
        return answer.function(trained, *given_to_it, **flags)
    except Refused as refusal:
        if refusal.setting in flags:
            raise flags.error(refusal) from refusal
        raise


def add_threads(parser: argparse.ArgumentParser) -> None:
    """Declare the number of threads."""
    parser.add_argument(
        "--threads",
        metavar="N",
        type=int,
        help="threads of the CPU (a whole number; default torch's own choice)",
    )


def use_threads(arguments: argparse.Namespace) -> None:
    """Set the number of threads that was asked for."""
    if arguments.threads is not None:
        if arguments.threads < 1:
            do = "leave it out for torch's own choice"
            raise Refused("--threads of at least 1", str(arguments.threads), do)
        check_threads(**{"--threads": arguments.threads})
        torch.set_num_threads(arguments.threads)


# ---- text in and text out --------------------------------------------------------------------------


def chunks(path: Path | None) -> Iterator[list[str]]:
    """Lines of a file or of standard input, up to `CHUNK` to work on together; from a terminal one by one."""
    if path is not None and str(path) != "-":
        lines = read_lines(path).lines
        yield from (lines[first : first + CHUNK] for first in range(0, len(lines), CHUNK))
        return
    stream = standard_input()
    size = 1 if sys.stdin.isatty() else CHUNK
    lines = []
    for _, line in iter_lines(stream, LineReport("<stdin>")):
        lines.append(line)
        if len(lines) == size:
            yield lines
            lines = []
    if lines:
        yield lines


def expect_files(files: Sequence[Path], counts: Sequence[int], why: str) -> None:
    """Refuse another number of files than a command can use."""
    if len(files) not in counts:
        what = "file" if list(counts) == [1] else "files"
        raise Refused(f"{' or '.join(map(str, counts))} {what}", str(len(files)), why)


def progress(path: Path | None) -> tqdm[Any]:
    """A bar of lines on stderr, if that is a terminal and the result of the command does not go there too."""
    return tqdm(unit="line", disable=True if path is None and sys.stdout.isatty() else None)


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
