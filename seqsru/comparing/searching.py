"""The search of every system: its trials, round by round, the systems by turns."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from functools import partial
from typing import Any

from seqsru import settings as strict
from seqsru.comparing.options import Budget
from seqsru.comparing.plan import Job, Plan
from seqsru.comparing.records import Line, final
from seqsru.comparing.search import best, order
from seqsru.comparing.steps import SEARCH, TRAIN, Steps
from seqsru.evaluation.signature import DIGITS


class Searching:
    """The search of a comparison.

    Parameters
    ----------
    plan : Plan
    steps : Steps
    """

    def __init__(self, plan: Plan, steps: Steps) -> None:
        assert plan.spec.search is not None
        self.plan, self.steps, self.search = plan, steps, plan.spec.search
        self.systems = list(plan.spec.systems)

    def run(self) -> None:
        """Search for every system, trial by trial, the systems by turns."""
        rungs = self.search.rungs()
        asked = {system: self._asked(system) for system in self.systems}
        self.check(asked)
        left = [s for s in self.systems if self.steps.records.done(SEARCH, s) is None]
        alive = {system: list(range(1, self.search.trials + 1)) for system in left}
        log: dict[str, list[dict[str, Any]]] = {system: [] for system in left}
        for rung, (count, budget) in enumerate(rungs, 1):
            for system in left:
                if rung > 1:
                    scores, higher = self._scores(system, alive[system], rung - 1, rungs[rung - 2][1])
                    alive[system] = best(scores, count, higher)
            turns = max((len(alive[system]) for system in left), default=0)
            jobs = [
                self.plan.trial(system, sorted(alive[system])[turn], rung, budget)
                for turn in range(turns)
                for system in order(left, turn)
            ]
            train = partial(self.steps.train, f"{TRAIN} to round {rung}")
            self.steps.at_work.each(train, jobs, self.plan.spec.options.jobs)
            left = [system for system in left if self._ended(system, alive[system], rung, budget)]
            for system in left:
                scores, higher = self._scores(system, alive[system], rung, budget)
                log[system].append({"budget": str(budget), "scores": {str(n): s for n, s in scores.items()}})
        for system in left:
            scores, higher = self._scores(system, alive[system], len(rungs), rungs[-1][1])
            if all(score is None for score in scores.values()):
                self._tell_none(system, asked[system])
                continue
            chosen = best(scores, 1, higher)[0]
            values = self.plan.values(chosen)
            trials = {str(number): self.plan.values(number) for number in range(1, self.search.trials + 1)}
            result = {"trial": chosen, "settings": values, "value": scores[chosen]}
            result |= {"rounds": log[system], "trials": trials}
            self.steps.records.write(Line(SEARCH, system, "done", asked[system], self.steps.made, result))
            told = ", ".join(f"{name} {strict.shown(value)}" for name, value in values.items())
            self.steps.tell(f"search {system}: trial {chosen}, {told}: validation {scores[chosen]:g}")

    def _ended(self, system: str, trials: list[int], rung: int, budget: Budget) -> bool:
        """Whether every trial of a round came to an end: what a full disk stopped is no result of it."""
        step = f"{TRAIN} to round {rung}"
        lines = {
            n: self.steps.records.lines.get((step, self.plan.trial(system, n, rung, budget).name))
            for n in trials
        }
        again = [n for n, line in lines.items() if line is None or (line.state != "done" and not final(line))]
        if again:
            numbers = ", ".join(map(str, again))
            self.steps.tell(f"search {system}: waits for its trials {numbers}; give the command again")
        return not again

    def _tell_none(self, system: str, asked: dict[str, Any]) -> None:
        """Note that all trials of a system diverged; the others are compared without it."""
        told = f"expected a trial of {system} that trains to its end, found none; change the search"
        told += f" (see {self.steps.output / 'search'})"
        self.steps.records.write(
            Line(SEARCH, system, "failed", asked, self.steps.made, {"told": told, "final": True})
        )
        self.steps.failed.append(f"{SEARCH} {system}")
        self.steps.tell(f"failed: {SEARCH} {system}: {told}")

    def _trials(self, system: str) -> Iterator[tuple[str, Job]]:
        """Every step that the search of a system may have, with its training."""
        for rung, (_, budget) in enumerate(self.search.rungs(), 1):
            for number in range(1, self.search.trials + 1):
                yield f"{TRAIN} to round {rung}", self.plan.trial(system, number, rung, budget)

    def _asked(self, system: str) -> dict[str, Any]:
        """What a search is asked for: its rounds, and a digest of its trials with all their settings."""
        trials = [[step, job.name, job.what()] for step, job in self._trials(system)]
        digest = hashlib.sha256(json.dumps(trials, sort_keys=True).encode()).hexdigest()[:DIGITS]
        rounds = ", ".join(f"{count} to {budget}" for count, budget in self.search.rungs())
        return {"method": self.search.method, "rounds": rounds, "trials": digest}

    def check(self, asked: dict[str, dict[str, Any]]) -> None:
        """Refuse lines of another search, or put them aside."""
        every = {
            (step, job.name): job.what() for system in self.systems for step, job in self._trials(system)
        }
        self.steps.check(every | {(SEARCH, system): what for system, what in asked.items()})

    def _scores(
        self, system: str, trials: list[int], rung: int, budget: Budget
    ) -> tuple[dict[int, float | None], bool]:
        """The best validation of each trial by the end of a round, None where it failed; its direction."""
        found: dict[int, float | None] = {}
        higher = False
        for number in trials:
            job = self.plan.trial(system, number, rung, budget)
            line = self.steps.records.done(f"{TRAIN} to round {rung}", job.name)
            found[number] = None if line is None else line.result["best"]
            higher = higher if line is None else line.result["higher_is_better"]
        return found, higher
