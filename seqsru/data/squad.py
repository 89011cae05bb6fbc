"""Questions about paragraphs whose answers are spans of them: reading the JSON of SQuAD.

Offsets count characters (code points), as Python does; files of other programs count bytes of UTF-8 or units
of UTF-16, which look the same until the first character that takes more than one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from os import PathLike, fspath
from typing import Any, Literal, get_args

from seqsru.data.json_files import load_json, member, shown_text, text_member
from seqsru.data.shuffling import draw_from, shuffled
from seqsru.errors import Refused, check_known

Offsets = Literal["characters", "bytes", "utf-16"]
OnBadQuestion = Literal["error", "skip"]
SHOWN = 5  # questions named for each reason
_UNIT = {"bytes": ("utf-8", 1), "utf-16": ("utf-16-le", 2)}  # encoding, and its bytes a unit


@dataclass
class QuestionReport:
    """Questions that were left out or need a word, counted by reason, with the first of their ids.

    Parameters
    ----------
    name : str
        The file, or the files.
    total : int
        Questions read.
    ids : dict of str to list of str
        Ids of the questions for each reason, such as ``"without an answer, skipped"``.
    """

    name: str
    total: int = 0
    ids: dict[str, list[str]] = field(default_factory=dict)

    def add(self, reason: str, question: str) -> None:
        """Note a question under a reason."""
        self.ids.setdefault(reason, []).append(question)

    def __bool__(self) -> bool:
        """Return whether there is anything to report."""
        return bool(self.ids)

    def __str__(self) -> str:
        parts = []
        for reason, ids in self.ids.items():
            more = ", …" if len(ids) > SHOWN else ""
            parts.append(f"; {len(ids):,} {reason} ({', '.join(ids[:SHOWN])}{more})")
        return f"{self.name}: {self.total:,} questions" + "".join(parts)


@dataclass(frozen=True)
class Answer:
    """A span of a paragraph, as it is written there.

    Parameters
    ----------
    text : str
    start : int
        Its first character in the paragraph, from 0.
    """

    text: str
    start: int


@dataclass(frozen=True)
class Question:
    """A question with its answers.

    Parameters
    ----------
    id : str
        What a file of predictions calls it.
    text : str
    paragraph : int
        Place of its paragraph among those of the set.
    answers : tuple of Answer
        At least one; several people may have answered.
    number : int
        Which question of its files it is, from 1, skipped ones counted.
    """

    id: str
    text: str
    paragraph: int
    answers: tuple[Answer, ...]
    number: int


@dataclass(frozen=True)
class QuestionSet:
    """Questions, and the paragraphs that they are about.

    Parameters
    ----------
    name : str
        The files, as they were named.
    paragraphs : list of str
    questions : list of Question
    report : QuestionReport
        What was skipped.
    """

    name: str
    paragraphs: list[str]
    questions: list[Question]
    report: QuestionReport

    def __len__(self) -> int:
        return len(self.questions)

    def part(self, places: Iterable[int]) -> QuestionSet:
        """The questions about the paragraphs at these places, in their order."""
        kept = {place: number for number, place in enumerate(sorted(places))}
        questions = [
            Question(one.id, one.text, kept[one.paragraph], one.answers, one.number)
            for one in self.questions
            if one.paragraph in kept
        ]
        return QuestionSet(self.name, [self.paragraphs[i] for i in kept], questions, self.report)

    def texts(self) -> Iterable[str]:
        """Everything that the set is, for a digest of it: questions, paragraphs and answers."""
        for one in self.questions:
            yield from (one.id, one.text, self.paragraphs[one.paragraph])
            for answer in one.answers:
                yield f"{answer.start} {answer.text}"


def read_squad(
    paths: Sequence[str | PathLike[str]],
    *,
    offsets: Offsets = "characters",
    on_bad_question: OnBadQuestion = "error",
) -> QuestionSet:
    """Read files of questions, as SQuAD writes them.

    Parameters
    ----------
    paths : sequence of path
        JSON: ``data`` is a list of articles with ``paragraphs``, a paragraph has its text as ``context`` and
        questions as ``qas``, a question ``id``, ``question`` and ``answers``, an answer ``text`` and
        ``answer_start``. Whatever else is there is not read.
    offsets : {"characters", "bytes", "utf-16"}
        What ``answer_start`` counts: code points, bytes of UTF-8, or units of UTF-16.
    on_bad_question : {"error", "skip"}
        What to do with a question without text or answers, or one of whose answers is empty or not at its
        offset: stop, or leave the question out and note it in the report.

    Raises
    ------
    NotFound
        There is no such file.
    Refused
        A file that is not JSON or not of this form, an id that comes twice, or a bad question; named with
        article, paragraph and id.
    """
    check_known(get_args(Offsets), offsets=offsets)
    check_known(get_args(OnBadQuestion), on_bad_question=on_bad_question)
    name = ", ".join(fspath(path) for path in paths)
    found = QuestionSet(name, [], [], QuestionReport(name))
    seen: set[str] = set()
    for path in paths:
        for number, article in enumerate(
            member(load_json(path, "questions as SQuAD writes them,"), "data", list, fspath(path)), 1
        ):
            place = f"article {number} of {fspath(path)}"
            for at, paragraph in enumerate(member(article, "paragraphs", list, place), 1):
                _read_paragraph(
                    paragraph, f"paragraph {at} of {place}", found, seen, offsets, on_bad_question
                )
    return found


def check_questions(questions: QuestionSet, what: str) -> None:
    """Refuse a set without a question."""
    if not len(questions):
        found = f"none ({questions.report.total:,} read)" if questions.report.total else "none"
        raise Refused(f"questions for {what} in {questions.name}", found, "check the file")


def held_out(questions: QuestionSet, share: float, seed: int) -> tuple[QuestionSet, QuestionSet]:
    """Part a set by its paragraphs, drawn from the seed alone: those to learn from, and a share of all.

    No paragraph is in both, also where a text stands in the file twice.
    """
    by_text: dict[str, list[int]] = {}
    for place, text in enumerate(questions.paragraphs):
        by_text.setdefault(text, []).append(place)
    order = shuffled(list(by_text.values()), draw_from(seed))
    held = {place for places in order[: max(1, round(share * len(order)))] for place in places}
    return questions.part(set(range(len(questions.paragraphs))) - held), questions.part(held)


# ---- one paragraph ---------------------------------------------------------------------------------


class _BadQuestion(Exception):
    """A question that cannot be used, and how to count it."""

    def __init__(self, reason: str, expected: str, found: str, do: str, setting: str | None = None) -> None:
        super().__init__(reason)
        self.reason, self.expected, self.found, self.do, self.setting = reason, expected, found, do, setting


def _read_paragraph(
    paragraph: Any,
    place: str,
    found: QuestionSet,
    seen: set[str],
    offsets: Offsets,
    on_bad_question: OnBadQuestion,
) -> None:
    """Add a paragraph and its questions."""
    text = text_member(paragraph, "context", place)
    here = len(found.paragraphs)
    found.paragraphs.append(text)
    for number, asked in enumerate(member(paragraph, "qas", list, place), 1):
        name = text_member(asked, "id", f"question {number} of {place}")
        where = f"question {name!r} of {place}"
        if name in seen:
            do = "give each question an id of its own, and name no file twice"
            raise Refused(f"each id once, in {place}", f"{name!r} again", do)
        seen.add(name)
        found.report.total += 1
        question = text_member(asked, "question", where)
        given = [
            (
                text_member(one, "text", f"an answer of {where}"),
                member(one, "answer_start", int, f"an answer of {where}"),
            )
            for one in member(asked, "answers", list, where)
        ]
        try:
            if not question.strip():
                raise _BadQuestion("without text", "a question", "no text", "write it")
            if not given:
                do = "give one, for a reader answers every question"
                raise _BadQuestion("without an answer", "at least one answer", "none", do)
            answers = tuple(_located(text, answer, start, offsets) for answer, start in given)
        except _BadQuestion as bad:
            if on_bad_question == "error":
                do = f"{bad.do}; or set on_bad_question to skip"
                raise Refused(f"{bad.expected} in {where}", bad.found, do, bad.setting) from None
            found.report.add(f"{bad.reason}, skipped", name)
        else:
            found.questions.append(Question(name, question, here, answers, found.report.total))


def _located(text: str, answer: str, start: int, offsets: Offsets) -> Answer:
    """An answer of a paragraph with its place in characters."""
    if not answer.strip():
        raise _BadQuestion("with an empty answer", "an answer with text in it", repr(answer), "write it")
    at = _characters(text, answer, start, offsets)
    if at is not None:
        return Answer(answer, at)
    shown, reason = shown_text(answer), "with an answer that is not at its offset"
    expected = f"the answer {shown} at {offsets.removesuffix('s').replace('utf-16', 'unit')} {start:,}"
    if offsets == "utf-16":
        expected += " of UTF-16"
    for unit in get_args(Offsets):
        if _characters(text, answer, start, unit) is not None:
            do = f"set offsets to {unit}, if it is that in the whole file"
            what = {"characters": "in characters", "bytes": "in bytes of UTF-8", "utf-16": "in UTF-16 units"}
            raise _BadQuestion(reason, expected, f"it there {what[unit]}", do, "offsets")
    nearest = _nearest(text, answer, start)
    if nearest is None:
        do = "correct the answer, which is to be a span of the paragraph as it is written"
        raise _BadQuestion(reason, expected, "it nowhere in the paragraph", do)
    there = text[start : start + len(answer)] if 0 <= start < len(text) else ""
    found = f"{shown_text(there)} there" if there else f"a paragraph of {len(text):,} characters"
    do = f"correct the offset: the nearest place is character {nearest:,}"
    raise _BadQuestion(reason, expected, found, do)


def _characters(text: str, answer: str, start: int, unit: str) -> int | None:
    """The character at which an answer begins whose offset counts these units; None where it does not."""
    if start < 0:
        return None
    if unit == "characters" or text.isascii():
        return start if text.startswith(answer, start) and start + len(answer) <= len(text) else None
    encoding, size = _UNIT[unit]
    coded, wanted = text.encode(encoding), answer.encode(encoding)
    if coded[size * start : size * start + len(wanted)] != wanted:
        return None
    try:
        return len(coded[: size * start].decode(encoding))
    except UnicodeDecodeError:  # inside a character
        return None


def _nearest(text: str, answer: str, start: int) -> int | None:
    """The place of a text in a paragraph that is nearest to another; of two equally near the first."""
    after = text.find(answer, max(0, start))
    before = text.rfind(answer, 0, max(0, min(start, len(text))) + len(answer))
    there = [place for place in (before, after) if place >= 0]
    return min(there, key=lambda place: abs(place - start), default=None)
