"""``seqsru distill``."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from os import fspath
from pathlib import Path
from typing import Protocol, TextIO

from seqsru.commands.flags import (
    CHUNK,
    READING,
    add_answers,
    add_reading,
    add_run,
    add_threads,
    ask,
    complete,
    expect_files,
    open_run,
    output,
    progress,
    tell,
    use_threads,
)
from seqsru.data import LineReport, read_lines, read_parallel
from seqsru.data.files import text_digest
from seqsru.data.inputs import STANDARD
from seqsru.data.lines_done import going_on, partial
from seqsru.tasks.answers import Distiller


class Sink(Protocol):
    """Where lines go."""

    done: int

    def add(self, lines: Sequence[str]) -> None:
        """Take the next lines."""
        ...


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the command."""
    parser.description = """Translate a training text, for a smaller model to learn from (Kim and Rush 2016).

A line out for each line of SOURCE, in order. With REFERENCE, its own translation, each is that of the n best
translations which is closest to the reference; without, it is the best. Several runs are a teacher too.
With --output an interrupted work goes on when the command is given again: FILE.partial has what was done.

  seqsru distill runs/a train.en train.de --ensemble runs/b --output distilled.de
  seqsru distill runs/a train.en train.de --beam 10 --pick bleu --output distilled.de
  seqsru distill runs/a more.en --output more.de              # of a text that nobody translated

The student's config names the result beside or in place of the original, each with its weight:

  data:
    train:
      - {source: train.en, target: train.de}
      - {source: train.en, target: distilled.de, weight: 1.0}
"""
    add_run(parser, several=True)
    parser.add_argument(
        "files", metavar="FILE", type=Path, nargs="*", help="SOURCE, and REFERENCE; - is stdin"
    )
    parser.add_argument("--output", metavar="FILE", type=Path, help="where to write (default: stdout)")
    add_reading(parser)
    add_answers(parser, "distill")
    add_threads(parser)


def run(arguments: argparse.Namespace) -> int:
    """Distill."""
    use_threads(arguments)
    trained, files, path = open_run(arguments), arguments.files, arguments.output
    writes = {"--output": path}
    if path is not None and _goes_on(path):
        writes["--output with .partial"] = partial(path)
    distiller: Distiller = ask(trained, "distill", arguments, len(files) == 2, reads=files, writes=writes)
    expect_files(files, (1, 2), "the command takes SOURCE, or SOURCE and REFERENCE")
    reading, references = complete(arguments, READING), None
    if len(files) == 1:
        text = read_lines(files[0], **reading)
        sources, numbers, report = text.lines, text.numbers, text.report
    else:
        pair = read_parallel(*files, **reading)
        sources, references, numbers, report = pair.source, pair.target, pair.numbers, pair.report
    if report:
        tell(str(report))
    signature = trained.signed(
        {
            "data": files[0].name,
            "lines": len(sources),
            **distiller.fields,
            "text": text_digest(sources, *([] if references is None else [references])),
        }
    )
    kept = dict(zip(numbers, range(len(sources))))
    cut = LineReport(str(files[0]), report.total)
    with _sink(path, signature) as sink, progress(path) as bar:
        if sink.done:
            tell(f"{path}: goes on after {sink.done:,} of {report.total:,} lines")
        bar.update(sink.done)
        for first in range(sink.done, report.total, CHUNK):
            lines = range(first + 1, min(first + CHUNK, report.total) + 1)
            places = [kept[number] for number in lines if number in kept]
            written = distiller.write(
                [sources[place] for place in places],
                None if references is None else [references[place] for place in places],
            )
            texts = dict(zip(places, written))
            for number in lines:
                if number in kept and texts[kept[number]].cut:
                    cut.add("longer than max_source, cut", number)
            sink.add([texts[kept[number]].text if number in kept else "" for number in lines])
            bar.update(len(lines))
    if cut:
        tell(str(cut))
    tell(signature)
    return 0


class _Stream:
    """A stream, where nothing was done before."""

    done = 0

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def add(self, lines: Sequence[str]) -> None:
        """Write lines."""
        self._stream.writelines(line + "\n" for line in lines)
        self._stream.flush()


@contextmanager
def _sink(path: Path | None, signature: str) -> Iterator[Sink]:
    """Where the lines go, whole at the end where that is a file."""
    if path is None or not _goes_on(path):
        with output(path) as stream:
            yield _Stream(stream)
        return
    try:
        with going_on(path, signature, CHUNK) as done:
            yield done
            done.finish()
    except KeyboardInterrupt as error:
        do = "give the command again and it goes on"
        raise type(error)(f"the lines that were done are in {partial(path)}: {do}") from None


def _goes_on(path: Path) -> bool:
    """Whether a path is a file or will be one: what was written to a pipe or a device has gone."""
    return fspath(path) != STANDARD and (path.is_file() or not path.exists())
