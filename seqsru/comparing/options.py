"""What a comparison may be asked for: budgets, timing, seeds."""

# Annotations are read at run time: the fields of the dataclasses are the settings of the file.
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

from seqsru.errors import Refused, check_at_least, check_seed, check_threads
from seqsru.settings import shown

Split = Literal["test", "validation"]
Engine = Literal["auto", "compiled", "torch"]

# What is said of trainings that end with a time, whose schedule does not.
CUT = (
    "the schedule goes over all updates, and a training that ends with its time ends before them; with "
    "schedule.over: time, and epochs enough, it goes over the time"
)


@dataclass(frozen=True)
class Budget:
    """How long each training is: one of these.

    Parameters
    ----------
    minutes : float
        Of the clock. Processes that share a machine get less done in them: see processor_minutes.
    processor_minutes : float
        That processors spend: of two at work twice as many.
    updates : int
        Updates of the weights.
    epochs : int
        Passes over the data.
    """

    minutes: float = 0.0
    processor_minutes: float = 0.0
    updates: int = 0
    epochs: int = 0

    def __post_init__(self) -> None:
        """Refuse none, or several."""
        for one in fields(self):
            check_at_least(0, **{one.name: getattr(self, one.name)})
        given = [one.name for one in fields(self) if getattr(self, one.name)]
        if len(given) != 1:
            names = ", ".join(one.name for one in fields(self))
            raise Refused(f"one of {names}, above 0", " and ".join(given) or "none", "give one of them")

    @property
    def unit(self) -> str:
        """The name of the one that is given."""
        return next(one.name for one in fields(self) if getattr(self, one.name))

    @property
    def timed(self) -> bool:
        """Whether it is a time."""
        return bool(self.minutes or self.processor_minutes)

    @property
    def amount(self) -> float:
        """How many."""
        return float(getattr(self, self.unit))

    def grown(self, factor: float) -> "Budget":
        """The budget so many times."""
        whole = [max(1, round(one * factor)) if one else 0 for one in (self.updates, self.epochs)]
        return Budget(self.minutes * factor, self.processor_minutes * factor, *whole)

    def settings(self) -> dict[str, float]:
        """What it is as settings of a training; those of other budgets are switched off."""
        limits = {
            "training.max_minutes": self.minutes,
            "training.max_processor_minutes": self.processor_minutes,
        }
        if self.updates or self.epochs:  # else epochs and steps stay, for the sake of schedules
            limits |= {"training.steps": self.updates, "training.epochs": self.epochs}
        return limits

    def __str__(self) -> str:
        return f"{self.amount:.4g} {self.unit.replace('_', ' ')}"


@dataclass(frozen=True)
class Timing:
    """How latency is measured: batch 1, the systems by turns.

    Parameters
    ----------
    count : int
        Lines of the test, or of the validation.
    rounds : int
        Turns of each system.
    engine : {"auto", "compiled", "torch"}
        What decodes, for all systems alike: auto is the compiled engine where it runs every one of them, else
        torch.
    precision : {"float32", "int8"}
        Of the compiled engine's weights.
    length : int or None
        Tokens that every line is to give; null is each line's own length.
    threads : int
        Of torch.
    """

    count: int = 50
    rounds: int = 3
    engine: Engine = "auto"
    precision: Literal["float32", "int8"] = "float32"
    length: int | None = None
    threads: int = 1

    def __post_init__(self) -> None:
        """Refuse what cannot be measured."""
        check_at_least(1, count=self.count, rounds=self.rounds)
        check_threads(threads=self.threads)
        if self.length is not None:
            check_at_least(2, length=self.length)
        if self.precision == "int8" and self.engine != "compiled":
            raise Refused("engine compiled with int8", self.engine, "set engine to compiled", "precision")


@dataclass(frozen=True)
class Options:
    """A comparison of systems.

    Parameters
    ----------
    output : Path
        Folder of the results; what is there is not done again.
    base : Path
        The settings that all systems share; a file of `seqsru train`.
    seeds : list of int
        A training of each system for each.
    baseline : str or None
        The system that the others are held against, by paired bootstrap.
    goal : float or None
        Value of the validation; the time until a system has it is told, that of processors where the
        budget is.
    depth : str or None
        Setting, such as model.stack.num_layers, that the plots have on their x axis.
    split : {"test", "validation"}
        What the trained systems are measured on.
    jobs : int
        Trainings at once, each with its own threads. More than one only with budgets that they do not take
        from one another, so not with minutes of the clock; tokens/s are those of a machine that is shared.
    measures : tuple of str
        Numbers of that which the table has besides the headline, such as chrf or exact_match.
    """

    output: Path
    base: Path
    seeds: list[int]
    baseline: str | None = None
    goal: float | None = None
    depth: str | None = None
    split: Split = "test"
    jobs: int = 1
    measures: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            found = shown(self.seeds)
            raise Refused("at least one seed, each once", found, "write for example [1, 2, 3]", "seeds")
        for seed in self.seeds:
            check_at_least(0, seeds=seed)
            check_seed(seeds=seed)
        check_at_least(1, jobs=self.jobs)
        if self.output.exists() and not self.output.is_dir():
            raise Refused("a folder", f"the file {self.output}", "name another", "output")
