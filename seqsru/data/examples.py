"""Labels, and batches of encoded texts with the numbers of their labels."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy
import torch
from numpy.typing import NDArray
from torch import Tensor

from seqsru.data.labelled import LabelledLines
from seqsru.data.padding import Ragged, padded_length
from seqsru.data.shuffling import batches_alike, draw_from
from seqsru.data.tokenizer_record import check_fingerprint, read_record, write_record
from seqsru.data.tokenizers import Tokenizer
from seqsru.errors import Refused, check_at_least, did_you_mean

BUCKET = 4  # texts side by side differ in length by less, but where two buckets meet


class Labels:
    """The labels that a model tells apart, in the order of its outputs: by name, so not that of a file.

    Parameters
    ----------
    names : sequence of str
        Each once, at least two.

    Attributes
    ----------
    names : tuple of str
    size : int
    fingerprint : str
        sha256 of the names; a checkpoint holds it beside that of the tokenizer.

    Raises
    ------
    Refused
        Fewer than two, or one twice.
    """

    kind = "labels"

    def __init__(self, names: Sequence[str]) -> None:
        if isinstance(names, str) or len(names) < 2 or len(set(names)) < len(names):
            raise Refused(
                "at least two labels, each once",
                repr(names if isinstance(names, str) else list(names)),
                "check the training file",
            )
        self.names = tuple(names)
        self.size = len(names)
        self.fingerprint = hashlib.sha256(json.dumps([self.kind, *names]).encode()).hexdigest()
        self._ids = {name: i for i, name in enumerate(names)}

    @classmethod
    def train(cls, lines: LabelledLines) -> Labels:
        """Collect the labels of lines."""
        return cls(sorted(set(lines.labels)))

    def encode(self, lines: LabelledLines) -> NDArray[numpy.int64]:
        """The number of each line's label, of shape (n,).

        Raises
        ------
        Refused
            A label that is not known, named with file and line.
        """
        for number, label in zip(lines.numbers, lines.labels):
            if label not in self._ids:
                raise Refused(
                    f"a label of the training data ({', '.join(self.names)}) at {lines.name}:{number}",
                    ", ".join(filter(None, [repr(label), did_you_mean(label, self.names)])),
                    "correct it, or train with it",
                )
        return numpy.array([self._ids[label] for label in lines.labels], dtype=numpy.int64)

    def save(self, folder: str | PathLike[str], name: str) -> None:
        """Write ``folder/name.json``."""
        record = {"kind": self.kind, "fingerprint": self.fingerprint, "types": list(self.names)}
        write_record(Path(folder) / f"{name}.json", record)

    @classmethod
    def load(cls, folder: str | PathLike[str], name: str) -> Labels:
        """Read what `save` wrote; a damaged file is refused by name."""
        path = Path(folder) / f"{name}.json"
        record = read_record(path)
        names = record.get("types")
        sound = (
            record["kind"] == cls.kind
            and isinstance(names, list)
            and all(isinstance(one, str) for one in names)
            and len(set(names)) == len(names) >= 2
        )
        labels = cls(list(names or ())) if sound else None
        check_fingerprint(path, record, "no list of labels" if labels is None else labels.fingerprint)
        assert labels is not None
        return labels


@dataclass(frozen=True)
class Examples:
    """Encoded texts with the numbers of their labels.

    Parameters
    ----------
    tokens : Ragged
        Ids of each text.
    labels : ndarray of shape (n,), int64
    pad : int
        What fills up shorter texts.
    """

    tokens: Ragged
    labels: NDArray[numpy.int64]
    pad: int

    @classmethod
    def from_lines(cls, lines: LabelledLines, tokenizer: Tokenizer, labels: Labels) -> Examples:
        """Encode lines; a label that is not known is refused."""
        numbers = labels.encode(lines)
        return cls(Ragged.from_sequences(map(tokenizer.encode, lines.texts)), numbers, tokenizer.pad)

    def __len__(self) -> int:
        return len(self.tokens)


@dataclass(frozen=True)
class ExampleBatch:
    """Texts side by side.

    Parameters
    ----------
    tokens : Tensor of shape (T, B), int64
    valid : Tensor of shape (T, B), bool
        True on the tokens of a text; each row a prefix of True.
    labels : Tensor of shape (B,), int64
    """

    tokens: Tensor
    valid: Tensor
    labels: Tensor


class ExampleBatches:
    """Batches of a fixed number of texts of like length.

    The cuts between batches are the same in every epoch; who sits beside whom, and the order of the batches,
    are drawn from (seed, epoch) alone: no global generator is read or moved, and any epoch can be made
    without those before. One batch, of the longest texts, may be smaller.

    Parameters
    ----------
    examples : Examples
        What to batch.
    batch_size : int
        Texts a batch.
    seed : int
        Of the order, not negative.

    Raises
    ------
    Refused
        No example, or an argument out of range.
    """

    def __init__(self, examples: Examples, batch_size: int = 16, *, seed: int) -> None:
        check_at_least(1, batch_size=batch_size)
        check_at_least(0, seed=seed)
        if not len(examples):
            raise Refused("examples to make batches of", "none", "check the training file")
        self.examples, self.batch_size, self.seed = examples, batch_size, seed
        self._bucket = padded_length(examples.tokens.lengths, BUCKET)

    def __len__(self) -> int:
        """Return the number of batches in every epoch."""
        return -(-len(self.examples) // self.batch_size)

    def epoch(self, epoch: int) -> list[list[int]]:
        """Return the batches of an epoch (not negative) as indices into `examples`, each in exactly one."""
        return batches_alike(self._bucket, self.batch_size, draw_from(self.seed, epoch))

    def collate(self, indices: Sequence[int]) -> ExampleBatch:
        """Return examples as tensors, columns in the order of `indices`."""
        rows = numpy.asarray(indices, dtype=numpy.int64)
        tokens, valid = self.examples.tokens.padded(rows, self.examples.pad)
        return ExampleBatch(tokens, valid, torch.from_numpy(self.examples.labels[rows]))
