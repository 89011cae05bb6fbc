"""``seqsru fetch``."""

from __future__ import annotations

import argparse
import textwrap
from pathlib import Path

from seqsru.data.corpora import CORPORA, GENERATED, fetch


def declare(parser: argparse.ArgumentParser) -> None:
    """Declare the command."""
    names = textwrap.fill(f"Names: {', '.join([*CORPORA, *GENERATED])}.", 110, break_on_hyphens=False)
    parser.description = f"""Put a named public corpus into FOLDER/NAME as plain files, sums checked.

{names}

A download that broke off goes on where it stopped. With SEQSRU_MIRROR=FOLDER in the environment the files are
copied from FOLDER/NAME and no address is opened. The folder of the corpus is printed on stdout.

  seqsru fetch ptb data                         # data/ptb/ptb.train.txt, …
"""
    parser.add_argument("name", metavar="NAME", help="which corpus")
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="made if needed")


def run(arguments: argparse.Namespace) -> int:
    """Fetch."""
    print(fetch(arguments.name, arguments.folder))
    return 0
