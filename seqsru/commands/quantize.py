"""``seqsru quantize``."""

from __future__ import annotations

import argparse
from pathlib import Path

from seqsru import runs
from seqsru.commands.flags import add_settings, complete, placed, tell
from seqsru.engine.shortlist import Shortlist
from seqsru.errors import Refused
from seqsru.settings import from_signature

MAKING = from_signature(runs.quantize, skip=["run", "output", "shortlist", "tell"])
LEARNING = from_signature(Shortlist)
NONE = "none"


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the command."""
    parser.description = """Make one file of a run, which the compiled engine decodes from, on one core.

The file holds packed weights, tokenizers and settings, for any processor; translate, score, generate,
evaluate and latency take it in place of the run, and need no torch. For a translation model a shortlist is
learned from the training text: the target pieces that a source can lead to, which are all that is scored.

  seqsru quantize runs/en-de                              # runs/en-de.seqsru, int8, with a shortlist
  seqsru quantize runs/en-de --shortlist none --precision float32 --output exact.seqsru
  seqsru quantize runs/lm                                 # a language model has no shortlist
"""
    parser.set_defaults(keeps_result=True)  # in the file, so standard output may be closed
    parser.add_argument("run_directory", metavar="RUN", type=Path, help="what `seqsru train` wrote")
    parser.add_argument(
        "--output", metavar="FILE", type=Path, help="the file to write (default: RUN.seqsru beside the run)"
    )
    add_settings(parser, "what to make", MAKING)
    parser.add_argument(
        "--shortlist",
        choices=["learned", NONE],
        help="learn one from the training text, or leave it out (default: learned for a translation model)",
    )
    add_settings(parser, "the shortlist", LEARNING)


def run(arguments: argparse.Namespace) -> int:
    """Quantise."""
    directory: Path = arguments.run_directory
    options = complete(arguments, LEARNING)
    asked = [name for name in LEARNING.entries if vars(arguments)[name] is not None]
    if arguments.shortlist == NONE and asked:
        raise Refused(f"a shortlist with --{asked[0]}", "--shortlist none", "leave one of them out")
    shortlist = None if arguments.shortlist == NONE else options.of(Shortlist).make()
    making = complete(arguments, MAKING)
    if shortlist is not None and arguments.shortlist is None and not asked:
        shortlist = shortlist if runs.translates(directory) else None
    with placed(making):
        path = runs.quantize(directory, arguments.output, **making, shortlist=shortlist, tell=tell)
    size = path.stat().st_size / 1e6
    tell(f"{path}: {size:.1f} MB, {making['precision']}" + (", with a shortlist" if shortlist else ""))
    print(path)
    return 0
