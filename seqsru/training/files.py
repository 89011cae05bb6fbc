"""Files that last through a power failure, and what a damaged one is told by."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ADVICE = "the checkpoint is damaged: delete it or restore it from a copy"


class CheckpointError(ValueError):
    """A checkpoint that is damaged, missing, or does not fit what it is loaded into."""


def sha256(path: Path) -> str:
    """Hexadecimal sha256 of a file."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while part := file.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises
    ------
    CheckpointError
        It cannot be read, or holds something else.
    """
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: expected JSON, found {error}; {ADVICE}") from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: expected a JSON object, found {type(content).__name__}; {ADVICE}")
    return content


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write an object to a JSON file, and the file to disk."""
    path.write_text(json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n", encoding="utf-8")
    flush(path)


def flush(path: Path) -> None:
    """Make a file's content last."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def flush_folder(folder: Path) -> None:
    """Make the names in a folder last."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
