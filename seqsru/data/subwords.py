"""Subwords: sentencepiece models, trained, saved and loaded."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from os import PathLike
from pathlib import Path
from typing import Any, Literal, get_args

from seqsru import regular
from seqsru.data.files import sha256, write_whole
from seqsru.data.lines import LineReport, iter_text_lines
from seqsru.data.subword_process import train as train_in_process
from seqsru.data.tokenizer_record import MOST_BYTES, check_fingerprint, read_record, write_record
from seqsru.errors import NotFound, NotInstalled, Refused, check_at_least, check_at_most, check_known

Algorithm = Literal["unigram", "bpe"]
Normalization = Literal["nmt_nfkc", "nfkc", "identity"]
# The sums of the training depend on how many threads share them, so the number is not that of the machine.
THREADS = 4
# A run of characters without a space is one word to sentencepiece, whose unigram training takes time in the
# square of its length; no word of a language is as long, and few sentences of one without spaces are.
LONGEST_WORD = 1000
_LONG = re.compile(rf"(\S{{{LONGEST_WORD}}})\S+")
# The same holds of a line that repeats itself; broken at spaces it has the same words.
_PART = re.compile(r".{1,4000}(?:\s|\Z)", re.DOTALL)
# What sentencepiece itself leaves out: its own sign for what is unknown.
_RESERVED = "\u2585"


class Pieces:
    """Subwords of a sentencepiece model.

    Ids: ``<unk>`` 0, ``</s>`` 1; `bos` and `pad` are ``</s>``, as in `seqsru.data.vocabulary`.

    With ``normalization="identity"`` decoding gives back the text exactly, white space of every kind
    included, unless it holds U+2581 (▁), sentencepiece's own sign for a space, or, without `byte_fallback`, a
    character that is not in the vocabulary: that becomes `` ⁇ ``. The two others fold compatibility
    characters, runs of spaces and no-break spaces, which suits translation; scores a byte (CONVENTIONS: bits
    per byte) need "identity".

    Parameters
    ----------
    model : bytes
        A serialised sentencepiece model.
    """

    kind = "sentencepiece"

    def __init__(self, model: bytes) -> None:
        sentencepiece = _sentencepiece()
        self.model = model
        # load_from_serialized_proto, unlike the constructor, never takes empty bytes for "no model".
        self._processor = sentencepiece.SentencePieceProcessor()
        self._processor.load_from_serialized_proto(model)
        self.size: int = self._processor.get_piece_size()
        self.unk: int = self._processor.unk_id()
        self.eos: int = self._processor.eos_id()
        if self.eos < 0:
            raise Refused(
                "a sentencepiece model with an end of sentence", "eos_id = -1", "train it with eos_id set"
            )
        self.bos = self.pad = self.eos
        self.fingerprint = hashlib.sha256(model).hexdigest()

    @classmethod
    def train(
        cls,
        lines: Iterable[str],
        *,
        vocabulary_size: int = 8000,
        algorithm: Algorithm = "unigram",
        normalization: Normalization = "nmt_nfkc",
        character_coverage: float = 1.0,
        byte_fallback: bool = False,
        sample: int = 1_000_000,
        report: LineReport | None = None,
    ) -> Pieces:
        """Train a model; the same lines and options give the same bytes.

        Ctrl-C ends the training at once.

        Parameters
        ----------
        lines : iterable of str
            Training text; for a joint vocabulary, that of both languages.
        vocabulary_size : int
            Number of pieces, the special ones included.
        algorithm : {"unigram", "bpe"}
            How pieces are chosen.
        normalization : {"nmt_nfkc", "nfkc", "identity"}
            What is done to text before it is cut; see the class.
        character_coverage : float
            Share of the characters of the text that must have a piece, from 0.98 to 1; the rarest of the
            others are unknown.
        byte_fallback : bool
            Write unknown characters as bytes, 256 pieces of the vocabulary.
        sample : int
            Train on so many lines at most, spread evenly over the text.
        report : LineReport, optional
            Takes note of each line that is not used whole: where more than 1,000 characters have no space
            between them, only the first 1,000 of these are used, and sentencepiece leaves out a line that
            holds its own sign U+2585.

        Raises
        ------
        Refused
            An option is out of range, the text is empty, or too small or too varied for the size.
        """
        check_known(get_args(Algorithm), algorithm=algorithm)
        check_known(get_args(Normalization), normalization=normalization)
        check_at_least(259 if byte_fallback else 3, vocabulary_size=vocabulary_size)
        check_at_most(2**31 - 1, vocabulary_size=vocabulary_size)
        check_at_least(1, sample=sample)
        if not 0.98 <= character_coverage <= 1:  # the others are those of sentencepiece
            do = "1.0 covers every character"
            raise Refused("from 0.98 to 1", str(character_coverage), do, "character_coverage")
        _sentencepiece()  # is it there?
        # Gone through twice, and never held: what can be gone through only once is.
        text = list(lines) if isinstance(lines, Iterator) else lines
        count = sum(1 for line in _usable(text, report) if line.strip())
        if not count:
            raise Refused("training text for sentencepiece", "none", "check the training file")
        chosen = _spread((line for line in _usable(text, None) if line.strip()), count, sample)
        options = {
            "vocab_size": vocabulary_size,
            "model_type": algorithm,
            "normalization_rule_name": normalization,
            "remove_extra_whitespaces": normalization != "identity",
            "character_coverage": character_coverage,
            "byte_fallback": byte_fallback,
            "unk_id": 0,
            "eos_id": 1,
            "bos_id": -1,
            "pad_id": -1,
            "max_sentence_length": 1 << 30,  # the default leaves longer lines out without a word
            "num_threads": THREADS,
            "minloglevel": 2,
        }
        try:
            return cls(train_in_process(chosen, options))
        except RuntimeError as error:
            reason = str(error).rsplit("] ", 1)[-1].strip() or str(error)
            raise Refused(
                f"text from which sentencepiece can train {vocabulary_size} pieces",
                f"that it cannot ({reason})",
                "change their number",
                "vocabulary_size",
            ) from None

    @classmethod
    def read(cls, path: str | PathLike[str]) -> Pieces:
        """Take over a model that sentencepiece itself trained; its end of sentence also starts and pads.

        Parameters
        ----------
        path : path
            A ``.model`` file.

        Raises
        ------
        NotFound
            There is no such file.
        Refused
            It is no sentencepiece model, or has no end of sentence.
        """
        path = Path(path)
        if not path.is_file():
            raise NotFound(f"a sentencepiece model at {path}", "no such file", "check the path")
        try:
            return cls(path.read_bytes())
        except RuntimeError:
            do = "name a .model file of spm_train"
            raise Refused(f"a sentencepiece model in {path}", "something else", do) from None

    def encode(self, line: str) -> list[int]:
        """Return the ids of the pieces of a line, without ``</s>``."""
        ids: list[int] = self._processor.encode(line)
        return ids

    def encode_all(self, lines: list[str], threads: int) -> list[list[int]]:
        """Return what `encode` gives for each of many lines, computed by so many threads."""
        ids: list[list[int]] = self._processor.encode(lines, num_threads=threads)
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text; ``</s>`` is dropped, ``<unk>`` becomes `` ⁇ ``."""
        return str(self._processor.decode([int(i) for i in ids if i != self.eos]))

    def labels(self, ids: Iterable[int]) -> list[str]:
        """Return the piece of every id, ``</s>`` too: what an attention plot writes at its axes."""
        return [self._processor.id_to_piece(int(i)) for i in ids]

    def save(self, folder: str | PathLike[str], name: str) -> None:
        """Write ``folder/name.model``, which sentencepiece's own tools read, and ``folder/name.json``."""
        path = Path(folder) / f"{name}.model"
        if path.exists() and not self._may_replace(path):
            found = "a file that no tokenizer was saved with"
            raise Refused(f"nothing else at {path}", found, "move it elsewhere, or choose another folder")
        write_whole(path, self.model)
        write_record(Path(folder) / f"{name}.json", {"kind": self.kind, "fingerprint": self.fingerprint})

    def _may_replace(self, path: Path) -> bool:
        """Whether a model file is this one, or belongs to the record of a tokenizer beside it."""
        found = sha256(path)
        if found == self.fingerprint:
            return True
        try:
            return bool(read_record(path.with_suffix(".json"))["fingerprint"] == found)
        except Refused:
            return False

    @classmethod
    def load(cls, folder: str | PathLike[str], name: str) -> Pieces:
        """Read what `save` wrote; a damaged or missing file is an error that names it."""
        record = read_record(Path(folder) / f"{name}.json")
        path = Path(folder) / f"{name}.model"
        if not os.path.lexists(path):
            raise NotFound(f"a sentencepiece model at {path}", "no such file", "restore it or train again")
        model = regular.read(path, MOST_BYTES, "restore it or train again", what="a sentencepiece model")
        check_fingerprint(path, record, hashlib.sha256(model).hexdigest())
        try:
            return cls(model)
        except RuntimeError:
            found, do = "something else", "restore it or train again"
            raise Refused(f"a sentencepiece model in {path}", found, do) from None


def _usable(lines: Iterable[str], report: LineReport | None) -> Iterator[str]:
    """What sentencepiece gets of each line; `report` takes note of what it does not get."""
    for number, line in enumerate(iter_text_lines(lines), 1):
        if report is not None:
            report.total = number
        short = _LONG.sub(r"\1", line) if len(line) > LONGEST_WORD else line
        if report is not None and len(short) < len(line):
            report.add(f"with more than {LONGEST_WORD:,} characters between two spaces, cut there", number)
        if report is not None and _RESERVED in short:
            report.add("with U+2585, left out by sentencepiece", number)
        yield from _PART.findall(short)


def _spread(lines: Iterable[str], count: int, sample: int) -> Iterator[str]:
    """So many of `count` lines at most, spread evenly over them."""
    wanted = (i * count // sample for i in range(sample)) if count > sample else iter(range(count))
    place = next(wanted, None)
    for number, line in enumerate(lines):
        if number == place:
            yield line
            place = next(wanted, None)


def _sentencepiece() -> Any:
    try:
        import sentencepiece
    except ImportError:
        raise NotInstalled(
            "the package sentencepiece", "that it is not installed", "run `pip install sentencepiece`"
        ) from None
    return sentencepiece
