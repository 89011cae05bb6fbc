"""Exact match and F1 of answers, as SQuAD's evaluate-v1.1 counts them, with their bootstrap intervals."""

from __future__ import annotations

import math
import re
import string
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike, fspath
from typing import Any, Literal, NamedTuple, get_args

import numpy
from numpy.typing import NDArray

from seqsru.data.json_files import load_json
from seqsru.errors import Refused, check_known
from seqsru.evaluation.bleu import Comparison
from seqsru.evaluation.bootstrap import RESAMPLES, SEED, p_value, resamples

AnswerTokens = Literal["words", "characters"]
NAMES = ("exact_match", "f1")
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


class Asked(NamedTuple):
    """A question's id, and the answers of which any is right."""

    id: str
    answers: tuple[str, ...]


@dataclass(frozen=True)
class AnswerScore:
    """How good the answers to some questions are.

    Attributes
    ----------
    by_question : ndarray of shape (n, 2), float64
        Exact match and F1 of each question, 0 to 1.
    missing : tuple of str
        Ids that no answer was given for: they score 0.
    unknown : tuple of str
        Ids that an answer was given for and no question has: they are left out.
    tokens : {"words", "characters"}
        What F1 counts.
    """

    by_question: NDArray[numpy.float64]
    missing: tuple[str, ...]
    unknown: tuple[str, ...]
    tokens: AnswerTokens

    @property
    def total(self) -> int:
        """Number of questions."""
        return len(self.by_question)

    def values(self) -> dict[str, float]:
        """Means over all questions in percent, by name: ``exact_match`` and ``f1``."""
        return {
            name: 100.0 * math.fsum(column) / self.total for name, column in zip(NAMES, self.by_question.T)
        }

    def intervals(self) -> dict[str, tuple[float, float]]:
        """Mean and half width of the middle 95 % of `RESAMPLES` resamples of the questions, in percent."""
        return {name: _interval(column) for name, column in zip(NAMES, _resampled(self.by_question).T)}

    def as_dict(self) -> dict[str, Any]:
        """The values, their intervals and what they are of, as plain JSON values."""
        return {
            **self.values(),
            "intervals": {name: list(interval) for name, interval in self.intervals().items()},
            "questions": self.total,
            "missing": len(self.missing),
            "unknown": len(self.unknown),
            "f1_tokens": self.tokens,
        }

    def lines(self) -> list[str]:
        """The values as they are printed."""
        values, intervals = self.values(), self.intervals()
        return [
            f"{name} {values[name]:.4f} (95 % {mean:.2f} ± {half:.2f})"
            for name, (mean, half) in intervals.items()
        ]


def answer_score(
    asked: Iterable[Asked], answers: Mapping[str, str], tokens: AnswerTokens = "words"
) -> AnswerScore:
    """Score answers.

    Both sides are normalised: lower case, ASCII punctuation deleted, then the words a, an and the replaced by
    a space, and white space made single spaces. Exact match says whether they are equal then; F1 is that of
    their tokens as bags, 0 where they share none. Each is the best over the right answers of a question.

    Parameters
    ----------
    asked : iterable of Asked
        At least one.
    answers : mapping of str to str
        Answer by id; a missing one scores 0.
    tokens : {"words", "characters"}
        What F1 counts: words between spaces, as SQuAD does, or characters, for text without spaces.

    Raises
    ------
    Refused
        No question, or other tokens.
    """
    check_known(get_args(AnswerTokens), f1_tokens=tokens)
    asked = list(asked)
    if not asked:
        raise Refused("at least one question to score", "none", "check the test file", "asked")
    rows = [_best(answers[one.id], one.answers, tokens) if one.id in answers else (0.0, 0.0) for one in asked]
    known = {one.id for one in asked}
    return AnswerScore(
        numpy.array(rows, dtype=numpy.float64),
        tuple(one.id for one in asked if one.id not in answers),
        tuple(name for name in answers if name not in known),
        tokens,
    )


def paired_answers(baseline: AnswerScore, system: AnswerScore) -> list[Comparison]:
    """Compare two systems on the same questions by paired bootstrap: `seqsru.evaluation.bootstrap`."""
    before, after = baseline.values(), system.values()
    both = _resampled(numpy.concatenate([baseline.by_question, system.by_question], axis=1))
    compared = []
    for place, name in enumerate(NAMES):
        first, second = both[:, place], both[:, len(NAMES) + place]
        p = p_value(abs(after[name] - before[name]), numpy.abs(second - first), system.total)
        signature = f"questions:{system.total}|f1:{system.tokens}|bs:{RESAMPLES}|seed:{SEED}"
        compared.append(
            Comparison(name, before[name], after[name], _interval(first), _interval(second), p, signature)
        )
    return compared


def read_answers(path: str | PathLike[str]) -> dict[str, str]:
    """Read a file of predictions as SQuAD's script does: a JSON object of id to answer.

    Raises
    ------
    NotFound, Refused
        There is none, or it is something else; an answer that is no text is named by its id.
    """
    found = load_json(path, "an object of id to answer,")
    name = fspath(path)
    if not isinstance(found, dict):
        raise Refused(f"an object of id to answer in {name}", f"a {type(found).__name__}", "check the file")
    for one, answer in found.items():
        if not isinstance(answer, str):
            raise Refused(f"text as the answer to {one!r} in {name}", repr(answer)[:40], "check the file")
    return found


def normalised(answer: str) -> str:
    """An answer as it is compared: punctuation goes before the articles, which a word holds then."""
    return " ".join(_ARTICLES.sub(" ", answer.lower().translate(_PUNCTUATION)).split())


def _best(answer: str, right: Sequence[str], tokens: AnswerTokens) -> tuple[float, float]:
    """Exact match and F1 with the right answer that is nearest, each by itself."""
    own = normalised(answer)
    others = [normalised(one) for one in right]
    return float(own in others), max(_f1(_bag(own, tokens), _bag(one, tokens)) for one in others)


def _bag(text: str, tokens: AnswerTokens) -> Counter[str]:
    return Counter(text.split() if tokens == "words" else text.replace(" ", ""))


def _f1(first: Counter[str], second: Counter[str]) -> float:
    common = sum((first & second).values())
    return 2.0 * common / (first.total() + second.total()) if common else 0.0


def _resampled(by_question: NDArray[numpy.float64]) -> NDArray[numpy.float64]:
    """Means of the columns over the resamples of the questions, in percent."""
    return numpy.array([100.0 * by_question[rows].mean(0) for rows in resamples(len(by_question))])


def _interval(scores: NDArray[numpy.float64]) -> tuple[float, float]:
    """Mean and half width of the middle 95 %."""
    low, high = numpy.percentile(scores, [2.5, 97.5])
    return float(scores.mean()), float((high - low) / 2.0)
