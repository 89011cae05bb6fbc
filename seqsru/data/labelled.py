"""Labelled lines for classification: reading ``label text`` files, the labels, splits and batches."""

from __future__ import annotations

import codecs
import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path
from typing import Literal, get_args

import numpy
import torch
from numpy.typing import NDArray
from torch import Tensor

from seqsru.data.files import check_fingerprint, read_record, write_record
from seqsru.data.lines import BOM, Report, opened
from seqsru.data.pairs import Ragged
from seqsru.data.tokenizers import Tokenizer
from seqsru.errors import Refused, check_at_least, check_known, check_probability, did_you_mean

Separator = Literal["whitespace", "tab"]
OnBadLine = Literal["error", "skip"]
BUCKET = 4  # texts side by side differ in length by less, but where two buckets meet


# ---- files -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LabelledLines:
    """The lines of one file, or a part of them.

    Parameters
    ----------
    name : str
        The file, as it was named.
    labels : list of str
        Label of each line.
    texts : list of str
        What follows it.
    numbers : list of int
        Where each line stands in the file, from 1.
    report : Report
        Bad lines of the file that were skipped.
    """

    name: str
    labels: list[str]
    texts: list[str]
    numbers: list[int]
    report: Report

    def __len__(self) -> int:
        return len(self.labels)

    def part(self, indices: Iterable[int]) -> LabelledLines:
        """The lines at these places, in their order in the file."""
        kept = sorted(indices)
        columns = ([column[i] for i in kept] for column in (self.labels, self.texts, self.numbers))
        return LabelledLines(self.name, *columns, self.report)  # type: ignore[arg-type]


def read_labelled(
    path: str | PathLike[str],
    *,
    separator: Separator = "whitespace",
    encoding: str = "utf-8",
    on_bad_line: OnBadLine = "error",
    lowercase: bool = False,
) -> LabelledLines:
    """Read a file of ``label text`` lines.

    Parameters
    ----------
    path : path
        A label and its text a line.
    separator : {"whitespace", "tab"}
        What ends a label: the first space or tab, or the first tab alone, so that labels may hold spaces.
    encoding : str
        Of the file: utf-8, latin-1 or another that Python knows and that writes ASCII as ASCII.
    on_bad_line : {"error", "skip"}
        What to do with a line that is empty, has no label or no text, or is not in this encoding: stop, or
        leave it out and count it in the report.
    lowercase : bool
        Whether to read all text in lower case (never the labels).

    Raises
    ------
    NotFound
        There is no such file.
    Refused
        A bad line, named with file and line, and a wrong byte with its place.
    """
    check_known(get_args(Separator), separator=separator)
    check_known(get_args(OnBadLine), on_bad_line=on_bad_line)
    check_encoding(encoding)
    name, offset = fspath(path), 0
    report = Report(name)
    labels, texts, numbers = [], [], []
    with opened(path) as stream:
        for number, raw in enumerate(stream, 1):  # a binary file is split at \n only
            report.total = number
            try:
                label, text = _split(_decoded(raw, number, encoding, name, offset), separator)
            except _BadLine as bad:
                if on_bad_line == "error":
                    raise Refused(f"{bad.expected} at {name}:{number}", bad.found, bad.do) from None
                report.add(f"{bad.reason}, skipped", number)
            else:
                labels.append(label)
                texts.append(text.lower() if lowercase else text)
                numbers.append(number)
            offset += len(raw)
    return LabelledLines(name, labels, texts, numbers, report)


def check_encoding(encoding: str) -> None:
    """Refuse an encoding that Python does not know or in which a line does not end with one byte."""
    plain = "0 a\t\n"
    try:
        codecs.lookup(encoding)
        fits = plain.encode(encoding) == plain.encode("ascii")
    except LookupError:  # also a codec that is none of text
        fits = False
    if not fits:
        raise Refused(
            "a text encoding that writes ASCII as ASCII",
            repr(encoding),
            "utf-8 and latin-1 are common",
            "encoding",
        )


class _BadLine(Exception):
    """A line that cannot be used, and how to count it."""

    def __init__(self, reason: str, expected: str, found: str, do: str) -> None:
        super().__init__(reason)
        self.reason, self.expected, self.found = reason, expected, found
        self.do = f"{do}, or set on_bad_line to skip"


def _decoded(raw: bytes, number: int, encoding: str, name: str, offset: int) -> str:
    """The text of a line that begins at a byte offset of its file."""
    body = raw.removesuffix(b"\n").removesuffix(b"\r")
    if number == 1:
        body = body.removeprefix(BOM)
    try:
        text = body.decode(encoding)
        wrong = body.find(b"\0")
    except UnicodeDecodeError as error:
        wrong = error.start
    if wrong < 0:
        return text
    at = wrong + raw.find(body)
    place = f"at byte offset {at} of the line ({offset + at:,} of the file)"
    if body[wrong] == 0:
        raise _BadLine("NUL", f"{encoding} text", f"a NUL byte {place}", "remove it")
    raise _BadLine(
        f"not {encoding}",
        f"{encoding} text",
        f"byte 0x{body[wrong]:02X} {place}",
        f"set data.encoding to the encoding of {name} (latin-1 is common), convert it",
    )


def _split(line: str, separator: Separator) -> tuple[str, str]:
    """Label and text of a line."""
    what = "a tab" if separator == "tab" else "a space or tab"
    if not line.strip():
        raise _BadLine("empty", f"a label, {what} and a text", "an empty line", "remove it")
    breaks = [at for at in map(line.find, "\t" if separator == "tab" else " \t") if at >= 0]
    at = min(breaks, default=len(line))
    label, text = line[:at].strip(), line[at:].strip()
    if not label:
        raise _BadLine("without a label", "a label first", f"{what} there", "put the label there")
    if not text:
        found = f"only {line.strip()[:40]!r}"
        do = "add what is missing; separator says what ends a label"
        raise _BadLine("without a text", f"a label, {what} and a text", found, do)
    return label, text


# ---- splits ----------------------------------------------------------------------------------------


def read_splits(
    train: Path,
    *,
    validation: Path | None = None,
    test: Path | None = None,
    separator: Separator = "whitespace",
    encoding: str = "utf-8",
    on_bad_line: OnBadLine = "error",
    lowercase: bool = False,
    holdout: float = 0.1,
    folds: int = 0,
    fold: int = 0,
    split_seed: int = 1,
) -> dict[str, LabelledLines]:
    """Read the lines to learn from, to validate with, and to test on.

    A part that has no file of its own is taken from the training file, drawn from `split_seed` alone: first
    the fold for testing, then the share held out for validation.

    Parameters
    ----------
    train : Path
        Lines to learn from: a label and a text each.
    validation : Path, optional
        Lines that tell when the model was best; without it a share of the training lines is held out.
    test : Path, optional
        Lines that `seqsru evaluate` reads.
    separator : {"whitespace", "tab"}
        What ends a label: the first space or tab, or the first tab alone.
    encoding : str
        Of all files: utf-8, latin-1 or another that writes ASCII as ASCII.
    on_bad_line : {"error", "skip"}
        Whether a line that is empty, has no label or no text, or is not in this encoding ends the reading, or
        is left out and reported.
    lowercase : bool
        Whether all text is read in lower case.
    holdout : float
        Share of the training lines for validation where there is no file for it.
    folds : int
        Parts of a k-fold cross-validation; 0 is none. One part of the training file is then the test.
    fold : int
        Which part, from 0: lines whose place in the drawn order is this, modulo `folds`.
    split_seed : int
        Of the order that folds and the held-out share are drawn in; systems that are compared share it.

    Returns
    -------
    dict of str to LabelledLines
        ``train``, ``validation`` and, where there is one, ``test``.

    Raises
    ------
    NotFound, Refused
        As `read_labelled`; also settings that do not go together, too few lines, or a single label.
    """
    check_at_least(0, folds=folds, fold=fold, split_seed=split_seed)
    if folds == 1 or (folds and fold >= folds):
        raise Refused(
            "folds of at least 2, or 0 for none" if folds == 1 else f"a fold below folds = {folds}",
            str(1 if folds == 1 else fold),
            "folds are counted from 0" if folds != 1 else "10 are common",
            "folds" if folds == 1 else "fold",
        )
    if fold and not folds:
        raise Refused("folds for a fold to be one of", f"fold {fold} and folds 0", "set folds", "fold")
    if folds and test is not None:
        raise Refused(
            "no file for testing beside folds, one of which is the test",
            fspath(test),
            "leave out one of them",
            "test",
        )
    check_probability(holdout=holdout)
    if validation is None and not holdout:
        raise Refused("a share above 0 where there is no validation file", "0", "0.1 is common", "holdout")

    def read(path: Path) -> LabelledLines:
        return read_labelled(
            path, separator=separator, encoding=encoding, on_bad_line=on_bad_line, lowercase=lowercase
        )

    lines = read(train)
    order = _drawn(len(lines), split_seed)
    tested = set(order[fold::folds]) if folds else set()
    rest = [i for i in order if i not in tested]
    held = set() if validation is not None else set(rest[: max(1, round(holdout * len(rest)))])
    kept = lines.part(i for i in rest if i not in held)
    splits = {"train": kept, "validation": lines.part(held) if validation is None else read(validation)}
    if folds or test is not None:
        splits["test"] = read(test) if test is not None else lines.part(tested)
    for name, part in splits.items():
        if not len(part):
            raise Refused(
                f"lines for {name} in {part.name}",
                f"none ({len(lines)} in {lines.name})",
                "check the file and the splits",
            )
    if len(set(kept.labels)) < 2:
        raise Refused(
            f"lines of at least two labels to learn from in {kept.name}",
            f"only {kept.labels[0]!r}",
            "check the file; separator says what ends a label",
        )
    return splits


def _drawn(count: int, *seed: int) -> list[int]:
    """The numbers below `count` in an order drawn from a seed alone."""
    # Raw output of the bit generator is what numpy promises not to change; its shuffles may.
    draw = numpy.random.PCG64(numpy.random.SeedSequence(seed)).random_raw
    order: list[int] = numpy.argsort(draw(count), kind="stable").tolist()
    return order


# ---- labels ----------------------------------------------------------------------------------------


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
        if len(names) < 2 or len(set(names)) < len(names):
            raise Refused("at least two labels, each once", repr(list(names)), "check the training file")
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
                    repr(label) + did_you_mean(label, self.names).replace("; ", ", "),
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
        labels = cls(names) if sound else None
        check_fingerprint(path, record, "no list of labels" if labels is None else labels.fingerprint)
        assert labels is not None
        return labels


# ---- batches ---------------------------------------------------------------------------------------


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
        self._bucket = -(-examples.tokens.lengths // BUCKET)

    def __len__(self) -> int:
        """Return the number of batches in every epoch."""
        return -(-len(self.examples) // self.batch_size)

    def epoch(self, epoch: int) -> list[list[int]]:
        """Return the batches of an epoch (not negative) as indices into `examples`, each in exactly one."""
        draw = numpy.random.PCG64(numpy.random.SeedSequence((self.seed, epoch))).random_raw
        order = numpy.lexsort((draw(len(self.examples)), self._bucket)).tolist()
        batches = [order[at : at + self.batch_size] for at in range(0, len(order), self.batch_size)]
        return [batches[i] for i in numpy.argsort(draw(len(batches)), kind="stable")]

    def collate(self, indices: Sequence[int]) -> ExampleBatch:
        """Return examples as tensors, columns in the order of `indices`."""
        rows = numpy.asarray(indices, dtype=numpy.int64)
        lengths = self.examples.tokens.lengths[rows]
        T = max(1, int(lengths.max()))
        return ExampleBatch(
            torch.from_numpy(self.examples.tokens.padded(rows, T, self.examples.pad)),
            torch.from_numpy(numpy.arange(T)[:, None] < lengths),
            torch.from_numpy(self.examples.labels[rows]),
        )
