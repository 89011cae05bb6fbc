"""Put the questions of JaQuAD where the configs look for them.

python recipes/jaquad/prepare.py FOLDER [SOURCE]

FOLDER/train.json has 31,748 questions, FOLDER/test.json the 3,939 of the development set. SOURCE is a
checkout of the published repository, whose files are joined; without it the two are unpacked from
jaquad/train.json.gz and dev.json.gz in the folder that SEQSRU_MIRROR names.
"""

from __future__ import annotations

import gzip
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from seqsru.data.files import write_whole
from seqsru.data.squad import read_squad
from seqsru.errors import NotFound, Refused

QUESTIONS = {"train": 31_748, "dev": 3_939}


def content(split: str, source: Path | None) -> bytes:
    """A split as one file."""
    if source is None:
        path = Path(os.environ.get("SEQSRU_MIRROR", "")) / "jaquad" / f"{split}.json.gz"
        if not path.is_file():
            do = "name a checkout of JaQuAD as SOURCE, as run.sh does without SEQSRU_MIRROR"
            raise NotFound(f"the questions at {path}", "no such file", do)
        return gzip.decompress(path.read_bytes())
    paths = sorted((source / "data" / split).glob("*.json"))
    articles = [article for path in paths for article in json.loads(path.read_bytes())["data"]]
    return json.dumps({"data": articles}, ensure_ascii=False).encode()


def main(arguments: Sequence[str]) -> int:
    """Write both files and check how many questions they have."""
    if len(arguments) not in (1, 2):
        print(__doc__, file=sys.stderr)
        return 2
    folder, source = Path(arguments[0]), Path(arguments[1]) if arguments[1:] else None
    folder.mkdir(parents=True, exist_ok=True)
    try:
        for split, name in (("train", "train"), ("dev", "test")):
            path = folder / f"{name}.json"
            write_whole(path, content(split, source))
            count = len(read_squad([path]))
            if count != QUESTIONS[split]:
                do = "take the commit that run.sh names"
                raise Refused(f"{QUESTIONS[split]:,} questions for {path}", f"{count:,}", do)
            print(f"{path}: {count:,} questions")
    except Refused as refusal:
        print(refusal, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
