"""The JSON record that every tokenizer is saved as: its kind, its fingerprint, and whatever else it needs."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seqsru.data.files import write_whole
from seqsru.errors import NotFound, Refused
from seqsru.regular import read

MOST_BYTES = 2**28  # of a tokenizer's file: a vocabulary of ten million words


def write_record(path: Path, record: Mapping[str, object]) -> None:
    """Write the record of a tokenizer, which has a `kind` and a `fingerprint`."""
    write_whole(path, json.dumps(record, indent=0).encode() + b"\n")


def read_record(path: Path) -> dict[str, Any]:
    """Return the record of a tokenizer, of which `kind` and `fingerprint` are known to be strings.

    Raises
    ------
    NotFound
        There is no such file.
    Refused
        The file is damaged.
    """
    if not os.path.lexists(path):
        raise NotFound(f"a tokenizer at {path}", "no such file", "check the folder, or train again")
    expected, mend = f"the JSON record of a tokenizer in {path}", "restore it or train again"
    content = read(path, MOST_BYTES, mend, what="a tokenizer")
    try:
        record = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise Refused(expected, f"a damaged file ({str(error)[:200]})", mend) from None
    if not (
        isinstance(record, dict)
        and isinstance(record.get("kind"), str)
        and isinstance(record.get("fingerprint"), str)
    ):
        raise Refused(expected, "something else", mend)
    return record


def check_fingerprint(path: Path, record: Mapping[str, Any], found: str) -> None:
    """Refuse the content of `path`, whose fingerprint is `found`, unless it is what was saved."""
    if record["fingerprint"] != found:
        raise Refused(
            f"a tokenizer with fingerprint {record['fingerprint'][:12]} in {path}",
            found[:24],
            "the file was damaged or edited, restore it or train again",
        )
