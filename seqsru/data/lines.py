r"""Text in: bytes to lines.

A line ends at ``\n`` and nowhere else; one ``\r`` before it is dropped; a byte-order mark is dropped at the
very start of a file. UTF-8 is strict. ``str.splitlines`` and text-mode files are not used: both also break
lines at characters such as U+0085 and U+2028, which real corpora hold inside sentences, and so shift every
later line of a pair.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from itertools import islice, zip_longest
from os import PathLike, fspath
from typing import BinaryIO, Literal, get_args

from seqsru.data.inputs import check_sources, opened, rewindable
from seqsru.errors import Refused, check_known

BOM = b"\xef\xbb\xbf"
OnBadLine = Literal["error", "skip", "replace"]
SHOWN = 5  # line numbers shown for each reason


@dataclass
class LineReport:
    """What was left out or changed, counted by reason, with the first line numbers.

    Parameters
    ----------
    name : str
        The file, or the pair of files.
    total : int
        Lines read so far.
    counts : dict of str to int
        Lines for each reason, such as ``"empty, skipped"``.
    first : dict of str to list of int
        The first line numbers for each reason, counted from 1.
    """

    name: str
    total: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    first: dict[str, list[int]] = field(default_factory=dict)

    def add(self, reason: str, number: int) -> None:
        """Count line `number` (from 1) under `reason`."""
        self.add_many(reason, 1, [number])

    def add_many(self, reason: str, count: int, first: Iterable[int]) -> None:
        """Count so many lines under `reason`, of which `first` are the numbers of at least the first ones."""
        self.counts[reason] = self.counts.get(reason, 0) + count
        shown = self.first.setdefault(reason, [])
        shown.extend(islice(first, SHOWN - len(shown)))

    def copy(self) -> LineReport:
        """Return a report that can be added to without changing this one."""
        return LineReport(
            self.name, self.total, dict(self.counts), {k: list(v) for k, v in self.first.items()}
        )

    def __bool__(self) -> bool:
        """Return whether there is anything to report."""
        return bool(self.counts)

    def __str__(self) -> str:
        parts = []
        for reason, count in self.counts.items():
            numbers = ", ".join(map(str, self.first[reason])) + (", …" if count > SHOWN else "")
            parts.append(f"{count:,} {reason} (line{'s' if count > 1 else ''} {numbers})")
        return f"{self.name}: {self.total:,} lines" + "".join("; " + part for part in parts)


@dataclass(frozen=True)
class Lines:
    """The lines of one file.

    Parameters
    ----------
    name : str
        Path as given, or ``<stdin>``.
    lines : list of str
        Text without line ends.
    numbers : sequence of int
        Where each line stood in the file, from 1; not consecutive after bad lines were skipped.
    report : LineReport
        Bad lines that were skipped or replaced.
    """

    name: str
    lines: list[str]
    numbers: Sequence[int]
    report: LineReport


@dataclass(frozen=True)
class ParallelLines:
    """The lines of two files that translate each other, `source[i]` to `target[i]`; see `Lines`."""

    name: str
    source: list[str]
    target: list[str]
    numbers: Sequence[int]
    report: LineReport


def read_lines(path: str | PathLike[str], *, on_bad_line: OnBadLine = "error") -> Lines:
    """Read a file of UTF-8 text; ``-`` reads standard input.

    Parameters
    ----------
    path : path
        File to read.
    on_bad_line : {"error", "skip", "replace"}
        What to do with a line that is not UTF-8 or holds a NUL: stop, leave it out, or put U+FFFD in place of
        each wrong byte. The last two are counted in the report.

    Raises
    ------
    NotFound
        There is no such file.
    Refused
        A bad line, named with file, line and byte offset.
    """
    name = "<stdin>" if fspath(path) == "-" else fspath(path)
    report = LineReport(name)
    with opened(path) as stream:
        pairs = list(iter_lines(stream, report, on_bad_line=on_bad_line))
    whole = len(pairs) == report.total
    numbers: Sequence[int] = range(1, report.total + 1) if whole else [number for number, _ in pairs]
    return Lines(name, [text for _, text in pairs], numbers, report)


def iter_lines(
    stream: BinaryIO, report: LineReport, *, on_bad_line: OnBadLine = "error"
) -> Iterator[tuple[int, str]]:
    """Yield (line number from 1, text) as they arrive, for input that may be a pipe or larger than memory.

    Parameters
    ----------
    stream : binary file
        For standard input, ``sys.stdin.buffer``.
    report : LineReport
        Named after the stream; filled on the way.
    on_bad_line : {"error", "skip", "replace"}
        As in `read_lines`.
    """
    for number, text in enumerate(iter_all_lines(stream, report, on_bad_line=on_bad_line), 1):
        if text is not None:
            yield number, text


def iter_all_lines(
    raws: Iterable[bytes], report: LineReport, *, on_bad_line: OnBadLine = "error"
) -> Iterator[str | None]:
    r"""Yield every line's text as they arrive, None for one that is left out; see `iter_lines`.

    Parameters
    ----------
    raws : iterable of bytes
        Lines with their ends, from the first on: a binary file, which is split at ``\n`` only.
    report : LineReport
    on_bad_line : {"error", "skip", "replace"}
    """
    decoder = _Decoder(report.name, on_bad_line)
    for number, raw in enumerate(raws, 1):
        report.total = number
        text, reason = decoder.decode(raw, number)
        if reason:
            report.add(reason, number)
        yield text


def read_parallel(
    source: str | PathLike[str], target: str | PathLike[str], *, on_bad_line: OnBadLine = "error"
) -> ParallelLines:
    """Read two files whose lines translate each other.

    The lines are counted first; a side that can be read only once, such as a pipe, is held in memory. A bad
    line on either side, when skipped, takes its pair with it.

    Parameters
    ----------
    source, target : path
        Files of UTF-8 text, one sentence a line.
    on_bad_line : {"error", "skip", "replace"}
        As in `read_lines`.

    Raises
    ------
    NotFound
        One of the files is not there.
    Refused
        The files differ in their number of lines, hold a bad line, or are one pipe.
    """
    report = LineReport(f"{fspath(source)} + {fspath(target)}")
    numbers: list[int] = []
    sides: tuple[list[str], list[str]] = ([], [])
    for number, *texts in iter_parallel(source, target, report, on_bad_line=on_bad_line):
        numbers.append(number)
        for side, text in zip(sides, texts):
            side.append(text)
    whole = len(numbers) == report.total
    return ParallelLines(report.name, *sides, range(1, report.total + 1) if whole else numbers, report)


def iter_parallel(
    source: str | PathLike[str],
    target: str | PathLike[str],
    report: LineReport,
    *,
    on_bad_line: OnBadLine = "error",
) -> Iterator[tuple[int, str, str]]:
    """Yield (line number from 1, source, target) one by one, for files that may be larger than memory.

    Parameters, errors : those of `read_parallel`; the report is filled on the way.
    """
    check_sources(source, target)
    decoders = [_Decoder(fspath(path), on_bad_line) for path in (source, target)]
    with rewindable(source) as first, rewindable(target) as second:
        counts = [_count(stream) for stream in (first, second)]
        check_counts(source, target, *counts)
        report.total = counts[0]
        for stream in (first, second):
            stream.seek(0)
        number = 0
        for number, raws in enumerate(zip_longest(first, second, fillvalue=b""), 1):
            (left, wrong), (right, wrong_too) = (d.decode(raw, number) for d, raw in zip(decoders, raws))
            for reason in dict.fromkeys(filter(None, (wrong, wrong_too))):  # once a pair if both are bad
                report.add(reason, number)
            if left is not None and right is not None:
                yield number, left, right
    if number != report.total:
        raise Refused(
            f"{report.total:,} lines again on reading {report.name}",
            f"{number:,}",
            "the files are counted first, so give files that do not change",
        )


def check_counts(source: str | PathLike[str], target: str | PathLike[str], first: int, second: int) -> None:
    """Refuse parallel files of different numbers of lines."""
    if first != second:
        raise Refused(
            f"as many lines in {fspath(source)} as in {fspath(target)}",
            f"{first:,} and {second:,}",
            "align the files line by line, nothing is cut to the shorter one",
        )


def count_lines(path: str | PathLike[str]) -> int:
    r"""Return the number of lines of a file as `read_lines` sees it: a last line needs no ``\n``."""
    with opened(path) as stream:
        return _count(stream)


def _count(stream: BinaryIO) -> int:
    count, last = 0, b"\n"
    while chunk := stream.read(1 << 20):
        count += chunk.count(b"\n")
        last = chunk[-1:]
    return count + (last != b"\n")


def text_lines(lines: Iterable[str], setting: str = "lines") -> list[str]:
    """Lines of text as a list, whatever gives them one after the other.

    Parameters
    ----------
    lines : iterable of str
        In an order of their own; each without line ends.
    setting : str
        Name of the argument.

    Raises
    ------
    Refused
        One text instead of lines of it, what has no order, or something in it that is no line of text.
    """
    return list(iter_text_lines(lines, setting))


def iter_text_lines(lines: Iterable[str], setting: str = "lines") -> Iterator[str]:
    """The same one by one, for text that is not to be held in memory."""
    if isinstance(lines, (str, bytes)):
        raise Refused("lines of text", f"one text, {lines[:40]!r}", "put it into a list", setting)
    if isinstance(lines, (Mapping, Set)) or not isinstance(lines, Iterable):
        raise Refused("lines of text", f"a {type(lines).__name__}", "give a list of lines", setting)
    for number, line in enumerate(lines, 1):
        if not isinstance(line, str):
            raise Refused(f"text in line {number}", repr(line)[:60], "give text for each line", setting)
        if "\n" in line:
            do = "give each line by itself, without its end"
            raise Refused(f"one line in line {number}", f"a line end in {line[:40]!r}", do, setting)
        if not line.isascii():
            _check_unicode(line, number, setting)
        yield line


def one_line(text: str, setting: str) -> str:
    """One line of text, held to what `text_lines` asks of each."""
    if not isinstance(text, str):
        raise Refused("one line of text", repr(text)[:60], "give a text", setting)
    (line,) = text_lines([text], setting)
    return line


# What ends a line for one reader or another, and what is none of a text.
_ENDS = re.compile("\r\n|[\n\v\f\r\x1c\x1d\x1e\x85\u2028\u2029\0]")


def unbroken(text: str) -> str:
    """A text as one line for every reader: a space in place of each end of a line, and of each NUL."""
    return _ENDS.sub(" ", text) if _ENDS.search(text) else text


def _check_unicode(line: str, number: int, setting: str) -> None:
    """Refuse half of a surrogate pair, which no tokenizer could write as UTF-8."""
    try:
        line.encode()
    except UnicodeEncodeError as error:
        found, do = f"half a character, {line[error.start]!r}", "read the text as UTF-8"
        raise Refused(f"whole characters in line {number}", found, do, setting) from None


class _Decoder:
    """Decodes the lines of one file, which it must be given from the first on."""

    def __init__(self, name: str, on_bad_line: OnBadLine) -> None:
        check_known(get_args(OnBadLine), on_bad_line=on_bad_line)
        self.name, self.on_bad_line = name, on_bad_line
        self.offset = 0  # of the line in the file

    def decode(self, raw: bytes, number: int) -> tuple[str | None, str]:
        """Return the text, None where the line is left out; and the reason to report, empty for none."""
        at, self.offset = self.offset, self.offset + len(raw)
        body = raw[:-1] if raw.endswith(b"\n") else raw
        body = body[:-1] if body.endswith(b"\r") else body
        skipped = len(BOM) if number == 1 and body.startswith(BOM) else 0
        body = body[skipped:]
        try:
            text = body.decode("utf-8")
            wrong = body.find(b"\0")
        except UnicodeDecodeError as error:
            wrong = error.start
        if wrong < 0:
            return text, ""
        what = "NUL" if body[wrong] == 0 else "not UTF-8"
        if self.on_bad_line == "skip":
            return None, f"{what}, skipped"
        if self.on_bad_line == "replace":
            text = body.decode("utf-8", "replace").replace("\0", "\N{REPLACEMENT CHARACTER}")
            return text, f"{what}, replaced"
        found = "a NUL byte" if body[wrong] == 0 else f"byte 0x{body[wrong]:02X}"
        column = wrong + skipped
        raise Refused(
            f"UTF-8 text in {self.name}:{number}",
            f"{found} at byte offset {column} of the line ({at + column:,} of the file)",
            "convert the file to UTF-8, or set on_bad_line to skip or replace",
        )
