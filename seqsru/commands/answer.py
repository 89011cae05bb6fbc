"""``seqsru answer``."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from seqsru.commands.flags import (
    add_answers,
    add_reading,
    add_run,
    add_threads,
    ask,
    chunks,
    open_run,
    output,
    progress,
    tell,
    use_threads,
)
from seqsru.data import LineReport
from seqsru.data.asked import AskedLine, split_line
from seqsru.errors import Refused
from seqsru.tasks.question_answers import LineAnswerer

NOTHING = AskedLine("", ())  # of an empty line


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the command."""
    parser.description = """Answer questions from paragraphs: one line out for each line in, in order.

A line in is a question and one or several paragraphs, with a tab before each; with --form json an object with
question, paragraphs and, if wanted, id. A line out is the best answer of all paragraphs, as it is written
there, with its probability among all answers that they hold, its score, and its paragraph, counted from 0.
Empty lines stay empty. A paragraph of any length is read whole.

  printf 'Who won?\\tThe Broncos won.\\n' | seqsru answer runs/squad   # The Broncos	probability=0.8712	…
  seqsru answer runs/squad questions.tsv --json --n-best 3             # one JSON object a line
  seqsru answer runs/squad questions.jsonl --form json --json
"""
    add_run(parser)
    parser.add_argument("file", metavar="FILE", type=Path, nargs="?", help="questions (default: stdin)")
    parser.add_argument("--output", metavar="FILE", type=Path, help="where to write (default: stdout)")
    parser.add_argument(
        "--form", choices=["tabs", "json"], default="tabs", help="what a line in is (default tabs)"
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="a JSON object a line: text, score, probability, paragraph, start, end, alternatives",
    )
    add_reading(parser)
    add_answers(parser, "answer")
    add_threads(parser)


def run(arguments: argparse.Namespace) -> int:
    """Answer."""
    use_threads(arguments)
    answerer: LineAnswerer = ask(
        open_run(arguments),
        "answer",
        arguments,
        reads=[arguments.file],
        writes={"--output": arguments.output},
    )
    if answerer.outputs > 1 and not arguments.json:
        do = "plain text has one line for each line in"
        raise Refused("--json with more than one output a line", "none", do)
    number, report = 0, LineReport(str(arguments.file or "<stdin>"))
    with output(arguments.output) as stream, progress(arguments.output) as bar:
        for lines in chunks(arguments.file, arguments, report):
            asked, refusal = _read(lines, number, report.name, arguments)
            for one, found in zip(asked, answerer.answer(asked)):
                if arguments.json:
                    name = {} if one.id is None else {"id": one.id}
                    record = {"index": number, **name, **found.as_dict()}
                    print(json.dumps(record, ensure_ascii=False), file=stream)
                else:
                    print(found.line(), file=stream)
                number += 1
            stream.flush()
            if refusal is not None:  # what came before is answered, whenever it arrived
                raise refusal
            bar.update(len(lines))
    if report:
        tell(str(report))
    return 0


def _read(
    lines: list[str | None], first: int, name: str, arguments: argparse.Namespace
) -> tuple[list[AskedLine], Refused | None]:
    """The questions of lines, up to the first that is none, and why it is none."""
    asked = []
    for number, line in enumerate(lines, first + 1):
        try:
            empty = line is None or not line.strip()
            asked.append(NOTHING if empty else split_line(line or "", f"{name}:{number}", arguments.form))
        except Refused as refusal:
            return asked, refusal
    return asked, None
