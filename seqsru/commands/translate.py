"""``seqsru translate``."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, TextIO

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
from seqsru.errors import Refused
from seqsru.evaluation.plots import new_figure, plot_attention
from seqsru.tasks.answers import LineTranslator
from seqsru.tasks.sharing import leads, read_once, shared


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the command."""
    parser.description = """Translate text: one line out for each line in, in order; empty lines stay empty.

Lines come from stdin or FILE and go to stdout. Of a stream what has arrived is answered at once, up to a
thousand lines together; a translation does not depend on the others. With --output, Ctrl-C leaves the lines
that were done in FILE.part, and FILE as it was.

  seqsru translate runs/en-de < in.txt > out.txt
  echo half past seven | seqsru translate runs/quickstart
  seqsru translate runs/en-de in.txt --beam 10 --n-best 3 --moses     # 0 ||| text ||| log_prob= -1.2 ||| -0.3
  seqsru translate runs/en-de in.txt --json --attention               # one JSON object a line
  seqsru translate runs/a in.txt --ensemble runs/b --ensemble runs/c  # the mean of their probabilities
  seqsru translate runs/en-de in.txt --plot attention                 # attention/line-1.png, …
"""
    add_run(parser, several=True)
    parser.add_argument("file", metavar="FILE", type=Path, nargs="?", help="text (default: stdin)")
    parser.add_argument("--output", metavar="FILE", type=Path, help="where to write (default: stdout)")
    form = parser.add_mutually_exclusive_group()
    form.add_argument(
        "--moses", action="store_true", help="n-best lists: index ||| text ||| log_prob= x ||| score"
    )
    form.add_argument(
        "--json",
        action="store_true",
        help="a JSON object a line: text, score, log_prob, tokens, alternatives",
    )
    parser.add_argument(
        "--attention",
        action="store_true",
        help="with --json: weights on the source for each target token, and labels",
    )
    parser.add_argument(
        "--plot", metavar="FOLDER", type=Path, help="draw the attention of each line to FOLDER/line-N.png"
    )
    add_reading(parser)
    add_answers(parser, "translate")
    add_threads(parser)


def run(arguments: argparse.Namespace) -> int:
    """Translate."""
    use_threads(arguments)
    attention = arguments.attention or arguments.plot is not None
    translator: LineTranslator = ask(
        open_run(arguments),
        "translate",
        arguments,
        attention,
        reads=[arguments.file],
        writes={"--output": arguments.output},
    )
    if translator.outputs > 1 and not (arguments.json or arguments.moses):
        do = "plain text has one line for each line in"
        raise Refused("--json or --moses with more than one output a line", "neither", do)
    if arguments.attention and not arguments.json:
        do = "add it, or draw the attention with --plot"
        raise Refused("--json with --attention", "none", do)
    if arguments.plot is not None:
        new_figure("line.png", width=1.0, height=1.0)  # is matplotlib there? asked before the work
        arguments.plot.mkdir(parents=True, exist_ok=True)
    cut, number = LineReport(str(arguments.file or "<stdin>")), 0
    with output(arguments.output) as stream, progress(arguments.output) as bar:
        for lines in read_once(chunks(arguments.file, arguments, cut)):
            for translation in shared(translator.translate, [line or "" for line in lines]):
                _write(translation, number, arguments, stream)
                number += 1
                if translation.cut:
                    cut.add("longer than max_source, cut", number)
                if arguments.plot is not None and leads() and translation.attention is not None:
                    plot_attention(
                        translation.attention,
                        translation.source_labels,
                        translation.target_labels,
                        arguments.plot / f"line-{number}.png",
                    )
            stream.flush()
            bar.update(len(lines))
    if cut:
        tell(str(cut))
    return 0


def _write(translation: Any, index: int, arguments: argparse.Namespace, stream: TextIO) -> None:
    """Write one line's translation in the form that was asked for."""
    if arguments.json:
        found = {"index": index, **translation.as_dict(attention=arguments.attention)}
        print(json.dumps(found, ensure_ascii=False), file=stream)
    elif arguments.moses:
        for one in (translation, *translation.alternatives):
            print(f"{index} ||| {one.text} ||| log_prob= {one.log_prob:.6f} ||| {one.score:.6f}", file=stream)
    else:
        print(translation.text, file=stream)
