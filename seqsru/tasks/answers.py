"""What a task answers to the commands, and what a trained run is to them; nothing here needs torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from seqsru.errors import Refused
from seqsru.evaluation.items import Items
from seqsru.evaluation.signature import DIGITS, machine, signature
from seqsru.pipelines import LanguagePipeline, TranslationPipeline
from seqsru.pipelines.compiled import CompiledModel
from seqsru.settings import Section

if TYPE_CHECKING:  # torch takes a second to import, and a file of `quantize` needs none
    from torch import nn

Split = Literal["train", "validation", "test"]
Tell = Callable[[str], None]  # is given what a person should know on the way, a line at a time


@dataclass(frozen=True)
class Answer:
    """What a task does for a command.

    Attributes
    ----------
    function : callable
        Called with the `Trained` run, then what the protocol of the command names (below), then the flags
        that were given, as keywords.
    flags : Section
        The flags that the command has for this task: settings only. Where one is not given, what the function
        does without it holds.
    writes : tuple of str
        Those of the flags that name files to write; other paths among them are read.
    measures : tuple of str
        Of an evaluation: the numbers that each line of a text has its share in.
    """

    function: Callable[..., Any]
    flags: Section = field(default_factory=lambda: Section({}))
    writes: tuple[str, ...] = ()
    measures: tuple[str, ...] = ()


@dataclass(frozen=True)
class Kind:
    """What the commands know of a task without making it; the attributes are those of `Task`."""

    noun: str
    reads: tuple[str, ...]
    answers: Mapping[str, Answer]
    further: str = ""


class Answering(Protocol):
    """What the answers ask of a task: of `Task`, or of what a file has of one."""

    settings: Any

    @property
    def noun(self) -> str:
        """What its model is called in sentences."""
        ...

    @property
    def reads(self) -> tuple[str, ...]:
        """The files of a split, in order."""
        ...

    @property
    def further(self) -> str:
        """What may follow them in any number, in words."""
        ...

    @property
    def answers(self) -> Mapping[str, Answer]:
        """The commands that it answers."""
        ...

    def files(self, split: Split) -> list[Path]:
        """The files of a split."""
        ...

    def data_name(self, split: Split) -> str:
        """What a signature calls a split."""
        ...

    def sample(self) -> tuple[str, list[str]]:
        """A name for some lines that the model is for, and the lines."""
        ...

    def lines(self, path: Path) -> list[str]:
        """The lines of a file of the kind that `sample` gives."""
        ...

    def tokenizer_files(self) -> dict[str, str]:
        """Name of the file of each tokenizer, by its role."""
        ...

    def fields(self, model: Any) -> dict[str, object]:
        """The first fields of a signature: what the model is."""
        ...


class Pipeline(Protocol):
    """What every pipeline has."""

    @property
    def model(self) -> nn.Module | None:
        """The model, in evaluation mode; None where there is an engine alone."""
        ...


@dataclass(frozen=True)
class Trained:
    """A trained run, ready for use.

    Attributes
    ----------
    task : Task, or what a file has of one
    pipeline : Pipeline
        What `Task.pipeline` made.
    weights : str
        Which weights were loaded: ``step-1200``, ``mean-of-5-best``.
    start : str or None
        What their training started from, if not from weights that were drawn.
    record : mapping, optional
        What a file says of the model it was made of: ``fields``, ``model`` and ``shortlist``.
    members : tuple of (str, Trained)
        Of several runs that predict together, each with its name; this one's task is then the first's.
    """

    task: Any
    pipeline: Any
    weights: str
    start: str | None = None
    record: Mapping[str, Any] = field(default_factory=dict)
    members: tuple[tuple[str, Trained], ...] = ()

    @property
    def engine(self) -> CompiledModel | None:
        """The compiled model that decodes; None where torch does."""
        pipeline = self.pipeline
        return pipeline.engine if isinstance(pipeline, (TranslationPipeline, LanguagePipeline)) else None

    def signed(self, fields: Mapping[str, object]) -> str:
        """The signature of a number measured with this run; ``fields`` say of what, and come first."""
        if self.members:
            said = [one._identity() for _, one in self.members]
            first, rest = (_together([part[n] for part in said]) for n in (0, 1))
            first = {"ensemble": ",".join(name for name, _ in self.members), **first}
        else:
            first, rest = self._identity()
        return signature(
            {**first, **fields, **{name: value for name, value in rest.items() if name not in fields}}
        )

    def _identity(self) -> tuple[dict[str, object], dict[str, object]]:
        """What the model is, and how it came about and where it is: the first fields and the last."""
        model: nn.Module | None = self.pipeline.model
        engine = self.engine
        where: dict[str, object]
        if model is None:
            assert engine is not None  # a pipeline has one or the other
            first, digest = self.record["fields"], self.record["model"]
            where = {"device": "cpu", "threads": engine.threads}
        else:
            from seqsru.evaluation.environment import weights_hash
            from seqsru.ops.precision import products

            first, digest = self.task.fields(model), weights_hash(model)[:DIGITS]
            device = next(model.parameters()).device
            where = machine(device)
            if device.type == "cuda":
                where["precision"] = "tf32" if products() == "tf32" else "float32"
        decoded: dict[str, object] = {}
        if engine is not None:
            decoded = {
                "engine": "compiled",
                "precision": engine.model.precision,
                "shortlist": self.record.get("shortlist"),
            }
        rest = {
            "weights": self.weights,
            "model": digest,
            "start": self.start,
            "seed": self.task.settings["seed"],
            **decoded,
            **where,
        }
        return dict(first), rest


def _together(parts: Sequence[Mapping[str, object]]) -> dict[str, object]:
    """Fields of several signatures as those of one: a value that all share once, else each in its turn."""
    names = dict.fromkeys(name for part in parts for name in part)
    columns = {name: [part.get(name) for part in parts] for name in names}
    return {
        name: values[0] if len(set(map(str, values))) == 1 else ",".join(str(value) for value in values)
        for name, values in columns.items()
    }


def chosen_files(task: Answering, files: list[Path], split: Split) -> list[Path]:
    """The files that were given, else those of a split of the configuration, which are refused if missing."""
    found = files or task.files(split)
    if not found:
        takes = " and ".join(task.reads)
        do = f"name {takes}, or take --split validation"
        raise Refused(f"data.{split} in the configuration", "none", do)
    return found


# ---- what the answers give -------------------------------------------------------------------------


def headed(measures: Sequence[str], headline: str) -> list[str]:
    """The measures of a task, the one that a run is judged by first, where it is one of them."""
    return sorted(measures, key=lambda name: name != headline)


@dataclass(frozen=True)
class Evaluation:
    """Numbers measured on a text.

    Attributes
    ----------
    lines : list of str
        What is printed: numbers and their signatures.
    values : dict
        The same as JSON.
    items : mapping of str to callable
        Gives for each measure what each line of the text adds to it, the headline first; empty where
        the task's answer names no measures.
    """

    lines: list[str]
    values: dict[str, Any]
    items: Mapping[str, Callable[[], Items]] = field(default_factory=dict)


class Scorer(NamedTuple):
    """How texts are scored.

    Attributes
    ----------
    reads : tuple of str
        The texts that go in side by side, in order; of a single one the default is standard input.
    score : callable
        Called with a list of lines for each; gives log probabilities.
    """

    reads: tuple[str, ...]
    score: Callable[..., list[float]]


class LineTranslator(NamedTuple):
    """How lines are translated: each of the results has ``text``, ``cut``, ``alternatives`` and ``as_dict``.

    Attributes
    ----------
    outputs : int
        Translations a line.
    translate : callable
        Lines to a result a line.
    """

    outputs: int
    translate: Callable[[Sequence[str]], Sequence[Any]]


class Distiller(NamedTuple):
    """How a teacher writes the targets that a student learns from.

    Attributes
    ----------
    fields : mapping
        What a signature says of how it does.
    write : callable
        Lines, and a reference of each or None, to a result a line, which has ``text`` and ``cut``.
    """

    fields: Mapping[str, object]
    write: Callable[[Sequence[str], Sequence[str] | None], Sequence[Any]]
