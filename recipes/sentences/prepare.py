"""Put pairs of sentences where the configs look for them.

python recipes/sentences/prepare.py {tatoeba | debian} FOLDER

FOLDER/NAME/{train,valid,test}.{de,en} are copied from the folder that SEQSRU_MIRROR names, if there is one.
Without it tatoeba is made of the pairs that manythings.org publishes, whose sentences change with time: 2,000
pairs for validation and 2,000 for the test, none of which shares a sentence with another pair. debian is no
published file (the README says how it was made): put the six files there.
"""

from __future__ import annotations

import os
import random
import sys
import zipfile
import zlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from seqsru.data.download import download as fetch
from seqsru.data.files import write_whole
from seqsru.errors import NotFound, Refused, Unreachable, unknown

FOLDERS = {"tatoeba": "tatoeba-deu-eng", "debian": "debian-ddtp-en-de"}
ADDRESS = "http://www.manythings.org/anki/deu-eng.zip"
HELD_OUT = 2_000  # pairs of a split that is held out
SPLITS = ("train", "valid", "test")

Pair = tuple[str, str]  # English, German


def pairs_of(archive: Path) -> list[Pair]:
    """Pairs of the published archive, each once, in its order; one that is damaged is removed."""
    try:
        with zipfile.ZipFile(archive) as opened:
            text = opened.read("deu.txt").decode()
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, ValueError) as error:
        archive.unlink()
        do = "it was removed: run the same command again, or put another one there"
        raise Refused(f"a whole archive with deu.txt at {archive}", str(error), do) from None
    rows = (line.split("\t") for line in text.split("\n"))
    return list(dict.fromkeys((row[0], row[1]) for row in rows if len(row) > 1))


def split(pairs: Sequence[Pair], held_out: int) -> dict[str, list[Pair]]:
    """Training, validation and test; no sentence of the last two is in any other pair."""
    english, german = (Counter(side) for side in zip(*pairs))
    order = list(pairs)
    random.Random(1).shuffle(order)
    alone = [pair for pair in order if english[pair[0]] == german[pair[1]] == 1][: 2 * held_out]
    if len(alone) < 2 * held_out:
        raise Refused(
            f"{2 * held_out:,} pairs whose sentences are in no other",
            f"{len(alone):,}",
            "take the whole archive",
        )
    taken = set(alone)
    parts = ([pair for pair in order if pair not in taken], alone[:held_out], alone[held_out:])
    return dict(zip(SPLITS, parts))


def download(folder: Path) -> Path:
    """The archive as it is today; what it holds is checked by its own sums when it is read."""
    path = folder / ADDRESS.rsplit("/", 1)[-1]
    if not path.exists():
        try:
            fetch(ADDRESS, path, None)
        except Unreachable as error:
            do = f"{error.do}, or put the archive at {path}, or the six files in {folder}"
            raise Unreachable(error.expected, error.found, do) from None
    return path


def contents(name: str, folder: Path) -> dict[str, bytes]:
    """What the six files of a corpus hold."""
    files = [f"{split}.{language}" for split in SPLITS for language in ("en", "de")]
    mirror = os.environ.get("SEQSRU_MIRROR")
    source = Path(mirror) / FOLDERS[name] if mirror else folder
    if all((source / file).is_file() for file in files):
        return {file: (source / file).read_bytes() for file in files}
    if mirror or name != "tatoeba":
        missing = next(source / file for file in files if not (source / file).is_file())
        raise NotFound(
            f"a text at {missing}", "no such file", "the recipe's README says where these are from"
        )
    found = split(pairs_of(download(folder)), HELD_OUT)
    return {
        f"{part}.{language}": "".join(f"{pair[side]}\n" for pair in pairs).encode()
        for part, pairs in found.items()
        for side, language in enumerate(("en", "de"))
    }


def main(arguments: Sequence[str]) -> int:
    """Write the six files and say how many pairs they have."""
    if len(arguments) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    name, folder = arguments[0], Path(arguments[1]) / arguments[0]
    try:
        if name not in FOLDERS:
            raise unknown(name, FOLDERS, what="the name of a corpus")
        folder.mkdir(parents=True, exist_ok=True)
        for file, content in contents(name, folder).items():
            write_whole(folder / file, content)
            lines = content.count(b"\n")
            print(f"{folder / file}: {lines:,} lines")
    except Refused as refusal:
        print(refusal, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
