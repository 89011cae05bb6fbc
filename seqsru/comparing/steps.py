"""Steps of a comparison: each is done once, noted, and held against what is asked for now."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from pathlib import Path
from threading import RLock
from typing import Any

from seqsru.comparing.children import AtWork, call, wait_until_free
from seqsru.comparing.identity import differing
from seqsru.comparing.outcomes import trained
from seqsru.comparing.outlook import left
from seqsru.comparing.plan import Job, write_config
from seqsru.comparing.records import Line, Records, final
from seqsru.comparing.spec import Spec
from seqsru.errors import Refused
from seqsru.training import RunDirectory
from seqsru.training.finite import stopped

SHOWN = 5  # steps that are named in a refusal
BESIDE = (".yaml", ".log", ".test.json", ".items.json", ".latency.json")  # a run directory
TRAIN, TEST, TIME, SEARCH = "train", "test", "time", "search"


class Broken(Refused):
    """A command that did not end well.

    Attributes
    ----------
    diverged : bool
        Whether it would do so again: a training came to numbers that are not finite. All else, such as a
        full disk, may end well another time.
    """

    diverged = False


class Steps:
    """What was done, and how a step is done; several threads may do several at once.

    Parameters
    ----------
    spec : Spec
    made : dict
        By which sources, and on which machine, steps are done from now on.
    tell : callable
        Is given what a person should know, a line at a time.
    anew : bool
        Whether what was done with other settings, sources or on another machine is put aside and done anew;
        otherwise it is refused.

    Attributes
    ----------
    records : Records
    failed : list of str
        Steps that failed in this process.
    at_work : AtWork
        The commands of all steps.
    lock : RLock
        Is held by who reads or changes any of these, or what was made of them all.
    """

    def __init__(
        self, spec: Spec, made: dict[str, Any], tell: Callable[[str], None], *, anew: bool = False
    ) -> None:
        self.spec, self.made, self.tell, self.anew = spec, made, tell, anew
        self.output = spec.options.output
        self.records = Records(self.output)
        self.failed: list[str] = []
        self.at_work, self.lock = AtWork(), RLock()

    def check_known(self) -> None:
        """Refuse lines of other sources or another machine, or put them aside."""
        wrong = {}
        for key, line in self.records.lines.items():
            other = differing(self.made, line.made)
            if other:
                wrong[key] = ", ".join(other)
        self._put_aside(wrong, "this machine and these sources of the package")

    def check(self, asked: dict[tuple[str, str], dict[str, Any]]) -> None:
        """Refuse lines of steps that are asked for something else now, or put them aside.

        Parameters
        ----------
        asked : mapping of (str, str) to dict
            What each step is asked for, by step and job.
        """
        wrong = {}
        for key, what in asked.items():
            line = self.records.lines.get(key)
            if line is not None and line.what != what:
                wrong[key] = ", ".join(differing(what, line.what)[:SHOWN])
        self._put_aside(wrong, "what the file asks for now")

    def _put_aside(self, wrong: dict[tuple[str, str], str], expected: str) -> None:
        """Refuse steps, or put them aside."""
        if not wrong:
            return
        if not self.anew:
            shown = [f"{step} {job} ({why})" for (step, job), why in list(wrong.items())[:SHOWN]]
            more = f" and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
            do = "put it back, choose another output, or do these anew with --anew"
            raise Refused(f"results of {expected} in {self.records.path}", "; ".join(shown) + more, do)
        self._move(wrong)

    def again(self, jobs: Collection[str]) -> None:
        """Put aside trainings, with all that was made of them, which are then done anew."""
        if known := [key for key in self.records.lines if key[1] in jobs]:
            self._move(known)

    def _move(self, keys: Collection[tuple[str, str]]) -> None:
        """Put steps aside with all that was made of them."""
        place = self._earlier()
        again = {job for step, job in keys if step.startswith(TRAIN)}
        gone = {key for key in self.records.lines if key in keys or key[1] in again}
        # What was timed side by side is timed anew side by side.
        if any(step.startswith(TIME) or step.startswith(TRAIN) for step, _ in gone):
            gone |= {key for key in self.records.lines if key[0].startswith(TIME)}
        if any(job.startswith("search/") for job in again):
            systems = {job.rpartition("/")[2].rpartition("-")[0] for job in again}
            gone |= {key for key in self.records.lines if key[0] == SEARCH and key[1] in systems}
        for job in sorted(again):
            wait_until_free(self.output / job, self.tell, self.at_work)
            for path in (self.output / job, *(self.output / f"{job}{end}" for end in BESIDE)):
                if path.exists():
                    (place / job).parent.mkdir(parents=True, exist_ok=True)
                    path.rename(place / path.relative_to(self.output))
        self.records.drop(sorted(gone), place / "results.jsonl")
        self.tell(f"put aside in {place}: {', '.join(sorted(f'{step} {job}' for step, job in gone))}")

    def do(self, step: str, job: Job, what: dict[str, Any], work: Callable[[], dict[str, Any]]) -> bool:
        """Do a step unless it is done, and note what came of it; say whether it is done."""
        with self.lock:
            self.at_work.go_on()
            self.check({(step, job.name): what})
            line = self.records.lines.get((step, job.name))
            if line is not None and line.state == "done":
                return True
            if line is not None and final(line) and step.startswith(f"{TRAIN} to"):
                return False  # that it fails is what the search found of it
            self.records.write(Line(step, job.name, "begun", what, self.made, {}))
            about = left(self.spec, self.records, self.made, job.settings) if TRAIN in step else ""
            self.tell(f"{step} {job.name}{about}")
        start = time.monotonic()
        try:
            result = work()
        except Refused as refusal:
            told = {"told": str(refusal), "final": isinstance(refusal, Broken) and refusal.diverged}
            with self.lock:
                self.records.write(Line(step, job.name, "failed", what, self.made, told))
                self.failed.append(f"{step} {job.name}")
                self.tell(f"failed: {step} {job.name}: {refusal}")
            return False
        result["took"] = time.monotonic() - start
        with self.lock:
            self.records.write(Line(step, job.name, "done", what, self.made, result))
        return True

    def put_back(self, keys: Collection[tuple[str, str]]) -> None:
        """Forget steps, which are then done anew; their lines are kept beside."""
        self.records.drop(sorted(keys), self._earlier() / "results.jsonl")

    def _earlier(self) -> Path:
        """A folder for what is put aside, which is not there yet."""
        number = next(n for n in range(1, 10**9) if not (self.output / "earlier" / str(n)).exists())
        return self.output / "earlier" / str(number)

    def call(self, job: Job, *arguments: str | Path) -> None:
        """Run a command on a training; refuse where it does not end well."""
        log = self.output / f"{job.name}.log"
        ended = call(arguments, log, self.at_work)
        if ended.status == 0:
            return
        how = f"status {ended.status}" if ended.status > 0 else f"signal {-ended.status}"
        raise Broken(f"`seqsru {arguments[0]}` to end well", f"{how}: {ended.told}", f"see {log}")

    def train(self, step: str, job: Job) -> bool:
        """Train, unless that is done; say whether it came to its end."""
        run = self.output / job.name

        def work() -> dict[str, Any]:
            wait_until_free(run, self.tell, self.at_work)
            try:
                self.call(job, "train", write_config(job, self.output))
            except Broken as broken:
                broken.diverged = stopped(RunDirectory(run).metrics)
                raise
            kept = {"parameters": job.parameters, "width": job.width, "label": job.label}
            return {**kept, **trained(run, job.settings)}

        return self.do(step, job, job.what(), work)
