"""Training pairs of WMT'14 English-German: read plain files, leave out what harms, write two files.

    python recipes/wmt14/prepare.py FOLDER OUT             # FOLDER as `seqsru fetch wmt14-en-de` leaves it
    python recipes/wmt14/prepare.py --sample FOLDER OUT    # FOLDER is the tokenised 10,000-pair sample

Writes OUT/train.en, OUT/train.de and OUT/report.json. Filters act on pairs; what they leave out is counted.
"""

import argparse
import hashlib
import json
import re
import sys
from pathlib import Path

from restore import restore

from seqsru.data.files import write_whole
from seqsru.data.lines import LineReport, read_parallel
from seqsru.errors import Refused

CORPORA = [
    (f"{stem}.en", f"{stem}.de")
    for stem in ("europarl-v7.de-en", "commoncrawl.de-en", "news-commentary-v9.de-en")
]
SAMPLE = [("src-train-case.txt", "tgt-train-case.txt")]
MAX_WORDS = 120  # of a side, between white space
MAX_RATIO = 2  # the longer side has at most so many times the characters of the shorter, and
SLACK = 10  # so many more, since the ratio says little of short lines
_CONTROL = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x9f\ufffd]")


def reason_to_skip(english: str, german: str) -> str:
    """Return why a pair is left out, empty if it is kept."""
    if not english.strip() or not german.strip():
        return "empty"
    if _CONTROL.search(english) or _CONTROL.search(german):
        return "with control characters"
    if max(len(english.split()), len(german.split())) > MAX_WORDS:
        return f"longer than {MAX_WORDS} words"
    short, long = sorted((len(english), len(german)))
    if long > MAX_RATIO * short + SLACK:
        return "of very different lengths"
    if english == german:
        return "not translated"
    return ""


def prepare(folder: Path, out: Path, *, sample: bool) -> list[LineReport]:
    """Filter every corpus of `folder` into ``out/train.{en,de}``.

    Parameters
    ----------
    folder : Path
        Plain files.
    out : Path
        Made if needed.
    sample : bool
        Whether `folder` holds the marked sample, whose text is restored first.

    Returns
    -------
    list of LineReport
        One a corpus.
    """
    out.mkdir(parents=True, exist_ok=True)
    seen: set[bytes] = set()
    kept: tuple[list[str], list[str]] = ([], [])
    reports = []
    for names in SAMPLE if sample else CORPORA:
        pairs = read_parallel(*(folder / name for name in names), on_bad_line="skip")
        report = pairs.report.copy()
        for number, english, german in zip(pairs.numbers, pairs.source, pairs.target, strict=True):
            if sample:
                english, german = restore(english, language="en"), restore(german, language="de")
            english, german = english.strip(), german.strip()
            reason = reason_to_skip(english, german)
            if not reason:
                key = hashlib.blake2b(f"{english}\n{german}".encode(), digest_size=12).digest()
                reason = "seen before" if key in seen else ""
                seen.add(key)
            if reason:
                report.add(f"{reason}, skipped", number)
                continue
            kept[0].append(english)
            kept[1].append(german)
        reports.append(report)
        print(report, file=sys.stderr)
    if not kept[0]:
        raise Refused(f"pairs in {folder} that pass the filters", "none", "check the folder")
    for language, lines in zip(("en", "de"), kept):
        write_whole(out / f"train.{language}", "".join(line + "\n" for line in lines).encode())
    summary = {
        "kept": len(kept[0]),
        "corpora": [
            {"name": r.name, "lines": r.total, "skipped": r.counts, "first_lines": r.first} for r in reports
        ],
    }
    write_whole(out / "report.json", json.dumps(summary, indent=1, ensure_ascii=False).encode() + b"\n")
    print(f"{len(kept[0]):,} pairs in {out}", file=sys.stderr)
    return reports


def main() -> int:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Filter WMT'14 English-German training pairs.")
    parser.add_argument("--sample", action="store_true", help="FOLDER holds the tokenised 10,000-pair sample")
    parser.add_argument("folder", type=Path, help="folder of plain files")
    parser.add_argument("out", type=Path, help="folder to write to")
    arguments = parser.parse_args()
    try:
        prepare(arguments.folder, arguments.out, sample=arguments.sample)
    except (ValueError, OSError) as error:
        print(f"prepare.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
