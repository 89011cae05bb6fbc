"""What a reader answers to the commands; nothing here needs torch."""

# Annotations are read at run time: the arguments of the functions are flags.
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy

from seqsru.data.asked import AskedLine
from seqsru.data.files import text_digest
from seqsru.data.outputs import write_output
from seqsru.data.squad import Offsets, OnBadQuestion, Question, QuestionSet
from seqsru.errors import Refused, check_at_least
from seqsru.evaluation.answer_score import (
    NAMES,
    AnswerTokens,
    Asked,
    answer_score,
    paired_answers,
    read_answers,
)
from seqsru.evaluation.clock import TimedDecoder
from seqsru.evaluation.items import Items
from seqsru.evaluation.signature import signature as signed
from seqsru.settings import from_signature
from seqsru.tasks.answers import Answer, Evaluation, Kind, Split, Tell, Trained, headed
from seqsru.tasks.sharing import leads, shared

SHOWN = 5  # ids named of those that are missing or unknown


class LineAnswerer(NamedTuple):
    """How lines are answered: each of the results has ``line()`` and ``as_dict()``.

    Attributes
    ----------
    outputs : int
        Answers a line.
    answer : callable
        Lines to a result a line; one of an empty question has no answer.
    """

    outputs: int
    answer: Callable[[Sequence[AskedLine]], Sequence[Any]]


def evaluate(
    trained: Trained,
    files: list[Path],
    split: Split,
    tell: Tell,
    *,
    answers: Path | None = None,
    given: Path | None = None,
    baseline: Path | None = None,
    f1_tokens: AnswerTokens | None = None,
    on_bad_question: OnBadQuestion | None = None,
    offsets: Offsets | None = None,
) -> Evaluation:
    """SQuAD's exact match and F1.

    Parameters
    ----------
    trained : Trained
    files : list of Path
        Questions, if not those of the split.
    split : str
    tell : callable
    answers : Path or None
        Write the answers to this file: a JSON object of id to answer, as SQuAD's script reads it.
    given : Path or None
        Score the answers in this file, of that form, in place of the run's own.
    baseline : Path or None
        What another system gave, to compare with by paired bootstrap: translations, or a file of answers.
    f1_tokens : {"words", "characters"} or None
        What F1 counts, for text without spaces characters; the run's training.f1_tokens where not given.
    on_bad_question : {"error", "skip"} or None
        What to do with a question that cannot be used; the run's data.on_bad_question where not given.
    offsets : {"characters", "bytes", "utf-16"} or None
        What the offset of an answer counts; the run's data.offsets where not given.
    """
    if answers is not None and given is not None:
        raise Refused("answers of the run to write", f"those of {given}", "leave one out", "answers")
    task = trained.task
    questions, data = task.questions(files, split, on_bad_question, offsets)
    if questions.report:
        tell(str(questions.report))
    other = None if baseline is None else read_answers(baseline)
    found = answered(trained.pipeline, questions, shared) if given is None else read_answers(given)
    if answers is not None and leads():
        write_output(answers, (json.dumps(found, ensure_ascii=False, indent=0) + "\n").encode())
    asked, tokens = asked_of(questions), f1_tokens or task.settings["training"]["f1_tokens"]
    score = answer_score(asked, found, tokens)
    compared = None if other is None else answer_score(asked, other, tokens)
    for name, one in ((given, score), (baseline, compared)):
        if one is not None:
            _tell_strangers(str(name), one.missing, one.unknown, tell)
    fields: dict[str, object] = {"data": data, "questions": score.total, "f1": tokens}
    fields["text"] = text_digest(questions.texts())
    if given is None:
        signature = trained.signed(fields)
    else:  # the numbers are none of the run's
        signature = signed(
            {
                **fields,
                "given": given.name,
                "answers": text_digest(f"{one}\t{found[one]}" for one in sorted(found)),
                "missing": len(score.missing),
                "unknown": len(score.unknown),
            }
        )
    lines = [*score.lines(), signature]
    values = {**score.as_dict(), "data": data, "signature": signature}
    if compared is not None:
        comparisons = paired_answers(compared, score)
        lines += [comparison.line for comparison in comparisons]
        values["comparison"] = {one.name: one.as_dict() for one in comparisons}
    digest = str(fields["text"])

    def items(name: str) -> Items:
        shares = numpy.stack([score.by_question[:, NAMES.index(name)], numpy.ones(score.total)], 1)
        return Items(name, "percent", True, shares, digest)

    names = headed(NAMES, task.settings["training"]["validation_metric"])
    return Evaluation(lines, values, {name: partial(items, name) for name in names})


def answered(
    pipeline: Any, questions: QuestionSet, share: Callable[[Callable[..., list[Any]], list[Any]], list[Any]]
) -> dict[str, str]:
    """The answer that a pipeline gives to each question, by id.

    Parameters
    ----------
    pipeline : AnsweringPipeline
    questions : QuestionSet
    share : callable
        Gives a function its items, or a process its share of them, and the results of all in order.
    """

    def answers(asked: list[Question]) -> list[Any]:
        texts = [" ".join(one.text.split("\n")) for one in asked]
        found: list[Any] = pipeline.answer(texts, [[questions.paragraphs[one.paragraph]] for one in asked])
        return [answer.text for answer in found]

    texts = share(answers, questions.questions)
    return {one.id: text for one, text in zip(questions.questions, texts)}


def asked_of(questions: QuestionSet) -> list[Asked]:
    """The ids and right answers of questions."""
    return [Asked(one.id, tuple(answer.text for answer in one.answers)) for one in questions.questions]


def _tell_strangers(name: str, missing: Sequence[str], unknown: Sequence[str], tell: Tell) -> None:
    """Say which ids of a file of answers do not fit the questions."""
    for ids, what in (
        (missing, "questions without an answer in {}, which score 0"),
        (unknown, "answers in {} to ids that no question has, left out"),
    ):
        if ids:
            more = ", …" if len(ids) > SHOWN else ""
            tell(f"{len(ids):,} {what.format(name)} ({', '.join(ids[:SHOWN])}{more})")


def answer(trained: Trained, *, n_best: int = 1) -> LineAnswerer:
    """Answers to the questions of lines.

    Parameters
    ----------
    trained : Trained
    n_best : int
        Answers a question, of all its paragraphs together; more than one needs --json.
    """
    check_at_least(1, n_best=n_best)

    def answers(asked: Sequence[AskedLine]) -> list[Any]:
        questions = [one.question for one in asked]
        found: list[Any] = trained.pipeline.answer(
            questions, [one.paragraphs for one in asked], n_best=n_best
        )
        return found

    return LineAnswerer(n_best, answers)


def latency(trained: Trained, name: str) -> TimedDecoder:
    """One question and its paragraph, one call of the model."""
    decoder: TimedDecoder = trained.pipeline.timed(name)
    return decoder


_SHARED = ["trained", "files", "split", "tell"]
QUESTIONS = Kind(
    noun="a reader",
    reads=("QUESTIONS",),
    answers={
        "evaluate": Answer(
            evaluate, from_signature(evaluate, skip=_SHARED), writes=("answers",), measures=NAMES
        ),
        "answer": Answer(answer, from_signature(answer, skip=["trained"])),
        "latency": Answer(latency),
    },
)
