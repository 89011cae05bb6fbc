"""Several corpora to train on: as settings and as what is told of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from seqsru.data import Pairs, ParallelLines, Tokenizer
from seqsru.data.shares import Share
from seqsru.data.texts import Again, TextFiles
from seqsru.settings import Values, shown


class TrainingTexts:
    """What is trained on: corpora that are never held in memory, or a few lines in their place.

    Parameters
    ----------
    corpora : sequence of Share of TextFiles or ParallelLines

    Attributes
    ----------
    source, target : iterable of str
        The lines of each side, of all corpora.
    lines : int
        How many there are, with those that cannot be used.
    """

    def __init__(self, corpora: Sequence[Share[TextFiles | ParallelLines]]) -> None:
        self.corpora = list(corpora)
        self.source, self.target = (
            Again(*(partial(_side, corpus.of, place) for corpus in corpora)) for place in (0, 1)
        )
        self.lines = sum(
            len(corpus.of.source) if isinstance(corpus.of, ParallelLines) else corpus.of.lines
            for corpus in corpora
        )

    def pairs(self, source: Tokenizer, target: Tokenizer) -> list[Share[Pairs]]:
        """The encoded pairs of each corpus."""
        return [
            Share(
                Pairs.from_lines(corpus.of, source, target)
                if isinstance(corpus.of, ParallelLines)
                else Pairs.from_files(corpus.of, source, target),
                corpus.weight,
            )
            for corpus in self.corpora
        ]


def _side(text: TextFiles | ParallelLines, place: int) -> Iterator[str]:
    """The lines of one side of a corpus."""
    if isinstance(text, ParallelLines):
        return iter((text.source, text.target)[place])
    return text.side(place)


def shares_told(
    corpora: Sequence[tuple[str, float]], counts: Sequence[tuple[int, int]], what: str
) -> tuple[str, ...]:
    """A line for each of several corpora, none for a single one with all of it.

    Parameters
    ----------
    corpora : sequence of (str, float)
        Name and weight of each.
    counts : sequence of (int, int)
        How much there is of each, and how much of it in an epoch.
    what : str
        What is counted.
    """
    if len(corpora) == 1 and corpora[0][1] == 1.0:
        return ()
    total = sum(count for _, count in counts)
    return tuple(
        f"corpus {number} of {len(corpora)}, {name}: {there:,} {what}, weight {shown(weight)}, "
        f"{count:,} in an epoch ({100 * count / total:.1f} % of {total:,})"
        for number, ((name, weight), (there, count)) in enumerate(zip(corpora, counts), 1)
    )


def each(section: Any) -> list[Any]:
    """The sections of a setting that may be one or a list of them."""
    return list(section.values()) if isinstance(section, Values) and section.section.listed else [section]
