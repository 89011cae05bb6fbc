"""Settings into a run directory, and back: `train` and `load` are the two ways in.

What may be set is read from the signatures of what the tasks make, so that a new cell, tokenizer, optimizer
or schedule, or a new option of one, needs nothing here; nor does a new task.
"""

# Annotations are read at run time: `RunOptions` and `load` are settings and flags.
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, TypeVar, get_args, overload

import torch
from torch import nn

from seqsru import __version__
from seqsru import settings as strict
from seqsru.cells.stack import trained_already
from seqsru.errors import NotFound, Refused, check_at_least, check_known, check_seed
from seqsru.evaluation.probe import LayerProbe, probe
from seqsru.evaluation.signature import machine, parameters, signature
from seqsru.pipelines import AnyPipeline
from seqsru.settings import (
    Choice,
    Problem,
    Section,
    SettingsError,
    Values,
    from_signature,
    joined,
    registry,
    shown,
)
from seqsru.tasks import TASKS, Task
from seqsru.tasks.task import Tokenizers, Trained
from seqsru.training import (
    OPTIMIZERS,
    SCHEDULES,
    Outcome,
    RunDirectory,
    Trainer,
    TrainingOptions,
    checkpoints,
)
from seqsru.training.weights import load_model, select_average

Device = Literal["auto", "cpu", "cuda"]


@dataclass(frozen=True)
class RunOptions:
    """Where a run goes, and what it starts from.

    Parameters
    ----------
    output : Path
        The run directory; made if needed, and a run that is there goes on.
    seed : int
        Of the weights, the order of the data and every mask; not negative.
    device : {"auto", "cpu", "cuda"}
        Where to compute; auto is a CUDA GPU where there is one, else the CPU.
    """

    output: Path = field(metadata={"may_change": True})
    seed: int = 1
    device: Device = field(default="auto", metadata={"may_change": True})

    def __post_init__(self) -> None:
        """Refuse what cannot be used."""
        if self.output.exists() and not self.output.is_dir():
            raise Refused("a folder", f"the file {self.output}", "name another", "output")
        check_at_least(0, seed=self.seed)
        check_seed(seed=self.seed)

    def start(self) -> torch.device:
        """Seed the generators and choose the device."""
        torch.manual_seed(self.seed)
        return choose_device(self.device)


def choose_device(device: Device) -> torch.device:
    """The device for ``auto``, ``cpu`` or ``cuda``.

    Raises
    ------
    Refused
        If it is ``cuda`` and torch can use none.
    """
    check_known(get_args(Device), device=device)
    if device == "cuda" and not torch.cuda.is_available():
        do = "set device to cpu, or see what `seqsru doctor` says"
        raise Refused("a CUDA GPU for device cuda", "none that torch can use", do, "device")
    return torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")


def schema() -> Choice:
    """Every setting of every task."""
    return Choice(
        {
            name: joined(
                Section({}, task.text),
                from_signature(RunOptions),
                Section(
                    {
                        **task.sections(),
                        "optimizer": registry(OPTIMIZERS, skip=["parameters"]),
                        "schedule": registry(SCHEDULES, skip=["peak"], default="constant"),
                        "training": joined(from_signature(TrainingOptions), task.objective_section()),
                    }
                ),
            )
            for name, task in TASKS.items()
        },
        key="task",
    )


def task_of(settings: Values) -> Task:
    """The task that settings choose, made with them."""
    return TASKS[settings.chosen](settings)


# ---- training --------------------------------------------------------------------------------------


def train(settings: Values, tell: Callable[[str], None]) -> Outcome:
    """Train as the settings say, or go on with the run that is in the output directory.

    Parameters
    ----------
    settings : Values
        From ``seqsru.settings.load(path, schema())``.
    tell : callable
        Is given what a person should know on the way, a line at a time.

    Raises
    ------
    SettingsError
        A value that cannot be used, with its place, or other settings than those the run began with.
    Refused, OSError
        Data that cannot be used.
    """
    rehearse(settings)
    task, run = task_of(settings), RunDirectory(settings["output"])
    with run.exclusive():
        _keep(settings, task, run)
        trainer = _prepared(task, run.path, run, tell)
        tell(f"{parameters(trainer.model)} parameters on {trainer.device.type}, in {run.path}")
        outcome = trainer.fit()
        if outcome.best is not None:
            fields = {
                **task.fields(trainer.model),
                "data": task.data_name("validation"),
                "weights": f"step-{outcome.best_step}",
                "seed": settings["seed"],
                **machine(trainer.device),
            }
            run.write(run.signature, f"{trainer.objective.metric} {outcome.best:.2f}\n{signature(fields)}\n")
    return outcome


def rehearse(settings: Values) -> None:
    """Make every object of a training run once, with a stand-in for the data.

    So a value that one of them refuses is an error with its line before anything is read.

    Raises
    ------
    SettingsError
        There is one, or a data file is not there.
    """
    task, run = task_of(settings), RunDirectory(settings["output"])
    _start(settings)
    _trainer(task, task.stand_in(), task.stand_in_tokenizers(), torch.device("cpu"), run)
    _check_files(settings)


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
        there = all(run.tokenizer(file).is_file() for file in task.tokenizer_files().values())
        return _prepared(task, run.path if there else Path(folder), run, tell)


def _prepared(task: Task, folder: Path, run: RunDirectory, tell: Callable[[str], None]) -> Trainer:
    """A trainer at its first step; tokenizers are taken from the folder, or made and saved there."""
    texts = task.read(tell)
    tokenizers = _tokenizers(task, texts, folder)
    trainer = _trainer(task, texts, tokenizers, _start(task.settings), run)
    if not run.begun:
        task.initialise(trainer.model, tokenizers, tell)
    for line in task.omissions(trainer.objective):
        tell(line)
    return trainer


def _start(settings: Values) -> torch.device:
    options = settings.of(RunOptions)
    with options.blamed():
        device: torch.device = options.make().start()
    return device


def _trainer(
    task: Task, texts: Any, tokenizers: Tokenizers, device: torch.device, run: RunDirectory
) -> Trainer:
    """Everything between data and training loop."""
    settings = task.settings
    model = task.model(tokenizers).to(device)
    objective = task.objective(texts, tokenizers)
    optimizer = settings["optimizer"].make([p for p in model.parameters() if p.requires_grad])
    schedule = settings["schedule"].make(settings["optimizer"]["lr"])
    options = settings["training"].of(TrainingOptions).make()
    return Trainer(model, objective, optimizer, schedule, run, options)


def _tokenizers(task: Task, texts: Any, folder: Path) -> Tokenizers:
    """The run's tokenizers, by role: loaded if they are there, else made and saved."""
    for file in dict.fromkeys(task.tokenizer_files().values()):
        if not RunDirectory(folder).tokenizer(file).is_file():
            task.new_tokenizer(texts, file).save(folder, file)
    return task.load_tokenizers(folder)


def _keep(settings: Values, task: Task, run: RunDirectory) -> None:
    """Write the resolved settings into the run directory, unless the run there began with others.

    Raises
    ------
    SettingsError
        If it did: each setting that differs, with both values.
    """
    if run.config.exists():
        earlier = strict.load(run.config, schema())
        before, now = earlier.lasting(), settings.lasting()
        changed = [name for name in {**before, **now} if before.get(name) != now.get(name)]
        if changed and run.begun:
            raise SettingsError(
                Problem(
                    "",
                    Refused(
                        f"the settings that the run in {run.path} began with",
                        f"{name} {shown(now.get(name))} instead of {shown(before.get(name))}",
                        "choose another output, or put it back",
                    ),
                )
                for name in changed
            )
        if changed:  # it never came to train: nothing of it is worth keeping
            run.forget(task_of(earlier).tokenizer_files().values())
    header = (
        f"# Every setting of this run, as seqsru {__version__} resolved them. `seqsru train` with\n"
        "# this file repeats the run, or goes on with it.\n"
    )
    run.write(run.config, header + strict.dump(settings.plain()))


def _check_files(settings: Values) -> None:
    """Raise a SettingsError naming the line of each data file that is not there."""
    missing = [
        settings.error(Refused(f"a file at {path}", "none", "check the path", name)).problems[0]
        for name, path in settings["data"].flat().items()
        if isinstance(path, Path) and not path.is_file()
    ]
    if missing:
        raise SettingsError(missing)


# ---- a trained run ---------------------------------------------------------------------------------


P = TypeVar("P")


@overload
def load(
    run: str | os.PathLike[str], *, checkpoint: str = "best", average: int = 1, device: Device = "cpu"
) -> AnyPipeline: ...


@overload
def load(
    run: str | os.PathLike[str],
    kind: type[P],
    *,
    checkpoint: str = "best",
    average: int = 1,
    device: Device = "cpu",
) -> P: ...


def load(
    run: str | os.PathLike[str],
    kind: type[Any] | None = None,
    *,
    checkpoint: str = "best",
    average: int = 1,
    device: Device = "cpu",
) -> Any:
    """Load a trained model with its tokenizer.

    Parameters
    ----------
    run : path
        What ``seqsru train`` wrote.
    kind : type, optional
        What it should be, such as `seqsru.pipelines.TranslationPipeline`: a run of another kind is refused,
        and editors and checkers of types know what they have.
    checkpoint : str
        ``best``, ``last`` or a step number.
    average : int
        Take the mean of the weights of so many of the best or last checkpoints; 1 takes one as it is.
    device : {"auto", "cpu", "cuda"}
        Where to compute.

    Returns
    -------
    LanguagePipeline, TranslationPipeline, ClassificationPipeline
        With ``score(lines)`` and ``generate(prompt)``; ``translate(lines)`` and ``score(sources, targets)``;
        ``classify(lines)``.

    Raises
    ------
    FileNotFoundError
        There is no run, or no tokenizer in it.
    ValueError
        A damaged checkpoint or tokenizer, ones that do not belong together, settings that cannot be used, or
        a run of another kind.
    """
    trained = open_run(run, checkpoint=checkpoint, average=average, device=device)
    if kind is not None and not isinstance(trained.pipeline, kind):
        do = f"load it as {type(trained.pipeline).__name__}"
        raise Refused(f"a run that gives a {kind.__name__}", f"one of {trained.task.noun}", do, "kind")
    return trained.pipeline


def open_run(run: str | os.PathLike[str], *, checkpoint: str, average: int, device: Device) -> Trained:
    """Load a run, as `load` does, with what it was trained with."""
    directory = RunDirectory(Path(run))
    if not directory.config.is_file():
        raise NotFound(
            f"a run directory with a {directory.config.name} at {directory.path}",
            "none",
            "check the path, or make one with `seqsru train`",
        )
    task = task_of(strict.load(directory.config, schema()))
    tokenizers = task.load_tokenizers(directory.path)
    chosen = checkpoints.select(directory.checkpoints, checkpoint)
    checkpoints.check_fingerprints(chosen, {role: made.fingerprint for role, made in tokenizers.items()})
    if average == 1:
        tensors, weights = chosen.model(), f"step-{chosen.step}"
    else:
        tensors = select_average(directory.checkpoints, checkpoint, average)
        weights = f"mean-of-{average}-{checkpoint}"
    with torch.random.fork_rng(devices=[]):  # its first weights are thrown away
        with trained_already():
            model: nn.Module = task.model(tokenizers)
    load_model(model, tensors, str(chosen.path))
    model = model.to(choose_device(device)).eval()
    return Trained(task, task.pipeline(model, tokenizers), weights)
