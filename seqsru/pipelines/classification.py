"""A trained classifier with its tokenizer and labels: text in, labels out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from seqsru.data.examples import Labels
from seqsru.data.lines import text_lines
from seqsru.data.padding import SOURCE_MULTIPLE, pad
from seqsru.data.tokenizers import Tokenizer
from seqsru.errors import Refused
from seqsru.evaluation.clock import TimedDecoder
from seqsru.models.classifier import Classifier
from seqsru.pipelines.batches import alike
from seqsru.settings import checked_arguments

READ_AT_ONCE = 8192  # padded tokens; it bounds memory, and the results do not depend on it


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
    empty = [index for index, text in enumerate(texts) if not text]
    for members in [*alike(texts, READ_AT_ONCE, "tokens"), *([empty] if empty else [])]:
        # A text without tokens is a row of padding: the id stands where nothing is valid.
        ids, valid = pad([texts[index] or [0] for index in members], 0, multiple=SOURCE_MULTIPLE)
        if members is empty:
            valid = torch.zeros_like(valid)
        log_probs[members] = model.log_probs(model(ids.to(model.device), valid.to(model.device))).cpu()
    return log_probs


@dataclass(frozen=True)
class Classification:
    """What one line is taken for.

    Attributes
    ----------
    label : str
        The likeliest label; of equals the first. Empty for an empty line.
    probabilities : mapping of str to float
        Of every label, in the order of the labels; they sum to 1 within rounding. None for an empty line.
    """

    label: str
    probabilities: Mapping[str, float]

    def line(self) -> str:
        """The label, and after tabs the probability of each: ``pos<TAB>neg=0.0312<TAB>pos=0.9688``."""
        return "\t".join([self.label, *(f"{name}={p:.4f}" for name, p in self.probabilities.items())])

    def as_dict(self) -> dict[str, object]:
        """Plain values, for JSON."""
        return {"label": self.label, "probabilities": dict(self.probabilities)}


@checked_arguments
@dataclass(frozen=True, eq=False, repr=False)
class ClassificationPipeline:
    """Classify lines of text. Nothing in it changes, so that threads may share it.

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

    model: Classifier
    tokenizer: Tokenizer
    labels: Labels
    lowercase: bool = False

    def __post_init__(self) -> None:
        for setting, expected, size, found in (
            ("tokenizer", "a tokenizer of {} types", self.model.vocabulary_size, self.tokenizer.size),
            ("labels", "{} labels", self.model.classes, self.labels.size),
        ):
            if found != size:
                do = "use what the model was trained with"
                raise Refused(expected.format(size), str(found), do, setting)
        self.model.eval()

    def classify(self, lines: Sequence[str]) -> list[Classification]:
        """Classify each line; an empty one, or one of white space, has no label."""
        lines = text_lines(lines)
        full = [index for index, line in enumerate(lines) if line.strip()]
        texts = [self.tokenizer.encode(self._read(lines[index])) for index in full]
        results = [Classification("", {}) for _ in lines]
        for index, row in zip(full, predict(self.model, texts).exp().tolist()):
            best = max(range(len(row)), key=row.__getitem__)
            results[index] = Classification(self.labels.names[best], dict(zip(self.labels.names, row)))
        return results

    def timed(self, name: str) -> TimedDecoder:
        """The classifier as the latency meter takes it: a line is one call of the model."""

        def classify(line: str, length: int | None) -> list[Classification]:
            return self.classify([line])

        return TimedDecoder(name, self.model, None, "classifier", classify)

    def _read(self, line: str) -> str:
        return line.lower() if self.lowercase else line
