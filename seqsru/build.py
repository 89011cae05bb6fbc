"""Settings into objects: the only part that knows both. `train` and `load` are the two ways in.

What may be set is read from the signatures of the registries' entries and of what is built, so a new cell,
tokenizer, optimizer or schedule, or a new option of one, needs nothing here.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import torch
from torch import nn

from seqsru import __version__, config
from seqsru.builder import Builder, arguments, made
from seqsru.builders import BUILDERS
from seqsru.config import ConfigError, Settings
from seqsru.data import Tokenizer
from seqsru.data.files import write_whole
from seqsru.evaluation.probe import LayerProbe, probe
from seqsru.evaluation.signature import machine, parameters, signature
from seqsru.schema import Choice, Section, from_signature, registry, shown
from seqsru.training import OPTIMIZERS, SCHEDULES, Outcome, Trainer, checkpoints
from seqsru.training.options import TrainingOptions
from seqsru.training.run_directory import exclusive

CONFIG = "config.yaml"  # names in a run directory
SIGNATURE = "signature.txt"
CHECKPOINTS = "checkpoints"

Device = Literal["auto", "cpu", "cuda"]

# What may differ when a run goes on: where it runs, when it ends and what it keeps, not what it computes.
MAY_CHANGE = {
    "output",
    "device",
    "training.epochs",
    "training.steps",
    "training.max_minutes",
    "training.patience",
    "training.keep",
    "training.keep_best",
    "training.log_every",
    "training.tensorboard",
}


# ---- what may be set -------------------------------------------------------------------------------


def schema() -> Choice:
    """Every setting of every task."""
    tasks = {}
    for name, builder in BUILDERS.items():
        training = from_signature(TrainingOptions)
        tasks[name] = Section(
            {
                **from_signature(start).entries,
                **builder.sections(),
                "optimizer": registry(OPTIMIZERS, skip=["parameters"]),
                "schedule": registry(SCHEDULES, skip=["peak"], default="constant"),
                "training": Section({**training.entries, **builder.task_section().entries}, training.text),
            },
            builder.text,
        )
    return Choice(tasks, key="task")


def start(output: Path, *, seed: int = 1, device: Device = "auto") -> torch.device:
    """Seed the generators and choose the device.

    Parameters
    ----------
    output : Path
        The run directory; made if needed, and a run that is there goes on.
    seed : int
        Of the weights, the order of the data and every mask; not negative.
    device : {"auto", "cpu", "cuda"}
        Where to compute; auto is a CUDA GPU where there is one, else the CPU.
    """
    if output.exists() and not output.is_dir():
        raise ValueError(f"expected a folder for output, found the file {output}; name another")
    if seed < 0:
        raise ValueError(f"expected a seed of at least 0, found {seed}; choose another")
    torch.manual_seed(seed)
    return choose_device(device)


def choose_device(device: str) -> torch.device:
    """The device for ``auto``, ``cpu`` or ``cuda``.

    Raises
    ------
    ValueError
        If it is ``cuda`` and torch can use none.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            "expected a CUDA GPU for device cuda, found none that torch can use; set device to "
            "cpu, or see what `seqsru doctor` says"
        )
    return torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")


# ---- training --------------------------------------------------------------------------------------


def train(settings: Settings, say: Callable[[str], None]) -> Outcome:
    """Train as the settings say, or go on with the run that is in the output directory.

    Parameters
    ----------
    settings : Settings
        From ``config.load(path, schema())``.
    say : callable
        Is given what a person should know on the way, a line at a time.

    Raises
    ------
    ConfigError
        A value that cannot be used, with its place, or other settings than those the run began with.
    ValueError, OSError
        Data that cannot be used.
    """
    rehearse(settings)
    values = settings.values
    builder = BUILDERS[values["task"]]
    directory: Path = values["output"]
    with exclusive(directory):
        _write_config(settings, directory)
        trainer = _prepared(settings, directory, say)
    say(f"{parameters(trainer.model)} parameters on {trainer.device.type}, in {directory}")
    outcome = trainer.fit()
    if outcome.best is not None:
        fields = {
            **builder.fields(values, trainer.model),
            "data": builder.files(values, "valid")[0].name,
            "weights": f"step-{outcome.best_step}",
            "seed": values["seed"],
            **machine(trainer.device),
        }
        best = f"{trainer.task.metric} {outcome.best:.2f}\n{signature(fields)}\n"
        write_whole(directory / SIGNATURE, best.encode())
    return outcome


def probe_layers(settings: Settings, say: Callable[[str], None]) -> list[LayerProbe]:
    """Look at every layer at step 0 of the training that the settings describe; nothing is kept.

    Parameters, errors : those of `train`. Tokenizers that are in the output directory are used.
    """
    rehearse(settings)
    files = BUILDERS[settings.values["task"]].tokenizer_files(settings.values).values()
    output: Path = settings.values["output"]
    with TemporaryDirectory() as folder:
        there = all((output / f"{file}.json").is_file() for file in files)
        trainer = _prepared(settings, output if there else Path(folder), say)
    batch = next(trainer.task.batches(1, 0))
    return probe(trainer.model, lambda: trainer.task.loss(trainer.model, batch, None).loss)


def _prepared(settings: Settings, directory: Path, say: Callable[[str], None]) -> Trainer:
    """A trainer at its first step; tokenizers are taken from the directory, or made and saved there."""
    builder = BUILDERS[settings.values["task"]]
    texts = builder.read(settings.values, say)
    tokenizers = _tokenizers(builder, settings, texts, directory)
    device = start(**arguments(start, settings.values))
    trainer = _trainer(builder, settings, texts, tokenizers, device)
    for line in builder.reports(trainer.task):
        say(line)
    return trainer


def rehearse(settings: Settings) -> None:
    """Make every object of a training run once, with a stand-in for the data.

    So a value that one of them refuses is an error with its line before anything is read.

    Raises
    ------
    ConfigError
        There is one, or a data file is not there.
    """
    values, builder = settings.values, BUILDERS[settings.values["task"]]
    with settings.at(""):
        start(**arguments(start, values))
    files = builder.tokenizer_files(values)
    standing = {file: builder.stand_in_tokenizer(file) for file in files.values()}
    tokenizers: dict[str, Tokenizer] = {role: standing[file] for role, file in files.items()}
    _trainer(builder, settings, builder.stand_in(values), tokenizers, torch.device("cpu"))
    _check_files(settings)


def _trainer(
    builder: Builder,
    settings: Settings,
    texts: object,
    tokenizers: Mapping[str, Tokenizer],
    device: torch.device,
) -> Trainer:
    """Everything between data and training loop."""
    values, at = settings.values, settings.at
    with at("model"):
        model = builder.model(values, tokenizers).to(device)
    task = builder.task(settings, texts, tokenizers)
    with at("optimizer"):
        weights = [p for p in model.parameters() if p.requires_grad]
        optimizer = made(OPTIMIZERS, values["optimizer"], weights)
    with at("schedule"):
        schedule = made(SCHEDULES, values["schedule"], values["optimizer"]["lr"])
    with at("training"):
        options = TrainingOptions(**arguments(TrainingOptions, values["training"]))
    return Trainer(model, task, optimizer, schedule, values["output"], options)


def _tokenizers(builder: Builder, settings: Settings, texts: object, directory: Path) -> dict[str, Tokenizer]:
    """The run's tokenizers, by role: loaded if they are there, else made and saved."""
    files = builder.tokenizer_files(settings.values)
    for file in dict.fromkeys(files.values()):
        if not (directory / f"{file}.json").is_file():
            with settings.at("tokenizer"):
                builder.new_tokenizer(settings.values, texts, file).save(directory, file)
    return builder.load_tokenizers(directory, settings.values)


def _write_config(settings: Settings, directory: Path) -> None:
    """Write the resolved settings into the run directory, unless the run there began with others.

    Raises
    ------
    ConfigError
        If it did: each setting that differs, with both values.
    """
    path = directory / CONFIG
    if path.exists():
        before, now = config.load(path, schema()).flat(), settings.flat()
        changed = [
            name for name in {**before, **now} if name not in MAY_CHANGE and before.get(name) != now.get(name)
        ]
        if changed and checkpoints.paths(directory / CHECKPOINTS):
            raise ConfigError(
                [
                    f"expected the settings that the run in {directory} began with, found {name} "
                    f"{shown(now.get(name))} instead of {shown(before.get(name))}; choose another "
                    "output, or put it back"
                    for name in changed
                ]
            )
        if changed:  # it never came to train: nothing of it is worth keeping
            for tokenizer in directory.glob("*.json"):
                tokenizer.unlink()
    header = (
        f"# Every setting of this run, as seqsru {__version__} resolved them. `seqsru train` with\n"
        "# this file repeats the run, or goes on with it.\n"
    )
    write_whole(path, (header + config.dump(settings.values)).encode())


def _check_files(settings: Settings) -> None:
    """Raise a ConfigError naming the line of each data file that is not there."""
    problems = []
    for name, value in settings.flat().items():
        if name.startswith("data.") and isinstance(value, Path) and not value.is_file():
            message = f"expected a file at {value}, found none; check the path"
            problems += settings.problem(name, message).problems
    if problems:
        raise ConfigError(problems)


# ---- a trained run ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Run:
    """A trained run, ready for use.

    Attributes
    ----------
    settings : Settings
        What it was trained with.
    pipeline : LanguagePipeline or TranslationPipeline
    weights : str
        Which weights were loaded: ``step-1200``, ``mean-of-5-best``.
    """

    settings: Settings
    pipeline: Any
    weights: str

    @property
    def builder(self) -> Builder:
        """What is particular to the run's task."""
        return BUILDERS[self.settings.values["task"]]

    def signed(self, fields: Mapping[str, object]) -> str:
        """The signature of a number measured with this run; ``fields`` say of what, and come first."""
        values, model = self.settings.values, self.pipeline.model
        rest = {"weights": self.weights, "seed": values["seed"], **machine(next(model.parameters()).device)}
        return signature(
            {
                **self.builder.fields(values, model),
                **fields,
                **{name: value for name, value in rest.items() if name not in fields},
            }
        )


def load(run: str | os.PathLike, *, checkpoint: str = "best", average: int = 1, device: Device = "cpu"):
    """Load a trained model with its tokenizer.

    Parameters
    ----------
    run : path
        What ``seqsru train`` wrote.
    checkpoint : str
        ``best``, ``last`` or a step number.
    average : int
        Take the mean of the weights of so many of the best or last checkpoints; 1 takes one as it is.
    device : {"auto", "cpu", "cuda"}
        Where to compute.

    Returns
    -------
    LanguagePipeline or TranslationPipeline
        With ``score(lines)`` and ``generate(prompt)``, or ``translate(lines)`` and
        ``score(sources, targets)``.

    Raises
    ------
    FileNotFoundError
        There is no run, or no tokenizer in it.
    ValueError
        A damaged checkpoint or tokenizer, ones that do not belong together, or settings that cannot be used.
    """
    return open_run(run, checkpoint=checkpoint, average=average, device=device).pipeline


def open_run(run: str | os.PathLike, *, checkpoint: str, average: int, device: Device) -> Run:
    """Load a run, as `load` does, with what it was trained with."""
    folder = Path(run)
    if not (folder / CONFIG).is_file():
        raise FileNotFoundError(
            f"expected a run directory with a {CONFIG} at {folder}, found none; check "
            "the path, or make one with `seqsru train`"
        )
    settings = config.load(folder / CONFIG, schema())
    values = settings.values
    builder = BUILDERS[values["task"]]
    tokenizers = builder.load_tokenizers(folder, values)
    chosen = checkpoints.select(folder / CHECKPOINTS, checkpoint)
    checkpoints.check_fingerprints(chosen, {role: made.fingerprint for role, made in tokenizers.items()})
    if average == 1:
        tensors, weights = chosen.model(), f"step-{chosen.step}"
    else:
        tensors = checkpoints.select_average(folder / CHECKPOINTS, checkpoint, average)
        weights = f"mean-of-{average}-{checkpoint}"
    with torch.random.fork_rng(devices=[]), settings.at("model"):  # its first weights are thrown away
        model: nn.Module = builder.model(values, tokenizers)
    checkpoints.load_model(model, tensors, str(chosen.path))
    model = model.to(choose_device(device)).eval()
    return Run(settings, builder.pipeline(settings, model, tokenizers), weights)
