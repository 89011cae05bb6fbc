"""Word and character error rate: substitutions, deletions and insertions, added up and divided once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy
from numpy.typing import NDArray

from seqsru.data.vocabulary import split_words
from seqsru.errors import Refused
from seqsru.evaluation.bootstrap import resamples
from seqsru.evaluation.items import Items


@dataclass(frozen=True)
class ErrorCounts:
    """What differs between texts and what should stand there, in words or in characters.

    Attributes
    ----------
    substitutions, deletions, insertions : int
        Of an alignment with the fewest in all, and of such one with the most substitutions.
    length : int
        Words or characters that should stand there.
    """

    substitutions: int
    deletions: int
    insertions: int
    length: int

    @property
    def errors(self) -> int:
        """All of them."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def rate(self) -> float:
        """``errors / length`` in percent; above 100 where more is written than was said."""
        return 100.0 * self.errors / self.length


@dataclass(frozen=True)
class ErrorRate:
    """The errors of a whole set.

    Attributes
    ----------
    name : str
        ``WER`` or ``CER``.
    counts : ErrorCounts
        Summed over the utterances.
    low, high : float
        Middle 95 % of the rate over 1,000 resamples of the utterances (seed 12345), in percent.
    """

    name: str
    counts: ErrorCounts
    low: float
    high: float

    @property
    def line(self) -> str:
        """The rate and its counts in one line."""
        found, unit = self.counts, "words" if self.name == "WER" else "characters"
        return (
            f"{self.name} {found.rate:.2f} (95 % {self.low:.2f} to {self.high:.2f}; {found.errors} errors in "
            f"{found.length} {unit}: {found.substitutions} substitutions, {found.deletions} deletions, "
            f"{found.insertions} insertions)"
        )

    def as_dict(self) -> dict[str, Any]:
        """The rate, its interval and the counts, as plain JSON values."""
        return {"rate": self.counts.rate, "low": self.low, "high": self.high, **asdict(self.counts)}


def error_counts(reference: Sequence[Any], hypothesis: Sequence[Any]) -> ErrorCounts:
    """Align two sequences at the least cost, one for each substitution, deletion and insertion.

    Parameters
    ----------
    reference : sequence
        What should stand there.
    hypothesis : sequence
        What does.
    """
    numbers: dict[Any, int] = {}
    should, does = (
        numpy.array([numbers.setdefault(item, len(numbers)) for item in items], dtype=numpy.int64)
        for items in (reference, hypothesis)
    )
    # A cost is errors * large + deletions and insertions, so that the least has the most substitutions.
    large = len(should) + len(does) + 1
    gap = large + 1
    gaps = numpy.arange(len(does) + 1) * gap
    row = gaps
    for item in should.tolist():
        best = row + gap  # a deletion
        best[1:] = numpy.minimum(best[1:], row[:-1] + large * (does != item))
        row = numpy.minimum.accumulate(best - gaps) + gaps  # insertions
    errors, between = divmod(int(row[-1]), large)
    insertions = (between + len(does) - len(should)) // 2
    return ErrorCounts(errors - between, between - insertions, insertions, len(should))


def error_rates(references: Sequence[str], hypotheses: Sequence[str]) -> tuple[ErrorRate, ErrorRate]:
    """Word and character error rate of texts.

    Words are what stands between runs of white space, and are compared as they are written. Characters are
    those of the words with one space between two; a space counts as one.

    Parameters
    ----------
    references, hypotheses : sequence of str
        What was said in each utterance, and what was written.

    Raises
    ------
    Refused
        The counts differ, or no word was said in any.
    """
    if len(references) != len(hypotheses):
        raise Refused(
            f"a text for each of the {len(references)} utterances",
            str(len(hypotheses)),
            "check that both are of the same set",
            "hypotheses",
        )
    words = [[split_words(text) for text in texts] for texts in (references, hypotheses)]
    if not any(words[0]):
        raise Refused("a word in the references", "none", "check the manifest", "references")
    characters = [[" ".join(one) for one in side] for side in words]
    return (
        _rate("WER", [error_counts(*pair) for pair in zip(*words)]),
        _rate("CER", [error_counts(*pair) for pair in zip(*characters)]),
    )


def error_items(name: str, references: Sequence[str], hypotheses: Sequence[str], text: str) -> Items:
    """What each utterance adds to a rate: its errors and its length.

    Parameters
    ----------
    name : {"wer", "cer"}
    references, hypotheses : sequence of str
        As for `error_rates`.
    text : str
        Digest of the utterances.
    """

    def units(line: str) -> Sequence[str]:
        words = split_words(line)
        return words if name == "wer" else " ".join(words)

    counts = [error_counts(units(one), units(other)) for one, other in zip(references, hypotheses)]
    rows = numpy.array([[one.errors, one.length] for one in counts], dtype=numpy.float64)
    return Items(name, "percent", False, rows, text)


def _rate(name: str, counts: Sequence[ErrorCounts]) -> ErrorRate:
    total = ErrorCounts(
        sum(one.substitutions for one in counts),
        sum(one.deletions for one in counts),
        sum(one.insertions for one in counts),
        sum(one.length for one in counts),
    )
    table: NDArray[numpy.int64] = numpy.array([[one.errors, one.length] for one in counts])
    sums = table[resamples(len(counts))].sum(1)  # (resamples, 2)
    rates = 100.0 * sums[:, 0] / numpy.maximum(sums[:, 1], 1)
    low, high = numpy.percentile(rates, [2.5, 97.5])
    return ErrorRate(name, total, float(low), float(high))
