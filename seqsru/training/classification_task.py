"""Training a classifier on batches of labelled texts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, get_args

from torch import nn

from seqsru.cells import State
from seqsru.data.labelled import ExampleBatch, ExampleBatches, Examples
from seqsru.errors import Refused, check_known, check_probability
from seqsru.evaluation.classification import classification_score, predict
from seqsru.models.classifier import Classifier
from seqsru.training.task import BatchLoss, Task

ValidationMetric = Literal["accuracy", "macro_f1", "loss"]


class ClassificationTask(Task):
    """Predict the label of each text.

    An epoch is every example once, in batches drawn from the batches' seed and the epoch's number. Validation
    gives ``accuracy`` and ``macro_f1`` in percent and ``loss``, the mean negative log probability of the
    labels.

    Parameters
    ----------
    batches : ExampleBatches
        The training examples.
    validation : Examples
        The validation examples.
    fingerprints : dict of str to str
        sha256 of the tokenizer and the labels.
    label_smoothing : float
        Share of the label's probability that is spread over the classes (PyTorch's definition); never part of
        a reported loss.
    validation_metric : {"accuracy", "macro_f1", "loss"}
        What the best checkpoint is the best in.

    Raises
    ------
    Refused
        No validation examples, or an option outside its values.
    """

    def __init__(
        self,
        batches: ExampleBatches,
        validation: Examples,
        fingerprints: dict[str, str],
        *,
        label_smoothing: float = 0.0,
        validation_metric: ValidationMetric = "accuracy",
    ) -> None:
        check_probability(label_smoothing=label_smoothing)
        check_known(get_args(ValidationMetric), validation_metric=validation_metric)
        if not len(validation):
            raise Refused("validation examples", "none", "check the validation file")
        self.batch_source, self.validation, self.fingerprints = batches, validation, fingerprints
        self.label_smoothing = label_smoothing
        self.metric: str = validation_metric
        self.higher_is_better = validation_metric != "loss"
        self._texts = [validation.tokens[i] for i in range(len(validation))]

    def epoch_length(self, epoch: int) -> int:
        return len(self.batch_source)

    def batches(self, epoch: int, start: int) -> Iterator[ExampleBatch]:
        return (self.batch_source.collate(indices) for indices in self.batch_source.epoch(epoch)[start:])

    def loss(self, model: nn.Module, batch: ExampleBatch, carried: State | None) -> BatchLoss:
        assert isinstance(model, Classifier)
        features = model(batch.tokens.to(model.device), batch.valid.to(model.device))
        loss, nll = model.cross_entropy(features, batch.labels.to(model.device), self.label_smoothing)
        rows = len(batch.labels)
        return BatchLoss(loss, nll.sum(), rows, rows, ())

    def validate(self, model: nn.Module) -> dict[str, float]:
        assert isinstance(model, Classifier)
        log_probs, labels = predict(model, self._texts).double().numpy(), self.validation.labels
        score = classification_score(labels, log_probs.argmax(1), model.classes)
        loss = -float(log_probs[range(len(labels)), labels].mean())
        return {"accuracy": score.accuracy, "macro_f1": score.macro_f1, "loss": loss}
