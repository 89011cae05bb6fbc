"""A trained reader with its tokenizer: a question and paragraphs in, spans of them out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy
import torch
from numpy.typing import NDArray
from torch import Tensor

from seqsru.data.asked import paragraph_lists, split_line
from seqsru.data.excerpts import Excerpt, ReadText, TextReader, collate, feature_count
from seqsru.data.lines import text_lines
from seqsru.data.padding import SOURCE_MULTIPLE, padded_length
from seqsru.data.spans import Reading, TextTokens, check_kind
from seqsru.data.tokenizers import Tokenizer
from seqsru.errors import Refused, check_at_least
from seqsru.evaluation.clock import TimedDecoder
from seqsru.models.reader import Reader
from seqsru.settings import checked_arguments

READ_AT_ONCE = 8192  # padded tokens; it bounds memory, and the results do not depend on it
SPANS_AT_ONCE = 1 << 24  # whose scores are held together; many questions fill batches better than few

_Asked = tuple[ReadText, list[ReadText]]  # a question and its paragraphs


@dataclass(frozen=True)
class FoundAnswer:
    """A span of a paragraph.

    Attributes
    ----------
    text : str
        As it is written there.
    score : float
        Sum of the scores of its first and last token: what answers in several paragraphs are ranked by.
    probability : float
        Softmax of the score over every span of at most max_answer tokens of all paragraphs of the question.
    paragraph : int
        Which one, from 0.
    start, end : int
        Its first character in it, and the one after its last.
    """

    text: str
    score: float
    probability: float
    paragraph: int
    start: int
    end: int

    def as_dict(self) -> dict[str, object]:
        """Plain values, for JSON."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


@dataclass(frozen=True)
class Answers:
    """What a reader answers to one question.

    Attributes
    ----------
    found : tuple of FoundAnswer
        The best first; empty where the question or all paragraphs are.
    """

    found: tuple[FoundAnswer, ...] = ()

    @property
    def text(self) -> str:
        """The best answer; empty where there is none."""
        return self.found[0].text if self.found else ""

    def line(self) -> str:
        """The best answer and what is known of it, with tabs between; empty where there is none."""
        if not self.found:
            return ""
        best = self.found[0]
        text = " ".join(best.text.split())  # a paragraph from a JSON object may hold tabs and line ends
        return (
            f"{text}\tprobability={best.probability:.4f}\tscore={best.score:.4f}\tparagraph={best.paragraph}"
        )

    def as_dict(self) -> dict[str, object]:
        """Plain values, for JSON: those of the best, and the others as ``alternatives``."""
        best = self.found[0].as_dict() if self.found else {"text": ""}
        return {**best, "alternatives": [one.as_dict() for one in self.found[1:]]}


@checked_arguments
@dataclass(frozen=True, eq=False, repr=False)
class AnsweringPipeline:
    """Answer questions about paragraphs. Nothing in it changes, so that threads may share it.

    A paragraph longer than ``reading.max_paragraph`` is read in windows, and every span of at most
    ``reading.max_answer`` tokens is compared: what two windows hold has the higher of its two scores. On a
    CPU in float32 an answer does not depend on what else is asked.

    Parameters
    ----------
    model : Reader
        Put in evaluation mode.
    tokenizer : Tokenizer
        Of words or characters; the one it was trained with.
    reading : Reading
        As it was trained with.

    Raises
    ------
    Refused
        A tokenizer of another size than the model's or of another kind, or another reading.
    """

    model: Reader
    tokenizer: Tokenizer
    reading: Reading

    def __post_init__(self) -> None:
        check_kind(self.tokenizer, "tokenizer")
        for setting, expected, size, found in (
            ("tokenizer", "a tokenizer of {} types", self.model.vocabulary_size, self.tokenizer.size),
            ("reading", "a reading of {} features", self.model.features, feature_count(self.reading)),
        ):
            if found != size:
                do = "use what the model was trained with"
                raise Refused(expected.format(size), str(found), do, setting)
        self.model.eval()

    @checked_arguments
    def answer(
        self, questions: Sequence[str], paragraphs: Sequence[Sequence[str]], *, n_best: int = 1
    ) -> list[Answers]:
        """Answer each question from its paragraphs.

        Parameters
        ----------
        questions : sequence of n str
        paragraphs : sequence of n sequences of str
            One or several for each question; they are ranked by what they answer.
        n_best : int
            Answers a question, of which two may overlap.

        Raises
        ------
        Refused
            Another number of paragraphs than of questions, or text that is none.
        """
        check_at_least(1, n_best=n_best)
        questions = text_lines(questions, "questions")
        given = paragraph_lists(paragraphs)
        if len(given) != len(questions):
            raise Refused(
                f"paragraphs for each of the {len(questions)} questions",
                f"{len(given)}",
                "give a list of paragraphs a question",
                "paragraphs",
            )
        reader = TextReader(self.tokenizer, self.reading)
        read: dict[str, ReadText] = {}
        for text in (text for texts in (questions, *given) for text in texts):
            if text not in read:
                read[text] = reader.read(text)
        asked = [(read[text], [read[one] for one in texts]) for text, texts in zip(questions, given)]
        return [answers for portion in self._portions(asked) for answers in self._answered(portion, n_best)]

    def _portions(self, asked: Sequence[_Asked]) -> Iterator[Sequence[_Asked]]:
        """Questions to work on together, so that the scores of their spans fit into memory."""
        first = spans = 0
        for number, (_, paragraphs) in enumerate(asked):
            own = self.reading.max_answer * sum(map(len, paragraphs))
            if number > first and spans + own > SPANS_AT_ONCE:
                yield asked[first:number]
                first, spans = number, 0
            spans += own
        yield asked[first:]

    def _answered(self, asked: Sequence[_Asked], n_best: int) -> list[Answers]:
        excerpts, owners = [], []
        for number, (question, paragraphs) in enumerate(asked):
            for place, paragraph in enumerate(paragraphs):
                if not len(question) or not len(paragraph):
                    continue
                length = min(len(paragraph), self.reading.max_paragraph)
                for start in self.reading.windows(len(paragraph)):
                    excerpts.append(Excerpt(paragraph, question, start, length))
                    owners.append((number, place))
        tables: list[dict[int, NDArray[numpy.float32]]] = [{} for _ in asked]
        for members, scores in self._scored(excerpts):
            for member, table in zip(members, scores):
                (number, place), one = owners[member], excerpts[member]
                whole = tables[number].get(place)
                if whole is None:
                    shape = (len(one.paragraph), self.reading.max_answer)
                    whole = tables[number].setdefault(
                        place, numpy.full(shape, -math.inf, dtype=numpy.float32)
                    )
                part = whole[one.start : one.start + one.length]
                numpy.maximum(part, table[: one.length], out=part)
        return [
            _ranked([paragraph.tokens for paragraph in paragraphs], table, n_best)
            for (_, paragraphs), table in zip(asked, tables)
        ]

    @torch.no_grad()
    def _scored(self, excerpts: Sequence[Excerpt]) -> Iterable[tuple[list[int], NDArray[numpy.float32]]]:
        """Places of excerpts that were read together, and the scores of their spans (B, T, max_answer)."""
        groups: dict[tuple[int, int], list[int]] = {}
        for place, one in enumerate(excerpts):
            lengths = [padded_length(n, SOURCE_MULTIPLE) for n in (one.length, len(one.question))]
            groups.setdefault((lengths[0], lengths[1]), []).append(place)
        for (length, _), places in sorted(groups.items(), reverse=True):  # what fails for its size, at once
            most = max(1, READ_AT_ONCE // length)
            for first in range(0, len(places), most):
                members = places[first : first + most]
                batch = collate(
                    [excerpts[place] for place in members],
                    self.tokenizer.pad,
                    self.reading.matched_run,
                    multiple=SOURCE_MULTIPLE,
                ).to(self.model.device)
                start, end = self.model(
                    batch.tokens, batch.valid, batch.features, batch.question, batch.question_valid
                )
                yield members, span_scores(start, end, self.reading.max_answer).float().cpu().numpy()

    def timed(self, name: str) -> TimedDecoder:
        """The reader as the latency meter takes it: a line is a question, a tab and its paragraphs."""

        def answer(line: str, length: int | None) -> list[Answers]:
            asked = split_line(line, repr(line[:40]))
            return self.answer([asked.question], [asked.paragraphs])

        return TimedDecoder(name, self.model, None, "reader", answer)


def span_scores(start: Tensor, end: Tensor, longest: int) -> Tensor:
    """Scores of all spans: the sum of those of their first and their last token.

    Parameters
    ----------
    start, end : Tensor of shape (T, B)
    longest : int
        L, most tokens of a span.

    Returns
    -------
    Tensor of shape (B, T, L)
        For each first token that of the span of one token, of two, and so on; -inf past the end.
    """
    ends = torch.nn.functional.pad(end.t(), (0, longest - 1), value=-math.inf)  # (B, T + L - 1)
    return start.t().unsqueeze(-1) + ends.unfold(1, longest, 1)


def _ranked(
    paragraphs: Sequence[TextTokens], tables: Mapping[int, NDArray[numpy.float32]], n_best: int
) -> Answers:
    """The best spans of the paragraphs; of equal ones the first, and there the shortest."""
    if not tables:
        return Answers()
    places = sorted(tables)
    flat = numpy.concatenate([tables[place].ravel() for place in places]).astype(numpy.float64)
    highest = float(flat.max())
    total = highest + math.log(float(numpy.exp(flat - highest).sum()))
    best = [int(flat.argmax())] if n_best == 1 else numpy.argsort(-flat, kind="stable")[:n_best].tolist()
    bounds = numpy.cumsum([0, *(tables[place].size for place in places)])
    found = []
    for at in best:
        score = float(flat[at])
        if score == -math.inf:
            break
        which = int(numpy.searchsorted(bounds, at, side="right")) - 1
        place = places[which]
        first, longer = divmod(at - int(bounds[which]), tables[place].shape[1])
        tokens = paragraphs[place]
        found.append(
            FoundAnswer(
                tokens.span(first, first + longer),
                score,
                math.exp(score - total),
                place,
                tokens.starts[first],
                tokens.ends[first + longer],
            )
        )
    return Answers(tuple(found))
