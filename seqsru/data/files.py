"""Files written whole or not at all, and the JSON record of a tokenizer."""

from __future__ import annotations

import json
import os
from pathlib import Path

from seqsru.data.errors import DataError


def write_whole(path: Path, content: bytes) -> None:
    """Write `content` beside `path`, flush it to disk, and rename it once.

    A reader never sees half a file, and a killed writer leaves the old one.
    """
    beside = path.with_name(path.name + ".tmp")
    with open(beside, "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(beside, path)


def write_record(path: Path, record: dict) -> None:
    """Write the JSON record of a tokenizer, which has a `kind` and a `fingerprint`."""
    write_whole(path, json.dumps(record, indent=0).encode() + b"\n")


def read_record(path: Path) -> dict:
    """Return the JSON record of a tokenizer, of which `kind` and `fingerprint` are known to be strings.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    DataError
        The file is damaged.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"expected a tokenizer at {path}, found no such file; check the folder, or train again"
        )
    try:
        record = json.loads(path.read_bytes())
    except ValueError as error:
        raise DataError(
            f"{path}: expected the JSON record of a tokenizer, found a damaged file ({error}); "
            "restore it or train again"
        ) from None
    if not (
        isinstance(record, dict)
        and isinstance(record.get("kind"), str)
        and isinstance(record.get("fingerprint"), str)
    ):
        raise DataError(
            f"{path}: expected the JSON record of a tokenizer, found something else; restore it "
            "or train again"
        )
    return record


def check_fingerprint(path: Path, record: dict, found: str) -> None:
    """Raise `DataError` unless the content of `path`, whose fingerprint is `found`, is what was saved."""
    if record["fingerprint"] != found:
        raise DataError(
            f"{path}: expected a tokenizer with fingerprint {record['fingerprint'][:12]}, found "
            f"{found[:24]}; the file was damaged or edited, restore it or train again"
        )
