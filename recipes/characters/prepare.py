"""Put two texts, to be read by characters, where the configs look for them.

python recipes/characters/prepare.py FOLDER

FOLDER/penn.{train,valid,test}.txt is Penn Treebank without the space that begins and ends each of its lines:
5,017,482, 393,042 and 442,423 characters, line ends among them, as in Mikolov et al. 2012.
FOLDER/shakespeare.{train,valid,test}.txt are the first nine tenths of the lines of tinyshakespeare, and a
twentieth and a twentieth more.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from seqsru.data.corpora import fetch
from seqsru.data.files import write_whole
from seqsru.errors import Refused

SPLITS = ("train", "valid", "test")


def penn(folder: Path) -> list[list[str]]:
    """Penn Treebank's lines, from their first word to their last."""
    return [[line.strip(" ") for line in lines(folder / f"ptb.{split}.txt")] for split in SPLITS]


def shakespeare(folder: Path) -> list[list[str]]:
    """Tinyshakespeare's lines, the last tenth held out."""
    found = lines(folder / "input.txt")
    ends = [len(found) * twentieths // 20 for twentieths in (0, 18, 19, 20)]
    return [found[start:end] for start, end in zip(ends, ends[1:])]


def lines(path: Path) -> list[str]:
    """The lines of a file, without their ends."""
    return path.read_bytes().decode().removesuffix("\n").split("\n")


def main(arguments: Sequence[str]) -> int:
    """Write the six files and say how long they are."""
    if len(arguments) != 1:
        print(__doc__, file=sys.stderr)
        return 2
    folder = Path(arguments[0])
    try:
        texts = {
            "penn": penn(fetch("ptb", folder)),
            "shakespeare": shakespeare(fetch("tinyshakespeare", folder)),
        }
    except Refused as refusal:
        print(refusal, file=sys.stderr)
        return 2
    for name, splits in texts.items():
        for split, found in zip(SPLITS, splits):
            text = "".join(f"{line}\n" for line in found)
            path = folder / f"{name}.{split}.txt"
            write_whole(path, text.encode())
            print(f"{path}: {len(text):,} characters, {len(found):,} lines")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
