"""Which settings a system gets: drawn trials, all of them trained or ever fewer of them longer.

Every system has the same trials: the same values, drawn from a seed, with the same budgets.
"""

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from seqsru import settings as strict
from seqsru.comparing.options import Budget
from seqsru.errors import check_at_least, check_between, check_seed
from seqsru.settings import Section, Setting
from seqsru.settings.places import Node

Method = Literal["random", "halving"]
DRAWS = 100  # of one trial, until it is unlike those before
_RANGE = Section(
    {
        "from": Setting(float),
        "to": Setting(float),
        "scale": Setting(Literal["linear", "log"], "linear"),
        "whole": Setting(bool, False),
    }
)


@dataclass(frozen=True)
class Search:
    """Settings are searched for each system before it is compared, on validation alone.

    Parameters
    ----------
    budget : Budget
        Of a trial; with halving of one of the first round.
    method : {"random", "halving"}
        random: every trial has the budget. halving: of each round the best go on, with a budget that is
        larger by as much as there are fewer, until one is left.
    trials : int
        Of each system.
    keep : float
        Share of the trials that goes on, with halving.
    seed : int
        Of what is drawn, and of the trials' trainings.
    """

    budget: Budget
    method: Method = "halving"
    trials: int = 12
    keep: float = 0.33
    seed: int = 1

    def __post_init__(self) -> None:
        """Refuse what cannot be searched with."""
        check_at_least(1, trials=self.trials)
        check_at_least(0, seed=self.seed)
        check_seed(seed=self.seed)
        check_between(0.01, 0.9, keep=self.keep)

    def rungs(self) -> list[tuple[int, Budget]]:
        """How many trials each round has, and each trial's budget in all by its end."""
        if self.method == "random":
            return [(self.trials, self.budget)]
        found, count, budget = [], self.trials, self.budget
        while True:
            found.append((count, budget))
            fewer = min(count - 1, max(1, int(count * self.keep + 0.5)))
            if fewer <= 1:
                return found
            count, budget = fewer, budget.grown(1.0 / self.keep)


@dataclass(frozen=True)
class Drawn:
    """What a setting is drawn from.

    Attributes
    ----------
    values : tuple
        Some values; empty where it is a range.
    low, high : float
    log : bool
        Whether the logarithm is drawn evenly.
    whole : bool
        Whether it is a whole number.
    place : str
        Where the file says so.
    """

    values: tuple[Any, ...]
    low: float
    high: float
    log: bool
    whole: bool
    place: str

    def draw(self, name: str, seed: int, trial: str) -> Any:
        """The value of a trial, which does not depend on what else is searched."""
        drawn = random.Random(f"{seed}/{trial}/{name}").random()
        if self.values:
            return self.values[int(drawn * len(self.values))]
        if self.whole:
            low, high = math.ceil(self.low), math.floor(self.high)
            if not self.log:
                return low + int(drawn * (high - low + 1))
            return min(high, int(math.exp(math.log(low) + drawn * (math.log(high + 1) - math.log(low)))))
        if self.log:
            value = math.exp(math.log(self.low) + drawn * (math.log(self.high) - math.log(self.low)))
        else:
            value = self.low + drawn * (self.high - self.low)
        return float(f"{value:.4g}")


def drawn_from(name: str, node: Node) -> Drawn:
    """What a file says that a setting is drawn from.

    Raises
    ------
    SettingsError
        It is neither a list of values nor a range.
    """
    where = f"search.settings.{name}"
    if isinstance(node.value, list):
        if not node.value:
            raise strict.refuse(node.place, "at least one value", "none", "write [1, 2]", where)
        return Drawn(tuple(one.plain() for one in node.value), 0.0, 0.0, False, False, node.place)
    if not isinstance(node.value, dict):
        do = "write [values], or {from: 1, to: 2}"
        raise strict.refuse(node.place, "a list of values, or a range", str(node), do, where)
    found = strict.filled(_RANGE, node)
    low, high, log = found["from"], found["to"], found["scale"] == "log"
    if not low < high:
        raise strict.refuse(node.place, f"more than {low:g} for to", f"{high:g}", "raise it", where)
    if log and low <= 0:
        do = "raise it, or set scale to linear"
        raise strict.refuse(node.place, "more than 0 for from, with scale log", f"{low:g}", do, where)
    if found["whole"] and math.ceil(low) > math.floor(high):
        raise strict.refuse(node.place, "a whole number in the range", "none", "widen it", where)
    if found["whole"] and log and low < 1:
        raise strict.refuse(
            node.place, "at least 1 for from, of whole numbers", f"{low:g}", "raise it", where
        )
    return Drawn((), low, high, log, found["whole"], node.place)


def trial_values(drawn: Mapping[str, Drawn], seed: int, trial: int) -> dict[str, Any]:
    """The values of one trial, by setting; trials are numbered from 1.

    One that has the values of an earlier trial is drawn again, as long as that helps: lists have few.
    """
    found: list[dict[str, Any]] = []
    for number in range(1, trial + 1):
        for again in range(DRAWS):
            turn = f"{number}/{again}" if again else f"{number}"
            values = {name: one.draw(name, seed, turn) for name, one in drawn.items()}
            if values not in found:
                break
        found.append(values)
    return found[-1]


def best(scores: Mapping[int, float | None], count: int, higher_is_better: bool) -> list[int]:
    """The best of some trials, best first; of equal ones the earlier, and those without a score last.

    Parameters
    ----------
    scores : mapping of int to float or None
        By trial; None where it failed.
    count : int
        How many.
    higher_is_better : bool
    """

    def rank(trial: int) -> tuple[bool, float, int]:
        score = scores[trial]
        if score is None or math.isnan(score):
            return True, 0.0, trial
        return False, -score if higher_is_better else score, trial

    return sorted(scores, key=rank)[:count]


def order(items: Sequence[Any], turn: int) -> list[Any]:
    """The items, beginning with another one each turn, so that none is always the first."""
    turn %= max(1, len(items))
    return [*items[turn:], *items[:turn]]
