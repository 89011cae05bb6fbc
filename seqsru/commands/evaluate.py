"""``seqsru evaluate``."""

from __future__ import annotations

import argparse
from pathlib import Path

from seqsru.commands.flags import (
    add_answers,
    add_run,
    add_threads,
    ask,
    expect_files,
    open_run,
    tell,
    use_threads,
    write_json,
)
from seqsru.commands.pages import ask_for_huge_pages
from seqsru.errors import Refused, unknown
from seqsru.evaluation.items import shares_of
from seqsru.tasks.answers import Answering, Evaluation
from seqsru.tasks.sharing import leads

SPLITS = {"valid": "validation", "validation": "validation", "test": "test"}  # valid: as it was called once


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the command."""
    parser.description = """Measure a run on the texts its configuration names, or on others.

A language model: perplexity (a word, and a token), bits a token and a byte; with a softmax temperature, a
continuous cache or dynamic evaluation where asked, whose values are chosen on the validation text of the run
where not given. A translation model: BLEU and chrF of its translations by sacrebleu, on detokenised text. A
classifier: accuracy, macro F1, the confusion matrix, and precision, recall and F1 of each label. A reader:
SQuAD's exact match and F1, with their bootstrap intervals. A recogniser: word and character error rate with
their substitutions, deletions and insertions. Each number with its signature, on stdout.

  seqsru evaluate runs/lm                       # data.test of its configuration
  seqsru evaluate runs/lm --split validation --state separate
  seqsru evaluate runs/lm --dynamic rms --cache tune --temperature tune
  seqsru evaluate runs/en-de newstest.en newstest.de --beam 10 --average 5 --json bleu.json
  seqsru evaluate runs/en-zh newstest.en newstest.zh other.zh --tokenize zh
  seqsru evaluate runs/en-de --lowercase              # BLEU and chrF, cased and in lower case
  seqsru evaluate runs/en-de --baseline other.txt     # better than these translations? paired bootstrap
  seqsru evaluate runs/a --ensemble runs/b            # the mean of their probabilities at each step
  seqsru evaluate runs/squad dev.json --answers answers.json --baseline other.json
  seqsru evaluate runs/an4 --beam 16 --language-model an4.arpa
  seqsru evaluate runs/trec --confusion confusion.png --json trec.json
"""
    add_run(parser, several=True)
    parser.add_argument(
        "files",
        metavar="FILE",
        type=Path,
        nargs="*",
        help="a text, SOURCE and one or several REFERENCE, labelled lines, QUESTIONS or a manifest (default: "
        "those of --split)",
    )
    parser.add_argument("--split", choices=SPLITS, help="which texts of the configuration (default test)")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the numbers to this file too")
    parser.add_argument(
        "--items",
        metavar="FILE",
        type=Path,
        help="write what each line adds to the headline number, as JSON, to compare systems by",
    )
    parser.add_argument(
        "--measures",
        metavar="NAMES",
        help="further numbers for --items, with commas between them, which the file has in a list `further`",
    )
    add_answers(parser, "evaluate")
    add_threads(parser)


def run(arguments: argparse.Namespace) -> int:
    """Evaluate."""
    ask_for_huge_pages()
    use_threads(arguments)
    trained = open_run(arguments)
    files, task = arguments.files, trained.task
    if files and arguments.split:
        raise Refused("files or --split", "both", "leave one out")
    if files:
        takes = f"{task.noun} takes {' and '.join(task.reads)}"
        if not task.further:
            expect_files(files, [len(task.reads)], takes)
        elif len(files) < len(task.reads):
            raise Refused(
                f"at least {len(task.reads)} files", str(len(files)), f"{takes}, and {task.further}"
            )
    measures = _measures(arguments, task)
    split = SPLITS[arguments.split or "test"]
    found: Evaluation = ask(
        trained,
        "evaluate",
        arguments,
        list(files),
        split,
        tell,
        reads=files,
        writes={"--json": arguments.json, "--items": arguments.items},
    )
    for line in found.lines if leads() else ():
        print(line)
    write_json(arguments.json, found.values)
    if arguments.items is not None:
        headline, *_ = found.items
        shares = [found.items[name]() for name in dict.fromkeys([headline, *measures])]
        write_json(arguments.items, shares_of(shares))
    return 0


def _measures(arguments: argparse.Namespace, task: Answering) -> list[str]:
    """The measures that are asked for besides the headline."""
    known = task.answers["evaluate"].measures
    if arguments.items is not None and not known:
        raise Refused("a task that tells the shares of lines with --items", task.noun, "leave it out")
    if arguments.measures is None:
        return []
    if arguments.items is None:
        raise Refused("--items with --measures", "none", "name a file for the shares of the lines")
    names: list[str] = arguments.measures.split(",")
    for name in names:
        if name not in known:
            raise unknown(name, known, "measures")
    return names
