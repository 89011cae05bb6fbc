"""Classification: labelled lines, an encoder, one tokenizer and the labels."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy
from torch import nn

from seqsru.data import LineReport, load_tokenizer
from seqsru.data.examples import ExampleBatch, ExampleBatches, Examples, Labels
from seqsru.data.files import text_digest
from seqsru.data.labelled import LabelledLines, OnBadLabelledLine, check_encoding, read_labelled
from seqsru.data.splits import check_splits, read_splits
from seqsru.errors import Refused, check_known, check_probability
from seqsru.evaluation.classification import classification_score
from seqsru.evaluation.signature import parameters
from seqsru.models.classifier import Classifier, Convolution
from seqsru.pipelines.classification import ClassificationPipeline, predict
from seqsru.settings import Choice, Schema, Section, from_signature, joined
from seqsru.tasks.classification_answers import CLASSIFICATION, percent
from seqsru.tasks.embeddings import Pretrained, check_embeddings, load_embeddings
from seqsru.tasks.sections import cell_name, embedding_size, stack_section, tokenizer_section
from seqsru.tasks.task import Split, Task, Tell, Tokenizers
from seqsru.training import BatchLoss, Objective
from seqsru.training.objective import Carried

ValidationMetric = Literal["accuracy", "macro_f1", "loss"]


class ClassificationObjective(Objective):
    """Predict the label of each text.

    An epoch is every example once, in batches drawn from the batches' seed and the epoch's number. Validation
    gives ``accuracy`` and ``macro_f1`` in percent and ``loss``, the mean negative log probability of the
    labels.

    Parameters
    ----------
    examples : ExampleBatches
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

    Attributes
    ----------
    lines : (str, sequence of int)
        What the training examples are called, and the line of each.

    Raises
    ------
    Refused
        No validation examples, or an option outside its values.
    """

    def __init__(
        self,
        examples: ExampleBatches,
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
        self.examples, self.validation, self.fingerprints = examples, validation, fingerprints
        self.label_smoothing = label_smoothing
        self.metric: str = validation_metric
        self.higher_is_better = validation_metric != "loss"
        self.lines: tuple[str, Sequence[int]] = "training examples", range(1, len(examples.examples) + 1)
        self._texts = [validation.tokens[i] for i in range(len(validation))]

    def epoch_length(self) -> int:
        return len(self.examples)

    def batches(self, epoch: int, start: int) -> Iterator[ExampleBatch]:
        return (self.examples.collate(indices) for indices in self.examples.epoch(epoch)[start:])

    def counts(self, batch: ExampleBatch) -> tuple[int, int]:
        return len(batch.labels), len(batch.labels)

    def loss(self, model: nn.Module, batch: ExampleBatch, carried: Carried | None) -> BatchLoss:
        assert isinstance(model, Classifier)
        features = model(batch.tokens.to(model.device), batch.valid.to(model.device))
        loss, nll = model.cross_entropy(features, batch.labels.to(model.device), self.label_smoothing)
        return BatchLoss(loss, nll.sum(), *self.counts(batch), ())

    def places(self, epoch: int, number: int) -> dict[str, list[int]]:
        name, numbers = self.lines
        return {name: [int(numbers[i]) for i in self.examples.epoch(epoch)[number]]}

    def validate(self, model: nn.Module) -> dict[str, float]:
        assert isinstance(model, Classifier)
        rows = self.processes.map(lambda share: predict(model, share).double().tolist(), self._texts)
        log_probs, labels = numpy.array(rows), self.validation.labels
        names = list(map(str, range(model.classes)))
        gold, predicted = ([names[number] for number in numbers] for numbers in (labels, log_probs.argmax(1)))
        score = classification_score(gold, predicted, names)
        loss = -float(log_probs[range(len(labels)), labels].mean())
        return {**percent(score), "loss": loss}

    def signature_fields(self) -> dict[str, object]:
        return {"lines": len(self.validation)}


class ClassificationTask(Task):
    """Tell which label a text has, learning from lines of labels and texts."""

    text = "Tell which label a text has, learning from lines of labels and texts."
    noun = CLASSIFICATION.noun
    reads = CLASSIFICATION.reads
    answers = CLASSIFICATION.answers

    @classmethod
    def sections(cls) -> dict[str, Schema]:
        encoders = {"stack": stack_section(), "convolution": from_signature(Convolution, skip=["input_size"])}
        return {
            "data": joined(from_signature(read_splits, may_change=["test"]), from_signature(Pretrained)),
            "tokenizer": tokenizer_section(),
            "model": from_signature(
                Classifier,
                skip=["vocabulary_size", "classes"],
                sections={"encoder": Choice(encoders, default="stack")},
            ),
            "batches": from_signature(ExampleBatches, skip=["examples", "seed"]),
        }

    @classmethod
    def objective_section(cls) -> Section:
        return from_signature(ClassificationObjective, skip=["examples", "validation", "fingerprints"])

    def files(self, split: Split) -> list[Path]:
        path = self.settings["data"][split]
        return [] if path is None else [path]

    def has_test(self) -> bool:
        return super().has_test() or self.settings["data"]["folds"] > 0

    def data_name(self, split: Split) -> str:
        data = self.settings["data"]
        if data[split] is not None:
            return str(data[split].name)
        part = f"fold-{data['fold']}-of-{data['folds']}" if split == "test" else "held-out"
        return f"{data['train'].name},{part}"

    def labelled(
        self, files: list[Path], split: Split, on_bad_line: OnBadLabelledLine | None = None
    ) -> tuple[LabelledLines, str]:
        """The lines of a file, or of a split where none is given, and what a signature calls them."""
        data = self.settings["data"]
        if files:
            reading = {name: data[name] for name in ("separator", "encoding", "lowercase")}
            bad = on_bad_line or data["on_bad_line"]
            return read_labelled(files[0], on_bad_line=bad, **reading), files[0].name
        changed = {} if on_bad_line is None else {"on_bad_line": on_bad_line}
        splits = data.of(read_splits).make(**changed)
        if split not in splits:
            do = "name LABELLED, or take --split validation"
            raise Refused("data.test or data.folds in the configuration", "neither", do)
        return splits[split], self.data_name(split)

    def read(self, tell: Tell) -> dict[str, LabelledLines]:
        splits: dict[str, LabelledLines] = self.settings["data"].of(read_splits).make()
        for report in dict.fromkeys(str(part.report) for part in splits.values()):
            tell(report)
        return splits

    def stand_in(self) -> dict[str, LabelledLines]:
        data = self.settings["data"]
        names = ("validation", "test", "holdout", "folds", "fold", "split_seed")
        with data.blamed():
            check_splits(**{name: data[name] for name in names})
            check_encoding(data["encoding"])
        check_embeddings(self.settings)
        lines = LabelledLines("stand-in", ["a", "b"], ["a", "b"], [1, 2], LineReport("stand-in"))
        return {"train": lines, "validation": lines}

    def sample(self) -> tuple[str, list[str]]:
        splits = self.settings["data"].of(read_splits).make()
        split: Split = "test" if "test" in splits else "validation"
        return self.data_name(split), splits[split].texts

    def tokenizer_files(self) -> dict[str, str]:
        return {"tokenizer": "tokenizer", "labels": "labels"}

    def tokenizer_lines(self, texts: dict[str, LabelledLines], file: str) -> Iterable[str]:
        return texts["train"].texts

    def new_tokenizer(self, texts: dict[str, LabelledLines], file: str, tell: Tell) -> Any:
        return Labels.train(texts["train"]) if file == "labels" else super().new_tokenizer(texts, file, tell)

    def check_tokenizer(self, file: str) -> None:
        if file != "labels":
            super().check_tokenizer(file)

    def load_tokenizers(self, folder: Path) -> dict[str, Any]:
        return {"tokenizer": load_tokenizer(folder, "tokenizer"), "labels": Labels.load(folder, "labels")}

    def stand_in_tokenizers(self) -> dict[str, Any]:
        return {**super().stand_in_tokenizers(), "labels": Labels(["a", "b"])}

    def model(self, tokenizers: Tokenizers) -> Classifier:
        model = self.settings["model"]
        encoder = model["encoder"].make(input_size=embedding_size(model))
        made: Classifier = model.make(
            tokenizers["tokenizer"].size, tokenizers["labels"].size, encoder=encoder
        )
        return made

    def initialise(self, model: Classifier, tokenizers: Tokenizers, tell: Tell) -> None:
        load_embeddings(self.settings, model.embedding, tokenizers["tokenizer"], tell)

    def objective(self, texts: dict[str, LabelledLines], tokenizers: Tokenizers) -> ClassificationObjective:
        train, validation = (
            Examples.from_lines(texts[split], tokenizers["tokenizer"], tokenizers["labels"])
            for split in ("train", "validation")
        )
        batches = self.settings["batches"].make(train, seed=self.settings["seed"])
        fingerprints = {role: tokenizer.fingerprint for role, tokenizer in tokenizers.items()}
        options = self.settings["training"].of(ClassificationObjective)
        made: ClassificationObjective = options.make(batches, validation, fingerprints)
        made.lines = texts["train"].name, texts["train"].numbers
        made.text = text_digest(texts["validation"].labels, texts["validation"].texts)
        return made

    def omissions(self, objective: ClassificationObjective) -> list[str]:
        return []

    def pipeline(self, model: Classifier, tokenizers: Tokenizers) -> ClassificationPipeline:
        lowercase = self.settings["data"]["lowercase"]
        return ClassificationPipeline(
            model, tokenizers["tokenizer"], tokenizers["labels"], lowercase=lowercase
        )

    def fields(self, model: nn.Module) -> dict[str, object]:
        encoder = self.settings["model"]["encoder"]
        if encoder.chosen == "stack":
            read = {"cell": cell_name(encoder), "layers": encoder["num_layers"]}
        else:
            read = {"encoder": encoder.chosen}
        return {**read, "pooling": self.settings["model"]["pooling"], "params": parameters(model)}
