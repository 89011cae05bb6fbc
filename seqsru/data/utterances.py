"""Utterances: a manifest that names recordings and says what was said in them, and the recordings' frames."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path
from typing import Literal, Protocol, get_args

import numpy
from numpy.typing import NDArray

from seqsru.data.inputs import opened
from seqsru.data.lines import LineReport, iter_all_lines
from seqsru.data.vocabulary import split_words
from seqsru.errors import Refused, check_known

Frames = NDArray[numpy.float32]  # (T, F)
OnBadUtterance = Literal["error", "skip"]
MANIFEST = ".tsv"  # how the name of one ends where it stands beside names of recordings
COLUMNS = ("id", "file", "transcript", "speaker")


class BadUtterance(Exception):
    """An utterance that cannot be used: a refusal without its place, and how to count it."""

    def __init__(self, reason: str, expected: str, found: str, do: str) -> None:
        super().__init__(reason)
        self.reason, self.expected, self.found, self.do = reason, expected, found, do

    def refusal(self, place: str = "") -> Refused:
        """The refusal, with its place in a manifest."""
        return Refused(f"{self.expected} at {place}" if place else self.expected, self.found, self.do)


class FrameSource(Protocol):
    """What reads a recording as frames of features.

    Attributes
    ----------
    size : int
        F, features of a frame.
    seconds : float
        From a frame to the next.
    """

    @property
    def size(self) -> int:
        """Features of a frame."""
        ...

    @property
    def seconds(self) -> float:
        """From a frame to the next."""
        ...

    def read(self, path: Path, speed: float = 1.0) -> Frames:
        """The frames of a file so many times as fast, of shape (T, F); `BadUtterance` where it has none."""
        ...


@dataclass(frozen=True)
class Utterances:
    """The lines of a manifest.

    Parameters
    ----------
    name : str
        The manifest, as it was named.
    ids, transcripts, speakers : list of str
        Empty text where a line has none.
    files : list of Path
        The recordings.
    numbers : list of int
        Where each line stands in the manifest, from 1.
    report : LineReport
        Lines that were left out.
    """

    name: str
    ids: list[str]
    files: list[Path]
    transcripts: list[str]
    speakers: list[str]
    numbers: list[int]
    report: LineReport

    def __len__(self) -> int:
        return len(self.ids)

    def place(self, index: int) -> str:
        """Where an utterance stands: ``train.tsv:12``."""
        return f"{self.name}:{self.numbers[index]}"


@dataclass(frozen=True)
class Recordings:
    """Utterances with their frames.

    Parameters
    ----------
    utterances : Utterances
    frames : list of mapping of float to ndarray of shape (T, F)
        Of each utterance, by speed.
    """

    utterances: Utterances
    frames: list[dict[float, Frames]]

    def __len__(self) -> int:
        return len(self.frames)


def read_manifest(
    path: str | PathLike[str],
    *,
    on_bad_line: OnBadUtterance = "error",
    transcribed: bool = True,
    check: Callable[[Path, str], None] | None = None,
) -> Utterances:
    """Read a manifest: an utterance a line, its columns between tabs.

    Where the first line names the columns, ``file`` and ``transcript`` among them, they stand in its order,
    and others than ``id``, ``file``, ``transcript`` and ``speaker`` are left alone. Without such a line they
    are id, file, transcript and, where there are four, speaker. A file that is not absolute is looked for
    from the folder of the manifest. An utterance without an id has its file's name for one. Between two words
    of a transcript stands one space, whatever white space the file has there.

    Parameters
    ----------
    path : path
        UTF-8 text.
    on_bad_line : {"error", "skip"}
        What to do with a line that cannot be used: stop, or leave it out and count it in the report.
    transcribed : bool
        Whether every utterance must have a transcript.
    check : callable, optional
        Called with the recording and the id of each line; may raise `BadUtterance`.

    Raises
    ------
    NotFound
        There is no such file.
    Refused
        A bad line, named with file and line.
    """
    check_known(get_args(OnBadUtterance), on_bad_line=on_bad_line)
    name, folder = fspath(path), Path(path).parent
    report = LineReport(name)
    found = Utterances(name, [], [], [], [], [], report)
    columns: Sequence[str] = ()
    seen: dict[str, int] = {}
    with opened(path) as stream:
        for number, line in enumerate(iter_all_lines(stream, report, on_bad_line=on_bad_line), 1):
            if line is None:
                continue
            if number == 1 and {"file", "transcript"} <= set(line.split("\t")):
                columns = _header(line.split("\t"), name)
                continue
            try:
                fields = _fields(line, columns)
                utterance = fields.get("id") or fields["file"]
                recording = folder / fields["file"]
                if utterance in seen:
                    raise BadUtterance(
                        "with an id that another has",
                        "an id of its own",
                        f"{utterance!r}, as in line {seen[utterance]}",
                        "rename one",
                    )
                transcript = " ".join(split_words(fields["transcript"]))
                if transcribed and not transcript:
                    raise BadUtterance(
                        "without a transcript", "a transcript", "none", "write down what is said"
                    )
                if check is not None:
                    check(recording, utterance)
            except BadUtterance as bad:
                if on_bad_line == "error":
                    bad.do = f"{bad.do}, or set on_bad_line to skip"
                    raise bad.refusal(f"{name}:{number}") from None
                report.add(f"{bad.reason}, skipped", number)
                continue
            seen[utterance] = number
            found.ids.append(utterance)
            found.files.append(recording)
            found.transcripts.append(transcript)
            found.speakers.append(fields.get("speaker", "").strip())
            found.numbers.append(number)
    return found


def read_recordings(
    path: str | PathLike[str],
    source: FrameSource,
    *,
    speeds: Iterable[float] = (1.0,),
    on_bad_line: OnBadUtterance = "error",
    transcribed: bool = True,
) -> Recordings:
    """Read a manifest and the recordings that it names; see `read_manifest`.

    Parameters
    ----------
    path : path
    source : FrameSource
        What reads a recording.
    speeds : iterable of float
        Speeds at which each is read, the recorded one, 1, among them.
    on_bad_line : {"error", "skip"}
        Also of a recording that is not there or cannot be used.
    transcribed : bool
    """
    frames: list[dict[float, Frames]] = []
    speeds = list(speeds)

    def read(recording: Path, utterance: str) -> None:
        frames.append({speed: source.read(recording, speed) for speed in speeds})

    return Recordings(
        read_manifest(path, on_bad_line=on_bad_line, transcribed=transcribed, check=read), frames
    )


def _header(columns: list[str], name: str) -> list[str]:
    """The columns that the first line names."""
    for known in COLUMNS:
        if columns.count(known) > 1:
            raise Refused(f"each column once in {name}:1", f"{known!r} twice", "rename one of them")
    return columns


def _fields(line: str, columns: Sequence[str]) -> dict[str, str]:
    """The columns of a line by their names."""
    parts = line.split("\t")
    if not line.strip():
        raise BadUtterance("empty", "an utterance", "an empty line", "remove it")
    expected = [len(columns)] if columns else [3, 4]
    if len(parts) not in expected:
        what = ", ".join(columns) if columns else "id, file, transcript and perhaps speaker"
        raise BadUtterance(
            "with another number of columns",
            f"{' or '.join(map(str, expected))} columns ({what}) between tabs",
            str(len(parts)),
            "put what is missing between tabs",
        )
    fields = dict(zip(columns or COLUMNS, parts))
    if not fields["file"].strip():
        raise BadUtterance("without a file", "a file", "none", "name one")
    if "\0" in fields["file"]:
        raise BadUtterance("without a file", "the name of a file", "a NUL byte", "name one")
    return fields
