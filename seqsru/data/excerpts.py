"""What a reader reads at once: a question, a window of a paragraph, and what it can see of both.

For each token of the window there is how often it occurs in its paragraph, and whether it belongs to a run of
tokens that stands in the question too, as it is written and in lower case. A lemma, the third form of the
paper, takes a tagger of one language, and is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy
import torch
from numpy.typing import NDArray
from torch import Tensor

from seqsru.data.padding import pad, padded_length
from seqsru.data.shuffling import batches_alike, draw_from
from seqsru.data.spans import Reading, TextTokens, lowered, text_tokens, token_ids
from seqsru.data.squad import QuestionReport, QuestionSet
from seqsru.data.tokenizers import Tokenizer
from seqsru.errors import Refused, check_at_least

BUCKET = 8  # windows side by side differ in length by less, but where two buckets meet


@dataclass(frozen=True, eq=False)
class ReadText:
    """A text as a model takes it.

    Parameters
    ----------
    tokens : TextTokens
    ids : ndarray of shape (n,), int64
        Of each token, in the tokenizer.
    written, lower : ndarray of shape (n,), int64
        A number for each form of a token, as written and in lower case; equal ones have the same.
    frequency : ndarray of shape (n,), float32
        Share of the tokens that are this one, in lower case.
    """

    tokens: TextTokens
    ids: NDArray[numpy.int64]
    written: NDArray[numpy.int64]
    lower: NDArray[numpy.int64]
    frequency: NDArray[numpy.float32]

    def __len__(self) -> int:
        return len(self.tokens)


class TextReader:
    """Turns texts into what a model takes; those of one reader can be compared.

    Parameters
    ----------
    tokenizer : Tokenizer
        Of words or characters.
    reading : Reading
    """

    def __init__(self, tokenizer: Tokenizer, reading: Reading) -> None:
        self.tokenizer, self.reading = tokenizer, reading
        self._forms: dict[str, int] = {}

    def read(self, text: str) -> ReadText:
        """Read a text, which may be empty."""
        found = text_tokens(text, self.tokenizer.kind)
        tokens = found.tokens()
        lower = self._numbers(lowered(tokens))
        _, place, counts = numpy.unique(lower, return_inverse=True, return_counts=True)
        frequency = (counts[place] / max(1, len(lower))).astype(numpy.float32)
        ids = numpy.array(token_ids(tokens, self.tokenizer, self.reading.lowercase), dtype=numpy.int64)
        return ReadText(found, ids, self._numbers(tokens), lower, frequency)

    def _numbers(self, forms: Sequence[str]) -> NDArray[numpy.int64]:
        numbers = [self._forms.setdefault(form, len(self._forms)) for form in forms]
        return numpy.array(numbers, dtype=numpy.int64)


@dataclass(frozen=True, eq=False)
class Excerpt:
    """A window of a paragraph, and the question about it.

    Parameters
    ----------
    paragraph, question : ReadText
    start, length : int
        The window, in tokens of the paragraph.
    answer : tuple of int
        First and last token of the answer, from the start of the window; (0, 0) where nobody asks.
    """

    paragraph: ReadText
    question: ReadText
    start: int
    length: int
    answer: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class ExcerptBatch:
    """Excerpts side by side.

    Parameters
    ----------
    tokens, valid : Tensor of shape (T, B), int64 and bool
        Tokens of the windows; each row of the mask a prefix of True.
    features : Tensor of shape (T, B, F), float32
        The frequency, and matches with the question; see `feature_count`.
    question, question_valid : Tensor of shape (S, B), int64 and bool
    answers : Tensor of shape (2, B), int64
        First and last token of the answer.
    """

    tokens: Tensor
    valid: Tensor
    features: Tensor
    question: Tensor
    question_valid: Tensor
    answers: Tensor

    def to(self, device: torch.device) -> ExcerptBatch:
        """Return the batch on a device."""
        return ExcerptBatch(*(getattr(self, name).to(device) for name in self.__dataclass_fields__))


def feature_count(reading: Reading) -> int:
    """F, features of a token: its frequency, and two matches for each length of a run."""
    return 1 + 2 * reading.matched_run


def collate(excerpts: Sequence[Excerpt], fill: int, matched_run: int, *, multiple: int = 1) -> ExcerptBatch:
    """Put excerpts side by side.

    Parameters
    ----------
    excerpts : sequence of B Excerpt
    fill : int
        Id behind each text.
    matched_run : int
        Longest run that matches are told of.
    multiple : int
        T and S are the next multiples of it.
    """
    windows = [slice(one.start, one.start + one.length) for one in excerpts]
    ids = [one.paragraph.ids[at].tolist() for one, at in zip(excerpts, windows)]
    tokens, valid = pad(ids, fill, multiple=multiple)
    question, question_valid = pad([one.question.ids.tolist() for one in excerpts], fill, multiple=multiple)
    features = [torch.zeros(tokens.shape)]
    for column, (one, at) in enumerate(zip(excerpts, windows)):
        features[0][: one.length, column] = torch.from_numpy(one.paragraph.frequency[at])
    for form in ("written", "lower"):  # padding equals nothing
        here, _ = pad([getattr(one.paragraph, form)[at].tolist() for one, at in zip(excerpts, windows)], -1)
        there, _ = pad([getattr(one.question, form).tolist() for one in excerpts], -2)
        for found in matches(here, there, matched_run):
            features.append(torch.zeros(tokens.shape))
            features[-1][: len(here)] = found
    answers = torch.tensor([one.answer for one in excerpts], dtype=torch.int64).t()
    return ExcerptBatch(tokens, valid, torch.stack(features, dim=-1), question, question_valid, answers)


def matches(text: Tensor, question: Tensor, longest: int) -> list[Tensor]:
    """For each length up to the longest, whether a token is in a run of so many that is in the question.

    Parameters
    ----------
    text : int64 Tensor of shape (T, B)
    question : int64 Tensor of shape (S, B)
    longest : int

    Returns
    -------
    list of bool Tensor of shape (T, B)
    """
    equal = text.unsqueeze(1) == question.unsqueeze(0)  # (T, S, B)
    begins, found = equal, []  # whether a run of this length begins at t and s
    for length in range(1, longest + 1):
        there = begins.any(1)  # (T, B)
        inside = there.clone()
        for behind in range(1, min(length, len(text))):
            inside[behind:] |= there[: len(text) - behind]
        found.append(inside)
        further = torch.zeros_like(equal)
        if length < min(equal.shape[:2]):
            further[:-length, :-length] = begins[:-length, :-length] & equal[length:, length:]
        begins = further
    return found


@dataclass(frozen=True)
class Excerpts:
    """What there is to learn from a set of questions: an excerpt for each that holds the answer whole.

    Parameters
    ----------
    excerpts : list of Excerpt
    numbers : list of int
        Which question each is of, from 1.
    fill : int
        Id behind each text.
    matched_run : int
    report : QuestionReport
        Answers that are not learned as they are.
    """

    excerpts: list[Excerpt]
    numbers: list[int]
    fill: int
    matched_run: int
    report: QuestionReport

    def __len__(self) -> int:
        return len(self.excerpts)

    @classmethod
    def from_questions(cls, questions: QuestionSet, reader: TextReader) -> Excerpts:
        """Take the first answer of each question, in the window in which most stands around it."""
        reading, report = reader.reading, QuestionReport(questions.name, len(questions))
        paragraphs = [reader.read(text) for text in questions.paragraphs]
        made, numbers = [], []
        for one in questions.questions:
            paragraph, question, answer = paragraphs[one.paragraph], reader.read(one.text), one.answers[0]
            span = paragraph.tokens.covering(answer.start, answer.start + len(answer.text))
            assert span is not None and len(question)  # neither is white space alone: that is refused
            first, last = span
            length = min(len(paragraph), reading.max_paragraph)
            windows = [
                (min(first - start, start + length - 1 - last), -start)
                for start in reading.windows(len(paragraph))
            ]
            around, start = max(windows)
            if len(windows) > 1:
                many = f"about a paragraph of more than {length} tokens, read in windows"
                report.add(many, one.id)
            if around < 0:
                report.add("whose answer is longer than a window, not learned from", one.id)
                continue
            if paragraph.tokens.span(first, last) != answer.text.strip():
                report.add("whose answer ends inside a token, learned as whole tokens", one.id)
            if last - first >= reading.max_answer:
                report.add(f"whose answer has more than max_answer = {reading.max_answer} tokens", one.id)
            numbers.append(one.number)
            made.append(Excerpt(paragraph, question, -start, length, (first + start, last + start)))
        return cls(made, numbers, reader.tokenizer.pad, reading.matched_run, report)


class ExcerptBatches:
    """Batches of a fixed number of excerpts of like length.

    The cuts between batches are the same in every epoch; who sits beside whom, and the order of the batches,
    are drawn from (seed, epoch) alone. One batch, of the longest windows, may be smaller.

    Parameters
    ----------
    excerpts : Excerpts
        What to batch.
    batch_size : int
        Questions a batch.
    seed : int
        Of the order, not negative.

    Raises
    ------
    Refused
        No question, or an argument out of range.
    """

    def __init__(self, excerpts: Excerpts, batch_size: int = 32, *, seed: int) -> None:
        check_at_least(1, batch_size=batch_size)
        check_at_least(0, seed=seed)
        if not len(excerpts):
            raise Refused("questions to make batches of", "none", "check the training file")
        self.excerpts, self.batch_size, self.seed = excerpts, batch_size, seed
        lengths = numpy.array([one.length for one in excerpts.excerpts], dtype=numpy.int32)
        self._bucket = padded_length(lengths, BUCKET)

    def __len__(self) -> int:
        """Return the number of batches in every epoch."""
        return -(-len(self.excerpts) // self.batch_size)

    def epoch(self, epoch: int) -> list[list[int]]:
        """Return the batches of an epoch (not negative) as places, each in exactly one."""
        return batches_alike(self._bucket, self.batch_size, draw_from(self.seed, epoch))

    def collate(self, places: Sequence[int]) -> ExcerptBatch:
        """Return excerpts as tensors, columns in the order of the places."""
        chosen = [self.excerpts.excerpts[place] for place in places]
        return collate(chosen, self.excerpts.fill, self.excerpts.matched_run)
