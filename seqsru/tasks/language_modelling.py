"""Language modelling: one text, one stack, one tokenizer."""

# Annotations are read at run time: the fields of `LanguageData` are the `data` section of a config.
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count, islice
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from torch import nn

from seqsru.cells.masks import rows_of
from seqsru.data import LineReport, StreamBatches, TokenStream, Window, read_lines
from seqsru.data.files import text_digest
from seqsru.data.lines import OnBadLine
from seqsru.data.mapped import Numbers
from seqsru.data.shares import Share, check_weight
from seqsru.data.stream import MOST_ROWS, WeightedStream, encoded_stream
from seqsru.data.text_cache import TextCache
from seqsru.data.texts import Again, TextFiles
from seqsru.data.tokenizers import Tokenizer
from seqsru.errors import Refused, check_known, check_probability
from seqsru.evaluation.perplexity import perplexity
from seqsru.evaluation.signature import parameters
from seqsru.models import LanguageModel
from seqsru.models.mixture import OUTPUTS
from seqsru.pipelines.language import LanguagePipeline
from seqsru.settings import Schema, Section, Setting, Values, from_signature, registry
from seqsru.tasks.corpora import each, shares_told
from seqsru.tasks.language_answers import LANGUAGE, TextState
from seqsru.tasks.sections import cell_name, embedding_size, stack_section, tokenizer_section
from seqsru.tasks.task import Split, Task, Tell, Tokenizers
from seqsru.training import BatchLoss, Objective
from seqsru.training.objective import Carried

ValidationMetric = Literal["perplexity", "token_perplexity", "bits_per_token", "bits_per_byte"]


@dataclass(frozen=True)
class TrainingFile:
    """A text, and how often an epoch has each part of it.

    Parameters
    ----------
    file : Path
        Text to learn from, a sentence or any piece of text a line.
    weight : float
        Times that each part is in an epoch on average, above 0; 1.5 is all of it once and half of it, by
        turns the one and the other, a second time.
    """

    file: Path
    weight: float = 1.0

    def __post_init__(self) -> None:
        """Refuse what is no weight."""
        check_weight(self.weight)


@dataclass(frozen=True)
class LanguageData:
    """Files of UTF-8 text.

    Parameters
    ----------
    train : Path, or list of TrainingFile
        Text to learn from, a sentence or any piece of text a line.
    validation : Path
        Text that tells when the model was best.
    test : Path or None
        Text that `seqsru evaluate` reads.
    on_bad_line : {"error", "skip", "replace"}
        What to do with a line that is not UTF-8 or holds a NUL: stop, leave it out, or put U+FFFD in place of
        each wrong byte. The last two are counted in the report.
    """

    train: Path | list[TrainingFile]
    validation: Path = field(metadata={"formerly": "valid"})
    test: Path | None = field(default=None, metadata={"may_change": True})
    on_bad_line: OnBadLine = "error"


class Texts(NamedTuple):
    """What is trained on, never held in memory, and what is validated with."""

    train: list[Share[TextFiles | list[str]]]
    validation: list[str]


class WindowRows(NamedTuple):
    """Some rows of a window: the first one, the one after the last, and how many the window has."""

    window: Window
    rows: tuple[int, int, int]


class LanguageModelObjective(Objective):
    """Predict each token from all before it, by truncated backpropagation.

    The state is carried from window to window. An epoch is one pass over the windows in order, from the
    initial state.

    Parameters
    ----------
    windows : StreamBatches
        The training text.
    validation : TokenStream
        The validation text.
    fingerprints : dict of str to str
        sha256 of the tokenizer, as ``{"tokenizer": …}``.
    label_smoothing : float
        Share of the target's probability that is spread over the vocabulary (PyTorch's definition); never
        part of a reported perplexity.
    validation_state : {"carried", "separate"}
        carried: the validation text is one stream. separate: each line begins anew.
    validation_metric : {"perplexity", "token_perplexity", "bits_per_token", "bits_per_byte"}
        The headline of validation: per word and line, per token, bits per token (with a vocabulary of
        characters, per character), bits per byte. They rise and fall together; for text without spaces
        between words take one of the last two, which cannot grow beyond all numbers.

    Attributes
    ----------
    streams : sequence of numbers
        The tokens of each training text, where there are several.
    lines : callable
        Gives what the training text of a number is called, and the line in its file of each of its lines.

    Raises
    ------
    Refused
        An option outside its values.
    """

    higher_is_better = False

    def __init__(
        self,
        windows: StreamBatches,
        validation: TokenStream,
        fingerprints: dict[str, str],
        *,
        label_smoothing: float = 0.0,
        validation_state: TextState = "carried",
        validation_metric: ValidationMetric = "perplexity",
    ) -> None:
        check_probability(label_smoothing=label_smoothing)
        check_known(get_args(TextState), validation_state=validation_state)
        check_known(get_args(ValidationMetric), validation_metric=validation_metric)
        self.windows, self.validation, self.fingerprints = windows, validation, fingerprints
        self.label_smoothing, self.validation_state = label_smoothing, validation_state
        self.metric: str = validation_metric
        self.reports: Sequence[LineReport] = ()  # of the training texts
        self.shared_rows = windows.batch_size
        self.streams: Sequence[Numbers] = ()
        self.lines: Callable[[int], tuple[str, Iterable[int]]] = lambda corpus: ("training text", count(1))

    def epoch_length(self) -> int:
        return len(self.windows)

    def batches(self, epoch: int, start: int) -> Iterator[Window]:
        windows = self.windows.epoch(epoch)
        return (windows[i] for i in range(start, len(windows)))

    def counts(self, batch: Window) -> tuple[int, int]:
        return batch.count, batch.targets.shape[1]

    def part(self, batch: Window, first: int, last: int) -> WindowRows:
        inputs, targets = batch.inputs[:, first:last], batch.targets[:, first:last]
        valid = None if batch.valid is None else batch.valid[:, first:last]
        targets_here = targets.numel() if valid is None else int(valid.sum())
        return WindowRows(Window(inputs, targets, valid, targets_here), (first, last, batch.targets.shape[1]))

    def places(self, epoch: int, number: int) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for tokens, lines in self.windows.epoch(epoch).lines_of(number):
            corpus = next((n for n, stream in enumerate(self.streams) if stream is tokens), 0)
            name, numbers = self.lines(corpus)
            wanted = set(lines)
            at = [number for line, number in enumerate(islice(numbers, lines[-1] + 1)) if line in wanted]
            found.setdefault(name, []).extend(at)
        return found

    def loss(self, model: nn.Module, batch: Window | WindowRows, carried: Carried | None) -> BatchLoss:
        assert isinstance(model, LanguageModel)
        if isinstance(batch, WindowRows):
            with rows_of(*batch.rows):
                return self.loss(model, batch.window, carried)
        device = model.embedding.weight.device
        inputs, targets = batch.inputs.to(device), batch.targets.to(device)
        valid = None if batch.valid is None else batch.valid.to(device)
        features, carried = model(inputs, carried, valid)
        loss, nll = model.cross_entropy(features, targets, valid, self.label_smoothing)
        return BatchLoss(loss, nll.sum(), batch.count, targets.shape[1], carried)

    def carried_like(self, model: nn.Module) -> Carried:
        assert isinstance(model, LanguageModel)
        return model.initial_state(self.windows[0].inputs.shape[1])

    def validate(self, model: nn.Module) -> dict[str, float]:
        assert isinstance(model, LanguageModel)
        return perplexity(model, self.validation, carried=self.validation_state == "carried").values()

    def signature_fields(self) -> dict[str, object]:
        text = self.validation
        return {"tokens": len(text.tokens), "unknown": text.unknown, "state": self.validation_state}


class LanguageModelling(Task):
    """Predict each word, subword or character of a text from those before it."""

    text = "Predict each word, subword or character of a text from those before it."
    noun = LANGUAGE.noun
    reads = LANGUAGE.reads
    answers = LANGUAGE.answers

    @classmethod
    def sections(cls) -> dict[str, Schema]:
        return {
            "data": from_signature(
                LanguageData, sections={"train": Setting(Path, several=from_signature(TrainingFile))}
            ),
            "tokenizer": tokenizer_section(),
            "model": from_signature(
                LanguageModel,
                skip=["vocabulary_size"],
                sections={
                    "stack": stack_section(),
                    "output": registry(
                        OUTPUTS,
                        default="softmax",
                        skip=["input_size", "output_size"],
                        options="output_options",
                    ),
                },
            ),
            "batches": from_signature(StreamBatches, skip=["tokens", "eos"]),
        }

    @classmethod
    def objective_section(cls) -> Section:
        return from_signature(
            LanguageModelObjective,
            skip=["windows", "validation", "fingerprints"],
            formerly={"validation_state": "valid_state", "validation_metric": "valid_metric"},
        )

    def files(self, split: Split) -> list[Path]:
        file = self.settings["data"][split]
        if isinstance(file, Values):
            return [one["file"] for one in each(file)]
        return [] if file is None else [file]

    def read(self, tell: Tell) -> Texts:
        data: LanguageData = self.settings["data"].make()
        train = self._training_texts(data, tell)
        lines = read_lines(data.validation, on_bad_line=data.on_bad_line)
        tell(str(lines.report))
        return Texts(train, lines.lines)

    def _training_texts(self, data: LanguageData, tell: Tell) -> list[Share[TextFiles | list[str]]]:
        files = data.train if isinstance(data.train, list) else [TrainingFile(data.train)]
        cache = TextCache(self.settings["cache"], tell)
        train: list[Share[TextFiles | list[str]]] = []
        for one in files:
            text = TextFiles([one.file], cache, data.on_bad_line)
            if text.sound:  # else its report is told when it was gone through
                tell(str(LineReport(text.name, text.lines)))
            train.append(Share(text, one.weight))
        return train

    def training_windows(self, tokenizers: Tokenizers, rows: int, window: int, tell: Tell) -> StreamBatches:
        """The training text of the first epoch in windows, in fewer rows where it has fewer tokens."""
        texts = self._training_texts(self.settings["data"].make(), tell)
        stream = WeightedStream(_streams(texts, tokenizers["tokenizer"])[0]).simplest()
        return StreamBatches(stream, max(1, min(rows, len(stream))), window, tokenizers["tokenizer"].eos)

    def stand_in(self) -> Texts:
        self.settings["data"].make()
        rows = min(self.settings["batches"]["batch_size"], MOST_ROWS)  # more are refused before they are read
        return Texts([Share([""] * rows)], [""])

    def sample(self) -> tuple[str, list[str]]:
        (file,) = self.files("test") or self.files("validation")
        return file.name, read_lines(file).lines

    def tokenizer_files(self) -> dict[str, str]:
        return {"tokenizer": "tokenizer"}

    def tokenizer_lines(self, texts: Texts, file: str) -> Iterable[str]:
        return Again(*(partial(_lines, share.of) for share in texts.train))

    def model(self, tokenizers: Tokenizers) -> LanguageModel:
        model = self.settings["model"]
        stack = model["stack"].make(input_size=embedding_size(model))
        made: LanguageModel = model.make(tokenizers["tokenizer"].size, stack=stack)
        return made

    def objective(self, texts: Texts, tokenizers: Tokenizers) -> LanguageModelObjective:
        if not texts.validation:
            raise self.settings["data"].error(
                Refused("lines of text", "none", "check the file", "validation")
            )
        tokenizer = tokenizers["tokenizer"]
        streams, reports = _streams(texts.train, tokenizer)
        stream = WeightedStream(streams)
        windows = self.settings["batches"].make(stream.simplest(), eos=tokenizer.eos)
        validation = TokenStream.from_lines(texts.validation, tokenizer)
        fingerprints = {"tokenizer": tokenizer.fingerprint}
        options = self.settings["training"].of(LanguageModelObjective)
        made: LanguageModelObjective = options.make(windows, validation, fingerprints)
        made.text = text_digest(texts.validation)
        made.reports = reports
        corpora = [(report.name, share.weight) for report, share in zip(reports, streams)]
        counts = [(len(share.of), count) for share, count in zip(streams, stream.counts)]
        made.notes += shares_told(corpora, counts, "tokens") if reports else ()
        made.streams = [share.of for share in streams]
        made.lines = lambda corpus: _numbered(texts.train[corpus].of)
        return made

    def omissions(self, objective: LanguageModelObjective) -> list[str]:
        return [str(report) for report in objective.reports if report]

    def pipeline(self, model: LanguageModel, tokenizers: Tokenizers) -> LanguagePipeline:
        return LanguagePipeline(model, tokenizers["tokenizer"])

    def fields(self, model: nn.Module) -> dict[str, object]:
        stack, output = self.settings["model"]["stack"], self.settings["model"]["output"]
        named = {} if output.chosen == "softmax" else {"output": f"{output.chosen}-{output['components']}"}
        return {"cell": cell_name(stack), "layers": stack["num_layers"], **named, "params": parameters(model)}


def _streams(
    texts: Sequence[Share[TextFiles | list[str]]], tokenizer: Tokenizer
) -> tuple[list[Share[Numbers]], list[LineReport]]:
    """The tokens of each training text, and what was left out of those that are files."""
    streams: list[Share[Numbers]] = []
    reports = []
    for share in texts:
        if isinstance(share.of, TextFiles):
            tokens, report = encoded_stream(share.of, tokenizer)
            reports.append(report)
        else:
            tokens = TokenStream.from_lines(share.of, tokenizer).tokens.numpy()
        streams.append(Share(tokens, share.weight))
    return streams, reports


def _numbered(text: TextFiles | list[str]) -> tuple[str, Iterable[int]]:
    """What a training text is called, and the number in its file of each of its lines, read again."""
    if isinstance(text, list):
        return "stand-in", range(1, len(text) + 1)
    return text.name, (number for number, _ in text.entries(LineReport(text.name)))


def _lines(text: TextFiles | list[str]) -> Iterator[str]:
    """The lines of a training text."""
    return text.side(0) if isinstance(text, TextFiles) else iter(text)
