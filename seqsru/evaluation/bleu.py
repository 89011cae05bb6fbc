"""BLEU, chrF and TER of detokenised text, and whether two systems differ: sacrebleu's numbers, signed."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, cast

from seqsru.errors import Refused, check_known

METRICS = ("bleu", "chrf", "ter")
RESAMPLES = 1000
SEED = "12345"


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
        Probability of a difference this large if the two were equally good: (c + 1) / (n + 1).
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


def translation_scores(
    hypotheses: Sequence[str], references: Sequence[str], metrics: Sequence[str] = ("bleu",)
) -> list[MetricScore]:
    """Score translations against one reference each.

    Parameters
    ----------
    hypotheses : sequence of str
        Detokenised translations, one a line.
    references : sequence of str
        Detokenised references, in the same order.
    metrics : sequence of {"bleu", "chrf", "ter"}
        What to compute, in this order.

    Raises
    ------
    Refused
        The counts differ, there are no lines, or a metric is unknown.
    """
    _check_counts({"translations": hypotheses}, references)
    scores = []
    for metric in _metrics(metrics).values():
        score = metric.corpus_score(list(hypotheses), [list(references)])
        signature = str(metric.get_signature())
        scores.append(MetricScore(score.name, score.score, signature, score.format(signature=signature)))
    return scores


def paired_bootstrap(
    baseline: Sequence[str],
    system: Sequence[str],
    references: Sequence[str],
    metrics: Sequence[str] = ("bleu",),
) -> list[Comparison]:
    """Compare two systems on the same lines by paired bootstrap (Koehn 2004): 1,000 resamples, seed 12345.

    Parameters
    ----------
    baseline, system : sequence of str
        Detokenised translations by the two systems.
    references : sequence of str
        Detokenised references, in the same order.
    metrics : sequence of {"bleu", "chrf", "ter"}
        What to compare, in this order.

    Raises
    ------
    Refused
        The counts differ, there are no lines, or a metric is unknown.
    """
    from sacrebleu.significance import PairedTest

    systems = {"baseline": baseline, "system": system}
    _check_counts(systems, references)
    with _sacrebleu_seed():
        test = PairedTest(
            [(name, list(lines)) for name, lines in systems.items()],
            _metrics(metrics),
            [list(references)],
            test_type="bs",
            n_samples=RESAMPLES,
        )
        signatures, results = test()
    comparisons = []
    for name, signature in signatures.items():
        first, second = (cast(Any, result) for result in results[name])
        # sacrebleu counts the resamples that differ by more than the systems do; between equal texts none
        # can, and its formula would call the difference of zero significant.
        p_value = 1.0 if list(baseline) == list(system) else second.p_value
        comparisons.append(
            Comparison(
                name,
                first.score,
                second.score,
                (float(first.mean), float(first.ci)),
                (float(second.mean), float(second.ci)),
                p_value,
                str(signature),
            )
        )
    return comparisons


def _metrics(names: Sequence[str]) -> dict[str, Any]:
    """Return sacrebleu's metrics of those names, with its own defaults."""
    for name in names:
        check_known(METRICS, metrics=name)
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF
    from sacrebleu.metrics.ter import TER

    known = dict(zip(METRICS, (BLEU, CHRF, TER)))
    return {name: known[name]() for name in names}


def _check_counts(systems: Mapping[str, Sequence[str]], references: Sequence[str]) -> None:
    for name, lines in systems.items():
        if len(lines) != len(references):
            raise Refused(
                f"a reference for each of the {len(lines)} lines of the {name}",
                f"{len(references)} references",
                "check that both are of the same test set",
                "references",
            )
    if not references:
        raise Refused("at least one line to score", "none", "check the test files", "references")


@contextmanager
def _sacrebleu_seed() -> Iterator[None]:
    """Give sacrebleu the house's seed, which it reads from the environment."""
    before = os.environ.get("SACREBLEU_SEED")
    os.environ["SACREBLEU_SEED"] = SEED
    try:
        yield
    finally:
        if before is None:
            del os.environ["SACREBLEU_SEED"]
        else:
            os.environ["SACREBLEU_SEED"] = before
