"""Which of the files under a run's names are a run's: told by what is in them.

Every version has written them in these forms, so a run needs no list of what it wrote; and whatever somebody
else put under such a name, before a run began or since, is told apart.
"""

from __future__ import annotations

import json
import math
import os
import re
from pathlib import Path

from seqsru.data.tokenizer_record import read_record
from seqsru.errors import Refused
from seqsru.regular import is_folder, is_regular, opened, read
from seqsru.settings.places import MOST_BYTES as MOST_CONFIG
from seqsru.settings.places import dump, parse
from seqsru.training import checkpoints
from seqsru.training.lock import OWN

UNREADABLE = "change its permissions"
CONFIG_HEADER = "# Every setting of this run, as seqsru "


def is_config(path: Path) -> bool:
    """Whether a file is the resolved settings that a run writes."""
    return is_regular(path) and _start(path).startswith(CONFIG_HEADER.encode())


def is_untouched_config(path: Path) -> bool:
    """Whether nobody added to the settings that a run wrote: every version's text is that of its values."""
    if not is_config(path):
        return False
    try:
        text = read(path, MOST_CONFIG, UNREADABLE).decode()
        body = re.sub(r"\A# [^\n]*\n(?:# this file [^\n]*\n)?", "", text)
        return not body or dump(parse(body, str).plain()) == body
    except ValueError:  # also a Refused, of what cannot be read
        return False


def is_signature(path: Path) -> bool:
    """Whether a file is a value and its signature."""
    form = rb"\w+ [-+.0-9a-z]+\n(.*\n)*?seqsru .*\n?"
    return is_regular(path) and re.fullmatch(form, _start(path)) is not None


def is_metrics(path: Path) -> bool:
    """Whether a file is empty or begins with a line of metrics."""
    if not is_regular(path):
        return False
    with opened(path, math.inf, UNREADABLE) as descriptor:
        first = os.read(descriptor, 1 << 16).partition(b"\n")[0]
    try:
        record = json.loads(first or b'{"kind": "", "step": 0}')
    except (ValueError, RecursionError):
        return False
    return isinstance(record, dict) and {"kind", "step"} <= record.keys()


def is_log(path: Path) -> bool:
    """Whether it is a file: any text may be in a log, and lines are only ever added."""
    return is_regular(path)


def is_lock(path: Path) -> bool:
    """Whether a file is empty or has the number of a process."""
    return is_regular(path) and OWN.fullmatch(_start(path)) is not None


def is_tensorboard(path: Path) -> bool:
    """Whether a folder has nothing but TensorBoard's events."""
    return is_folder(path) and all(
        file.name.startswith("events.out.tfevents.") and is_regular(file) for file in path.iterdir()
    )


def is_checkpoints(path: Path) -> bool:
    """Whether a folder is empty, or a checkpoint is among what is in it, under whatever name."""
    if not is_folder(path):
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
    with opened(path, math.inf, UNREADABLE) as descriptor:
        return os.read(descriptor, 1 << 12)
