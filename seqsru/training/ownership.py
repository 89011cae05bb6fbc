"""Which of the files under a run's names are a run's: told by what is in them.

Every version has written them in these forms, so a run needs no list of what it wrote; and whatever somebody
else put under such a name, before a run began or since, is told apart.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from seqsru.data.tokenizer_record import read_record
from seqsru.errors import Refused
from seqsru.training import checkpoints

CONFIG_HEADER = "# Every setting of this run, as seqsru "


def is_config(path: Path) -> bool:
    """Whether a file is the resolved settings that a run writes."""
    return path.is_file() and _start(path).startswith(CONFIG_HEADER.encode())


def is_signature(path: Path) -> bool:
    """Whether a file is a value and its signature."""
    form = rb"\w+ [-+.0-9a-z]+\n(.*\n)*?seqsru .*\n?"
    return path.is_file() and re.fullmatch(form, _start(path)) is not None


def is_metrics(path: Path) -> bool:
    """Whether a file is empty or begins with a line of metrics."""
    if not path.is_file():
        return False
    with open(path, "rb") as stream:
        first = stream.readline(1 << 16)
    try:
        record = json.loads(first or b'{"kind": "", "step": 0}')
    except ValueError:
        return False
    return isinstance(record, dict) and {"kind", "step"} <= record.keys()


def is_log(path: Path) -> bool:
    """Whether it is a file: any text may be in a log, and lines are only ever added."""
    return path.is_file()


def is_lock(path: Path) -> bool:
    """Whether a file is empty or has the number of a process."""
    return path.is_file() and re.fullmatch(rb"[0-9]{0,20}\n?", _start(path)) is not None


def is_tensorboard(path: Path) -> bool:
    """Whether a folder has nothing but TensorBoard's events."""
    return path.is_dir() and all(file.name.startswith("events.out.tfevents.") for file in path.iterdir())


def is_checkpoints(path: Path) -> bool:
    """Whether a folder is empty, or a checkpoint is among what is in it, under whatever name."""
    if not path.is_dir():
        return False
    return bool(checkpoints.paths(path) or checkpoints.misnamed(path)) or all(
        map(checkpoints.is_unfinished, path.iterdir())
    )


def is_tokenizer(path: Path) -> bool:
    """Whether a file is the record of a tokenizer."""
    try:
        read_record(path)
    except Refused:
        return False
    return True


def _start(path: Path) -> bytes:
    with open(path, "rb") as stream:
        return stream.read(1 << 12)
