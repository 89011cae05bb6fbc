"""Settings into a run directory, and back: `train` and `load` are the two ways in.

What trains needs torch, which takes a second to import; a file of `quantize` is opened without it.
"""

# Annotations are read at run time: the arguments of `load` and `quantize` are flags.
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from seqsru.data.outputs import check_outputs, write_output
from seqsru.engine.file import SUFFIX, is_package
from seqsru.engine.shortlist import Shortlist
from seqsru.errors import Refused, check_at_least
from seqsru.settings import checked_arguments
from seqsru.tasks import packages
from seqsru.tasks.answers import Answering, Trained
from seqsru.tasks.packages import Precision

if TYPE_CHECKING:
    import torch

    from seqsru.pipelines import AnyPipeline
    from seqsru.tasks.making import check_output as check_output
    from seqsru.tasks.making import count_parameters as count_parameters
    from seqsru.tasks.making import kept_tokenizers as kept_tokenizers
    from seqsru.tasks.making import prepare as prepare
    from seqsru.tasks.making import probe_layers as probe_layers
    from seqsru.tasks.making import rehearse as rehearse
    from seqsru.tasks.run_settings import RunOptions as RunOptions
    from seqsru.tasks.run_settings import choose_device as choose_device
    from seqsru.tasks.run_settings import load_settings as load_settings
    from seqsru.tasks.run_settings import schema as schema
    from seqsru.tasks.run_settings import task_of as task_of
    from seqsru.tasks.train import train as train

    Device = str | torch.device
else:
    Device = str  # as a flag has it

Run = str | os.PathLike[str]
Which = Literal["best", "last"] | int  # checkpoint
EngineName = Literal["auto", "compiled", "torch"]

# Where what needs torch is: importing it takes a second.
_PLACES = {
    "RunOptions": "run_settings",
    "check_output": "making",
    "choose_device": "run_settings",
    "count_parameters": "making",
    "kept_tokenizers": "making",
    "load_settings": "run_settings",
    "prepare": "making",
    "probe_layers": "making",
    "rehearse": "making",
    "schema": "run_settings",
    "task_of": "run_settings",
    "train": "train",
}


def __getattr__(name: str) -> object:
    """Import what needs torch when it is first asked for."""
    if name in _PLACES:
        return getattr(import_module(f"seqsru.tasks.{_PLACES[name]}"), name)
    raise AttributeError(f"module 'seqsru.runs' has no attribute {name!r}")


P = TypeVar("P")


@overload
def load(
    run: Run | Sequence[Run],
    *,
    checkpoint: Which = "best",
    average: int = 1,
    device: Device = "cpu",
    engine: EngineName = "auto",
    precision: Precision | None = None,
    threads: int = 1,
) -> "AnyPipeline": ...


@overload
def load(
    run: Run | Sequence[Run],
    kind: type[P],
    *,
    checkpoint: Which = "best",
    average: int = 1,
    device: Device = "cpu",
    engine: EngineName = "auto",
    precision: Precision | None = None,
    threads: int = 1,
) -> P: ...


def load(
    run: Run | Sequence[Run],
    kind: type[Any] | None = None,
    *,
    checkpoint: Which = "best",
    average: int = 1,
    device: Device = "cpu",
    engine: EngineName = "auto",
    precision: Precision | None = None,
    threads: int = 1,
) -> Any:
    """Load a trained model with its tokenizer.

    Parameters
    ----------
    run : path, or sequence of path
        What ``seqsru train`` wrote, or the file that ``seqsru quantize`` made of it. Several run directories
        of translation models with the same tokenizers are an ensemble, which averages their probabilities and
        searches as the first one does.
    kind : type, optional
        What it should be, such as `seqsru.pipelines.TranslationPipeline`: a run of another kind is refused,
        and editors and checkers of types know what they have.
    checkpoint : {"best", "last"} or int
        The one with the best validation, the newest, or the one after so many updates. Where the run averages
        its weights (`averaging`), the weights of a checkpoint are that average.
    average : int
        Take the mean of the weights of so many of the best or last checkpoints; 1 takes one as it is.
    device : str
        Where to compute: cpu, cuda, cuda:1 and so on, or a torch.device; auto is a CUDA GPU where there is
        one, else the CPU.
    engine : {"auto", "compiled", "torch"}
        What decodes: a whole search in one compiled call, on a CPU, or torch. auto is compiled for a file of
        `seqsru quantize`, else torch: a run directory gives the numbers that its validation gave, to the last
        digit, whether or not the engine can run it and has been compiled here.
    precision : {"float32", "int8"} or None
        Of the compiled engine's weights: as the file has them, float32 for a run directory.
    threads : int
        Batches that the compiled engine decodes at once; torch's threads are torch's own to set.

    Returns
    -------
    LanguagePipeline, TranslationPipeline, ClassificationPipeline, AnsweringPipeline, RecognitionPipeline
        With ``score(lines)`` and ``generate(prompt)``; ``translate(lines)`` and ``score(sources, targets)``;
        ``classify(lines)``; ``answer(questions, paragraphs)``; ``transcribe(files)``.

    Raises
    ------
    FileNotFoundError
        There is no run, or no tokenizer in it.
    ValueError
        A damaged checkpoint or tokenizer, ones that do not belong together, settings that cannot be used, or
        a run of another kind.
    """
    if not (kind is None or isinstance(kind, type)):
        raise Refused("a class of seqsru.pipelines", repr(kind), "name one, or leave it out", "kind")
    opened = open_run if isinstance(run, (str, os.PathLike)) else open_together
    trained = opened(
        run,  # type: ignore[arg-type]  # either takes anything, and says what it does not like
        checkpoint=checkpoint,
        average=average,
        device=_named(device),
        engine=engine,
        precision=precision,
        threads=threads,
    )
    if kind is not None and not isinstance(trained.pipeline, kind):
        do = f"load it as {type(trained.pipeline).__name__}"
        raise Refused(f"a run that gives a {kind.__name__}", f"one of {trained.task.noun}", do, "kind")
    return trained.pipeline


def _named(device: object) -> str:
    """The name of a device; a torch.device has one."""
    torch = sys.modules.get("torch")  # what has not been imported made no device
    if isinstance(device, str) or (torch is not None and isinstance(device, torch.device)):
        return str(device)
    raise Refused("text or a device", repr(device), "change it", "device")


@checked_arguments
def open_run(
    run: str | os.PathLike[str],
    *,
    checkpoint: Which | str,
    average: int,
    device: str,
    engine: EngineName = "auto",
    precision: Precision | None = None,
    threads: int = 1,
) -> Trained:
    """Load a run, as `load` does, with what it was trained with."""
    check_at_least(1, average=average, threads=threads)
    trained = _opened(run, checkpoint, average, device, engine, precision)
    if threads == 1 or trained.engine is None:
        return trained
    shared = replace(trained.engine, threads=threads)
    return replace(trained, pipeline=replace(trained.pipeline, engine=shared))


def open_together(
    runs: Sequence[Run],
    *,
    checkpoint: Which | str,
    average: int,
    device: str,
    engine: EngineName = "auto",
    precision: Precision | None = None,
    threads: int = 1,
) -> Trained:
    """Load several runs as an ensemble, each as `load` does; of one it is that run.

    Raises
    ------
    Refused
        There are none, they do not go together, or another engine than torch is to decode.
    """
    if not isinstance(runs, (list, tuple)) or not all(isinstance(one, (str, os.PathLike)) for one in runs):
        raise Refused("a path, or a list of paths", repr(runs), "name what `seqsru train` wrote", "run")
    if not runs:
        raise Refused("at least one run", "none", "name what `seqsru train` wrote", "run")
    how: dict[str, Any] = {"checkpoint": checkpoint, "average": average, "device": device}
    if len(runs) == 1:
        return open_run(runs[0], **how, engine=engine, precision=precision, threads=threads)
    if engine == "compiled":
        raise Refused("torch for several runs, which alone averages them", engine, "leave it out", "engine")
    if precision is not None:
        expected = "no precision for several runs, which torch decodes"
        raise Refused(expected, precision, "leave it out", "precision")
    for one in runs:
        if is_package(one):
            do = "name the run directory that it was made of"
            raise Refused("run directories for an ensemble", f"the file {os.fspath(one)}", do, "ensemble")
    opened = [open_run(one, **how, engine=engine, threads=threads) for one in runs]
    first, *others = opened
    for one, other in zip(runs[1:], others):
        if type(other.task) is not type(first.task):
            expected = f"runs of {first.task.noun} beside {os.fspath(runs[0])}"
            do = "name runs of one task"
            raise Refused(expected, f"{os.fspath(one)} of {other.task.noun}", do, "ensemble")
    names = [os.fspath(one) for one in runs]
    pipeline = first.task.together(names, [one.pipeline for one in opened])
    members = tuple((Path(os.path.abspath(name)).name, one) for name, one in zip(names, opened))
    return Trained(first.task, pipeline, first.weights, members=members)


def _opened(
    run: str | os.PathLike[str],
    checkpoint: Which | str,
    average: int,
    device: str,
    engine: EngineName,
    precision: Precision | None,
) -> Trained:
    """Load a run directory or a file."""
    compiled = engine == "compiled"
    if compiled and device not in ("cpu", "auto"):
        raise Refused("the device cpu for the compiled engine", device, "take engine torch", "device")
    if is_package(run):
        return _open_file(Path(run), checkpoint, average, device, engine, precision)
    if precision is not None and not compiled:
        raise Refused("engine compiled with a precision", engine, "take it, or leave precision out", "engine")
    from seqsru.tasks.opening import open_trained
    from seqsru.tasks.run_settings import choose_device

    where = choose_device("cpu" if compiled else device)  # before anything is read
    return open_trained(run, str(checkpoint), average, where, (precision or "float32") if compiled else None)


def _open_file(
    path: Path,
    checkpoint: Which | str,
    average: int,
    device: str,
    engine: EngineName,
    precision: Precision | None,
) -> Trained:
    """Open a file of `quantize`, which has one checkpoint in one precision for one engine."""
    trained = packages.opened(path)
    assert trained.engine is not None
    has = trained.engine.model.precision
    for setting, value, expected in (
        ("checkpoint", checkpoint, "best"),
        ("average", average, 1),
        ("device", "cpu" if device == "auto" else device, "cpu"),
        ("engine", engine, "compiled" if engine == "compiled" else "auto"),
        ("precision", precision or has, has),
    ):
        if value != expected:
            do = "leave it out, or name the run directory"
            raise Refused(f"{expected} for the file {path}, which holds one model", value, do, setting)
    return trained


def files_of(run: str | os.PathLike[str], task: Answering) -> list[Path]:
    """Every file of a run, or the one that it was made into, and the texts that its settings name."""
    texts = [path for path in task.settings.flat().values() if isinstance(path, Path)]
    if is_package(run):
        return [Path(run), *texts]
    from seqsru.training import RunDirectory

    return [*RunDirectory(Path(run)).files(task.tokenizer_files().values()), *texts]


def translates(run: str | os.PathLike[str]) -> bool:
    """Say whether a run is a translation model, by its settings."""
    from seqsru.tasks.run_settings import settings_of

    return settings_of(run).chosen == "translation"


def quantize(
    run: str | os.PathLike[str],
    output: str | os.PathLike[str] | None = None,
    *,
    precision: Precision = "int8",
    shortlist: Shortlist | None = None,
    checkpoint: Which | str = "best",
    average: int = 1,
    tell: Callable[[str], None] = lambda line: None,
) -> Path:
    """Make one file of a run, which the compiled engine decodes from on any processor.

    Parameters
    ----------
    run : path
        A trained translation or language model.
    output : path, optional
        The file; RUN.seqsru beside the run where not given.
    precision : {"int8", "float32"}
        Of the weights of products: int8 has one scale an output, and sums that are exact.
    shortlist : Shortlist, optional
        Learn from the training text which target pieces a source can lead to, and score only those.
    checkpoint : {"best", "last"} or int
    average : int
        As for `load`.
    tell : callable
        Is given what a person should know on the way.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    Refused
        A model that the engine does not run, or that is no translation model but has a shortlist.
    """
    trained = open_run(run, checkpoint=checkpoint, average=average, device="cpu", engine="torch")
    path = Path(f"{os.path.abspath(run)}{SUFFIX}") if output is None else Path(output)
    check_outputs({"--output": path}, files_of(run, trained.task))
    content = packages.packed(trained, precision, shortlist, tell)
    write_output(path, content)
    return path
