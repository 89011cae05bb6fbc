"""What each line of a test adds to a number, and whether two systems differ on the same lines.

Every number of the house is a function of sums over lines. With the line's own share of each sum at hand,
systems are compared by one paired bootstrap (Koehn 2004), whatever the number is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from seqsru.errors import Refused, check_known
from seqsru.evaluation.bleu import make_metrics
from seqsru.evaluation.bleu_tokenizers import BleuTokenizer
from seqsru.evaluation.bootstrap import SEED, p_value, resamples

How = Literal["exp", "bits", "percent", "macro_f1", "bleu", "chrf", "ter"]


@dataclass(frozen=True)
class Items:
    """A number as a function of sums over the lines of a test.

    Attributes
    ----------
    name : str
        Of the number: ``perplexity``, ``bleu``, ``accuracy``, ``f1``, ``wer``.
    how : {"exp", "bits", "percent", "macro_f1", "bleu", "chrf", "ter"}
        What makes the number of the sums. Of two sums: exp(a / b), a / (b · ln 2), 100 a / b. macro_f1: for
        each label the lines that have it, that were given it, and both. The others are sacrebleu's
        statistics.
    higher_is_better : bool
    sums : ndarray of shape (lines, statistics), float64
        Each line's share.
    text : str
        Digest of the lines: numbers of other ones are not compared.
    tokenize : str
        sacrebleu's tokenizer of BLEU.
    """

    name: str
    how: How
    higher_is_better: bool
    sums: NDArray[np.float64]
    text: str
    tokenize: BleuTokenizer = "13a"

    def as_dict(self) -> dict[str, Any]:
        """The attributes as plain JSON values."""
        return {
            "name": self.name,
            "how": self.how,
            "higher_is_better": self.higher_is_better,
            "text": self.text,
            "tokenize": self.tokenize,
            "sums": self.sums.tolist(),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Items:
        """What `as_dict` gave.

        Raises
        ------
        Refused
            Something else.
        """
        try:
            rows = np.array(values["sums"], dtype=np.float64)
            check_known(get_args(How), how=values["how"])
            better = bool(values["higher_is_better"])
            made = cls(values["name"], values["how"], better, rows, values["text"], values["tokenize"])
        except (KeyError, TypeError, ValueError) as error:
            do = "write them again with `seqsru evaluate --items`"
            raise Refused("the shares of lines in a number", f"something else ({error})", do) from None
        if rows.ndim != 2 or not len(rows):
            raise Refused("a row of sums for each line", f"an array of shape {rows.shape}", "check the file")
        return made

    def value(self, chosen: NDArray[np.int64] | None = None) -> float:
        """The number of all lines, or of those that are chosen, each as often as it is named."""
        rows = self.sums if chosen is None else self.sums[chosen]
        return self._function()(rows.sum(0))

    def resampled(self, chosen: NDArray[np.int64]) -> NDArray[np.float64]:
        """The number of each choice of lines.

        Parameters
        ----------
        chosen : int array of shape (n, lines)
        """
        function = self._function()
        return np.array([function(self.sums[rows].sum(0)) for rows in chosen])

    def _function(self) -> Callable[[NDArray[np.float64]], float]:
        """What makes the number of the sums."""
        if self.how == "macro_f1":
            return _macro_f1
        if self.how not in ("bleu", "chrf", "ter"):
            return lambda sums: _ratio(self.how, *sums.tolist())
        metric = make_metrics([self.how], self.tokenize)[self.how]
        return lambda sums: float(metric._compute_score_from_stats(sums).score)


def shares_of(measures: Sequence[Items]) -> dict[str, Any]:
    """The lines' shares in one number and in further ones, as plain JSON values."""
    first, *further = measures
    return {**first.as_dict(), **({"further": [one.as_dict() for one in further]} if further else {})}


def read_shares(values: Mapping[str, Any]) -> dict[str, Items]:
    """What `shares_of` gave, by measure, the headline first.

    Raises
    ------
    Refused
        Something else.
    """
    first, further = Items.from_dict(values), values.get("further", [])
    if not isinstance(further, list):
        raise Refused("a list of further measures", f"a {type(further).__name__}", "check the file")
    return {one.name: one for one in (first, *map(Items.from_dict, further))}


def _macro_f1(sums: NDArray[np.float64]) -> float:
    """Mean over the labels that some line has or was given, in percent."""
    gold, predicted, both = sums.reshape(-1, 3).T
    found = gold + predicted > 0
    return float(100.0 * (2.0 * both[found] / (gold + predicted)[found]).mean())


def _ratio(how: str, top: float, bottom: float) -> float:
    share = top / bottom if bottom else 0.0
    if how == "exp":
        return math.exp(share) if share < 700.0 else math.inf
    return share / math.log(2.0) if how == "bits" else 100.0 * share


def translation_items(
    name: str,
    texts: Sequence[str],
    references: Sequence[Sequence[str]],
    tokenize: BleuTokenizer,
    text: str,
    lowercase: bool | None = None,
) -> Items:
    """Each translation's share of BLEU, chrF or TER.

    Parameters
    ----------
    name : {"bleu", "chrf", "ter"}
    texts : sequence of str
        The translations.
    references : sequence of sequence of str
        A list of each line's reference, then of its further ones.
    tokenize : str
        sacrebleu's tokenizer of BLEU.
    text : str
        Digest of the lines.
    lowercase : bool, optional
        Whether case does not count; None is what each metric does by its own choice.
    """
    metric = make_metrics([name], tokenize, lowercase=lowercase)[name]
    sums = metric._extract_corpus_statistics(list(texts), [list(one) for one in references])
    rows = np.array(sums, dtype=np.float64)
    hows: dict[str, How] = {"bleu": "bleu", "chrf": "chrf", "ter": "ter"}
    return Items(name, hows[name], name != "ter", rows, text, tokenize)


def label_items(
    name: str, gold: Sequence[str], predicted: Sequence[str], labels: Iterable[str], text: str
) -> Items:
    """Each line's share of ``accuracy`` or ``macro_f1``, in percent.

    Parameters
    ----------
    name : {"accuracy", "macro_f1"}
    gold, predicted : sequence of str
        Of each line.
    labels : iterable of str
    text : str
        Digest of the lines.
    """
    if name == "accuracy":
        rows = [[float(one == other), 1.0] for one, other in zip(gold, predicted)]
        return Items(name, "percent", True, np.array(rows), text)
    labels = list(labels)
    rows = [
        [float(is_it) for label in labels for is_it in (one == label, other == label, one == label == other)]
        for one, other in zip(gold, predicted)
    ]
    return Items("macro_f1", "macro_f1", True, np.array(rows), text)


class Compared(NamedTuple):
    """A system and a baseline on the same lines.

    Attributes
    ----------
    baseline, system : float
        Their numbers; of several runs each, the means.
    p_value : float
        Probability of a difference this large if the two were equally good: (c + 1) / (n + 1), of n resamples
        c whose difference is, once the mean of all is taken off, at least the one found; 1 where they are
        equal, or of a single line.
    low, high : float
        Middle 95 % of the difference over the resamples, of system less baseline.
    """

    baseline: float
    system: float
    p_value: float
    low: float
    high: float


def compare(baseline: Sequence[Items], system: Sequence[Items]) -> Compared:
    """Paired bootstrap of two systems: 1,000 resamples of the lines, seed 12345.

    With several runs of each, the number is the mean over the runs; runs on the same lines are resampled
    alike, others by themselves, as those of the folds of a cross-validation. Of one run each the resamples
    are those of `seqsru.evaluation.bleu.paired_bootstrap`.

    Parameters
    ----------
    baseline, system : sequence of Items
        Of each run, at least one; the two sides in one order, run by run on the same lines.

    Raises
    ------
    Refused
        Other lines, or another number.
    """
    if len(baseline) != len(system) or not baseline:
        found = f"{len(baseline)} and {len(system)}"
        raise Refused("as many runs of the one as of the other, one at least", found, "give both", "system")
    for one, other in zip(baseline, system):
        for what, ours, theirs in (
            ("measure", other.name, one.name),
            ("lines", other.text, one.text),
            ("number of lines", str(len(other.sums)), str(len(one.sums))),
        ):
            if ours != theirs:
                do = "compare systems on one test, measured alike"
                raise Refused(f"the same {what} for both systems", f"{ours} and {theirs}", do)
    draw, choices = np.random.default_rng(SEED), dict[str, NDArray[np.int64]]()
    for one in baseline:
        if one.text not in choices:
            choices[one.text] = resamples(len(one.sums), draw)
    before, after = (float(np.mean([one.value() for one in runs])) for runs in (baseline, system))
    sampled = [np.mean([one.resampled(choices[one.text]) for one in runs], 0) for runs in (baseline, system)]
    between = sampled[1] - sampled[0]
    p = p_value(abs(after - before), np.abs(between), max(len(one.sums) for one in baseline))
    low, high = np.percentile(between, [2.5, 97.5])
    return Compared(before, after, p, float(low), float(high))
