"""A trained run as one file that the engine decodes from, and back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np

from seqsru.data import load_tokenizer
from seqsru.engine.file import Package, dumps, load
from seqsru.engine.shortlist import Lexicon, Shortlist, train
from seqsru.errors import Refused
from seqsru.evaluation.environment import weights_hash
from seqsru.evaluation.signature import DIGITS
from seqsru.pipelines import LanguagePipeline, TranslationPipeline
from seqsru.pipelines.compiled import CompiledModel
from seqsru.pipelines.lowering import lowered
from seqsru.tasks.task import Task, Tell, Trained

Precision = Literal["float32", "int8"]
TaskOf = Callable[[bytes], Task]  # a run's config.yaml to its task
CONFIG = "config.yaml"


def packed(
    trained: Trained, config: bytes, precision: Precision, shortlist: Shortlist | None, tell: Tell
) -> bytes:
    """Return a trained run as the content of a file.

    Parameters
    ----------
    trained : Trained
        A translation or language model.
    config : bytes
        Its config.yaml.
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
    task, pipeline = trained.task, trained.pipeline
    model = lowered(pipeline.model, int8=precision == "int8")
    record = {
        "parameters": sum(parameter.numel() for parameter in pipeline.model.parameters()),
        "fields": task.fields(pipeline.model),
        "weights": trained.weights,
        "model": weights_hash(pipeline.model)[:DIGITS],
        "start": trained.start,
        "shortlist": None,
    }
    tensors: Mapping[str, Any] = {}
    if shortlist is not None:
        tensors = _lexicon(trained, shortlist, tell).tensors()
        record["shortlist"] = f"{shortlist.best}+{shortlist.frequent}"
    files = {CONFIG: config}
    with TemporaryDirectory() as folder:
        for role, file in task.tokenizer_files().items():
            _tokenizers(pipeline)[role].save(folder, file)
        files |= {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}
    return dumps(Package(model, files, tensors, record))


def opened(path: Path, task_of: TaskOf, threads: int = 1) -> Trained:
    """Open a file that `packed` gave the content of.

    Raises
    ------
    NotFound, Refused
        There is none, or it is damaged.
    """
    package = load(path)
    task = task_of(package.files[CONFIG])
    with TemporaryDirectory() as folder:
        for name, content in package.files.items():
            (Path(folder) / Path(name).name).write_bytes(content)
        tokenizers = {role: load_tokenizer(folder, file) for role, file in task.tokenizer_files().items()}
    lexicon = None
    if package.tensors:
        model = package.model
        lexicon = Lexicon.from_tensors(
            package.tensors, source_size=model.source_vocabulary, target_size=model.vocabulary
        )
    engine = CompiledModel(package.model, lexicon, threads)
    pipeline = task.pipeline(None, tokenizers, engine=engine)
    record = package.record
    return Trained(task, pipeline, record["weights"], record["start"], record)


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
