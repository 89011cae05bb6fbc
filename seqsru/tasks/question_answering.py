"""Question answering: questions whose answers are spans of paragraphs, two encoders, one tokenizer."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, get_args

from torch import nn

from seqsru.data import TOKENIZERS
from seqsru.data.excerpts import ExcerptBatch, ExcerptBatches, Excerpts, TextReader, feature_count
from seqsru.data.files import text_digest
from seqsru.data.question_files import QuestionData
from seqsru.data.spans import KINDS, Reading, check_kind, trained_on
from seqsru.data.squad import (
    Answer,
    Offsets,
    OnBadQuestion,
    Question,
    QuestionReport,
    QuestionSet,
    check_questions,
    read_squad,
)
from seqsru.errors import Refused, check_known
from seqsru.evaluation.answer_score import AnswerTokens, answer_score
from seqsru.evaluation.signature import parameters
from seqsru.models.reader import Reader, paragraph_features
from seqsru.pipelines.answering import AnsweringPipeline
from seqsru.settings import Schema, Section, from_signature, joined, registry
from seqsru.tasks.embeddings import Pretrained, check_embeddings, load_embeddings
from seqsru.tasks.question_answers import QUESTIONS, answered, asked_of
from seqsru.tasks.sections import cell_name, embedding_size, saved, stack_section
from seqsru.tasks.task import Split, Task, Tell, Tokenizers
from seqsru.training import BatchLoss, Objective
from seqsru.training.objective import Carried

ValidationMetric = Literal["f1", "exact_match"]


class QuestionObjective(Objective):
    """Predict the first and the last token of each answer.

    The loss of a question is the negative log probability of both. An epoch is every question once, in
    batches drawn from the batches' seed and the epoch's number. Validation answers the held-out questions and
    gives ``exact_match`` and ``f1`` in percent.

    Parameters
    ----------
    batches : ExcerptBatches
        The training questions.
    validation : QuestionSet
        The validation questions.
    pipeline : callable
        Makes what answers them of a model.
    fingerprints : dict of str to str
        sha256 of the tokenizer.
    validation_metric : {"f1", "exact_match"}
        What the best checkpoint is the best in.
    f1_tokens : {"words", "characters"}
        What F1 counts: words between spaces, as SQuAD does, or characters, for text without spaces.

    Raises
    ------
    Refused
        An option outside its values.
    """

    higher_is_better = True

    def __init__(
        self,
        batches: ExcerptBatches,
        validation: QuestionSet,
        pipeline: Any,
        fingerprints: dict[str, str],
        *,
        validation_metric: ValidationMetric = "f1",
        f1_tokens: AnswerTokens = "words",
    ) -> None:
        check_known(get_args(ValidationMetric), validation_metric=validation_metric)
        check_known(get_args(AnswerTokens), f1_tokens=f1_tokens)
        self._batches, self.validation, self.pipeline = batches, validation, pipeline
        self.fingerprints, self.metric, self.f1_tokens = fingerprints, str(validation_metric), f1_tokens

    @property
    def report(self) -> QuestionReport:
        """Answers that are not learned as they are."""
        return self._batches.excerpts.report

    def epoch_length(self) -> int:
        return len(self._batches)

    def batches(self, epoch: int, start: int) -> Iterator[ExcerptBatch]:
        return (self._batches.collate(places) for places in self._batches.epoch(epoch)[start:])

    def counts(self, batch: ExcerptBatch) -> tuple[int, int]:
        return batch.answers.shape[1], batch.answers.shape[1]

    def loss(self, model: nn.Module, batch: ExcerptBatch, carried: Carried | None) -> BatchLoss:
        assert isinstance(model, Reader)
        batch = batch.to(model.device)
        start, end = model(batch.tokens, batch.valid, batch.features, batch.question, batch.question_valid)
        loss = model.cross_entropy(start, end, batch.answers).sum()
        return BatchLoss(loss, loss.detach(), *self.counts(batch), ())

    def places(self, epoch: int, number: int) -> dict[str, list[int]]:
        numbers = self._batches.excerpts.numbers
        found = [numbers[place] for place in self._batches.epoch(epoch)[number]]
        return {f"the questions of {self.report.name}": found}

    def validate(self, model: nn.Module) -> dict[str, float]:
        answers = answered(self.pipeline(model), self.validation, self.processes.map)
        return answer_score(asked_of(self.validation), answers, self.f1_tokens).values()

    def signature_fields(self) -> dict[str, object]:
        return {"questions": len(self.validation), "f1": self.f1_tokens}


class QuestionAnswering(Task):
    """Find the answer to a question in a paragraph, learning from answers that are spans of it."""

    text = "Find the answer to a question in a paragraph, learning from answers that are spans of it."
    noun = QUESTIONS.noun
    reads = QUESTIONS.reads
    answers = QUESTIONS.answers

    @classmethod
    def sections(cls) -> dict[str, Schema]:
        stacks = {"paragraph": stack_section(), "question": stack_section()}
        kinds = {name: TOKENIZERS[name].train for name in KINDS}
        return {
            "data": joined(from_signature(QuestionData), from_signature(Pretrained)),
            "tokenizer": registry({**kinds, "saved": saved}, skip=["lines", "file"]),
            "reading": from_signature(Reading),
            "model": from_signature(Reader, skip=["vocabulary_size", "features"], sections=stacks),
            "batches": from_signature(ExcerptBatches, skip=["excerpts", "seed"]),
        }

    @classmethod
    def objective_section(cls) -> Section:
        return from_signature(QuestionObjective, skip=["batches", "validation", "pipeline", "fingerprints"])

    def files(self, split: Split) -> list[Path]:
        found = self.settings["data"][split]
        if found is None:
            return []
        return [found] if isinstance(found, Path) else list(found)

    def data_name(self, split: Split) -> str:
        files = self.files(split)
        return files[0].name if files else f"{self.files('train')[0].name},held-out"

    def questions(
        self,
        files: list[Path],
        split: Split,
        on_bad_question: OnBadQuestion | None = None,
        offsets: Offsets | None = None,
    ) -> tuple[QuestionSet, str]:
        """The questions of a file, or of a split where none is given, and what a signature calls them."""
        data = self.settings["data"]
        options: dict[str, Any] = {
            "on_bad_question": on_bad_question or data["on_bad_question"],
            "offsets": offsets or data["offsets"],
        }
        if split == "validation" and not files and data["validation"] is None:
            made: QuestionData = data.of(QuestionData).make(**options)
            return made.read()["validation"], self.data_name("validation")
        chosen = files or self.files(split)
        if not chosen:
            do = "name QUESTIONS, or take --split validation"
            raise Refused(f"data.{split} in the configuration", "none", do)
        found = read_squad(chosen, **options)
        check_questions(found, "evaluation")
        return found, chosen[0].name

    def read(self, tell: Tell) -> dict[str, QuestionSet]:
        data: QuestionData = self.settings["data"].of(QuestionData).make()
        with self.settings["data"].blamed():
            sets = data.read()
        for report in dict.fromkeys(str(part.report) for part in sets.values()):
            tell(report)
        return sets

    def stand_in(self) -> dict[str, QuestionSet]:
        self.settings["data"].of(QuestionData).make()
        check_embeddings(self.settings)
        asked = [Question("stand-in", "a", 0, (Answer("b", 2),), 1)]
        one = QuestionSet("stand-in", ["a b"], asked, QuestionReport("stand-in"))
        return {"train": one, "validation": one}

    def sample(self) -> tuple[str, list[str]]:
        split: Split = "test" if self.files("test") else "validation"
        found, name = self.questions([], split)
        texts = [(one.text, found.paragraphs[one.paragraph]) for one in found.questions]
        return name, ["\t".join(" ".join(text.split()) for text in pair) for pair in texts]

    def tokenizer_files(self) -> dict[str, str]:
        return {"tokenizer": "tokenizer"}

    def tokenizer_lines(self, texts: dict[str, QuestionSet], file: str) -> Iterable[str]:
        kind, lowercase = self.settings["tokenizer"].chosen, self.settings["reading"]["lowercase"]
        train = texts["train"]
        for text in (*train.paragraphs, *(one.text for one in train.questions)):
            yield trained_on(text, kind, lowercase)

    def new_tokenizer(self, texts: dict[str, QuestionSet], file: str, tell: Tell) -> Any:
        made = super().new_tokenizer(texts, file, tell)
        with self.settings["tokenizer"].blamed():
            check_kind(made, "run")
        return made

    def check_tokenizer(self, file: str) -> None:
        super().check_tokenizer(file)
        settings = self.settings["tokenizer"]
        if settings.chosen == "saved":
            with settings.blamed():
                check_kind(settings.make(file=file), "run")

    def model(self, tokenizers: Tokenizers) -> Reader:
        model, features = self.settings["model"], feature_count(self.settings["reading"].make())
        size = embedding_size(model)
        reads = paragraph_features(size, features, model["aligned"])
        made: Reader = model.make(
            tokenizers["tokenizer"].size,
            features,
            paragraph=model["paragraph"].make(input_size=reads),
            question=model["question"].make(input_size=size),
        )
        return made

    def initialise(self, model: Reader, tokenizers: Tokenizers, tell: Tell) -> None:
        load_embeddings(self.settings, model.embedding, tokenizers["tokenizer"], tell)

    def objective(self, texts: dict[str, QuestionSet], tokenizers: Tokenizers) -> QuestionObjective:
        reading: Reading = self.settings["reading"].make()
        train = Excerpts.from_questions(texts["train"], TextReader(tokenizers["tokenizer"], reading))
        batches = self.settings["batches"].make(train, seed=self.settings["seed"])
        fingerprints = {role: tokenizer.fingerprint for role, tokenizer in tokenizers.items()}
        options = self.settings["training"].of(QuestionObjective)
        made: QuestionObjective = options.make(
            batches, texts["validation"], lambda model: self.pipeline(model, tokenizers), fingerprints
        )
        made.text = text_digest(texts["validation"].texts())
        return made

    def omissions(self, objective: QuestionObjective) -> list[str]:
        return [str(objective.report)] if objective.report else []

    def pipeline(self, model: Reader, tokenizers: Tokenizers) -> AnsweringPipeline:
        return AnsweringPipeline(model, tokenizers["tokenizer"], self.settings["reading"].make())

    def fields(self, model: nn.Module) -> dict[str, object]:
        stack = self.settings["model"]["paragraph"]
        return {"cell": cell_name(stack), "layers": stack["num_layers"], "params": parameters(model)}
