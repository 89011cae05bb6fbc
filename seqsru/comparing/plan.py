"""Everything that a comparison trains, with all of its settings, known before anything is trained."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seqsru import runs
from seqsru import settings as strict
from seqsru.comparing.identity import machine
from seqsru.comparing.options import Budget
from seqsru.comparing.search import order, trial_values
from seqsru.comparing.spec import Spec
from seqsru.comparing.widths import Width, solved
from seqsru.errors import Refused, did_you_mean
from seqsru.evaluation.signature import DIGITS
from seqsru.settings import Override, Values
from seqsru.settings.places import Node
from seqsru.tasks.going_on import file_sums

# Settings that change no number: where things go, and what is kept and told.
IDLE = ("output", "cache", "training.keep", "training.keep_best", "training.tensorboard")

# What a test number depends on besides the texts of the test and the flags of the evaluation.
MEASURED = (
    "data.folds",
    "data.fold",
    "data.split_seed",
    "training.validation_metric",
    "training.validation_state",
    "training.validation_tokenize",
    "training.f1_tokens",
)


@dataclass(frozen=True)
class Job:
    """One training.

    Attributes
    ----------
    name : str
        Its folder, below the output.
    system : str
    seed : int
    settings : Values
    parameters : int
    width : int or None
        What was solved for.
    """

    name: str
    system: str
    seed: int
    settings: Values
    parameters: int
    width: int | None

    @property
    def label(self) -> str:
        """What a line of a plot over depth is of: the cells, or the system where its model has none."""
        cells = [str(one) for name, one in self.settings.flat().items() if name.endswith("cell.name")]
        return " + ".join(dict.fromkeys(cells)) or self.system

    def what(self) -> dict[str, Any]:
        """All settings that its numbers depend on, as JSON has them."""
        flat = {name: value for name, value in self.settings.flat().items() if name not in IDLE}
        # A file is its content: a training on another text is another training.
        flat |= {f"sha256 of {name}": digest[:DIGITS] for name, digest in file_sums(self.settings).items()}
        plain: dict[str, Any] = json.loads(json.dumps(flat, default=str))
        return plain


class Plan:
    """The trainings of a comparison.

    Parameters
    ----------
    spec : Spec
    tokenizers : Path
        Folder where tokenizers are kept, which sizes depend on.
    tell : callable
        Is given what a person should know, a line at a time.
    """

    def __init__(self, spec: Spec, tokenizers: Path, tell: Callable[[str], None]) -> None:
        self.spec, self.tell = spec, tell
        self._folder = tokenizers
        self._tokenizers: dict[str, Any] = {}
        self._widths: dict[str, Width] = {}
        self._jobs: dict[str, Job] = {}
        self._size: int | None = None if spec.size is None else spec.size.count

    def runs(self, system: str, found: Mapping[str, Any]) -> list[Job]:
        """The trainings of a system that count, one a seed.

        Parameters
        ----------
        system : str
        found : mapping
            What the search found, by setting; empty without one.
        """
        more = [*self._as_overrides(found), *self.spec.within_budget(self.spec.budget)]
        return [self._job(f"runs/{system}-{seed}", system, seed, more) for seed in self.spec.options.seeds]

    def trial(self, system: str, number: int, rung: int, budget: Budget) -> Job:
        """A trial of a search, up to the end of a round, from 1."""
        search = self.spec.search
        assert search is not None
        name = f"search/{system}-{number}"
        more = [*self._as_overrides(self.values(number)), *self.spec.within_budget(budget)]
        job = self._job(name, system, search.seed, more)
        if rung > 1 and not self.spec.goes_on(job.settings):
            job = self._job(f"search/round-{rung}/{system}-{number}", system, search.seed, more)
        return job

    def values(self, number: int) -> dict[str, Any]:
        """What a trial sets, by setting."""
        assert self.spec.search is not None
        return trial_values(self.spec.drawn, self.spec.search.seed, number)

    def check(self) -> None:
        """Make everything of every training once, with a stand-in for the data.

        Raises
        ------
        SettingsError, Refused
            What cannot be trained, with its place; systems on different machines or of different tasks.
        """
        spec, firsts = self.spec, dict[int, Job]()
        for system in spec.systems:
            searched = (
                [{}] if spec.search is None else [self.values(n + 1) for n in range(spec.search.trials)]
            )
            for values in searched:
                # Seeds differ in nothing else that could be refused, unless the file says so.
                for job in self.runs(system, values)[: None if spec.by_seed else 1]:
                    runs.rehearse(job.settings)
                    self._check_like(firsts.setdefault(job.seed, job), job)
            if spec.search is not None:
                budget = spec.search.rungs()[0][1]
                runs.rehearse(self.trial(system, 1, 1, budget).settings)
                self._check_drawn(system)
        first = next(iter(firsts.values()))
        depth = spec.options.depth
        if depth is not None:
            for system in spec.systems:
                self.depth(self.runs(system, searched[0])[0], depth)
        task = runs.task_of(first.settings)
        if not task.answers["evaluate"].measures:
            do = "take a base of another task"
            raise spec.values.error(Refused("a task that tells the shares of lines", task.noun, do, "base"))
        if spec.options.split == "test" and not task.has_test():
            found = Refused(
                "data.test in the settings", "none", "name it, or set split to validation", "split"
            )
            raise spec.values.error(found)

    def _check_drawn(self, system: str) -> None:
        """Refuse what a trial could draw and the system cannot have, whether or not one draws it."""
        for name, drawn in self.spec.drawn.items():
            ends = [int(end) if drawn.whole else end for end in (drawn.low, drawn.high)]
            for value in drawn.values or ends:
                one = Override(name, _node(value, drawn.place))
                seed = self.spec.options.seeds[0]
                runs.rehearse(self.spec.settings(system, seed, "runs/none", one))

    def depth(self, job: Job, name: str) -> float:
        """The value of the setting that the plots have on their x axis."""
        value = job.settings.flat().get(name)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return float(value)
        found = f"{strict.shown(value)} in {job.system}"
        raise self.spec.values.error(
            Refused("the name of a setting that is a number", found, "change it", "depth")
        )

    def _check_like(self, first: Job, job: Job) -> None:
        """Refuse a system that cannot be put beside another."""
        spec = self.spec
        if job.settings.chosen != first.settings.chosen:
            place = job.settings.places.get("task", str(spec.path))
            expected = f"the task of {first.system}, {first.settings.chosen}"
            raise strict.refuse(place, expected, job.settings.chosen, "compare systems of one task", "task")
        if machine(job.settings) != machine(first.settings):
            where = ("training.threads", "device")
            name = next(n for n in where if job.settings.flat()[n] != first.settings.flat()[n])
            places = {**first.settings.places, **job.settings.places}
            place = first.settings.places.get(name, places.get(name, str(spec.path)))
            expected = f"one device and number of threads for all, as {first.system} has them"
            raise strict.refuse(
                place, expected, strict.shown(job.settings.flat()[name]), "set it for all", name
            )
        self._check_measure(first, job)

    def _check_measure(self, first: Job, job: Job) -> None:
        """Refuse a system that is measured on something else, or in another way."""
        own, others = job.settings.flat(), first.settings.flat()
        for name in {**others, **own}:
            if name not in MEASURED and not name.startswith(("data.test", "data.validation")):
                continue
            if own.get(name) != others.get(name):
                places = {**first.settings.places, **job.settings.places}
                expected = f"{strict.shown(others.get(name))}, by which {first.system} is measured"
                found = f"{strict.shown(own.get(name))} in {job.system}"
                do = "measure all systems alike"
                raise strict.refuse(places.get(name, str(self.spec.path)), expected, found, do, name)

    def _as_overrides(self, values: Mapping[str, Any]) -> list[Override]:
        return [Override(name, _node(value, self.spec.drawn[name].place)) for name, value in values.items()]

    def _job(self, name: str, system: str, seed: int, more: list[Override]) -> Job:
        """A training with its width."""
        spec, width = self.spec, None
        key = json.dumps([name, [(one.path, one.node.plain()) for one in more]])
        if key in self._jobs:
            return self._jobs[key]
        if spec.size is not None and (system != spec.size.like or self._resized(system, seed, more)):
            width = self._width(system, seed, more)
            place = spec.values.places["parameters.by"]
            more = [*more, *(Override(by, Node(width.width, place)) for by in spec.size.by)]
        settings = spec.settings(system, seed, name, *more)
        parameters = width.parameters if width is not None else self._count(settings)
        job = Job(name, system, seed, settings, parameters, None if width is None else width.width)
        self._jobs[key] = job
        return job

    def _wanted(self) -> int:
        """How many parameters each system has: as many as one has by itself, if the file gives no number."""
        size = self.spec.size
        assert size is not None
        if self._size is None:
            assert size.like is not None
            itself = self.spec.settings(size.like, self.spec.options.seeds[0], "runs/none")
            self._size = self._count(itself)
        return self._size

    def _resized(self, system: str, seed: int, more: list[Override]) -> bool:
        """Whether a search, or a seed, gives the system that the others are as large as another size."""
        assert self.spec.size is not None
        count = self._count(self.spec.settings(system, seed, "runs/none", *more))
        return abs(count - self._wanted()) > self.spec.size.within * self._wanted()

    def _width(self, system: str, seed: int, more: list[Override]) -> Width:
        spec = self.spec
        size = spec.size
        assert size is not None
        plain = spec.settings(system, seed, "runs/none", *more).flat()
        for by in size.by:
            if type(plain.get(by)) is not int:
                known = [name for name, value in plain.items() if type(value) is int and "model." in name]
                do = did_you_mean(by, known) or "name one of the model's"
                told = Refused(f"settings of {system} that are whole numbers", repr(by), do, "parameters.by")
                raise spec.values.error(told)
        place = spec.values.places["parameters.by"]
        turn = seed if spec.by_seed else None
        key = json.dumps([system, turn, [(one.path, one.node.plain()) for one in more]])
        if key in self._widths:
            return self._widths[key]

        def parameters(width: int) -> int:
            widths = [Override(by, Node(width, place)) for by in size.by]
            return self._count(spec.settings(system, seed, "runs/none", *more, *widths))

        try:
            found = solved(parameters, self._wanted(), size.within, size.multiple, " = ".join(size.by))
        except strict.SettingsError:
            raise
        except Refused as refusal:
            told = Refused(f"{refusal.expected}, of {system}", refusal.found, refusal.do, "parameters.count")
            if size.like is not None:
                told.setting = "parameters.as"
            raise spec.values.error(told) from None
        self._widths[key] = found
        return found

    def _count(self, settings: Values) -> int:
        """How many parameters the model of the settings has, with the tokenizers that its data gives."""
        names = ("data", "tokenizer", "reading", "features", "frontend", "start_from")
        of = {name: value for name, value in settings.flat().items() if name.partition(".")[0] in names}
        key = json.dumps(of, default=str, sort_keys=True)
        if key not in self._tokenizers:
            told = key + json.dumps(file_sums(settings))
            folder = self._folder / hashlib.sha256(told.encode()).hexdigest()[:DIGITS]
            folder.mkdir(parents=True, exist_ok=True)
            self._tokenizers[key] = runs.kept_tokenizers(settings, folder, self.tell)
        return runs.count_parameters(settings, self._tokenizers[key])


def _node(value: Any, place: str) -> Node:
    """A plain value with a place."""
    if isinstance(value, dict):
        return Node({name: _node(one, place) for name, one in value.items()}, place)
    return Node([_node(one, place) for one in value] if isinstance(value, list) else value, place)


def by_turns(jobs: Mapping[str, list[Job]]) -> list[Job]:
    """Trainings seed by seed, the systems by turns, another one first each time."""
    seeds = max(map(len, jobs.values()), default=0)
    systems = list(jobs.values())
    return [own[turn] for turn in range(seeds) for own in order(systems, turn)]


def write_config(job: Job, folder: Path) -> Path:
    """Write the settings of a training beside its folder; `seqsru train` with that file alone repeats it."""
    path = folder / f"{job.name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    text = strict.dump(job.settings.plain())
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")
    return path
