"""BLEU, chrF and TER of detokenised text, and whether two systems differ: sacrebleu's numbers, signed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqsru.errors import Refused, check_known
from seqsru.evaluation.bleu_tokenizers import BleuTokenizer, bleu
from seqsru.evaluation.bootstrap import SEED, p_value, resamples

METRICS = ("bleu", "chrf", "ter")


@dataclass(frozen=True)
class MetricScore:
    """A system's score.

    Attributes
    ----------
    name : str
        sacrebleu's name of the metric: ``BLEU``, ``chrF2``, ``TER``.
    value : float
        The score, in percent.
    signature : str
        How it was computed; belongs beside the number wherever that is printed.
    line : str
        Name, signature, value and details as sacrebleu prints them.
    """

    name: str
    value: float
    signature: str
    line: str


@dataclass(frozen=True)
class Comparison:
    """Two systems on one metric.

    Attributes
    ----------
    name : str
        sacrebleu's name of the metric.
    baseline, system : float
        Scores in percent.
    baseline_interval, system_interval : tuple of float
        Mean and half width of the 95 % interval over the resamples.
    p_value : float
        Probability of a difference this large if the two were equally good: (c + 1) / (n + 1), of n resamples
        c that differ at least so much; 1 where the scores are equal.
    signature : str
        How it was computed, number of resamples and seed included.
    """

    name: str
    baseline: float
    system: float
    baseline_interval: tuple[float, float]
    system_interval: tuple[float, float]
    p_value: float
    signature: str

    def as_dict(self) -> dict[str, Any]:
        """The attributes by name, as plain JSON values."""
        values = asdict(self)
        return {name: list(one) if isinstance(one, tuple) else one for name, one in values.items()}

    @property
    def line(self) -> str:
        """The comparison in one line."""
        mean, half = self.system_interval
        return (
            f"{self.name}|{self.signature}: {self.baseline:.2f} -> {self.system:.2f} "
            f"({self.system - self.baseline:+.2f}, p = {self.p_value:.4f}, 95 % {mean:.2f} ± {half:.2f})"
        )


def make_metrics(
    names: Sequence[str],
    tokenize: BleuTokenizer = "13a",
    setting: str = "tokenize",
    lowercase: bool | None = None,
) -> dict[str, Any]:
    """Make sacrebleu's metrics of those names, with its own defaults; before the work, as they may refuse.

    Parameters
    ----------
    names : sequence of {"bleu", "chrf", "ter"}
    tokenize : str
        sacrebleu's name of the tokenizer of BLEU; the others have none.
    setting : str
        What a refusal of the tokenizer blames.
    lowercase : bool or None
        Whether texts are read in lower case; None is sacrebleu's default, which is so of TER alone.

    Raises
    ------
    Refused
        A metric or the tokenizer is unknown, or the tokenizer needs what is not there.
    """
    for name in names:
        check_known(METRICS, metrics=name)
    from sacrebleu.metrics.chrf import CHRF
    from sacrebleu.metrics.ter import TER

    known: dict[str, Callable[[], Any]] = {
        "bleu": partial(bleu, tokenize, setting, bool(lowercase)),
        "chrf": partial(CHRF, lowercase=bool(lowercase)),
        "ter": partial(TER, case_sensitive=lowercase is False),
    }
    return {name: known[name]() for name in names}


def metric_fields(metric: Any, references: int) -> dict[str, object]:
    """Fields of a signature of ours that say what sacrebleu's of a metric does.

    Parameters
    ----------
    metric : Metric
        Of those that `make_metrics` gives.
    references : int
        References of each line.
    """
    metric.num_refs = references  # which it counts itself once it has read some
    theirs = {name: value for name, value in metric.get_signature().info.items() if value is not None}
    return {"sacrebleu": theirs.pop("version"), **theirs}


def translation_scores(
    hypotheses: Sequence[str],
    references: Sequence[str],
    metrics: Sequence[str] = ("bleu",),
    *,
    further: Sequence[Sequence[str]] = (),
    tokenize: BleuTokenizer = "13a",
    lowercase: bool | None = None,
) -> list[MetricScore]:
    """Score translations against one reference each, or several.

    Parameters
    ----------
    hypotheses : sequence of str
        Detokenised translations, one a line.
    references : sequence of str
        Detokenised references, in the same order; an empty one counts as a reference, as in sacrebleu.
    metrics : sequence of {"bleu", "chrf", "ter"}
        What to compute, in this order.
    further : sequence of sequence of str
        More references of each line.
    tokenize : str
        sacrebleu's name of the tokenizer of BLEU.
    lowercase : bool or None
        As in `make_metrics`.

    Raises
    ------
    Refused
        The counts differ, there are no lines, or a metric or the tokenizer cannot be had.
    """
    made = make_metrics(metrics, tokenize, lowercase=lowercase)
    given = _checked({"translations": hypotheses}, [references, *further])
    scores = []
    for metric in made.values():
        score = metric.corpus_score(list(hypotheses), given)
        signature = str(metric.get_signature())
        scores.append(MetricScore(score.name, score.score, signature, score.format(signature=signature)))
    return scores


def paired_bootstrap(
    baseline: Sequence[str],
    system: Sequence[str],
    references: Sequence[str],
    metrics: Sequence[str] = ("bleu",),
    *,
    further: Sequence[Sequence[str]] = (),
    tokenize: BleuTokenizer = "13a",
    lowercase: bool | None = None,
) -> list[Comparison]:
    """Compare two systems on the same lines by paired bootstrap (Koehn 2004): 1,000 resamples, seed 12345.

    The resamples and the statistic, the absolute difference less its mean, are sacrebleu's. Unlike there, a
    resample that differs exactly as much as the systems do counts, and equal scores have p = 1; so has a
    single line, which has no other resample than itself.

    Parameters
    ----------
    baseline, system : sequence of str
        Detokenised translations by the two systems.
    references, further
        As in `translation_scores`.
    metrics : sequence of {"bleu", "chrf", "ter"}
        What to compare, in this order.
    tokenize : str
        As in `translation_scores`.
    lowercase : bool or None
        As in `make_metrics`.

    Raises
    ------
    Refused
        The counts differ, there are no lines, or a metric or the tokenizer cannot be had.
    """
    made = make_metrics(metrics, tokenize, lowercase=lowercase)
    given = _checked({"baseline": baseline, "system": system}, [references, *further])
    lines = len(references)
    chosen = resamples(lines)
    comparisons = []
    for metric in made.values():
        (name, first, firsts), (_, second, seconds) = (
            _resampled(metric, texts, given, chosen) for texts in (baseline, system)
        )
        signature = metric.get_signature()
        signature.update("seed", str(SEED))
        signature.update("bs", len(chosen))
        comparisons.append(
            Comparison(
                name,
                first,
                second,
                _interval(firsts),
                _interval(seconds),
                p_value(abs(second - first), np.abs(seconds - firsts), lines),
                str(signature),
            )
        )
    return comparisons


def _resampled(
    metric: Any, texts: Sequence[str], references: list[list[str]], chosen: NDArray[Any]
) -> tuple[str, float, NDArray[Any]]:
    """Name of the metric, score of the texts, and scores of the resamples that `chosen` (n, lines) lists.

    A score is a function of sums over lines: each line is counted once, each resample only adds up.
    """
    statistics = metric._extract_corpus_statistics(list(texts), references)
    whole = metric._aggregate_and_compute(statistics)
    table = np.array(statistics, dtype=np.float64)  # (lines, statistics)
    scores = [metric._compute_score_from_stats(table[rows].sum(0)).score for rows in chosen]
    return whole.name, whole.score, np.array(scores)


def _interval(scores: NDArray[Any]) -> tuple[float, float]:
    """Mean and half width of the middle 95 % of the scores of resamples."""
    from sacrebleu.significance import estimate_ci

    mean, half = estimate_ci(scores)
    return float(mean), float(half)


def _checked(systems: Mapping[str, Sequence[str]], references: Sequence[Sequence[str]]) -> list[list[str]]:
    """The references as sacrebleu takes them."""
    for name, lines in systems.items():
        for given in references:
            if len(lines) != len(given):
                raise Refused(
                    f"a reference for each of the {len(lines)} lines of the {name}",
                    f"{len(given)} references",
                    "check that both are of the same test set",
                    "references",
                )
    if not references[0]:
        raise Refused("at least one line to score", "none", "check the test files", "references")
    return [list(given) for given in references]
