"""What a task is: everything between settings and a trained model that one kind of model has for itself.

A task is one file: its settings, data, model, objective and pipeline, and its answers to the commands. It is
made with its settings; `seqsru.runs` trains and loads it, and the commands ask it, whatever it is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from torch import nn

from seqsru.data import LineReport, Words, load_tokenizer, read_lines
from seqsru.data.vocabulary import EOS, UNK
from seqsru.errors import Refused
from seqsru.settings import Schema, Section, Values
from seqsru.tasks.answers import (
    Answer,
    Evaluation,
    Kind,
    LineTranslator,
    Pipeline,
    Scorer,
    Split,
    Tell,
    Trained,
    chosen_files,
)
from seqsru.tasks.sections import check_tokenizer, new_tokenizer
from seqsru.training import Objective

__all__ = [
    "Answer",
    "Evaluation",
    "Kind",
    "LineTranslator",
    "Pipeline",
    "Scorer",
    "Split",
    "Task",
    "Tell",
    "Tokenizers",
    "Trained",
    "chosen_files",
]

Tokenizers = Mapping[str, Any]  # by role: tokenizers, and whatever else of the data a model is made for


class Task(ABC):
    """One kind of model, made with its settings.

    Parameters
    ----------
    settings : Values
        All settings of a run of this task.

    Attributes
    ----------
    text : str
        What the task is, for ``--help``.
    noun : str
        What its model is called in sentences: ``a language model``.
    reads : tuple of str
        The files of a split, in order: ``("SOURCE", "REFERENCE")``.
    further : str
        What may follow them in any number, in words; empty for nothing.
    answers : mapping of str to Answer
        The commands that it answers, of those below.

        ========== ============================================== ===================================
        command    called with                                    gives
        ========== ============================================== ===================================
        evaluate   trained, files, split, tell, **flags           `Evaluation`, of the files or, where none
                                                                  are given, of the split
        score      trained, **flags                               `Scorer`
        translate  trained, attention, **flags                    `LineTranslator`
        distill    trained, referenced, **flags                   `Distiller`
        generate   trained, **flags                               prompt -> list of str
        classify   trained, **flags                               lines -> list of results, which have
                                                                  ``line()`` and ``as_dict()``
        answer     trained, **flags                               `question_answers.LineAnswerer`
        transcribe trained, **flags                               `Transcriber`
        latency    trained, name, **flags                         `TimedDecoder`
        ========== ============================================== ===================================
    """

    text: ClassVar[str]
    noun: ClassVar[str]
    reads: ClassVar[tuple[str, ...]]
    further: ClassVar[str] = ""
    answers: ClassVar[Mapping[str, Answer]]

    def __init__(self, settings: Values) -> None:
        self.settings = settings

    # ---- what may be set ---------------------------------------------------------------------------

    @classmethod
    @abstractmethod
    def sections(cls) -> dict[str, Schema]:
        """Settings of the data, the tokenizer, the model, the batches and what else the task has."""

    @classmethod
    @abstractmethod
    def objective_section(cls) -> Section:
        """Settings of the objective, which are part of the section ``training``."""

    # ---- data --------------------------------------------------------------------------------------

    @abstractmethod
    def files(self, split: Split) -> list[Path]:
        """The files of a split, in the order of `reads`; none where the settings name none."""

    def has_test(self) -> bool:
        """Whether the settings name something to test on."""
        return bool(self.files("test"))

    def data_name(self, split: Split) -> str:
        """What a signature calls a split that there is: the name of its first file."""
        return self.files(split)[0].name

    @abstractmethod
    def read(self, tell: Tell) -> Any:
        """The texts to train on and to validate with; ``tell`` is told what was left out of them."""

    @abstractmethod
    def stand_in(self) -> Any:
        """A few lines in place of what `read` gives, enough for one batch."""

    @abstractmethod
    def sample(self) -> tuple[str, list[str]]:
        """A name for some lines that the model is for, and the lines: of the test split, else validation."""

    def lines(self, path: Path) -> list[str]:
        """The lines of a file of the kind that `sample` gives."""
        return read_lines(path).lines

    def sums(self) -> dict[str, str]:
        """The sha256 of what the training files name in their turn, by what it is; most name nothing."""
        return {}

    # ---- tokenizers, model and objective -----------------------------------------------------------

    @abstractmethod
    def tokenizer_files(self) -> dict[str, str]:
        """Name of the file of each tokenizer, by its role; two roles may share one."""

    @abstractmethod
    def tokenizer_lines(self, texts: Any, file: str) -> Iterable[str]:
        """The text that the tokenizer in a file is trained on."""

    def new_tokenizer(self, texts: Any, file: str, tell: Tell) -> Any:
        """What is to be saved in a file: the tokenizer that the settings ask for."""
        report = LineReport(f"text of the {file}")
        settings = self.settings["tokenizer"]
        made = new_tokenizer(settings, self.tokenizer_lines(texts, file), file, report)
        if report:
            tell(str(report))
        if settings.chosen == "sentencepiece_model":
            tell(f"{file}: {made.size:,} pieces")
        return made

    def check_tokenizer(self, file: str) -> None:
        """Refuse settings of the tokenizer in a file before any text is read."""
        check_tokenizer(self.settings["tokenizer"], file)

    def load_tokenizers(self, folder: Path) -> dict[str, Any]:
        """The tokenizers of a run, by role; each file is read once."""
        files = self.tokenizer_files()
        loaded = {file: load_tokenizer(folder, file) for file in dict.fromkeys(files.values())}
        return {role: loaded[file] for role, file in files.items()}

    def stand_in_tokenizers(self) -> dict[str, Any]:
        """Tokenizers in place of those that the data would give, by role."""
        return {role: Words([UNK, EOS, file]) for role, file in self.tokenizer_files().items()}

    @abstractmethod
    def model(self, tokenizers: Tokenizers) -> nn.Module:
        """A new model."""

    def initialise(self, model: Any, tokenizers: Tokenizers, tell: Tell) -> None:  # noqa: B027
        """Put what others trained into a model before its training; most tasks have no such thing."""

    @abstractmethod
    def objective(self, texts: Any, tokenizers: Tokenizers) -> Objective:
        """What training minimises, on texts from `read` or `stand_in`."""

    @abstractmethod
    def omissions(self, objective: Any) -> list[str]:
        """What batching left out of the data, in words."""

    # ---- the trained model -------------------------------------------------------------------------

    @abstractmethod
    def pipeline(self, model: Any, tokenizers: Tokenizers) -> Pipeline:
        """Text in, text or numbers out."""

    def together(self, runs: Sequence[str], pipelines: Sequence[Any]) -> Pipeline:
        """Several pipelines of this task as one, which averages what they predict; most tasks have none.

        Parameters
        ----------
        runs : sequence of str
            What errors call them.
        pipelines : sequence of Pipeline
            This task's own first.

        Raises
        ------
        Refused
            They do not go together, or the task has no such thing.
        """
        do = "name one; several translation models can predict together"
        raise Refused(f"one run of {self.noun}", f"{len(runs)}", do, "ensemble")

    @abstractmethod
    def fields(self, model: nn.Module) -> dict[str, object]:
        """The first fields of a signature: what the model is."""
