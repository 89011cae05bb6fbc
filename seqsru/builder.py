"""What building a task takes, and what the tasks share: tokenizers, stacks and cells from their settings."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from seqsru.cells import CELLS, Stack
from seqsru.config import Settings
from seqsru.data import TOKENIZERS, Tokenizer, Words, load_tokenizer
from seqsru.data.vocabulary import EOS, UNK
from seqsru.decoding import RULES, Rule
from seqsru.schema import Choice, Schema, Section, from_signature, registry
from seqsru.training.task import Task

Values = Mapping[str, Any]


class Builder(ABC):
    """How the objects of one task are made from its settings.

    Attributes
    ----------
    text : str
        What the task is, for ``--help``.
    """

    text: str

    @abstractmethod
    def sections(self) -> dict[str, Schema]:
        """Settings of the data, the tokenizer, the model, the batches and what else the task has."""

    @abstractmethod
    def task_section(self) -> Section:
        """Settings of the task itself, which are part of the section ``training``."""

    @abstractmethod
    def files(self, values: Values, split: str) -> list[Path]:
        """The files of ``train``, ``valid`` or ``test``; none where the settings name none."""

    @abstractmethod
    def read(self, values: Values, say: Callable[[str], None]) -> Any:
        """Read the data; ``say`` is told what was left out."""

    @abstractmethod
    def stand_in(self, values: Values) -> Any:
        """A few lines in place of the data, enough for one batch."""

    @abstractmethod
    def tokenizer_files(self, values: Values) -> dict[str, str]:
        """Name of the file of each tokenizer, by its role; two roles may share one."""

    @abstractmethod
    def training_lines(self, texts: Any, file: str) -> Iterable[str]:
        """The text that the tokenizer in a file is trained on."""

    def new_tokenizer(self, values: Values, texts: Any, file: str) -> Any:
        """What is to be saved in a file: the tokenizer that the settings ask for."""
        return new_tokenizer(values["tokenizer"], self.training_lines(texts, file), file)

    def load_tokenizers(self, folder: Path, values: Values) -> dict[str, Any]:
        """The tokenizers of a run, by role."""
        return load_tokenizers(folder, self.tokenizer_files(values))

    def stand_in_tokenizer(self, file: str) -> Any:
        """A tokenizer in place of that of a file."""
        return Words([UNK, EOS, file])

    @abstractmethod
    def model(self, values: Values, tokenizers: Mapping[str, Tokenizer]) -> nn.Module:
        """A new model."""

    @abstractmethod
    def task(self, settings: Settings, texts: Any, tokenizers: Mapping[str, Tokenizer]) -> Task:
        """The task; an error has the place of the section it comes from."""

    @abstractmethod
    def reports(self, task: Any) -> list[str]:
        """What the task left out of the data, in words."""

    @abstractmethod
    def pipeline(self, settings: Settings, model: Any, tokenizers: Mapping[str, Tokenizer]) -> Any:
        """Text in, text or numbers out."""

    @abstractmethod
    def fields(self, values: Values, model: nn.Module) -> dict[str, object]:
        """The first fields of a signature: what the model is."""


def tokenizer_section() -> Choice:
    """A tokenizer to train, of any kind, or those of another run."""
    return registry(
        {**{name: kind.train for name, kind in TOKENIZERS.items()}, "saved": saved}, skip=["lines", "file"]
    )


def saved(file: str, *, run: Path) -> Tokenizer:
    """The tokenizer of another run, as it is.

    Parameters
    ----------
    file : str
        Name of its file.
    run : Path
        The other run's directory.
    """
    return load_tokenizer(run, file)


def new_tokenizer(options: Values, lines: Iterable[str], file: str) -> Tokenizer:
    """The tokenizer that the settings ask for."""
    rest = {option: value for option, value in options.items() if option != "joint"}
    name = rest.pop("name")
    return saved(file, **rest) if name == "saved" else TOKENIZERS[name].train(lines, **rest)


def load_tokenizers(folder: Path, files: Mapping[str, str]) -> dict[str, Tokenizer]:
    """The tokenizers of a run, by role; each file is read once."""
    loaded = {file: load_tokenizer(folder, file) for file in dict.fromkeys(files.values())}
    return {role: loaded[file] for role, file in files.items()}


def cell_section() -> Choice:
    """The cells with the options that are left to the user."""
    return Choice(
        {
            name: from_signature(cell, skip=["input_size", "hidden_size", *cell.set_by_stack])
            for name, cell in CELLS.items()
        }
    )


def stack_section() -> Section:
    """Settings of a `Stack`, its cell a section of its own."""
    return from_signature(Stack, skip=["input_size", "options"], sections={"cell": cell_section()})


def make_stack(values: Values, input_size: int) -> Stack:
    """A stack from a section of `stack_section`."""
    rest = dict(values)
    cell = dict(rest.pop("cell"))
    return Stack(cell.pop("name"), input_size, options=cell, **rest)


def cell_name(values: Values) -> str:
    """What a signature calls a chosen cell: ``sru-v2``, ``lstm``."""
    cell = values["cell"]
    return f"{cell['name']}-v{cell['version']}" if "version" in cell else cell["name"]


def rules_section() -> Section:
    """The rules of the search, each of them off unless it is given."""
    return Section(
        {name: from_signature(rule, optional=True) for name, rule in RULES.items()},
        "Tokens that may not be generated.",
    )


def make_rules(values: Values) -> list[Rule]:
    """The rules that a section of `rules_section` asks for."""
    return [RULES[name](**options) for name, options in values.items() if options is not None]


def made(entries: Mapping[str, Callable], values: Values, *arguments: object) -> Any:
    """The registry entry that ``values`` name, called with their other options."""
    options = dict(values)
    return entries[options.pop("name")](*arguments, **options)


def arguments(function: Callable, values: Values) -> dict[str, Any]:
    """Those of the values that a callable takes."""
    names = inspect.signature(function).parameters
    return {name: value for name, value in values.items() if name in names}
