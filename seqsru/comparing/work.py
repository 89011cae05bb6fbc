"""A comparison from its file to its table; what was done is not done again."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from functools import partial
from typing import Any

from seqsru import runs
from seqsru.comparing.identity import machine, sources
from seqsru.comparing.plan import Job, Plan, by_turns
from seqsru.comparing.search import order
from seqsru.comparing.searching import Searching
from seqsru.comparing.spec import Spec
from seqsru.comparing.steps import SEARCH, TEST, TIME, TRAIN, Steps
from seqsru.comparing.table import write_tables
from seqsru.data.room import room
from seqsru.errors import Busy, Refused, unknown
from seqsru.evaluation.items import read_shares
from seqsru.regular import read
from seqsru.training.lock import held

MOST = 2**28  # bytes of a result


class Work:
    """What a comparison does, step by step.

    Parameters
    ----------
    spec : Spec
    tell : callable
        Is given what a person should know, a line at a time.
    anew : bool
        As for `Steps`.
    again : collection of str
        Systems whose trainings are put aside and done anew, once, at the next `run`.
    """

    def __init__(
        self, spec: Spec, tell: Callable[[str], None], *, anew: bool = False, again: Collection[str] = ()
    ) -> None:
        self.spec, self.tell, self.anew, self.again = spec, tell, anew, again
        self.output = spec.options.output
        self.plan = Plan(spec, self.output / "tokenizers", tell)

    def run(self) -> bool:
        """Do what is left, and write the table after each training.

        Returns
        -------
        bool
            Whether everything that was trained came to its end.
        """
        with self._held(), self._resumable():
            for system in self.again:
                if system not in self.spec.systems:
                    raise unknown(system, self.spec.systems, "again")
            self.plan.check()
            first = next(iter(self.spec.systems))
            nothing = {} if self.spec.search is None else self.plan.values(1)  # what is asked is not searched
            made = {"sources": sources(), **machine(self.plan.runs(first, nothing)[0].settings)}
            self.steps = Steps(self.spec, made, self.tell, anew=self.anew)
            self.steps.check_known()
            if self.spec.search is not None:
                Searching(self.plan, self.steps).run()
            jobs = self._jobs()
            self.steps.again([job.name for system in self.again for job in jobs.get(system, [])])
            both = partial(self._train_and_test, jobs=jobs)
            self.steps.at_work.each(both, by_turns(jobs), self.spec.options.jobs)
            self._time(jobs)
            if jobs:
                self.table(jobs)
        return not self.steps.failed

    def make_table(self) -> None:
        """Write the table of what there is, whatever machine this is.

        Raises
        ------
        Refused
            There is nothing, or something that the file does not ask for now.
        """
        self.steps = Steps(self.spec, {}, self.tell)
        if not self.steps.records.lines:
            raise Refused(f"results in {self.steps.records.path}", "none", "compare first, without --table")
        self.table(self._jobs())

    def table(self, jobs: dict[str, list[Job]]) -> None:
        """Write the table and the plots of what there is."""
        depths = {}
        if self.spec.options.depth is not None:
            depths = {name: self.plan.depth(own[0], self.spec.options.depth) for name, own in jobs.items()}
        write_tables(self.spec, jobs, depths, self.steps.records, self.tell)

    def _jobs(self) -> dict[str, list[Job]]:
        """The trainings that count: of each system whose settings are known by now."""
        jobs: dict[str, list[Job]] = {}
        for system in self.spec.systems:
            line = self.steps.records.done(SEARCH, system)
            if self.spec.search is None or line is not None:
                jobs[system] = self.plan.runs(system, {} if line is None else line.result["settings"])
        own = [job for one in jobs.values() for job in one]
        self.steps.check({(step, job.name): what for job in own for step, what in self._asked(job).items()})
        return jobs

    @contextmanager
    def _held(self) -> Iterator[None]:
        """Hold the folder: two comparisons in one would train everything twice."""
        with room(self.output):
            self.output.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            try:
                stack.enter_context(held(self.output))
            except Busy:
                do = "wait for it to end, or choose another output"
                raise Busy(f"no other comparison in {self.output}", "one that is at work", do) from None
            yield

    @contextmanager
    def _resumable(self) -> Iterator[None]:
        """Say how to go on, where a signal stops the work."""
        try:
            yield
        except KeyboardInterrupt as stop:
            command = f"seqsru compare {shlex.quote(str(self.spec.path))}"
            raise type(stop)(f"what was done is kept; go on with: {command}") from None

    def _asked(self, job: Job) -> dict[str, dict[str, Any]]:
        """What each step of a training that counts is asked for."""
        asked = {TRAIN: job.what()}
        asked[TEST] = {"split": self.spec.options.split, "flags": list(self.spec.evaluate)}
        if self.spec.timing is not None:
            timing = {name: value for name, value in asdict(self.spec.timing).items() if name != "rounds"}
            asked |= {f"{TIME} {turn + 1}": timing for turn in range(self.spec.timing.rounds)}
        return asked

    def _train_and_test(self, job: Job, jobs: dict[str, list[Job]]) -> None:
        """Train and test, unless that is done, and write the table anew."""
        run, split = self.output / job.name, self.spec.options.split
        if not self.steps.train(TRAIN, job):
            return
        values, items = (self.output / f"{job.name}.{end}.json" for end in ("test", "items"))

        def work() -> dict[str, Any]:
            flags = list(self.spec.evaluate)
            threads = job.settings["training"]["threads"]
            if threads:
                flags += ["--threads", str(threads)]
            where = ["--split", split, "--json", str(values), "--items", str(items)]
            self.steps.call(job, "evaluate", run, *where, *flags)
            made = next(iter(read_shares(json.loads(read(items, MOST, "evaluate again"))).values()))
            numbers = json.loads(read(values, MOST, "evaluate again"))
            return {
                "measure": made.name,
                "higher_is_better": made.higher_is_better,
                "value": made.value(),
                "lines": len(made.sums),
                "text": made.text,
                "intervals": numbers.get("intervals", {}),
                "numbers": {name: one for name, one in numbers.items() if isinstance(one, (int, float))},
                "signature": numbers["signature"],
            }

        before = self.steps.records.done(TEST, job.name)
        if self.steps.do(TEST, job, self._asked(job)[TEST], work) and before is None:
            with self.steps.lock:
                self.table(jobs)

    def _time(self, jobs: dict[str, list[Job]]) -> None:
        """Measure one training of each system, the systems by turns, in several rounds."""
        timing = self.spec.timing
        done = self.steps.records.done
        trained = {s: [job for job in own if done(TRAIN, job.name) is not None] for s, own in jobs.items()}
        ready = {system: own[0] for system, own in trained.items() if own}
        if timing is None or not ready:
            return
        # Only what was timed by turns can be compared: a round that some had without the others begins anew.
        steps = [f"{TIME} {turn + 1}" for turn in range(timing.rounds)]
        rounds = {
            step: [(step, job.name) for job in ready.values() if done(step, job.name)] for step in steps
        }
        if parts := [key for keys in rounds.values() if len(keys) < len(ready) for key in keys]:
            self.steps.put_back(parts)
        engine: str = timing.engine
        for turn in range(timing.rounds):
            for system in order(list(ready), turn):
                job, step = ready[system], f"{TIME} {turn + 1}"
                if engine == "auto" and self.steps.records.done(step, job.name) is None:
                    engine = self._engine(list(ready.values()))
                self.steps.do(step, job, self._asked(job)[step], partial(self._timed, job, engine))

    def _timed(self, job: Job, engine: str) -> dict[str, Any]:
        timing = self.spec.timing
        assert timing is not None
        path = self.output / f"{job.name}.latency.json"
        flags = ["--first", str(timing.count), "--repeats", "1", "--threads", str(timing.threads)]
        flags += ["--engine", engine]
        if engine == "compiled":
            flags += ["--precision", timing.precision]
        if timing.length is not None:
            flags += ["--length", str(timing.length)]
        self.steps.call(job, "latency", self.output / job.name, *flags, "--json", path)
        report = json.loads(read(path, MOST, "measure again"))
        (system,) = report["systems"]
        kinds = ("first_token", "later_tokens", "model_steps", "encoding", "sentences")
        times = {
            name: {of: value for of, value in system[name].items() if of != "percentiles"}
            for name in kinds
            if name in system
        }
        return {"engine": engine, "times": times, "signature": report["signatures"][0]}

    def _engine(self, jobs: list[Job]) -> str:
        """The engine of all systems: compiled where it runs every one of them."""
        done = [self.steps.records.done(f"{TIME} 1", job.name) for job in jobs]
        chosen = {line.result["engine"] for line in done if line is not None}
        if chosen:
            return str(chosen.pop())
        for job in jobs:
            try:
                runs.open_run(
                    self.output / job.name, checkpoint="best", average=1, device="cpu", engine="compiled"
                )
            except Refused as refusal:
                self.tell(f"time: every system with torch, as {job.system} needs it ({refusal})")
                return "torch"
        return "compiled"
