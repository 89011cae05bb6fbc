"""``seqsru transcribe``."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from seqsru.commands.flags import (
    add_answers,
    add_run,
    add_threads,
    ask,
    open_run,
    output,
    progress,
    tell,
    use_threads,
)
from seqsru.data.lines import read_lines
from seqsru.data.utterances import MANIFEST
from seqsru.errors import Refused
from seqsru.tasks.recognition_answers import Transcriber

AT_ONCE = 16  # files that are worked on together


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the command."""
    parser.description = """Write down recordings: one line out for each, in order.

A FILE is a recording, audio or features as the model was trained with, or a manifest (.tsv), whose recordings
it stands for: id, file, transcript and speaker between tabs, the transcript being of no matter here. Where no
FILE is given, names of recordings come from stdin, one a line.

  seqsru transcribe runs/an4 one.flac two.flac
  seqsru transcribe runs/an4 test.tsv --beam 16 --language-model an4.arpa --output test.txt
  seqsru transcribe runs/an4 one.flac --piece 0.5 --json     # in pieces, as a stream; says how long that took
"""
    add_run(parser)
    parser.add_argument(
        "files",
        metavar="FILE",
        type=Path,
        nargs="*",
        help="recordings or manifests (default: as stdin names them)",
    )
    parser.add_argument("--output", metavar="FILE", type=Path, help="where to write (default: stdout)")
    parser.add_argument(
        "--json",
        action="store_true",
        help="a JSON object a recording: index, file, text, score, log_prob, alternatives",
    )
    add_answers(parser, "transcribe")
    add_threads(parser)


def run(arguments: argparse.Namespace) -> int:
    """Transcribe."""
    use_threads(arguments)
    transcriber: Transcriber = ask(
        open_run(arguments),
        "transcribe",
        arguments,
        reads=arguments.files or [None],
        writes={"--output": arguments.output},
    )
    if transcriber.outputs > 1 and not arguments.json:
        do = "plain text has one line for each recording"
        raise Refused("--json with more than one output a recording", "none", do)
    files = arguments.files or [Path(line) for line in read_lines("-").lines if line]
    number = 0
    with output(arguments.output) as stream, progress(arguments.output) as bar:
        for paths, results in _transcribed(files, transcriber):
            for path, found in zip(paths, results):
                if arguments.json:
                    record = {"index": number, "file": str(path), **found.as_dict()}
                    print(json.dumps(record, ensure_ascii=False), file=stream)
                else:
                    print(found.text, file=stream)
                number += 1
            stream.flush()
            bar.update(len(paths))
    if transcriber.told():
        tell(transcriber.told())
    return 0


def _transcribed(
    files: Sequence[Path], transcriber: Transcriber
) -> Iterator[tuple[Sequence[Path], Sequence[Any]]]:
    """Recordings with their results, some at a time, in order."""
    waiting: list[Path] = []
    for file in files:
        if file.suffix != MANIFEST:
            waiting.append(file)
        if waiting and (len(waiting) == AT_ONCE or file.suffix == MANIFEST):
            yield waiting, transcriber.files(waiting)
            waiting = []
        if file.suffix == MANIFEST:
            yield transcriber.manifest(file)
    if waiting:
        yield waiting, transcriber.files(waiting)
