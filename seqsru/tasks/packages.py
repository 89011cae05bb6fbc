"""A trained run as one file that the engine decodes from, and back."""

from __future__ import annotations

import json
import os
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile, gettempdir
from typing import IO, Any, Literal

import numpy as np
from tqdm import tqdm

from seqsru.data import Tokenizer, load_tokenizer, read_lines
from seqsru.data.files import write_whole
from seqsru.decoding import RULES, Decoding
from seqsru.engine.file import Package, dumps, load
from seqsru.engine.shortlist import AGAIN, Lexicon, Shortlist, train
from seqsru.errors import NO_ROOM, NoRoom, NotInstalled, Refused
from seqsru.evaluation.signature import DIGITS
from seqsru.pipelines import LanguagePipeline, TranslationPipeline
from seqsru.pipelines.compiled import CompiledModel
from seqsru.tasks.answers import Split, Tell, Trained
from seqsru.tasks.kinds import KINDS
from seqsru.tasks.package_record import ROLES, check_record

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
        return source.name, self.lines(source)

    def lines(self, path: Path) -> list[str]:
        """The lines of a file of the kind that `sample` gives."""
        return read_lines(path).lines

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
    try:
        model = lowered(pipeline.model, int8=precision == "int8")
    except Refused as refusal:
        do = "use the run directory itself, which torch decodes from"
        raise Refused(refusal.expected, refusal.found, do, "RUN") from None
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
    check_record(record, path, package.files)
    task = PackedTask(record)
    tokenizers = _loaded_tokenizers(
        path, package, [task.tokenizer_files()[role] for role in ROLES[record["task"]]]
    )
    _check_belong(path, package, tokenizers)
    lexicon = None
    if package.tensors:
        lexicon = Lexicon.from_tensors(
            package.tensors, source_size=model.source_vocabulary, target_size=model.vocabulary
        )
    engine = CompiledModel(model, lexicon)
    pipeline: TranslationPipeline | LanguagePipeline
    if record["task"] == "translation":
        source, target = tokenizers
        decoding = _decoding(path, record["decoding"])
        pipeline = TranslationPipeline(None, source, target, decoding=decoding, engine=engine)
    else:
        pipeline = LanguagePipeline(None, *tokenizers, engine=engine)
    return Trained(task, pipeline, record["weights"], record["start"], record)


def _loaded_tokenizers(path: Path, package: Package, names: list[str]) -> list[Tokenizer]:
    """Load the tokenizers of these names from a file's own files."""
    loaded: dict[str, Tokenizer] = {}
    try:
        with TemporaryDirectory() as folder:
            for name, content in package.files.items():
                write_whole(Path(folder) / Path(name).name, content)
            for name in names:
                if name not in loaded:
                    loaded[name] = load_tokenizer(folder, name)
    except (NotInstalled, NoRoom):  # the latter of the temporary folder
        raise
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError, OSError) as error:
        # A sentence of its own would name a file in a folder that is gone.
        found = f"what cannot be read ({error.found if isinstance(error, Refused) else type(error).__name__})"
        raise Refused(f"tokenizers in {path}", found, AGAIN) from None
    return [loaded[name] for name in names]


def _check_belong(path: Path, package: Package, tokenizers: Sequence[Tokenizer]) -> None:
    """Refuse a model, tokenizers and a shortlist that are not of one run."""
    record, model = package.record, package.model
    translates = len(model.encoder.table) > 0
    if translates != (record["task"] == "translation"):
        noun = KINDS["translation" if translates else "language_model"].noun
        raise Refused(f"{KINDS[record['task']].noun} in {path}", noun, AGAIN)
    sizes = [model.source_vocabulary, model.vocabulary]
    for role, tokenizer, size in zip(ROLES[record["task"]], tokenizers, sizes if translates else sizes[1:]):
        if tokenizer.size != size:
            raise Refused(f"a {role} of the model's {size} types in {path}", tokenizer.size, AGAIN)
    if bool(package.tensors) != (record["shortlist"] is not None):
        wanted, found = ("no shortlist", "one") if package.tensors else ("a shortlist", "none")
        raise Refused(f"{wanted} in {path}, as its record says", found, AGAIN)


def _plain(decoding: Decoding) -> dict[str, Any]:
    """Return a decoding as plain JSON values, each rule as its name and arguments."""
    plain = {one.name: getattr(decoding, one.name) for one in fields(decoding)}
    names = {rule: name for name, rule in RULES.items()}
    plain["rules"] = [[names[type(rule)], vars(rule)] for rule in decoding.rules]
    return plain


def _decoding(path: Path, plain: Mapping[str, Any]) -> Decoding:
    """Return what `_plain` wrote, in the file at a path."""
    try:
        return Decoding(**{**plain, "rules": tuple(RULES[name](**given) for name, given in plain["rules"])})
    except Refused as refusal:
        where = f"decoding.{refusal.setting} in {path}"
        raise Refused(f"{refusal.expected} as {where}", refusal.found, AGAIN) from None


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
    passes = tqdm(total=shortlist.iterations * texts.lines, desc="shortlist", unit="pair", disable=None)
    try:
        with TemporaryFile() as file, passes as bar:
            pairs = _Encoded(zip(texts.source, texts.target), source.encode, target.encode, file, bar.update)
            always = sorted({target.eos, target.unk})
            return train(pairs, source.size, target.size, shortlist, always=always, copies=copies)
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        do = "free some, or have TMPDIR name another folder"
        raise Refused(f"room for the encoded text in {gettempdir()}", str(error.strerror), do) from None


class _Encoded:
    """Pairs of lines as token ids, encoded once and read from a file after that: a text may exceed memory.

    Parameters
    ----------
    pairs : iterator of (source line, target line)
    read, write : callable
        Encode a line of either side.
    file : binary file
        Empty, for reading and writing.
    step : callable
        Called after each pair, each time.
    """

    def __init__(
        self,
        pairs: Iterator[tuple[str, str]],
        read: Callable[[str], list[int]],
        write: Callable[[str], list[int]],
        file: IO[bytes],
        step: Callable[[], object],
    ) -> None:
        self._pairs, self._encode, self._file, self._step = pairs, (read, write), file, step
        self._lengths = array("i"), array("i")

    def __iter__(self) -> Iterator[tuple[Sequence[int], Sequence[int]]]:
        self._file.seek(0)
        for lengths in zip(*self._lengths):
            found = array("i"), array("i")
            for ids, length in zip(found, lengths):
                ids.frombytes(self._file.read(ids.itemsize * length))
            yield found
            self._step()
        for pair in self._pairs:  # of which there are none the second time
            encoded = [array("i", encode(line)) for encode, line in zip(self._encode, pair)]
            for ids, lengths_of_side in zip(encoded, self._lengths):
                self._file.write(ids.tobytes())
                lengths_of_side.append(len(ids))
            yield encoded[0], encoded[1]
            self._step()
