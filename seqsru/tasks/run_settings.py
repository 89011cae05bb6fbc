"""The settings of a run: everything that may be set, read from a file or from a run directory.

What may be set is read from the signatures of what the tasks make, so that a new cell, tokenizer, optimizer
or schedule, or a new option of one, needs nothing here; nor does a new task.
"""

# Annotations are read at run time: `RunOptions` are settings.
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from seqsru import __version__
from seqsru import settings as strict
from seqsru.errors import Refused, check_at_least, check_seed
from seqsru.regular import read
from seqsru.settings import Choice, Section, Values, from_signature, registry
from seqsru.settings import joined as joint
from seqsru.tasks import TASKS
from seqsru.tasks.sharing import several
from seqsru.tasks.start import INHERITED, Start, base_of, no_run
from seqsru.tasks.task import Task
from seqsru.training import AVERAGING, OPTIMIZERS, SCHEDULES, RunDirectory, TrainingOptions
from seqsru.training.processes import Processes, local_rank


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


def settings_of(run: str | os.PathLike[str]) -> Values:
    """Return the settings of a run directory.

    Raises
    ------
    NotFound
        It is none.
    """
    return settings_in(RunDirectory(Path(run)))[0]


def settings_in(directory: RunDirectory) -> tuple[Values, bytes]:
    """The settings of a run directory, and the very bytes that they were read from."""
    if not os.path.lexists(directory.config):
        raise no_run(directory)
    do = "restore it from a copy"
    content = read(directory.config, strict.MOST_BYTES, do, what="the settings of a run")
    return strict.load(strict.File(directory.config, content), schema()), content


def earlier_settings(run: RunDirectory) -> Values | None:
    """The settings that the run in a directory has; None where there are none."""
    return settings_in(run)[0] if run.config.exists() else None


def keep_settings(settings: Values, run: RunDirectory, processes: Processes) -> None:
    """Write the resolved settings into the run directory."""
    if not processes.leads:
        return
    header = (
        f"# Every setting of this run, as seqsru {__version__} resolved them. `seqsru train` with\n"
        "# this file repeats the run, or goes on with it.\n"
    )
    run.keep_config(header + strict.dump(settings.plain()))
