"""What the commands share: flags read from signatures, the run they load, text in and text out.

The flags of a command are parameters of what it calls, read as settings are: a new option of the search is a
flag of ``seqsru translate`` with no edit here, and so is a flag that a task's answer takes.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from tqdm import tqdm

from seqsru import runs
from seqsru import settings as strict
from seqsru.data import LineReport, read_lines
from seqsru.data.inputs import STANDARD, Arriving, check_sources, opened, readable_once
from seqsru.data.json_files import finite
from seqsru.data.lines import iter_all_lines
from seqsru.data.outputs import check_outputs, write_output, written
from seqsru.engine.file import is_package
from seqsru.errors import Refused, check_threads
from seqsru.settings import REQUIRED, Section, Setting, Values, from_signature, kind_text, shown
from seqsru.settings.kinds import alternatives, element, without_null
from seqsru.tasks.answers import Trained
from seqsru.tasks.kinds import kinds
from seqsru.tasks.sharing import leads

LOADING = from_signature(runs.load, skip=["run", "kind", "threads"])
READING = from_signature(read_lines, skip=["path"])
CHUNK = 1024  # lines that are worked on together


def tell(line: str) -> None:
    """Tell the person at the terminal something that is no result."""
    if not leads():
        return
    with suppress(OSError):  # whoever listened has gone, and the work goes on
        print(line, file=sys.stderr, flush=True)


# ---- flags -----------------------------------------------------------------------------------------


def flag(name: str) -> str:
    """The flag of a setting: ``--n-best``."""
    return "--" + name.replace("_", "-")


def add_settings(parser: argparse.ArgumentParser, title: str, section: Section) -> None:
    """Give a command one flag for each setting of a section.

    A list is given by repeating the flag; what is true or false is false, and true where the flag is given.
    """
    group = parser.add_argument_group(title)
    for name, setting in section.entries.items():
        assert isinstance(setting, Setting)
        if setting.kind is bool:  # off unless it is there: one that takes a value would take a file for it
            text = setting.text.rstrip(".").replace("``", "`").replace("%", "%%")
            group.add_argument(flag(name), dest=name, action="store_const", const="true", help=text)
            continue
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


@contextmanager
def placed(flags: Values) -> Iterator[None]:
    """Say of a refused flag that it was given on the command line."""
    try:
        yield
    except Refused as refusal:
        if refusal.setting in flags:
            raise flags.error(refusal) from refusal
        raise


# ---- the run and its task --------------------------------------------------------------------------


def add_run(parser: argparse.ArgumentParser, several: bool = False) -> None:
    """Declare the run directory, with ``several`` others that predict together with it, and how to load."""
    parser.add_argument(
        "run_directory", metavar="RUN", type=Path, help="what `seqsru train` or `seqsru quantize` wrote"
    )
    if several:
        parser.add_argument(
            "--ensemble",
            metavar="RUN",
            type=Path,
            action="append",
            default=[],
            help="another run of a translation model with the same tokenizers: the mean of all probabilities "
            "is taken at each step (may be repeated)",
        )
    add_settings(parser, "what to load", LOADING)


def open_run(arguments: argparse.Namespace, directory: Path | None = None) -> Trained:
    """Load the run that a command names, or another one in the same way."""
    flags = complete(arguments, LOADING)
    with placed(flags):
        given_threads = vars(arguments).get("threads")
        threads = given_threads if isinstance(given_threads, int) else 1  # latency has a protocol of its own
        if others := vars(arguments).get("ensemble"):
            return runs.open_together([arguments.run_directory, *others], **flags, threads=threads)
        return runs.open_run(directory or arguments.run_directory, **flags, threads=threads)


def add_answers(parser: argparse.ArgumentParser, command: str) -> None:
    """Declare the flags that a command has for each task that answers it; those of several tasks once."""
    declared: set[str] = set()
    for task in kinds().values():
        if command not in task.answers:
            continue
        entries = task.answers[command].flags.entries
        new = {name: setting for name, setting in entries.items() if name not in declared}
        declared |= new.keys()
        if new:
            add_settings(parser, task.noun.partition(" ")[2] + "s", Section(new))


def ask(
    trained: Trained,
    command: str,
    arguments: argparse.Namespace,
    *given_to_it: object,
    reads: Sequence[Path | None] = (),
    writes: Mapping[str, Path | None] = {},
) -> Any:
    """Ask a run's task for what a command needs, with the flags that were given.

    Parameters
    ----------
    trained : Trained
    command : str
    arguments : argparse.Namespace
    *given_to_it : object
        What the answer takes before the flags.
    reads : sequence of Path or None
        What the command reads itself, None being standard input.
    writes : mapping of str to Path or None
        What it writes itself, by flag; None where it is not given.

    Raises
    ------
    Refused
        The task does not answer the command, a flag that was given belongs to another task, or files cannot
        be read or written as asked.
    """
    able, named = [task for task in kinds().values() if command in task.answers], vars(arguments)
    if command not in trained.task.answers:
        raise Refused(
            f"a run of {' or '.join(task.noun for task in able)}",
            f"one of {trained.task.noun}",
            f"use this one with {', '.join(trained.task.answers)}",
        )
    answer = trained.task.answers[command]
    for name in dict.fromkeys(name for task in able for name in task.answers[command].flags.entries):
        if named[name] is not None and name not in answer.flags.entries:
            takers = " or ".join(task.noun for task in able if name in task.answers[command].flags.entries)
            raise Refused(f"{flag(name)} with {takers}", trained.task.noun, "leave it out")
    flags = given(arguments, answer.flags)
    _check_files(
        trained,
        arguments,
        [path or Path(STANDARD) for path in reads]
        + [path for name, path in _paths(flags) if name not in answer.writes],
        {name: path for name, path in writes.items() if path is not None}
        | {flag(name): path for name, path in _paths(flags) if name in answer.writes},
    )
    with placed(flags):
        return answer.function(trained, *given_to_it, **flags)


def _paths(flags: Mapping[str, Any]) -> list[tuple[str, Path]]:
    """Flags that are paths, one or several."""
    several = ((name, value if isinstance(value, list) else [value]) for name, value in flags.items())
    return [(name, one) for name, values in several for one in values if isinstance(one, Path)]


def _check_files(
    trained: Trained, arguments: argparse.Namespace, reads: Sequence[Path], writes: Mapping[str, Path]
) -> None:
    """Refuse one stream for two texts, and outputs that would destroy an input, the run or its texts."""
    check_sources(*reads)
    task = trained.task
    folders = [(arguments.run_directory, task), (vars(arguments).get("against"), task)]
    folders += zip(vars(arguments).get("ensemble") or (), [one.task for _, one in trained.members[1:]])
    own = [path for run, of in folders if run is not None for path in runs.files_of(run, of)]
    check_outputs(writes, [*reads, *own])


def add_threads(parser: argparse.ArgumentParser) -> None:
    """Declare the number of threads."""
    parser.add_argument(
        "--threads",
        metavar="N",
        type=int,
        help="threads of the CPU (a whole number; default torch's own choice, 1 for the compiled engine)",
    )


def use_threads(arguments: argparse.Namespace) -> None:
    """Set the number of threads that was asked for."""
    if arguments.threads is not None:
        if arguments.threads < 1:
            do = "leave it out for torch's own choice"
            raise Refused("--threads of at least 1", str(arguments.threads), do)
        check_threads(**{"--threads": arguments.threads})
        if is_package(arguments.run_directory):
            return  # the engine is told by `open_run`
        import torch

        torch.set_num_threads(arguments.threads)


# ---- text in and text out --------------------------------------------------------------------------


def add_reading(parser: argparse.ArgumentParser) -> None:
    """Declare how lines are read."""
    add_settings(parser, "text", READING)


def chunks(
    path: Path | None, arguments: argparse.Namespace, report: LineReport
) -> Iterator[list[str | None]]:
    """Lines of a file or of a stream, up to `CHUNK` to work on together.

    Of a stream that is what has arrived: a line that nothing follows yet is not kept waiting. None stands for
    a line that is left out, so that what comes of the lines stays in step with them.
    """
    reading = complete(arguments, READING)
    source = path if path is not None else Path(STANDARD)
    with opened(source) as stream:
        if not readable_once(source):  # a file is known to be good before its first line is worked on
            whole = list(iter_all_lines(stream, report, **reading))
            yield from (whole[first : first + CHUNK] for first in range(0, len(whole), CHUNK))
            return
        arriving, lines = Arriving(stream), list[str | None]()
        try:
            for line in iter_all_lines(arriving, report, **reading):
                lines.append(line)
                if len(lines) == CHUNK or not arriving.more():
                    yield lines
                    lines = []
        except Refused:  # what came before the bad line is answered, whenever it arrived
            if lines:
                yield lines
            raise


def expect_files(files: Sequence[Path], counts: Sequence[int], why: str) -> None:
    """Refuse another number of files than a command can use."""
    if len(files) not in counts:
        what = "file" if list(counts) == [1] else "files"
        raise Refused(f"{' or '.join(map(str, counts))} {what}", str(len(files)), why)


def progress(path: Path | None) -> tqdm[Any]:
    """A bar of lines on stderr, if that is a terminal and the result of the command does not go there too."""
    hidden = not leads() or (path is None and sys.stdout.isatty())
    return tqdm(unit="line", disable=True if hidden else None)


@contextmanager
def output(path: Path | None) -> Iterator[TextIO]:
    """A file to write lines to, or standard output; nowhere in a process that leaves writing to another."""
    if not leads():
        with open(os.devnull, "w", encoding="utf-8") as stream:
            yield stream
    elif path is None:
        yield sys.stdout
    else:
        with written(path, keep_done=True) as stream:
            yield stream


def write_json(path: Path | None, content: Mapping[str, Any]) -> None:
    """Write a result where ``--json`` says, if it was given."""
    if path is not None and leads():
        write_output(path, (json.dumps(finite(content), indent=1, ensure_ascii=False) + "\n").encode())
