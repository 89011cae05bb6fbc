"""Word vectors that others trained: word2vec and GloVe files, of which only a vocabulary's rows are kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from os import PathLike, fspath
from typing import BinaryIO, Literal, get_args

import numpy
from numpy.typing import NDArray

from seqsru.data.inputs import opened
from seqsru.errors import Refused, check_known

VectorFormat = Literal["text", "binary"]
LONGEST_WORD = 4096  # bytes; a word without an end is a sign of another format


@dataclass(frozen=True)
class Vectors:
    """The vectors of those words that were asked for and found.

    Attributes
    ----------
    name : str
        The file.
    ids : ndarray of shape (n,), int64
        Number of each word, ascending.
    rows : ndarray of shape (n, size), float32
        Its vector.
    total : int
        Vectors in the file.
    twice : int
        Vectors left out since their word had one before.
    wanted : int
        Words that were asked for.
    """

    name: str
    ids: NDArray[numpy.int64]
    rows: NDArray[numpy.float32]
    total: int
    twice: int
    wanted: int

    def __str__(self) -> str:
        share = 100.0 * len(self.ids) / max(1, self.wanted)
        twice = f"; {self.twice:,} words came again, their first vector counts" if self.twice else ""
        return (
            f"{self.name}: {self.total:,} vectors; of {self.wanted:,} words of the vocabulary "
            f"{len(self.ids):,} found ({share:.1f} %){twice}"
        )


def read_vectors(
    path: str | PathLike[str], words: Mapping[str, int], size: int, *, form: VectorFormat = "text"
) -> Vectors:
    """Read the vectors of some words; the rest of the file is passed over.

    Parameters
    ----------
    path : path
        A file as word2vec or GloVe write it.
    words : mapping of str to int
        The words that are wanted, and their numbers.
    size : int
        Numbers in a vector.
    form : {"text", "binary"}
        text: a word and its numbers a line, between single spaces, with or without a first line of counts
        (GloVe has none). binary: word2vec's, a line of counts, then each word, a space and its numbers in
        little-endian float32.

    Raises
    ------
    NotFound
        There is no such file.
    Refused
        Vectors of another size, a file that ends too early or is of the other form, numbers that are not
        finite, or none of the words in it.
    """
    check_known(get_args(VectorFormat), form=form)
    name = fspath(path)
    parse: Callable[[BinaryIO, str, int], Iterator[tuple[bytes, Callable[[], NDArray[numpy.float32]]]]]
    parse = _text if form == "text" else _binary
    wanted = {word.encode(): number for word, number in words.items()}
    found: dict[int, NDArray[numpy.float32]] = {}
    total = twice = 0
    with opened(path) as stream:
        for total, (word, vector) in enumerate(parse(stream, name, size), 1):
            number = wanted.get(word)
            if number is None:
                continue
            if number in found:
                twice += 1
                continue
            found[number] = vector()
            if not numpy.isfinite(found[number]).all():
                raise Refused(
                    f"finite numbers in vector {total} of {name}, of {word.decode()!r}",
                    "one that is not",
                    "check the file",
                )
    if not found:
        raise Refused(
            f"words of the vocabulary in {name}",
            f"none of {len(words):,} among its {total:,}",
            "check its language and case; vectors_form says whether it is text or binary",
            "vectors",
        )
    ids = sorted(found)
    rows = numpy.stack([found[number] for number in ids])
    return Vectors(name, numpy.array(ids, dtype=numpy.int64), rows, total, twice, len(words))


def _text(
    stream: BinaryIO, name: str, size: int
) -> Iterator[tuple[bytes, Callable[[], NDArray[numpy.float32]]]]:
    """Words of a text file, each with what reads its numbers."""
    expected = None  # counts of a first line, where it has them
    number = 0
    for line, raw in enumerate(stream, 1):
        parts = raw.rstrip(b"\r\n ").rsplit(b" ", size)
        if line == 1 and len(counts := raw.split()) == 2 and all(part.isdigit() for part in counts):
            expected = int(counts[0])
            _check_size(name, size, int(counts[1]))
            continue
        if len(parts) != size + 1 or not _is_number(parts[1]):
            raise _misshapen(name, line, raw, size)
        number += 1

        def numbers(parts: list[bytes] = parts, line: int = line, raw: bytes = raw) -> NDArray[numpy.float32]:
            try:
                return numpy.array(parts[1:], dtype=numpy.float32)
            except ValueError:
                raise _misshapen(name, line, raw, size) from None

        # The word may hold spaces, but what is left of a longer vector is no word.
        if b" " in parts[0] and all(map(_is_number, parts[0].split(b" ")[1:])):
            raise _misshapen(name, line, raw, size)
        yield parts[0], numbers
    if expected is not None and number < expected:
        raise _ended(name, number, expected)


def _binary(
    stream: BinaryIO, name: str, size: int
) -> Iterator[tuple[bytes, Callable[[], NDArray[numpy.float32]]]]:
    """Words of a binary file, each with what reads its numbers."""
    counts = stream.readline(LONGEST_WORD).split()
    if len(counts) != 2 or not all(part.isdigit() for part in counts):
        do = "give a file that word2vec wrote, or set vectors_form to text"
        raise Refused(f"a line of two counts at the start of {name}", "something else", do, "vectors_form")
    expected, form = int(counts[0]), ", or set vectors_form to text if it is that"
    _check_size(name, size, int(counts[1]))
    for number in range(expected):
        word = bytearray()
        while (byte := stream.read(1)) != b" ":
            if not byte or len(word) > LONGEST_WORD:
                raise _ended(name, number, expected, form)
            if byte != b"\n":  # stands before a word, where it stands at all
                word += byte
        values = stream.read(4 * size)
        if len(values) < 4 * size:
            raise _ended(name, number, expected, form)

        def numbers(values: bytes = values) -> NDArray[numpy.float32]:
            return numpy.frombuffer(values, dtype="<f4").astype(numpy.float32)

        yield bytes(word), numbers


def _is_number(text: bytes) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _check_size(name: str, size: int, found: int) -> None:
    if found != size:
        do = f"set model.embedding_size to {found}"
        raise Refused(f"vectors of {size} numbers in {name}", f"{found}", do, "embedding_size")


def _misshapen(name: str, line: int, raw: bytes, size: int) -> Refused:
    """The refusal of a line that is not a word and its numbers."""
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        do = "check the file; binary ones need vectors_form binary"
        return Refused(f"UTF-8 text at {name}:{line}", "bytes that are none", do, "vectors_form")
    count = len(text.split()) - 1
    if count > 1 and count != size:
        return Refused(
            f"vectors of {size} numbers in {name}",
            f"{count} at line {line}",
            f"set model.embedding_size to {count}, or check the file",
            "embedding_size",
        )
    return Refused(f"a word and {size} numbers at {name}:{line}", repr(text[:40]), "check the file")


def _ended(name: str, number: int, expected: int, more: str = "") -> Refused:
    """The refusal of a file with fewer vectors than its first line says."""
    do = f"fetch it again, for it is cut{more}"
    return Refused(f"{expected:,} vectors in {name}, as it begins", f"{number:,}", do)
