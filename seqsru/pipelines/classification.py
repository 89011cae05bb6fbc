"""A trained classifier with its tokenizer and labels: text in, labels out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from seqsru.data.labelled import Labels
from seqsru.data.tokenizers import Tokenizer
from seqsru.errors import Refused
from seqsru.evaluation.classification import predict
from seqsru.models.classifier import Classifier


@dataclass(frozen=True)
class Classification:
    """What one line is taken for.

    Attributes
    ----------
    label : str
        The likeliest label; of equals the first.
    probabilities : mapping of str to float
        Of every label, in the order of the labels; they sum to 1 within rounding.
    """

    label: str
    probabilities: Mapping[str, float]

    def as_dict(self) -> dict[str, object]:
        """Plain values, for JSON."""
        return {"label": self.label, "probabilities": dict(self.probabilities)}


class ClassificationPipeline:
    """Classify lines of text.

    Output is in input order, a result for each line. On a CPU in float32 neither a label nor the bits of a
    probability depend on the other lines.

    Parameters
    ----------
    model : Classifier
        Put in evaluation mode.
    tokenizer : Tokenizer
    labels : Labels
        The ones it was trained with.
    lowercase : bool
        Whether it learned from text in lower case.

    Raises
    ------
    Refused
        A tokenizer or labels of another size than the model's.
    """

    def __init__(
        self, model: Classifier, tokenizer: Tokenizer, labels: Labels, *, lowercase: bool = False
    ) -> None:
        for what, size, found in (
            ("a tokenizer of {} types", model.vocabulary_size, tokenizer.size),
            ("{} labels", model.classes, labels.size),
        ):
            if found != size:
                raise Refused(what.format(size), str(found), "use what the model was trained with")
        self.model, self.tokenizer, self.labels, self.lowercase = model.eval(), tokenizer, labels, lowercase

    def classify(self, lines: Sequence[str]) -> list[Classification]:
        """Classify each line; an empty one too, by what the model makes of no words."""
        texts = [self.tokenizer.encode(line.lower() if self.lowercase else line) for line in lines]
        probabilities = predict(self.model, texts).exp().tolist()
        names = self.labels.names
        return [
            Classification(names[max(range(len(row)), key=row.__getitem__)], dict(zip(names, row)))
            for row in probabilities
        ]
