"""Accuracy, F1 and the confusion matrix of predicted labels, computed exactly and rounded once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from seqsru.errors import Refused, unknown


@dataclass(frozen=True)
class LabelScore:
    """How well one label was found; a share whose denominator is 0 is 0, as in scikit-learn.

    Attributes
    ----------
    label : str
    gold, predicted, correct : int
        Lines that have the label, that were given it, and both.
    """

    label: str
    gold: int
    predicted: int
    correct: int

    @property
    def precision(self) -> float:
        """``correct / predicted``."""
        return self.correct / self.predicted if self.predicted else 0.0

    @property
    def recall(self) -> float:
        """``correct / gold``."""
        return self.correct / self.gold if self.gold else 0.0

    @property
    def f1(self) -> float:
        """``2 correct / (gold + predicted)``, the harmonic mean of precision and recall."""
        return float(self.exact_f1)

    @property
    def exact_f1(self) -> Fraction:
        """F1 before it is rounded."""
        total = self.gold + self.predicted
        return Fraction(2 * self.correct, total) if total else Fraction(0)

    def as_dict(self) -> dict[str, Any]:
        """Precision, recall, F1 and the counts of lines, as plain JSON values."""
        return {
            "precision": self.precision,
            "recall": self.recall,
            "f1": self.f1,
            "gold": self.gold,
            "predicted": self.predicted,
        }


@dataclass(frozen=True)
class ClassificationScore:
    """What a classifier makes of labelled lines.

    Parameters
    ----------
    labels : tuple of str
        The labels, each once.
    counts : tuple of tuple of int, (labels, labels)
        Confusion matrix: ``counts[g][p]`` lines have the label `g` and were given `p`.

    Raises
    ------
    Refused
        A label twice, a matrix of another shape, a negative count, or no line at all.
    """

    labels: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        size = len(self.labels)
        if len(set(self.labels)) < size:
            raise Refused("each label once", self.labels, "name every label one time", "labels")
        widths = [len(row) for row in self.counts]
        if widths != [size] * size:
            raise Refused(
                f"{size} rows of {size} counts, one a label",
                f"rows of {', '.join(map(str, widths)) or 'nothing'}",
                "give a row for each gold label and a column for each predicted one",
                "counts",
            )
        if any(count < 0 for row in self.counts for count in row):
            raise Refused("counts of lines", self.counts, "a count is at least 0", "counts")
        if not self.total:
            raise Refused("at least one line to score", "none", "check the test file", "counts")

    @property
    def total(self) -> int:
        """Number of lines."""
        return sum(map(sum, self.counts))

    @property
    def accuracy(self) -> float:
        """Share of the lines that were given their label, 0 to 1."""
        return sum(row[i] for i, row in enumerate(self.counts)) / self.total

    @property
    def macro_f1(self) -> float:
        """Mean over the labels of their F1, 0 to 1.

        A label that no line has and none was given is left out: there was nothing to find, and nothing was
        claimed. One that only one side has counts as 0.
        """
        found = [one.exact_f1 for one in self.by_label if one.gold or one.predicted]
        return float(sum(found, Fraction(0)) / len(found))

    @property
    def by_label(self) -> tuple[LabelScore, ...]:
        """Precision, recall and F1 of each label, in the order of `labels`."""
        predicted = [sum(column) for column in zip(*self.counts)]
        return tuple(
            LabelScore(label, sum(row), predicted[i], row[i])
            for i, (label, row) in enumerate(zip(self.labels, self.counts))
        )

    def values(self) -> dict[str, float]:
        """Accuracy and macro F1, by name."""
        return {"accuracy": self.accuracy, "macro_f1": self.macro_f1}

    def as_dict(self) -> dict[str, Any]:
        """The values, the confusion matrix and the scores of each label, as plain JSON values."""
        return {
            **self.values(),
            "lines": self.total,
            "labels": list(self.labels),
            "counts": [list(row) for row in self.counts],
            "by_label": {one.label: one.as_dict() for one in self.by_label},
        }


def classification_score(
    gold: Sequence[str], predicted: Sequence[str], labels: Sequence[str]
) -> ClassificationScore:
    """Count which label was given where which was right.

    Parameters
    ----------
    gold : sequence of str
        The label that each line has.
    predicted : sequence of str
        The label that each line was given, in the same order.
    labels : sequence of str
        All labels, in the order of the matrix.

    Raises
    ------
    Refused
        The counts differ, there are no lines, or a label is not one of `labels`.
    """
    if len(gold) != len(predicted):
        raise Refused(
            f"a predicted label for each of the {len(gold)} lines",
            str(len(predicted)),
            "check that both are of the same file",
            "predicted",
        )
    places = {label: place for place, label in enumerate(labels)}
    counts = [[0] * len(labels) for _ in labels]
    for setting, found in (("gold", gold), ("predicted", predicted)):
        strange = next((label for label in found if label not in places), None)
        if strange is not None:
            raise unknown(strange, labels, setting)
    for right, given in zip(gold, predicted):
        counts[places[right]][places[given]] += 1
    return ClassificationScore(tuple(labels), tuple(map(tuple, counts)))
