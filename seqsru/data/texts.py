"""Texts in files that may be larger than memory: read anew each time they are gone through."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from os import fspath
from pathlib import Path
from typing import TypeVar

import numpy
import torch

from seqsru.data.arrays import Arrays
from seqsru.data.facts import facts_of, stamp
from seqsru.data.inputs import check_sources, opened
from seqsru.data.lines import LineReport, OnBadLine, check_counts, iter_lines, iter_parallel
from seqsru.data.mapped import Numbers
from seqsru.data.subwords import Pieces
from seqsru.data.text_cache import Encoded, TextCache
from seqsru.data.tokenizers import Tokenizer
from seqsru.errors import Refused

Entry = TypeVar("Entry")
IdType = type[numpy.uint16] | type[numpy.int32]
LINES = 8192  # encoded at a time
FIRST, LATER = 5.0, 15.0  # seconds until it is told how far the encoding is, and until it is told again


class Again(Iterable[str]):
    """Lines that can be gone through any number of times, and are held in memory no time.

    Parameters
    ----------
    *parts : callables that give an iterator over lines
    """

    def __init__(self, *parts: Callable[[], Iterator[str]]) -> None:
        self._parts = parts

    def __iter__(self) -> Iterator[str]:
        return chain.from_iterable(part() for part in self._parts)


class TextFiles:
    """One file of lines, or two that translate each other, to be encoded.

    Parameters
    ----------
    paths : sequence of Path
        One or two files that can be read more than once.
    cache : TextCache
    on_bad_line : {"error", "skip", "replace"}

    Attributes
    ----------
    name : str
    size : int
        Bytes.
    lines : int
        Lines of each file.
    sound : bool
        Whether none of them is a bad one.

    Raises
    ------
    NotFound
        One of the files is not there.
    Refused
        The files differ in their number of lines, or hold a bad line.
    """

    def __init__(self, paths: Sequence[Path], cache: TextCache, on_bad_line: OnBadLine = "error") -> None:
        check_sources(*paths)
        self.paths, self._cache, self._on_bad_line = list(paths), cache, on_bad_line
        self.name = " + ".join(map(fspath, paths))
        for path in paths:
            with opened(path):  # else it is refused here
                pass
        self._stamps = [stamp(path) for path in paths]
        self.size = sum(path.stat().st_size for path in paths)
        self._facts, self._read = zip(*(facts_of(path, cache.facts) for path in paths))
        if len(paths) > 1:
            check_counts(paths[0], paths[1], self._facts[0].lines, self._facts[1].lines)
        self.lines = self._facts[0].lines
        self.sound = all(facts.sound for facts in self._facts)
        if on_bad_line == "error" and not self.sound:
            for _ in self.entries(LineReport(self.name)):
                pass  # the first bad line is refused

    def entries(self, report: LineReport) -> Iterator[tuple[int, tuple[str, ...]]]:
        """Yield (line number from 1, the line of each file); the report is filled on the way."""
        if len(self.paths) > 1:
            source, target = self.paths
            for number, *texts in iter_parallel(source, target, report, on_bad_line=self._on_bad_line):
                yield number, tuple(texts)
            return
        with opened(self.paths[0]) as stream:
            for number, text in iter_lines(stream, report, on_bad_line=self._on_bad_line):
                yield number, (text,)

    def side(self, place: int) -> Iterator[str]:
        """Yield the lines of one of the files."""
        return (texts[place] for _, texts in self.entries(LineReport(self.name)))

    def encoded(
        self, kind: str, tokenizers: Sequence[Tokenizer], build: Callable[[Arrays, Progress], LineReport]
    ) -> tuple[Encoded, LineReport]:
        """The encoded text, from the cache or new, and the report of what was left out of it.

        Parameters
        ----------
        kind : str
            What `build` makes of a text.
        tokenizers : sequence of Tokenizer
        build : callable
            Fills arrays from `entries`, says how far it is, and gives the report.
        """

        def whole(arrays: Arrays) -> dict[str, object]:
            report = build(arrays, Progress(self._cache.tell, self.name, self.lines))
            if [stamp(path) for path in self.paths] != self._stamps:
                found, do = "that they changed", "start again when nothing writes to them"
                raise Refused(f"the files {self.name} to stay as they are while they are read", found, do)
            return {"total": report.total, "counts": report.counts, "first": report.first}

        key = {
            "kind": kind,
            "content": [facts.sha256 for facts in self._facts],
            "tokenizers": [tokenizer.fingerprint for tokenizer in tokenizers],
            "on_bad_line": "error" if self.sound else self._on_bad_line,
        }
        found = self._cache.encoded(self.name, self.size, key, whole)
        if found.origin:
            how = (
                "its sum was taken now"
                if any(self._read)
                else "no file of it changed since its sum was taken"
            )
            self._cache.tell(f"{self.name}: {found.origin}; of the text, {how}")
        facts = found.facts
        return found, LineReport(self.name, facts["total"], dict(facts["counts"]), dict(facts["first"]))


class Progress:
    """Says from time to time how far the encoding of a text is."""

    def __init__(self, tell: Callable[[str], None], name: str, lines: int) -> None:
        self._tell, self._name, self._lines = tell, name, lines
        self._began = time.monotonic()
        self._next = self._began + FIRST

    def at(self, number: int) -> None:
        """Say so, if it is time."""
        now = time.monotonic()
        if now < self._next or not number:
            return
        self._next = now + LATER
        left = (now - self._began) * (self._lines - number) / number
        share = 100 * number / self._lines
        self._tell(
            f"{self._name}: {number:,} of {self._lines:,} lines encoded ({share:.0f} %), "
            f"about {left:,.0f} s left"
        )


def chunks(entries: Iterable[Entry]) -> Iterator[list[Entry]]:
    """Entries in lists of `LINES`."""
    entries = iter(entries)
    while chunk := list(islice(entries, LINES)):
        yield chunk


def encode_all(tokenizer: Tokenizer, lines: list[str]) -> list[list[int]]:
    """The ids of many lines: by as many threads as torch has, where a tokenizer has use for them."""
    if isinstance(tokenizer, Pieces):
        return tokenizer.encode_all(lines, torch.get_num_threads())
    return [tokenizer.encode(line) for line in lines]


def id_type(tokenizer: Tokenizer) -> IdType:
    """The smallest type that has all ids of a tokenizer."""
    return numpy.uint16 if tokenizer.size <= 1 << 16 else numpy.int32


def array_of(arrays: dict[str, Numbers], name: str, dtype: type[numpy.integer]) -> Numbers:
    """An array by its name, an empty one where nothing was added to it."""
    return arrays.get(name, numpy.empty(0, dtype))
