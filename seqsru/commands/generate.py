"""``seqsru generate``."""

from __future__ import annotations

import argparse

from seqsru.commands.flags import (
    add_answers,
    add_reading,
    add_run,
    add_threads,
    ask,
    chunks,
    open_run,
    tell,
    use_threads,
)
from seqsru.data import LineReport


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the command."""
    parser.description = """Continue text with a language model, drawing each token at random.

Each line of stdin is the beginning of a line; --prompt gives one instead. Drawn lines go to stdout, whole.

  seqsru generate runs/lm --prompt "the company" --count 5 --temperature 0.8
  seqsru generate runs/characters --prompt "ROMEO:" --lines 9
  seqsru generate runs/lm --top-p 0.9 < beginnings.txt
"""
    add_run(parser)
    parser.add_argument("--prompt", metavar="TEXT", help="beginning of a line (default: the lines of stdin)")
    add_reading(parser)
    add_answers(parser, "generate")
    add_threads(parser)


def run(arguments: argparse.Namespace) -> int:
    """Generate."""
    use_threads(arguments)
    continued = ask(open_run(arguments), "generate", arguments)
    report = LineReport("<stdin>")
    for lines in chunks(None, arguments, report) if arguments.prompt is None else [[arguments.prompt]]:
        for line in lines:
            for text in continued(line) if line is not None else ():
                print(text, flush=True)
    if report:
        tell(str(report))
    return 0
