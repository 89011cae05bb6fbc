"""Language modelling: one text, one stack, one tokenizer."""

# Annotations are read at run time: the fields of `LanguageData` are the `data` section of a config.
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import torch
from torch import nn

from seqsru.cells.masks import rows_of
from seqsru.data import StreamBatches, TokenStream, Window, read_lines
from seqsru.data.files import text_digest
from seqsru.data.lines import OnBadLine
from seqsru.data.stream import MOST_ROWS
from seqsru.errors import Refused, check_known, check_probability
from seqsru.evaluation.perplexity import perplexity
from seqsru.evaluation.signature import parameters
from seqsru.models import LanguageModel
from seqsru.pipelines.language import LanguagePipeline
from seqsru.settings import Schema, Section, from_signature
from seqsru.tasks.language_answers import LANGUAGE, TextState
from seqsru.tasks.sections import cell_name, embedding_size, stack_section, tokenizer_section
from seqsru.tasks.task import Split, Task, Tell, Tokenizers
from seqsru.training import BatchLoss, Objective
from seqsru.training.objective import Carried

ValidationMetric = Literal["perplexity", "token_perplexity", "bits_per_token", "bits_per_byte"]


@dataclass(frozen=True)
class LanguageData:
    """Files of UTF-8 text.

    Parameters
    ----------
    train : Path
        Text to learn from, a sentence or any piece of text a line.
    validation : Path
        Text that tells when the model was best.
    test : Path or None
        Text that `seqsru evaluate` reads.
    on_bad_line : {"error", "skip", "replace"}
        What to do with a line that is not UTF-8 or holds a NUL: stop, leave it out, or put U+FFFD in place of
        each wrong byte. The last two are counted in the report.
    """

    train: Path
    validation: Path = field(metadata={"formerly": "valid"})
    test: Path | None = field(default=None, metadata={"may_change": True})
    on_bad_line: OnBadLine = "error"


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
    lines : callable
        Gives what the training text is called, and the line in its file of each of its lines.

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
        self.shared_rows = windows.batch_size
        self.lines: Callable[[], tuple[str, Sequence[int]]] = lambda: ("training text", range(1, sys.maxsize))

    def epoch_length(self) -> int:
        return len(self.windows)

    def batches(self, epoch: int, start: int) -> Iterator[Window]:
        return (self.windows[i] for i in range(start, len(self.windows)))

    def part(self, batch: Window, first: int, last: int) -> WindowRows:
        inputs, targets = batch.inputs[:, first:last], batch.targets[:, first:last]
        valid = None if batch.valid is None else batch.valid[:, first:last]
        count = targets.numel() if valid is None else int(valid.sum())
        return WindowRows(Window(inputs, targets, valid, count), (first, last, batch.targets.shape[1]))

    def places(self, epoch: int, number: int) -> dict[str, list[int]]:
        windows = self.windows
        ends = (windows.tokens == windows.eos).nonzero().squeeze(1)
        at = torch.cat([torch.arange(first, last) for first, last in windows.spans(number)])
        name, numbers = self.lines()
        lines = sorted(set(torch.searchsorted(ends, at).tolist()))  # the end of a line is its last token
        return {name: [int(numbers[line]) for line in lines]}

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
            "data": from_signature(LanguageData),
            "tokenizer": tokenizer_section(),
            "model": from_signature(
                LanguageModel, skip=["vocabulary_size"], sections={"stack": stack_section()}
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
        return [] if file is None else [file]

    def read(self, tell: Tell) -> dict[str, list[str]]:
        data: LanguageData = self.settings["data"].make()
        texts = {}
        for split, file in (("train", data.train), ("validation", data.validation)):
            lines = read_lines(file, on_bad_line=data.on_bad_line)
            texts[split] = lines.lines
            tell(str(lines.report))
        return texts

    def stand_in(self) -> dict[str, list[str]]:
        rows = min(self.settings["batches"]["batch_size"], MOST_ROWS)  # more are refused before they are read
        return {"train": [""] * rows, "validation": [""]}

    def sample(self) -> tuple[str, list[str]]:
        (file,) = self.files("test") or self.files("validation")
        return file.name, read_lines(file).lines

    def tokenizer_files(self) -> dict[str, str]:
        return {"tokenizer": "tokenizer"}

    def tokenizer_lines(self, texts: dict[str, list[str]], file: str) -> Iterable[str]:
        return texts["train"]

    def model(self, tokenizers: Tokenizers) -> LanguageModel:
        model = self.settings["model"]
        stack = model["stack"].make(input_size=embedding_size(model))
        made: LanguageModel = model.make(tokenizers["tokenizer"].size, stack=stack)
        return made

    def objective(self, texts: dict[str, list[str]], tokenizers: Tokenizers) -> LanguageModelObjective:
        if not texts["validation"]:
            raise self.settings["data"].error(
                Refused("lines of text", "none", "check the file", "validation")
            )
        tokenizer = tokenizers["tokenizer"]
        train, validation = (
            TokenStream.from_lines(texts[split], tokenizer) for split in ("train", "validation")
        )
        windows = self.settings["batches"].make(train.tokens, eos=tokenizer.eos)
        fingerprints = {"tokenizer": tokenizer.fingerprint}
        options = self.settings["training"].of(LanguageModelObjective)
        made: LanguageModelObjective = options.make(windows, validation, fingerprints)
        made.text = text_digest(texts["validation"])
        made.lines = self._lines
        return made

    def _lines(self) -> tuple[str, Sequence[int]]:
        """The training file, and the lines that were read of it: read again, being seldom asked for."""
        data = self.settings["data"]
        lines = read_lines(data["train"], on_bad_line=data["on_bad_line"])
        return lines.name, lines.numbers

    def omissions(self, objective: LanguageModelObjective) -> list[str]:
        return []

    def pipeline(self, model: LanguageModel, tokenizers: Tokenizers) -> LanguagePipeline:
        return LanguagePipeline(model, tokenizers["tokenizer"])

    def fields(self, model: nn.Module) -> dict[str, object]:
        stack = self.settings["model"]["stack"]
        return {"cell": cell_name(stack), "layers": stack["num_layers"], "params": parameters(model)}
