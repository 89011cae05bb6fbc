"""Labelled lines for classification: reading ``label text`` files."""

from __future__ import annotations

import codecs
from collections.abc import Iterable
from dataclasses import dataclass
from os import PathLike, fspath
from typing import Literal, get_args

from seqsru.data.inputs import opened
from seqsru.data.lines import BOM, LineReport
from seqsru.errors import Refused, check_known

Separator = Literal["whitespace", "tab"]
OnBadLabelledLine = Literal["error", "skip"]


@dataclass(frozen=True)
class LabelledLines:
    """The lines of one file, or a part of them.

    Parameters
    ----------
    name : str
        The file, as it was named.
    labels : list of str
        Label of each line.
    texts : list of str
        What follows it.
    numbers : list of int
        Where each line stands in the file, from 1.
    report : LineReport
        Bad lines of the file that were skipped.
    """

    name: str
    labels: list[str]
    texts: list[str]
    numbers: list[int]
    report: LineReport

    def __len__(self) -> int:
        return len(self.labels)

    def part(self, indices: Iterable[int]) -> LabelledLines:
        """The lines at these places, in their order in the file."""
        kept = sorted(indices)
        return LabelledLines(
            self.name,
            [self.labels[i] for i in kept],
            [self.texts[i] for i in kept],
            [self.numbers[i] for i in kept],
            self.report,
        )


def read_labelled(
    path: str | PathLike[str],
    *,
    separator: Separator = "whitespace",
    encoding: str = "utf-8",
    on_bad_line: OnBadLabelledLine = "error",
    lowercase: bool = False,
) -> LabelledLines:
    """Read a file of ``label text`` lines.

    Parameters
    ----------
    path : path
        A label and its text a line.
    separator : {"whitespace", "tab"}
        What ends a label: the first space or tab, or the first tab alone, so that labels may hold spaces.
    encoding : str
        Of the file: utf-8, latin-1 or another that Python knows and that writes ASCII as ASCII.
    on_bad_line : {"error", "skip"}
        What to do with a line that is empty, has no label or no text, or is not in this encoding: stop, or
        leave it out and count it in the report.
    lowercase : bool
        Whether to read all text in lower case (never the labels).

    Raises
    ------
    NotFound
        There is no such file.
    Refused
        A bad line, named with file and line, and a wrong byte with its place.
    """
    check_known(get_args(Separator), separator=separator)
    check_known(get_args(OnBadLabelledLine), on_bad_line=on_bad_line)
    check_encoding(encoding)
    name, offset = fspath(path), 0
    report = LineReport(name)
    labels, texts, numbers = [], [], []
    with opened(path) as stream:
        for number, raw in enumerate(stream, 1):  # a binary file is split at \n only
            report.total = number
            try:
                label, text = _split(_decoded(raw, number, encoding, name, offset), separator)
            except _BadLine as bad:
                if on_bad_line == "error":
                    raise Refused(f"{bad.expected} at {name}:{number}", bad.found, bad.do) from None
                report.add(f"{bad.reason}, skipped", number)
            else:
                labels.append(label)
                texts.append(text.lower() if lowercase else text)
                numbers.append(number)
            offset += len(raw)
    return LabelledLines(name, labels, texts, numbers, report)


def check_encoding(encoding: str) -> None:
    """Refuse an encoding that Python does not know or in which a line does not end with one byte."""
    plain = "0 a\t\n"
    try:
        codecs.lookup(encoding)
        fits = plain.encode(encoding) == plain.encode("ascii")
    except (LookupError, ValueError):  # also a codec that is none of text, or that encodes nothing
        fits = False
    if not fits:
        raise Refused(
            "a text encoding that writes ASCII as ASCII",
            repr(encoding),
            "utf-8 and latin-1 are common",
            "encoding",
        )


class _BadLine(Exception):
    """A line that cannot be used, and how to count it."""

    def __init__(self, reason: str, expected: str, found: str, do: str) -> None:
        super().__init__(reason)
        self.reason, self.expected, self.found = reason, expected, found
        self.do = f"{do}, or set on_bad_line to skip"


def _decoded(raw: bytes, number: int, encoding: str, name: str, offset: int) -> str:
    """The text of a line that begins at a byte offset of its file."""
    body = raw.removesuffix(b"\n").removesuffix(b"\r")
    skipped = len(BOM) if number == 1 and body.startswith(BOM) else 0
    body = body[skipped:]
    try:
        text = body.decode(encoding)
        wrong = body.find(b"\0")
    except UnicodeDecodeError as error:
        wrong = error.start
    if wrong < 0:
        return text
    at = wrong + skipped
    place = f"at byte offset {at} of the line ({offset + at:,} of the file)"
    if body[wrong] == 0:
        raise _BadLine("NUL", f"{encoding} text", f"a NUL byte {place}", "remove it")
    raise _BadLine(
        f"not {encoding}",
        f"{encoding} text",
        f"byte 0x{body[wrong]:02X} {place}",
        f"set data.encoding to the encoding of {name} (latin-1 is common), convert it",
    )


def _split(line: str, separator: Separator) -> tuple[str, str]:
    """Label and text of a line."""
    what = "a tab" if separator == "tab" else "a space or tab"
    if not line.strip():
        raise _BadLine("empty", f"a label, {what} and a text", "an empty line", "remove it")
    breaks = [at for at in map(line.find, "\t" if separator == "tab" else " \t") if at >= 0]
    at = min(breaks, default=len(line))
    label, text = line[:at].strip(), line[at:].strip()
    if not label:
        raise _BadLine("without a label", "a label first", f"{what} there", "put the label there")
    if not text:
        found = f"only {line.strip()[:40]!r}"
        do = "add what is missing; separator says what ends a label"
        raise _BadLine("without a text", f"a label, {what} and a text", found, do)
    return label, text
