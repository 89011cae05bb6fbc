"""A trained run as one file that the engine decodes from, and back."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np

from seqsru.data import load_tokenizer, read_lines
from seqsru.data.files import write_whole
from seqsru.decoding import RULES, Decoding
from seqsru.engine.file import Package, dumps, load
from seqsru.engine.shortlist import Lexicon, Shortlist, train
from seqsru.errors import Refused
from seqsru.evaluation.signature import DIGITS
from seqsru.pipelines import LanguagePipeline, TranslationPipeline
from seqsru.pipelines.compiled import CompiledModel
from seqsru.tasks.answers import Split, Tell, Trained
from seqsru.tasks.kinds import KINDS

Precision = Literal["float32", "int8"]
SPLITS: tuple[Split, ...] = ("test", "validation")


class PackedTask:
    """What a file has of a task: enough for its answers to the commands; the attributes are those of `Task`.

    Parameters
    ----------
    record : mapping
        What `packed` wrote.
    """

    def __init__(self, record: Mapping[str, Any]) -> None:
        kind = KINDS[record["task"]]
        self.noun, self.reads, self.further, self.answers = kind.noun, kind.reads, kind.further, kind.answers
        self.settings = PlainSettings(record["settings"])
        self._record = record

    def files(self, split: Split) -> list[Path]:
        """The files of a split."""
        return [Path(path) for path in self._record["files"].get(split, ())]

    def data_name(self, split: Split) -> str:
        """What a signature calls a split."""
        return self.files(split)[0].name

    def sample(self) -> tuple[str, list[str]]:
        """A name for some lines that the model is for, and the lines."""
        source, *_ = self.files("test") or self.files("validation")
        return source.name, read_lines(source).lines

    def tokenizer_files(self) -> dict[str, str]:
        """Name of the file of each tokenizer, by its role."""
        return dict(self._record["tokenizers"])

    def fields(self, model: Any) -> dict[str, object]:
        """The first fields of a signature."""
        return dict(self._record["fields"])


class PlainSettings(dict[str, Any]):
    """Settings as plain values."""

    def flat(self) -> dict[str, Any]:
        """The names of files among them by dotted path."""
        return dict(_paths("data", self["data"]))


def _paths(name: str, value: Any) -> Iterator[tuple[str, Path]]:
    if isinstance(value, Mapping):
        for key, below in value.items():
            yield from _paths(f"{name}.{key}", below)
    elif isinstance(value, list):
        for place, below in enumerate(value):
            yield from _paths(f"{name}.{place}", below)
    elif isinstance(value, str) and os.path.isabs(value):
        yield name, Path(value)


def packed(trained: Trained, precision: Precision, shortlist: Shortlist | None, tell: Tell) -> bytes:
    """Return a trained run as the content of a file.

    Parameters
    ----------
    trained : Trained
        A translation or language model.
    precision : {"float32", "int8"}
        Of the weights of products.
    shortlist : Shortlist or None
        Learn from the training text which target pieces a source can lead to; None allows all to every one.
    tell : callable

    Raises
    ------
    Refused
        A model that the engine does not run, or a shortlist where there is none.
    """
    from seqsru.evaluation.environment import weights_hash
    from seqsru.pipelines.lowering import lowered

    task, pipeline = trained.task, trained.pipeline
    model = lowered(pipeline.model, int8=precision == "int8")
    record: dict[str, Any] = {
        "task": task.settings.chosen,
        "settings": json.loads(json.dumps(task.settings.plain(), default=str)),  # paths as text
        "files": {split: [str(path) for path in task.files(split)] for split in SPLITS},
        "tokenizers": task.tokenizer_files(),
        "parameters": sum(parameter.numel() for parameter in pipeline.model.parameters()),
        "fields": task.fields(pipeline.model),
        "weights": trained.weights,
        "model": weights_hash(pipeline.model)[:DIGITS],
        "start": trained.start,
        "shortlist": None,
        "decoding": None,
    }
    if isinstance(pipeline, TranslationPipeline):
        record["decoding"] = _plain(pipeline.decoding)
    tensors: Mapping[str, Any] = {}
    if shortlist is not None:
        tensors = _lexicon(trained, shortlist, tell).tensors()
        record["shortlist"] = f"{shortlist.best}+{shortlist.frequent}"
    files: dict[str, bytes] = {}
    with TemporaryDirectory() as folder:
        for role, file in task.tokenizer_files().items():
            _tokenizers(pipeline)[role].save(folder, file)
        files |= {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}
    return dumps(Package(model, files, tensors, record))


def opened(path: Path) -> Trained:
    """Open a file that `packed` gave the content of; nothing of torch is imported.

    Raises
    ------
    NotFound, Refused
        There is none, or it is damaged.
    """
    package = load(path)
    record, model = package.record, package.model
    task = PackedTask(record)
    with TemporaryDirectory() as folder:
        for name, content in package.files.items():
            write_whole(Path(folder) / Path(name).name, content)
        files = task.tokenizer_files()
        loaded = {file: load_tokenizer(folder, file) for file in dict.fromkeys(files.values())}
    tokenizers = {role: loaded[file] for role, file in files.items()}
    lexicon = None
    if package.tensors:
        lexicon = Lexicon.from_tensors(
            package.tensors, source_size=model.source_vocabulary, target_size=model.vocabulary
        )
    engine = CompiledModel(model, lexicon)
    pipeline: TranslationPipeline | LanguagePipeline
    if record["decoding"] is not None:
        source, target = tokenizers["source tokenizer"], tokenizers["target tokenizer"]
        decoding = _decoding(record["decoding"])
        pipeline = TranslationPipeline(None, source, target, decoding=decoding, engine=engine)
    else:
        pipeline = LanguagePipeline(None, tokenizers["tokenizer"], engine=engine)
    return Trained(task, pipeline, record["weights"], record["start"], record)


def _plain(decoding: Decoding) -> dict[str, Any]:
    """Return a decoding as plain JSON values, each rule as its name and arguments."""
    plain = {one.name: getattr(decoding, one.name) for one in fields(decoding)}
    names = {rule: name for name, rule in RULES.items()}
    plain["rules"] = [[names[type(rule)], vars(rule)] for rule in decoding.rules]
    return plain


def _decoding(plain: Mapping[str, Any]) -> Decoding:
    """Return what `_plain` wrote."""
    return Decoding(**{**plain, "rules": tuple(RULES[name](**given) for name, given in plain["rules"])})


def _tokenizers(pipeline: Any) -> dict[str, Any]:
    """Return a pipeline's tokenizers by their roles in the task."""
    if isinstance(pipeline, TranslationPipeline):
        return {
            "source tokenizer": pipeline.source_tokenizer,
            "target tokenizer": pipeline.target_tokenizer,
        }
    assert isinstance(pipeline, LanguagePipeline)
    return {"tokenizer": pipeline.tokenizer}


def _lexicon(trained: Trained, shortlist: Shortlist, tell: Tell) -> Lexicon:
    """Learn the shortlist of a translation model from its training text."""
    pipeline = trained.pipeline
    if not isinstance(pipeline, TranslationPipeline):
        do = "leave it out: a language model has no source that could tell"
        raise Refused("a translation model with a shortlist", trained.task.noun, do, "shortlist")
    source, target = pipeline.source_tokenizer, pipeline.target_tokenizer
    texts = trained.task.read(tell).train
    labels = {label: number for number, label in enumerate(target.labels(range(target.size)))}
    copies = np.array([labels.get(label, -1) for label in source.labels(range(source.size))], np.int64)
    pairs = _Encoded(texts.source, texts.target, source.encode, target.encode)
    return train(
        pairs, source.size, target.size, shortlist, always=sorted({target.eos, target.unk}), copies=copies
    )


class _Encoded:
    """Pairs of lines as token ids, encoded anew each time that they are gone through."""

    def __init__(self, sources: Any, targets: Any, read: Any, write: Any) -> None:
        self.sides, self.encode = (sources, targets), (read, write)

    def __iter__(self) -> Iterator[tuple[list[int], list[int]]]:
        for source, target in zip(*self.sides):
            yield self.encode[0](source), self.encode[1](target)
