"""Settings into a run directory, and back into a trained model: what `seqsru.runs` gives to everyone.

What may be set is read from the signatures of what the tasks make, so that a new cell, tokenizer, optimizer
or schedule, or a new option of one, needs nothing here; nor does a new task.
"""

# Annotations are read at run time: `RunOptions` are settings.
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import torch
from torch import nn

from seqsru import __version__
from seqsru import settings as strict
from seqsru.cells.stack import trained_already
from seqsru.errors import Refused, check_at_least, check_seed
from seqsru.evaluation.environment import weights_hash
from seqsru.evaluation.probe import LayerProbe, probe
from seqsru.evaluation.signature import signature
from seqsru.ops.precision import check_precision
from seqsru.pipelines.compiled import CompiledModel
from seqsru.pipelines.lowering import lowered
from seqsru.regular import read
from seqsru.settings import (
    Choice,
    Section,
    Values,
    from_signature,
    registry,
)
from seqsru.settings import joined as joint
from seqsru.tasks import TASKS
from seqsru.tasks.checks import check_files, check_size, check_vocabulary
from seqsru.tasks.sharing import several
from seqsru.tasks.start import INHERITED, Start, base_of, check_start, no_run
from seqsru.tasks.task import Task, Tokenizers, Trained
from seqsru.training import (
    AVERAGING,
    OPTIMIZERS,
    SCHEDULES,
    RunDirectory,
    Trainer,
    TrainingOptions,
    checkpoints,
)
from seqsru.training.covered import check_covered, config_sums
from seqsru.training.processes import ALONE, Processes, local_rank
from seqsru.training.weights import load_model, model_tensors, select_average


@dataclass(frozen=True)
class RunOptions:
    """Where a run goes, and what it starts from.

    Parameters
    ----------
    output : Path
        The run directory; made if needed, and a run that is there goes on.
    seed : int
        Of the weights, the order of the data and every mask; not negative.
    device : str
        Where to compute: cpu, cuda, cuda:1 and so on; auto is a CUDA GPU where there is one, else the CPU.
    cache : Path or None
        Folder where the encoded text of large corpora is kept for the next start; it may be deleted at any
        time, and shared by runs. Null is $XDG_CACHE_HOME/seqsru/texts, by default ~/.cache/seqsru/texts.
    """

    output: Path = field(metadata={"may_change": True})
    seed: int = 1
    device: str = field(default="auto", metadata={"may_change": True})
    cache: Path | None = field(default=None, metadata={"may_change": True})

    def __post_init__(self) -> None:
        """Refuse what cannot be used."""
        if self.output.exists() and not self.output.is_dir():
            raise Refused("a folder", f"the file {self.output}", "name another", "output")
        if self.cache is not None and self.cache.exists() and not self.cache.is_dir():
            raise Refused("a folder", f"the file {self.cache}", "name another", "cache")
        check_at_least(0, seed=self.seed)
        check_seed(seed=self.seed)

    def start(self) -> torch.device:
        """Seed the generators and choose the device."""
        torch.manual_seed(self.seed)
        return choose_device(self.device)


def choose_device(device: str | torch.device) -> torch.device:
    """The device for ``auto``, ``cpu``, ``cuda``, or ``cuda:1`` and so on.

    Without a number each of several processes takes the GPU of its own number.

    Raises
    ------
    Refused
        If it is none of these, or a GPU that torch cannot use.
    """
    name = str(device)
    if several() and torch.cuda.is_available() and name in ("auto", "cuda"):
        name = f"cuda:{local_rank()}"
    if not re.fullmatch(r"auto|cpu(:0)?|cuda(:(0|[1-9][0-9]{0,3}))?", name):
        do = "write cuda for a GPU, cuda:1 for the second one"
        raise Refused("auto, cpu, cuda or cuda:N", repr(name), do, "device")
    there = torch.cuda.is_available()
    if name.startswith("cpu") or (name == "auto" and not there):
        return torch.device("cpu")
    if not there:
        do = "set device to cpu, or see what `seqsru doctor` says"
        raise Refused(f"a CUDA GPU for device {name}", "none that torch can use", do, "device")
    number = name.partition(":")[2]
    if number and int(number) >= (count := torch.cuda.device_count()):
        do = "count from 0, and see what `seqsru doctor` says"
        raise Refused(f"one of the {count} CUDA GPUs that torch can use", repr(name), do, "device")
    return torch.device("cuda" if name == "auto" else name)


def schema() -> Choice:
    """Every setting of every task."""
    return Choice(
        {
            name: joint(
                Section({}, task.text),
                from_signature(RunOptions),
                Section(
                    {
                        "start_from": from_signature(Start, optional=True),
                        **task.sections(),
                        "optimizer": registry(OPTIMIZERS, skip=["parameters"]),
                        "schedule": registry(SCHEDULES, skip=["peak"], default="constant"),
                        "averaging": registry(AVERAGING, default="none"),
                        "training": joint(from_signature(TrainingOptions), task.objective_section()),
                    }
                ),
            )
            for name, task in TASKS.items()
        },
        key="task",
    )


def load_settings(
    path: Path | strict.File,
    overrides: Iterable[str | strict.Override] = (),
    known: Choice | None = None,
) -> Values:
    """Read the settings of a run from its YAML file.

    Where it starts from another run, what it leaves out of model and tokenizer is the other's; once it has
    begun, its own.

    Parameters
    ----------
    path : Path or File
    overrides : iterable of str or Override
        ``key.path=value``.
    known : Choice, optional
        What `schema` gives, for who reads many.

    Raises
    ------
    SettingsError
        As `seqsru.settings.load`; also if the other run is needed and not there.
    """
    overrides, known = list(overrides), known or schema()
    file = path if isinstance(path, strict.File) else strict.File(path)
    base = base_of(file, known, overrides)
    return strict.load(file, known, overrides, base=base, inherited=INHERITED)


def task_of(settings: Values) -> Task:
    """The task that settings choose, made with them."""
    return TASKS[settings.chosen](settings)


# ---- training --------------------------------------------------------------------------------------


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


def earlier_settings(run: RunDirectory) -> Values | None:
    """The settings that the run in a directory has; None where there are none."""
    return _settings_in(run)[0] if run.config.exists() else None


def keep_settings(settings: Values, run: RunDirectory, processes: Processes) -> None:
    """Write the resolved settings into the run directory."""
    if not processes.leads:
        return
    header = (
        f"# Every setting of this run, as seqsru {__version__} resolved them. `seqsru train` with\n"
        "# this file repeats the run, or goes on with it.\n"
    )
    run.keep_config(header + strict.dump(settings.plain()))


# ---- a trained run ---------------------------------------------------------------------------------


def settings_of(run: str | os.PathLike[str]) -> Values:
    """Return the settings of a run directory.

    Raises
    ------
    NotFound
        It is none.
    """
    return _settings_in(RunDirectory(Path(run)))[0]


def _settings_in(directory: RunDirectory) -> tuple[Values, bytes]:
    """The settings of a run directory, and the very bytes that they were read from."""
    if not os.path.lexists(directory.config):
        raise no_run(directory)
    do = "restore it from a copy"
    content = read(directory.config, strict.MOST_BYTES, do, what="the settings of a run")
    return strict.load(strict.File(directory.config, content), schema()), content


def open_trained(
    run: str | os.PathLike[str],
    checkpoint: str,
    average: int,
    device: torch.device,
    compiled: Literal["float32", "int8"] | None = None,
) -> Trained:
    """Load a run directory with what it was trained with; see `seqsru.runs.load`.

    Parameters
    ----------
    run : path
    checkpoint : str
    average : int
    device : torch.device
    compiled : {"float32", "int8"} or None
        Decode with the engine, in this precision; None decodes with torch.
    """
    directory, which = RunDirectory(Path(run)), checkpoint
    settings, config = _settings_in(directory)
    task = task_of(settings)
    chosen = checkpoints.select(directory.checkpoints, which)
    tokenizers = task.load_tokenizers(directory.path)
    checkpoints.check_fingerprints(chosen, {role: made.fingerprint for role, made in tokenizers.items()})
    sums = directory.sums_now(task.tokenizer_files().values())
    check_covered(chosen, sums | config_sums(config), directory.path)
    check_size(task, tokenizers)
    if average == 1:
        tensors, weights = chosen.model(), checkpoints.weights_name(chosen)
    else:
        tensors = select_average(directory.checkpoints, which, average)
        weights = f"mean-of-{average}-{which}"
    chosen.release()
    with torch.random.fork_rng(devices=[]):  # its first weights are thrown away
        with trained_already():
            model: nn.Module = task.model(tokenizers)
    load_model(model, tensors, str(chosen.path))
    model = model.to(device).eval()
    made = None if compiled is None else CompiledModel(lowered(model, int8=compiled == "int8"))
    pipeline: Any = task.pipeline(model, tokenizers)
    if made is not None:
        pipeline = replace(pipeline, engine=made)
    return Trained(task, pipeline, weights, chosen.record.get("start"))
