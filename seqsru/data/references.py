"""Held-out pairs whose source has several references."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike, fspath

from seqsru.data.inputs import check_sources
from seqsru.data.lines import LineReport, OnBadLine, ParallelLines, read_lines, read_parallel
from seqsru.errors import Refused


@dataclass(frozen=True)
class ReferencedLines:
    """Lines to translate, and one or several references of each.

    Parameters
    ----------
    pair : ParallelLines
        The source and its first reference.
    further : list of list of str
        The lines of each further file, one for every line of the source.
    reports : list of LineReport
        Bad lines that were skipped or replaced: of the pair, then of each further file.
    """

    pair: ParallelLines
    further: list[list[str]]
    reports: list[LineReport]

    @property
    def references(self) -> list[list[str]]:
        """The references, a list a file."""
        return [self.pair.target, *self.further]


def read_references(
    source: str | PathLike[str],
    references: Sequence[str | PathLike[str]],
    *,
    on_bad_line: OnBadLine = "error",
) -> ReferencedLines:
    """Read a text and one or several translations of it; each file is read as `read_parallel` reads a pair.

    A bad line in any of them, when skipped, takes those of the others with it.

    Parameters
    ----------
    source : path
        File of UTF-8 text, one sentence a line.
    references : sequence of path
        Files of as many lines; at least one.
    on_bad_line : {"error", "skip", "replace"}
        As in `read_lines`.

    Raises
    ------
    NotFound
        One of the files is not there.
    Refused
        The files differ in their number of lines, or hold a bad line.
    """
    check_sources(source, *references)
    pair = read_parallel(source, references[0], on_bad_line=on_bad_line)
    if len(references) == 1:
        return ReferencedLines(pair, [], [pair.report])
    further = [read_lines(path, on_bad_line=on_bad_line) for path in references[1:]]
    for path, lines in zip(references[1:], further):
        if lines.report.total != pair.report.total:
            raise Refused(
                f"as many lines in {fspath(path)} as in {fspath(source)}",
                f"{lines.report.total:,} and {pair.report.total:,}",
                "align the files line by line, nothing is cut to the shorter one",
            )
    numbers = sorted(set(pair.numbers).intersection(*(lines.numbers for lines in further)))

    def kept(own: Sequence[int], lines: list[str]) -> list[str]:
        there = dict(zip(own, lines))
        return [there[number] for number in numbers]

    source_lines, target_lines = (kept(pair.numbers, lines) for lines in (pair.source, pair.target))
    return ReferencedLines(
        ParallelLines(pair.name, source_lines, target_lines, numbers, pair.report),
        [kept(lines.numbers, lines.lines) for lines in further],
        [pair.report, *(lines.report for lines in further)],
    )
