"""N-gram language models in the ARPA format, over words."""

from __future__ import annotations

import hashlib
import io
import math
from functools import cached_property
from os import PathLike, fspath
from typing import BinaryIO

from seqsru.data.inputs import opened
from seqsru.data.lines import LineReport, iter_all_lines
from seqsru.errors import Refused

START, END, UNKNOWN = "<s>", "</s>", "<unk>"
NONE = -100.0  # log10 of the probability of a word that a model without <unk> lacks, as KenLM has it
_LN10 = math.log(10.0)
Context = tuple[str, ...]


class Ngrams:
    """A backoff model.

    With c a context of at most n - 1 words and c' the same without its first::

        (1) log p(w | c) = the number of the n-gram c w, if there is one
        (2) log p(w | c) = backoff(c) + log p(w | c')       else; backoff is 0 where c is no n-gram

    Parameters
    ----------
    name : str
        The file.
    order : int
        n.
    numbers : dict of tuple of str to tuple of float
        log10 probability and log10 backoff of each n-gram.
    digest : str
        First 12 hexadecimal digits of the sha256 of the file.
    """

    def __init__(
        self, name: str, order: int, numbers: dict[Context, tuple[float, float]], digest: str
    ) -> None:
        self.name, self.order, self.digest = name, order, digest
        self._numbers = numbers
        self._unknown = next((word for word in (UNKNOWN, "<UNK>") if (word,) in numbers), None)

    @cached_property
    def words(self) -> frozenset[str]:
        """Those that it knows; the ends of a line and what stands for an unknown word are none."""
        never = (START, END, self._unknown)
        return frozenset(gram[0] for gram in self._numbers if len(gram) == 1 and gram[0] not in never)

    def begin(self) -> Context:
        """The context of the first word of a line."""
        return (START,) if self.order > 1 else ()

    def score(self, context: Context, word: str) -> float:
        """Log probability of a word after a context, natural logarithm."""
        word, total = self._known(word), 0.0
        if (word,) not in self._numbers:
            return NONE * _LN10
        while (found := self._numbers.get((*context, word))) is None:
            total += self._numbers.get(context, (0.0, 0.0))[1]
            context = context[1:]
        probability, _ = found
        return (total + probability) * _LN10

    def advance(self, context: Context, word: str) -> Context:
        """The context after a word."""
        longer = (*context, self._known(word))
        return longer[-(self.order - 1) :] if self.order > 1 else ()

    def _known(self, word: str) -> str:
        return word if (word,) in self._numbers or self._unknown is None else self._unknown


def read_arpa(path: str | PathLike[str]) -> Ngrams:
    r"""Read a file in the ARPA format.

    Parameters
    ----------
    path : path
        UTF-8 text: ``\data\`` with counts, a section for each order, ``\end\``.

    Raises
    ------
    NotFound
        There is no such file.
    Refused
        A line that is none of the format, or counts that differ, named with file and line.
    """
    with opened(path) as stream:
        content = stream.read()
    reader = _Reader(fspath(path), io.BytesIO(content))
    numbers, order = reader.read()
    return Ngrams(reader.name, order, numbers, hashlib.sha256(content).hexdigest()[:12])


class _Reader:
    """Reads one file."""

    def __init__(self, name: str, stream: BinaryIO) -> None:
        self.name, self.number = name, 0
        self._lines = iter_all_lines(stream, LineReport(name))

    def read(self) -> tuple[dict[Context, tuple[float, float]], int]:
        """The n-grams, and the largest order."""
        line = self._next(r"\data\ ")
        while line != "\\data\\":
            line = self._next(r"\data\ ")  # what stands before it is a comment
        counts: list[int] = []
        line = self._next("counts of n-grams")
        while line.startswith("ngram "):
            of, _, number = (part.strip() for part in line[6:].partition("="))
            if not (of.isdecimal() and number.isdecimal()):
                raise self._refused("ngram ORDER=COUNT", line)
            if int(of) != len(counts) + 1:
                raise self._refused(f"the count of {len(counts) + 1}-grams", line)
            counts.append(int(number))
            line = self._next("n-grams")
        if not counts:
            raise self._refused("ngram 1=COUNT", line)
        numbers: dict[Context, tuple[float, float]] = {}
        for order, count in enumerate(counts, 1):
            if line != f"\\{order}-grams:":
                raise self._refused(f"\\{order}-grams:", line)
            before = len(numbers)
            line = self._next(f"{order}-grams")
            while not line.startswith("\\"):
                words, values = self._ngram(line, order)
                if words in numbers:
                    raise self._refused("each n-gram once", f"{' '.join(words)} again")
                numbers[words] = values
                line = self._next(f"{order}-grams")
            if len(numbers) - before != count:
                raise self._refused(
                    f"{count:,} {order}-grams, as counted above", f"{len(numbers) - before:,}"
                )
        if line != "\\end\\":
            raise self._refused("\\end\\", line)
        if (END,) not in numbers:
            raise self._refused(f"the word {END} among the 1-grams", "none")
        return numbers, len(counts)

    def _ngram(self, line: str, order: int) -> tuple[Context, tuple[float, float]]:
        """An n-gram, its log probability and its backoff."""
        fields = line.split()
        if len(fields) not in (order + 1, order + 2):
            raise self._refused(f"a number, {order} words and perhaps a backoff", line)
        try:
            probability = float(fields[0])
            backoff = float(fields[order + 1]) if len(fields) > order + 1 else 0.0
        except ValueError:
            raise self._refused(f"a number, {order} words and perhaps a backoff", line) from None
        if not (probability <= 1e-5 and math.isfinite(backoff)):  # tools round up to a little above 0
            raise self._refused("the logarithm of a probability", line)
        return (*fields[1 : order + 1],), (probability, backoff)

    def _next(self, expected: str) -> str:
        """The next line that is not empty."""
        for line in self._lines:
            self.number += 1
            if line is not None and line.strip():
                return line.strip()
        raise self._refused(expected.strip(), "the end of the file")

    def _refused(self, expected: str, found: str) -> Refused:
        do = "give a language model in the ARPA format"
        return Refused(f"{expected} at {self.name}:{max(self.number, 1)}", found[:60], do)
