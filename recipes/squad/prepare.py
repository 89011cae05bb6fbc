"""Put the questions of SQuAD 1.1 where the configs look for them.

python recipes/squad/prepare.py FOLDER

FOLDER/train.json has the questions to learn from, FOLDER/test.json the 10,570 of the development set. They
are those of `seqsru fetch squad-v1.1`, downloaded and their sums checked; where SEQSRU_MIRROR names a folder
with parts of the training set (squad-v1.1/train-part.*.json) and the development set as it was put together
again (dev-v1.1.rebuilt.json), they are these.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from seqsru.data import fetch
from seqsru.data.files import write_whole
from seqsru.data.squad import check_questions, read_squad
from seqsru.errors import Refused

NAME = "squad-v1.1"


def joined(paths: Sequence[Path]) -> bytes:
    """The articles of several files as one file."""
    articles = [article for path in paths for article in json.loads(path.read_bytes())["data"]]
    return json.dumps({"data": articles}, ensure_ascii=False).encode()


def sources(folder: Path) -> tuple[list[Path], Path]:
    """The files of questions to learn from, and that to test on."""
    mirror = os.environ.get("SEQSRU_MIRROR")
    if mirror:
        parts = sorted((Path(mirror) / NAME).glob("train-part.*.json"))
        rebuilt = Path(mirror) / NAME / "dev-v1.1.rebuilt.json"
        if parts and rebuilt.is_file() and not (Path(mirror) / NAME / "train-v1.1.json").is_file():
            return parts, rebuilt
    there = fetch(NAME, folder)
    return [there / "train-v1.1.json"], there / "dev-v1.1.json"


def main(arguments: Sequence[str]) -> int:
    """Write both files and say how many questions they have."""
    if len(arguments) != 1:
        print(__doc__, file=sys.stderr)
        return 2
    folder = Path(arguments[0])
    folder.mkdir(parents=True, exist_ok=True)
    try:
        train, test = sources(folder)
        for name, paths in (("train", train), ("test", [test])):
            path = folder / f"{name}.json"
            write_whole(path, joined(paths))
            found = read_squad([path])
            check_questions(found, name)
            print(f"{path}: {len(found):,} questions from {', '.join(one.name for one in paths)}")
    except Refused as refusal:
        print(refusal, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
