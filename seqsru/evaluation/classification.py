"""How well texts are classified: the predictions of a model, and what they are worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from seqsru.models.classifier import Classifier

# Texts share a batch only where they are padded to the same length, which depends on the text alone: a product
# over another padded length rounds another way, and a probability would depend on its neighbours.
MULTIPLE = 8
# Padded tokens that are read at once: it bounds memory, and the results do not depend on it.
READ_AT_ONCE = 8192


@torch.no_grad()
def predict(model: Classifier, texts: Sequence[Sequence[int]]) -> Tensor:
    """Log probabilities of the classes for each text, in input order.

    On a CPU in float32 the bits do not depend on what else is read.

    Parameters
    ----------
    model : Classifier
        In evaluation mode.
    texts : sequence of n sequences of int
        Ids; an empty text is classified too.

    Returns
    -------
    float32 Tensor of shape (n, C)
    """
    log_probs = torch.empty(len(texts), model.classes)
    groups: dict[int, list[int]] = {}
    for index, text in enumerate(texts):
        groups.setdefault(-(-max(1, len(text)) // MULTIPLE) * MULTIPLE, []).append(index)
    for length, members in sorted(groups.items()):
        size = max(1, READ_AT_ONCE // length)
        for first in range(0, len(members), size):
            batch = members[first : first + size]
            tokens = (
                torch.tensor([[*texts[i], *[0] * (length - len(texts[i]))] for i in batch]).t().contiguous()
            )
            lengths = torch.tensor([len(texts[i]) for i in batch])
            valid = torch.arange(length).unsqueeze(1) < lengths
            features = model(tokens.to(model.device), valid.to(model.device))
            log_probs[batch] = model.log_probs(features).cpu()
    return log_probs


@dataclass(frozen=True)
class ClassificationScore:
    """What predictions are worth.

    Attributes
    ----------
    confusion : ndarray of shape (C, C), int64
        Texts of the class of a row that were taken for that of a column.
    """

    confusion: NDArray[numpy.int64]

    @property
    def accuracy(self) -> float:
        """Share of right predictions, in percent."""
        return 100.0 * float(numpy.trace(self.confusion)) / max(1, int(self.confusion.sum()))

    @property
    def macro_f1(self) -> float:
        """Mean over the classes that occur, in the labels or the predictions, of F1, in percent.

        F1 is ``2·right / (labels + predictions)`` of a class: the harmonic mean of precision and recall, 0
        where nothing is right. (scikit-learn's, over the classes that it finds.)
        """
        counts = self.confusion.sum(0) + self.confusion.sum(1)
        there = counts > 0
        f1 = 2.0 * self.confusion.diagonal()[there] / counts[there]
        return 100.0 * float(f1.mean()) if len(f1) else 0.0


def classification_score(labels: ArrayLike, predictions: ArrayLike, classes: int) -> ClassificationScore:
    """Score predictions against labels.

    Parameters
    ----------
    labels, predictions : arrays of shape (n,), integers below `classes`
    classes : int
        C.
    """
    pairs = numpy.asarray(labels, dtype=numpy.int64) * classes + numpy.asarray(predictions, dtype=numpy.int64)
    confusion = numpy.bincount(pairs, minlength=classes * classes).reshape(classes, classes)
    return ClassificationScore(confusion.astype(numpy.int64))
