"""A training made of its settings: the data, the tokenizers, the model and the trainer at its first step."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from seqsru.errors import Refused
from seqsru.evaluation.environment import weights_hash
from seqsru.evaluation.probe import LayerProbe, probe
from seqsru.evaluation.signature import signature
from seqsru.ops.precision import check_precision
from seqsru.settings import Values
from seqsru.tasks.checks import check_files, check_size, check_vocabulary
from seqsru.tasks.opening import open_trained
from seqsru.tasks.run_settings import RunOptions, task_of
from seqsru.tasks.start import Start, check_start
from seqsru.tasks.task import Task, Tokenizers, Trained
from seqsru.training import RunDirectory, Trainer, TrainingOptions
from seqsru.training.processes import ALONE, Processes
from seqsru.training.weights import load_model, model_tensors


def rehearse(settings: Values) -> None:
    """Make every object of a training run once, with a stand-in for the data.

    So a value that one of them refuses is an error with its line before anything is read.

    Raises
    ------
    SettingsError
        There is one, or a data file is not there.
    """
    task, run = task_of(settings), RunDirectory(settings["output"])
    device = _start(settings)
    with settings["training"].blamed():
        check_precision(settings["training"]["precision"], device)
    if task.settings["start_from"] is None:
        for file in dict.fromkeys(task.tokenizer_files().values()):
            if not run.tokenizer(file).is_file():  # else it is that one, and where it came from may be gone
                task.check_tokenizer(file)
    check_size(task, task.stand_in_tokenizers())
    check_vocabulary(task)
    _trainer(task, task.stand_in(), task.stand_in_tokenizers(), torch.device("cpu"), run, {})
    check_files(settings)
    if not run.begun:
        _started_from(task)


def check_output(settings: Values) -> None:
    """Refuse to train into a folder that holds something of somebody's under one of a run's names.

    Raises
    ------
    SettingsError
        It does: each such name.
    """
    with settings.blamed("output"):
        RunDirectory(settings["output"]).check_own(task_of(settings).tokenizer_files().values())


def probe_layers(settings: Values, tell: Callable[[str], None]) -> list[LayerProbe]:
    """Look at every layer at step 0 of the training that the settings describe; nothing is kept.

    Parameters, errors : those of `train`. Tokenizers that are in the output directory are used.
    """
    trainer = prepare(settings, tell)
    batch = next(trainer.objective.batches(1, 0))
    return probe(trainer.model, lambda: trainer.objective.loss(trainer.model, batch, None).loss)


def prepare(settings: Values, tell: Callable[[str], None]) -> Trainer:
    """A trainer at its first step, for who looks into a training; tokenizers are kept nowhere.

    Parameters, errors : those of `train`. Tokenizers that are in the output directory are used.
    """
    rehearse(settings)
    task, run = task_of(settings), RunDirectory(settings["output"])
    with TemporaryDirectory() as folder:
        fresh = task.settings["start_from"] is not None and not run.begun  # it has those of the other run
        there = not fresh and all(run.tokenizer(file).is_file() for file in task.tokenizer_files().values())
        return prepared(task, run.path if there else Path(folder), run, tell, {})


def prepared(
    task: Task,
    folder: Path,
    run: RunDirectory,
    tell: Callable[[str], None],
    kept: dict[str, Any],
    processes: Processes = ALONE,
) -> Trainer:
    """A trainer at its first step; tokenizers are taken from the folder, or made and saved there.

    In ``kept`` is noted what it started from, if that is another run.
    """
    earlier = None if run.begun else _started_from(task)
    texts = task.read(tell)
    tokenizers = _tokenizers(task, texts, folder, earlier, tell, processes)
    trainer = _trainer(task, texts, tokenizers, _start(task.settings, processes), run, kept, processes)
    if earlier is not None:
        path, other = task.settings["start_from"]["run"], earlier.pipeline.model
        load_model(trainer.model, model_tensors(other), str(path))
        digest = weights_hash(other)
        kept["start"] = f"{path.name},{earlier.weights},{digest}"
        trainer.notes.append(
            f"starts from the weights {earlier.weights} of {path} (sha256 {digest}), and with its tokenizers"
        )
    elif not run.begun:
        task.initialise(trainer.model, tokenizers, tell)
    for line in (*task.omissions(trainer.objective), *trainer.objective.notes):
        tell(line)
    return trainer


def _start(settings: Values, processes: Processes = ALONE) -> torch.device:
    options = settings.of(RunOptions)
    with options.blamed():
        device: torch.device = options.make().start()
        if processes.several and ":" in settings["device"]:
            do = "set it to cuda, or to auto: each process takes the GPU of its number"
            raise Refused("no number of a GPU for several processes", repr(settings["device"]), do, "device")
    return device


def _trainer(
    task: Task,
    texts: Any,
    tokenizers: Tokenizers,
    device: torch.device,
    run: RunDirectory,
    kept: dict[str, Any],
    processes: Processes = ALONE,
) -> Trainer:
    """Everything between data and training loop."""
    settings = task.settings
    model = task.model(tokenizers).to(device)
    objective = task.objective(texts, tokenizers)
    optimizer = settings["optimizer"].make([(n, p) for n, p in model.named_parameters() if p.requires_grad])
    schedule = settings["schedule"].make(settings["optimizer"]["lr"])
    options = settings["training"].of(TrainingOptions).make()
    averaging = settings["averaging"].make()
    return Trainer(model, objective, optimizer, schedule, run, options, kept, processes, averaging)


def _started_from(task: Task) -> Trained | None:
    """The run that a new one starts from, which its settings fit; None where it starts by itself."""
    start = task.settings["start_from"]
    if start is None:
        return None
    with start.blamed("run"):
        options: Start = start.make()
        signature({"start": options.run.name})  # asked before the work
        found = open_trained(options.run, str(options.checkpoint), options.average, torch.device("cpu"))
    check_start(task, found)
    return found


def _tokenizers(
    task: Task,
    texts: Any,
    folder: Path,
    earlier: Trained | None,
    tell: Callable[[str], None],
    processes: Processes,
) -> Tokenizers:
    """The run's tokenizers, by role: those of a run that it starts from, or loaded, or made and saved."""

    def make() -> None:
        if earlier is not None:
            for role, made in earlier.task.load_tokenizers(task.settings["start_from"]["run"]).items():
                made.save(folder, task.tokenizer_files()[role])
        for file in dict.fromkeys(task.tokenizer_files().values()):
            if not RunDirectory(folder).tokenizer(file).is_file():
                task.new_tokenizer(texts, file, tell).save(folder, file)

    processes.first(make)
    return task.load_tokenizers(folder)


def kept_tokenizers(settings: Values, folder: Path, tell: Callable[[str], None]) -> Tokenizers:
    """The tokenizers that a new training would make, by role, kept in a folder from one call to the next."""
    task, run = task_of(settings), RunDirectory(folder)
    if all(run.tokenizer(file).is_file() for file in task.tokenizer_files().values()):
        return task.load_tokenizers(folder)
    return _tokenizers(task, task.read(tell), folder, _started_from(task), tell, ALONE)


def count_parameters(settings: Values, tokenizers: Tokenizers) -> int:
    """How many numbers the model of the settings trains, each shared one once; none of them is made."""
    with torch.device("meta"):
        model = task_of(settings).model(tokenizers)
    return sum(p.numel() for p in model.parameters())
