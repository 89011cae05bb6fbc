"""Several corpora to train on: as settings and as what is told of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from seqsru.settings import Values, shown


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
