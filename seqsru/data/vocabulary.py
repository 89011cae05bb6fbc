"""Vocabularies of whole words and of characters.

Both hold two types of their own and no more: ``<unk>`` (0) and ``<eos>`` (1). `bos` and `pad` are the id of
``<eos>``: a decoder starts from the end of the sentence before, as a language model does, and padding is
never read, since the masks say where it is. So the output layer has no row that is never a target, and Penn
Treebank has exactly 10,000 types.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from seqsru.data.lines import iter_text_lines
from seqsru.data.tokenizer_record import check_fingerprint, read_record, write_record
from seqsru.errors import Refused, check_at_most

UNK, EOS = "<unk>", "<eos>"
# Not str.split, which also splits at no-break spaces and at line separators: both are part of a word here.
_WORD = re.compile(r"[^ \t\r\v\f\n]+")


def split_words(line: str) -> list[str]:
    """Return the words of a line: what stands between runs of ASCII white space."""
    return _WORD.findall(line)


class Words:
    """A word is a type; an unknown word is ``<unk>``.

    Parameters
    ----------
    types : sequence of str
        Words in id order; the first two are ``<unk>`` and ``<eos>``.
    """

    kind = "words"

    def __init__(self, types: Sequence[str]) -> None:
        self._table = _Table(types)
        self.size = len(types)
        self.unk, self.eos, self.bos, self.pad = 0, 1, 1, 1
        self.fingerprint = _fingerprint(self.kind, self._table.types)

    @classmethod
    def train(
        cls, lines: Iterable[str], *, vocabulary_size: int | None = None, minimum_count: int = 1
    ) -> Words:
        """Collect the words of `lines`, most frequent first, equals in code point order.

        Parameters
        ----------
        lines : iterable of str
            Training text, words separated by white space.
        vocabulary_size : int, optional
            Keep so many types at most, ``<unk>`` and ``<eos>`` counted; all when not given.
        minimum_count : int
            Leave out words seen less often.

        Raises
        ------
        Refused
            There is no text, it holds ``<eos>``, or an option is out of range.
        """
        _check_options(vocabulary_size, minimum_count)
        counts = _count(lines, split_words)
        if EOS in counts:
            raise Refused(
                f"text without the word {EOS}, which is added to the end of every line",
                f"it {counts[EOS]:,} times",
                "remove it from the training text",
            )
        return cls(_most_frequent(counts, vocabulary_size, minimum_count, "words"))

    def encode(self, line: str) -> list[int]:
        """Return the ids of the words of a line, without ``<eos>``; ``<eos>`` in the text is unknown."""
        ids, unk = self._table.ids, self.unk
        return [ids.get(word, unk) for word in split_words(line)]

    def decode(self, ids: Iterable[int]) -> str:
        """Return the words joined by single spaces; ``<eos>`` is dropped, ``<unk>`` stays."""
        return " ".join(self._table.types[i] for i in ids if i != self.eos)

    def labels(self, ids: Iterable[int]) -> list[str]:
        """Return the type of every id, ``<eos>`` too: what an attention plot writes at its axes."""
        return [self._table.types[i] for i in ids]

    def save(self, folder: str | PathLike[str], name: str) -> None:
        """Write ``folder/name.json``."""
        _save(self.kind, self.fingerprint, self._table.types, folder, name)

    @classmethod
    def load(cls, folder: str | PathLike[str], name: str) -> Words:
        """Read what `save` wrote; a damaged file is refused by name."""
        return cls(_load(cls.kind, folder, name))


class Characters:
    """A code point is a type; the end of a line is ``<eos>``, an unknown one ``<unk>`` and decodes to U+FFFD.

    Parameters
    ----------
    types : sequence of str
        Characters in id order after ``<unk>`` and ``<eos>``.
    """

    kind = "characters"

    def __init__(self, types: Sequence[str]) -> None:
        self._table = _Table(types)
        self.size = len(types)
        self.unk, self.eos, self.bos, self.pad = 0, 1, 1, 1
        self.fingerprint = _fingerprint(self.kind, self._table.types)
        self._text = ["\N{REPLACEMENT CHARACTER}", "", *self._table.types[2:]]

    @classmethod
    def train(
        cls, lines: Iterable[str], *, vocabulary_size: int | None = None, minimum_count: int = 1
    ) -> Characters:
        """Collect the characters of `lines`, most frequent first; options as in `Words.train`.

        Parameters
        ----------
        lines : iterable of str
            Training text.
        vocabulary_size : int, optional
            Keep so many types at most, ``<unk>`` and ``<eos>`` counted; all when not given.
        minimum_count : int
            Leave out characters seen less often.
        """
        _check_options(vocabulary_size, minimum_count)
        return cls(_most_frequent(_count(lines, str), vocabulary_size, minimum_count, "characters"))

    def encode(self, line: str) -> list[int]:
        """Return one id a code point, without ``<eos>``."""
        ids, unk = self._table.ids, self.unk
        return [ids.get(character, unk) for character in line]

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text; ``<eos>`` is dropped."""
        return "".join(self._text[i] for i in ids)

    def labels(self, ids: Iterable[int]) -> list[str]:
        """Return the type of every id, ``<eos>`` too: what an attention plot writes at its axes."""
        return [self._table.types[i] for i in ids]

    def save(self, folder: str | PathLike[str], name: str) -> None:
        """Write ``folder/name.json``."""
        _save(self.kind, self.fingerprint, self._table.types, folder, name)

    @classmethod
    def load(cls, folder: str | PathLike[str], name: str) -> Characters:
        """Read what `save` wrote; a damaged file is refused by name."""
        return cls(_load(cls.kind, folder, name))


class _Table:
    """Types in id order, and their ids; the words of the table itself are never the id of ``<eos>``."""

    def __init__(self, types: Sequence[str]) -> None:
        if isinstance(types, str) or list(types[:2]) != [UNK, EOS] or len(set(types)) != len(types):
            raise Refused(
                f"distinct types that begin with {UNK} and {EOS}",
                list(types[:4]),
                "build a vocabulary with train() or load()",
                "types",
            )
        self.types = list(types)
        self.ids = {word: i for i, word in enumerate(self.types) if word != EOS}


def _count(lines: Iterable[str], split: Callable[[str], Iterable[str]]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for line in iter_text_lines(lines):
        counts.update(split(line))
    return counts


def _check_options(size: int | None, minimum: int) -> None:
    """Refuse what no text could mend, before any is read."""
    if size is not None and size < 3:
        raise Refused("at least 3", size, f"{UNK} and {EOS} are two of the types", "vocabulary_size")
    if minimum < 1:
        raise Refused("at least 1", minimum, "1 keeps every type", "minimum_count")
    check_at_most(2**31 - 1, vocabulary_size=size or 0, minimum_count=minimum)


def _most_frequent(counts: Counter[str], size: int | None, minimum: int, what: str) -> list[str]:
    kept = [(-count, word) for word, count in counts.items() if count >= minimum and word not in (UNK, EOS)]
    if not kept:
        raise Refused(
            f"training text to collect {what} from",
            f"none seen {minimum} times or more",
            "check the training file and minimum_count",
            "minimum_count" if minimum > 1 else None,
        )
    kept.sort()
    return [UNK, EOS] + [word for _, word in kept[: None if size is None else size - 2]]


def _fingerprint(kind: str, types: Sequence[str]) -> str:
    return hashlib.sha256(json.dumps([kind, *types]).encode()).hexdigest()


def _save(kind: str, fingerprint: str, types: Sequence[str], folder: str | PathLike[str], name: str) -> None:
    write_record(Path(folder) / f"{name}.json", {"kind": kind, "fingerprint": fingerprint, "types": types})


def _load(kind: str, folder: str | PathLike[str], name: str) -> list[str]:
    path = Path(folder) / f"{name}.json"
    record = read_record(path)
    types: Any = record.get("types")
    sound = (
        record["kind"] == kind
        and isinstance(types, list)
        and types[:2] == [UNK, EOS]
        and all(isinstance(word, str) for word in types)
        and len(set(types)) == len(types)
    )
    check_fingerprint(path, record, _fingerprint(kind, types) if sound else f"no list of {kind}")
    return [*types]
