"""Manifests of AN4: who says what in which file, and the transcripts as text.

    python recipes/an4/prepare.py FOLDER OUT     # FOLDER holds the corpus's etc/ and feat/

Writes OUT/train.tsv, validation.tsv and test.tsv, and the transcripts beside them as .txt. The features are
those of the distribution: what lies in FOLDER is held against their sum first.
"""

from __future__ import annotations

import hashlib
import re
import sys
from pathlib import Path

from seqsru.data.files import write_whole
from seqsru.errors import NotFound, Refused

# The digest of the sorted lines "sha256  path" of feat/**/*.mfc.
FEATURES = "148e52fd21e9b0f307ac171641cee4d4a0786fc673d77cbe7ee6a29406fd38ed"
PARTS = {"train": "an4_train", "test": "an4_test"}
# Eight of the seventy-four training speakers, four women and four men, tell when a model was best.
VALIDATION = ("fbbh", "fjam", "fkdo", "fmjc", "mcel", "mmaf", "mnjl", "mtje")
_LINE = re.compile(r"(?:<s> )?(.*?)(?: </s>)? \((\S+)\)")


def digest(folder: Path) -> str:
    """Return the sum of all features, for `FEATURES`."""
    lines = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(folder).as_posix()}\n"
        for path in sorted((folder / "feat").rglob("*.mfc"))
    ]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def utterances(folder: Path, part: str) -> list[tuple[str, str, str]]:
    """Return id, transcript and speaker of each utterance of a part of the distribution.

    Raises
    ------
    NotFound
        A list is not there.
    Refused
        The lists of files and of transcripts differ.
    """
    names = [folder / "etc" / f"{PARTS[part]}.{kind}" for kind in ("fileids", "transcription")]
    for path in names:
        if not path.is_file():
            raise NotFound(
                f"AN4's {path.name} at {path}", "no such file", "name the folder of etc/ and feat/"
            )
    ids, said = (path.read_text(encoding="utf-8").splitlines() for path in names)
    found = []
    for number, (name, line) in enumerate(zip(ids, said, strict=True), 1):
        match = _LINE.fullmatch(line.strip())
        if match is None or match[2] != name.rpartition("/")[2]:
            raise Refused(
                f"the transcript of {name} in {names[1]}:{number}", line, "take the lists of one copy"
            )
        found.append((name, match[1], name.split("/")[-2]))
    return found


def main(arguments: list[str]) -> int:
    """Prepare; 0 if all is written, 2 if it cannot be."""
    if len(arguments) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    folder, out = Path(arguments[0]).resolve(), Path(arguments[1])
    try:
        parts = {part: utterances(folder, part) for part in PARTS}
        if (found := digest(folder)) != FEATURES:
            do = "copy the corpus again"
            raise Refused(f"features with the sum {FEATURES[:12]} in {folder / 'feat'}", found[:12], do)
    except (Refused, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    held = [one for one in parts["train"] if one[2] in VALIDATION]
    splits = {
        "train": [one for one in parts["train"] if one[2] not in VALIDATION],
        "validation": held,
        "test": parts["test"],
    }
    out.mkdir(parents=True, exist_ok=True)
    for split, some in splits.items():
        rows = ["id\tfile\ttranscript\tspeaker"]
        rows += [f"{name}\t{folder}/feat/{name}.mfc\t{text}\t{speaker}" for name, text, speaker in some]
        write_whole(out / f"{split}.tsv", "".join(row + "\n" for row in rows).encode())
        write_whole(out / f"{split}.txt", "".join(text + "\n" for _, text, _ in some).encode())
        print(f"{split}: {len(some)} utterances of {len({speaker for *_, speaker in some})} speakers")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
