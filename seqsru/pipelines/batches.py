"""Which sentences go through a model together, so that none depends on its neighbours."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from seqsru.data.padding import SOURCE_MULTIPLE, padded_length
from seqsru.decoding.decoding import BatchBy


def padded(sequence: Sequence[int]) -> int:
    """Return the length that a sentence is padded to.

    Sentences share a batch only where it is the same, since it depends on the sentence alone: a product over
    another padded length rounds another way, and a result would depend on its neighbours.
    """
    return padded_length(len(sequence), SOURCE_MULTIPLE)


def alike(sequences: Sequence[Sequence[int]], size: int, by: BatchBy = "sentences") -> Iterator[list[int]]:
    """Give the numbers of the sentences to work on together; empty ones are left out.

    Parameters
    ----------
    sequences : sequence of sequences of int
        Tokens of each sentence.
    size : int
        Most sentences, or most padded tokens, in a batch; one sentence at least.
    by : {"sentences", "tokens"}
        What `size` counts.
    """
    groups: dict[int, list[int]] = {}
    for index, sequence in enumerate(sequences):
        if sequence:
            groups.setdefault(padded(sequence), []).append(index)
    # Longest first: what does not fit into memory fails at once.
    for length in sorted(groups, reverse=True):
        most = size if by == "sentences" else max(1, size // length)
        # Like lengths end together, and a sentence that is done leaves its batch.
        members = sorted(groups[length], key=lambda index: len(sequences[index]))
        for first in range(0, len(members), most):
            yield members[first : first + most]
