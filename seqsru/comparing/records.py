"""What was done so far: a line of JSON a step, written when it begins and when it has ended."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from seqsru.data.files import flush_folder, write_all, write_whole
from seqsru.data.room import room
from seqsru.errors import Refused
from seqsru.regular import is_regular, read

FILE = "results.jsonl"
MOST = 2**28  # bytes
State = Literal["begun", "done", "failed"]


@dataclass(frozen=True)
class Line:
    """A step of a comparison and how far it came.

    Attributes
    ----------
    step : str
        What is done: ``train``, ``test``, ``time 1``.
    job : str
        The training that it is done with or to, a folder below the output.
    state : {"begun", "done", "failed"}
    what : dict
        Everything that the step was asked for: a step that is asked for something else is another.
    made : dict
        By which sources, and on which machine.
    result : dict
        What came of it.
    """

    step: str
    job: str
    state: State
    what: dict[str, Any]
    made: dict[str, Any]
    result: dict[str, Any]

    def as_json(self) -> bytes:
        """The line."""
        return json.dumps(vars(self), ensure_ascii=False).encode() + b"\n"


def final(line: Line) -> bool:
    """Whether a step failed in such a way that it would do so again."""
    return line.state == "failed" and bool(line.result.get("final"))


class Records:
    """The lines of a comparison's folder.

    Parameters
    ----------
    folder : Path

    Raises
    ------
    Refused
        A line is none of a comparison; the last one may be cut, as a kill leaves it.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE
        self.lines: dict[tuple[str, str], Line] = {}
        self._whole = 0  # bytes of good lines
        if not os.path.lexists(self.path):
            return
        content = read(self.path, MOST, "restore it from a copy")
        for number, text in enumerate(content.splitlines(keepends=True), 1):
            found = _line(text)
            if found is None:
                if self._whole + len(text) == len(content) and not text.endswith(b"\n"):
                    break  # the last one, which a kill cut
                do = "restore it from a copy, or delete the line"
                raise Refused(f"a line of results at {self.path}:{number}", "something else", do)
            self._whole += len(text)
            self.lines[found.step, found.job] = found

    def write(self, line: Line) -> None:
        """Add a line; it is on the disk before anything else is done."""
        with room(self.path):
            with open(self.path, "r+b" if is_regular(self.path) else "xb", buffering=0) as file:
                file.truncate(self._whole)
                file.seek(self._whole)
                content = line.as_json()
                write_all(file, content)
                os.fsync(file.fileno())
        self._whole += len(content)
        self.lines[line.step, line.job] = line

    def done(self, step: str, job: str) -> Line | None:
        """The line of a step that was done."""
        line = self.lines.get((step, job))
        return line if line is not None and line.state == "done" else None

    def drop(self, keys: Iterable[tuple[str, str]], to: Path) -> None:
        """Put the lines of some steps into another file, of the same form, and forget them."""
        gone = [self.lines.pop(key) for key in keys]
        with room(to):
            to.parent.mkdir(parents=True, exist_ok=True)
            write_whole(to, b"".join(line.as_json() for line in gone))
        content = b"".join(line.as_json() for line in self.lines.values())
        write_whole(self.path, content)
        flush_folder(self.path.parent)
        self._whole = len(content)


def _line(text: bytes) -> Line | None:
    """A line, None for anything else."""
    try:
        found = json.loads(text)
        line = Line(**found)
    except (ValueError, TypeError, RecursionError):
        return None
    texts = all(isinstance(one, str) for one in (line.step, line.job, line.state))
    maps = all(isinstance(one, dict) for one in (line.what, line.made, line.result))
    return line if texts and maps and text.endswith(b"\n") else None
