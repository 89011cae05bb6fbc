"""A lexical shortlist: the target tokens that a source can lead to, which are all that its decoding scores.

They are the most frequent target tokens, those that an IBM model 1 in both directions (`alignment`) finds
likeliest for each token of the source, and what the search cannot do without.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqsru.engine.alignment import Alignment, Sentence
from seqsru.errors import Refused, check_at_least

MOST_PAIRS = 10_000_000  # of tokens, while learning: 0.7 GB of table, 1.5 GB while it is sorted
NAMES = ("shortlist.offsets", "shortlist.targets", "shortlist.common")
AGAIN = "make the file again with `seqsru quantize`"


@dataclass(frozen=True)
class Shortlist:
    """How a shortlist is made.

    Parameters
    ----------
    best : int
        Likeliest target tokens for each source token, the most frequent ones aside.
    frequent : int
        Most frequent target tokens, which every sentence may use.
    iterations : int
        Passes over the training text that learn which tokens translate which.

    Raises
    ------
    Refused
        A number is too small.
    """

    best: int = 200
    frequent: int = 500
    iterations: int = 5

    def __post_init__(self) -> None:
        """Refuse a number that cannot be meant."""
        check_at_least(1, best=self.best, iterations=self.iterations)
        check_at_least(0, frequent=self.frequent)


class Lexicon:
    """The target tokens that each source token allows, and those that are always allowed.

    Parameters
    ----------
    offsets : ndarray of shape (source_size + 1,), int64
        Where the row of each source token starts in `targets`.
    targets : ndarray of int64
        Rows end to end, each ascending.
    common : ndarray of int64
        What is always allowed, ascending.
    target_size : int
        Target ids are below it.
    """

    def __init__(
        self,
        offsets: NDArray[np.int64],
        targets: NDArray[np.int64],
        common: NDArray[np.int64],
        target_size: int,
    ) -> None:
        self.offsets, self.targets, self.common, self.target_size = offsets, targets, common, target_size
        # Views, made once: cutting a row out takes as long as marking what is in it. A source has few of all.
        self._rows: dict[int, NDArray[np.int64]] = {}
        self._allowed = np.zeros(target_size, np.bool_)
        self._allowed[common] = True

    @classmethod
    def choose(
        cls,
        alignment: Alignment,
        shortlist: Shortlist,
        *,
        always: Iterable[int],
        copies: NDArray[np.integer] | None = None,
    ) -> Lexicon:
        """Choose from what was learned; the same alignment and options give the same bits.

        A source token's targets are ranked by p(target | source) · p(source | target), of equal ones the
        lower id first: a frequent word, which goes with everything a little, ranks behind the rare one that
        goes with nothing else.

        Parameters
        ----------
        alignment : Alignment
            After its last iteration.
        shortlist : Shortlist
        always : iterable of int
            Target ids that every sentence may use: ``</s>``, the unknown token, what rules need.
        copies : ndarray of shape (source_size,), optional
            The target id that is the same text as each source id, or -1: it is allowed too, so that a name
            which the training text lacks can be copied. ``numpy.arange`` where both share a vocabulary.

        Raises
        ------
        Refused
            An id of `always` or `copies` is not below the size, or `copies` has another length.
        """
        source_size, target_size = alignment.sizes
        counts = alignment.target_counts
        frequent = np.argsort(-counts, kind="stable")[: shortlist.frequent]
        given = np.fromiter(always, np.int64)
        _check_ids(given, 0, target_size, "always")
        common = np.union1d(frequent[counts[frequent] > 0], given)
        other = np.ones(target_size, np.bool_)
        other[common] = False
        found = alignment.associations()
        score = found.given_source * found.given_target
        kept = np.flatnonzero((score > 0) & other[found.target])
        source, target = found.source[kept], found.target[kept]
        order = np.lexsort((target, -score[kept], source))
        starts = np.searchsorted(source, np.arange(source_size + 1))
        rank = np.arange(len(order)) - starts[source[order]]
        chosen = order[rank < shortlist.best]
        pairs = source[chosen].astype(np.int64) * target_size + target[chosen]
        if copies is not None:
            if copies.shape != (source_size,):
                raise Refused(f"{source_size} ids", str(copies.size), "give one a source id", "copies")
            _check_ids(copies, -1, target_size, "copies")
            same = np.flatnonzero((copies >= 0) & other[copies])
            pairs = np.concatenate([pairs, same * target_size + copies[same]])
        source, target = np.divmod(np.unique(pairs), target_size)
        offsets = np.searchsorted(source, np.arange(source_size + 1)).astype(np.int64)
        return cls(offsets, target, common, target_size)

    def columns(self, source: Sequence[int], also: Sequence[int] = ()) -> NDArray[np.int64]:
        """Return the target ids that a sentence may use, ascending, each once.

        Parameters
        ----------
        source : sequence of int
            Source ids; whether ``</s>`` is among them changes nothing that matters.
        also : sequence of int
            Target ids to add: those of a reference that is scored, or of a prefix.
        """
        allowed = self._allowed.copy()
        for token in set(source):
            row = self._rows.get(token)
            if row is None:
                row = self._rows[token] = self.targets[self.offsets[token] : self.offsets[token + 1]]
            allowed[row] = True
        if len(also):
            allowed[np.asarray(also, np.int64)] = True
        columns: NDArray[np.int64] = allowed.nonzero()[0]
        return columns

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Return what `from_tensors` reads, by the names that it has in a file."""
        ids = (tensor.astype(np.int32) for tensor in (self.targets, self.common))
        return dict(zip(NAMES, (self.offsets, *ids)))

    @classmethod
    def from_tensors(
        cls, tensors: Mapping[str, NDArray[Any]], *, source_size: int, target_size: int
    ) -> Lexicon:
        """Take over what `tensors` gave, after checking it.

        Parameters
        ----------
        tensors : mapping of str to ndarray
            May hold more than the shortlist's.
        source_size, target_size : int
            Of the tokenizers.

        Raises
        ------
        Refused
            One is missing, has another type or shape, or holds what cannot be meant.
        """
        for name, dtype in zip(NAMES, (np.int64, np.int32, np.int32)):
            if name not in tensors:
                raise Refused(f"a tensor {name}", "none", AGAIN)
            tensor = tensors[name]
            if tensor.dtype != dtype or tensor.ndim != 1:
                raise Refused(
                    f"one dimension of {np.dtype(dtype)} in {name}", f"{tensor.ndim} of {tensor.dtype}", AGAIN
                )
        offsets, targets, common = (tensors[name] for name in NAMES)
        if len(offsets) != source_size + 1:
            raise Refused(
                f"{source_size + 1} numbers in {NAMES[0]}, one more than the source tokenizer has tokens",
                len(offsets),
                AGAIN,
            )
        if offsets[0] != 0 or offsets[-1] != len(targets) or (offsets[1:] < offsets[:-1]).any():
            raise Refused(
                f"{NAMES[0]} that rise from 0 to the {len(targets)} numbers of {NAMES[1]}", "others", AGAIN
            )
        for name, ids in ((NAMES[1], targets), (NAMES[2], common)):
            if len(ids) and not 0 <= ids.min() <= ids.max() < target_size:
                wrong = ids.min() if ids.min() < 0 else ids.max()
                raise Refused(f"target ids from 0 to {target_size - 1} in {name}", int(wrong), AGAIN)
        rising = targets[1:] > targets[:-1]
        # Between the last token of a row and the first of the next, anything goes.
        first = offsets[(offsets > 0) & (offsets < len(targets))]
        rising[first - 1] = True
        if not rising.all() or (common[1:] <= common[:-1]).any():
            raise Refused(f"ids that rise in each row of {NAMES[1]} and in {NAMES[2]}", "others", AGAIN)
        return cls(offsets, targets.astype(np.int64), common.astype(np.int64), target_size)


def train(
    pairs: Iterable[tuple[Sentence, Sentence]],
    source_size: int,
    target_size: int,
    shortlist: Shortlist,
    *,
    always: Iterable[int],
    copies: NDArray[np.integer] | None = None,
    most_pairs: int = MOST_PAIRS,
) -> Lexicon:
    """Learn a shortlist from a text, which is read once an iteration and never held.

    Parameters
    ----------
    pairs : iterable of (source ids, target ids)
        Gives the training text anew each time that it is iterated over: a list, or an object whose
        ``__iter__`` reads a file. Without special ids.
    source_size, target_size : int
        Of the tokenizers.
    shortlist : Shortlist
    always, copies
        As for `Lexicon.choose`.
    most_pairs : int
        Pairs of tokens that are kept while learning, see `Alignment`.

    Raises
    ------
    Refused
        There are no pairs, they can be read but once, or an id is not below its size.
    """
    if isinstance(pairs, Iterator):
        raise Refused("pairs that can be read again", type(pairs).__name__, "give a list", "pairs")
    alignment = Alignment(source_size, target_size, most_pairs=most_pairs)
    for _ in range(shortlist.iterations):
        alignment.iterate(pairs)
    return Lexicon.choose(alignment, shortlist, always=always, copies=copies)


def _check_ids(ids: NDArray[np.integer], least: int, size: int, setting: str) -> None:
    if len(ids) and not least <= ids.min() <= ids.max() < size:
        wrong = ids.min() if ids.min() < least else ids.max()
        raise Refused(f"target ids from {least} to {size - 1}", int(wrong), "correct it", setting)
