"""What is known of a file of text: its sum, how many lines it has, and whether each of them is sound.

All three are found in one reading. Of a large file they are kept in a folder, with what the system says of
the file (size, inode, times of its last change): while that stays the same, it is not read again. A file that
was changed a moment ago is not trusted so, since another change at the same time would not show.
"""

from __future__ import annotations

import codecs
import hashlib
import json
import os
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from seqsru.data.files import CHUNK, write_whole

LARGE = 1 << 24  # bytes of a file that is worth remembering
SETTLED = 2.0  # seconds after a change; clocks of file systems go in steps of up to two


@dataclass(frozen=True)
class Facts:
    """What one reading of a file tells.

    Parameters
    ----------
    sha256 : str
        In hexadecimal.
    lines : int
        As `seqsru.data.lines.count_lines` counts them.
    sound : bool
        Whether all of it is UTF-8 without a NUL, so that no line is a bad one.
    """

    sha256: str
    lines: int
    sound: bool


def facts_of(path: Path, folder: Path | None) -> tuple[Facts, bool]:
    """The facts of a file, and whether it was read for them.

    Parameters
    ----------
    path : Path
        A file that can be read more than once.
    folder : Path or None
        Where the facts of large files are kept; None for nowhere.
    """
    place = None
    if folder is not None and path.stat().st_size >= LARGE:
        name = hashlib.sha256(os.fsencode(path.resolve())).hexdigest()
        place = folder / f"{name[:32]}.json"
        known = _kept(place, stamp(path))
        if known is not None:
            return known, False
    before = stamp(path)
    facts = _read(path)
    if place is not None and before == stamp(path) and settled(path):
        record = {"path": os.fspath(path), "stamp": before, **asdict(facts)}
        with suppress(OSError):  # then it is read again at the next start
            make_folder(place.parent)
            write_whole(place, json.dumps(record, indent=0).encode() + b"\n")
    return facts, True


def make_folder(folder: Path) -> None:
    """Make a folder, and those above it that are not there, for this user alone."""
    for one in (*reversed(folder.parents), folder):
        if not one.exists():
            one.mkdir(mode=0o700, exist_ok=True)


def stamp(path: Path) -> list[int]:
    """What the system says of a file that no change of its content leaves as it is."""
    found = path.stat()
    return [found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns]


def settled(path: Path) -> bool:
    """Whether a file was last changed so long ago that any change since then would show in its `stamp`."""
    found = path.stat()
    return time.time() - max(found.st_mtime, found.st_ctime) > SETTLED


def _kept(place: Path, now: list[int]) -> Facts | None:
    """The facts that were kept of a file, None where there are none of it as it is now."""
    try:
        record = json.loads(place.read_bytes())
        if record["stamp"] != now:
            return None
        facts = Facts(record["sha256"], record["lines"], record["sound"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):  # damaged: the file is read instead
        return None
    return facts if [type(value) for value in asdict(facts).values()] == [str, int, bool] else None


def _read(path: Path) -> Facts:
    digest, lines, sound, last = hashlib.sha256(), 0, True, b"\n"
    decoder = codecs.getincrementaldecoder("utf-8")()
    with open(path, "rb") as stream:
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
            lines += chunk.count(b"\n")
            last = chunk[-1:]
            sound = sound and _is_text(decoder, chunk, False)
    sound = sound and _is_text(decoder, b"", True)
    return Facts(digest.hexdigest(), lines + (last != b"\n"), sound)


def _is_text(decoder: codecs.IncrementalDecoder, chunk: bytes, final: bool) -> bool:
    try:
        decoder.decode(chunk, final)
    except UnicodeDecodeError:
        return False
    return b"\0" not in chunk
