"""The paired bootstrap: against one written out, where scores are equal, and in both directions."""

import numpy as np
import pytest
from sacrebleu.metrics import BLEU, CHRF, TER
from sacrebleu.significance import PairedTest

from seqsru.errors import Refused
from seqsru.evaluation import bootstrap
from seqsru.evaluation.bleu import paired_bootstrap
from seqsru.evaluation.bootstrap import RESAMPLES

MADE = {"bleu": BLEU, "chrf": CHRF, "ter": TER}
WORDS = "the a cat dog sat ran on in mat House Garden , .".split()


def corpus(count, seed):
    """References, and translations with some words changed."""
    draw = np.random.default_rng(seed)
    references = [" ".join(draw.choice(WORDS, draw.integers(4, 12))) for _ in range(count)]

    def changed(share):
        return [
            " ".join(draw.choice(WORDS) if draw.random() < share else w for w in line.split())
            for line in references
        ]

    return references, changed(0.3), changed(0.35)


def written_out(metric, first, second, references, resamples):
    """p, by scoring the lines of every resample anew."""
    lines = len(first)
    made = MADE[metric]()

    def difference(rows):
        scores = [
            made.corpus_score([t[i] for i in rows], [[r[i] for i in rows] for r in references]).score
            for t in (first, second)
        ]
        return abs(scores[0] - scores[1])

    chosen = np.random.default_rng(12345).choice(lines, size=(resamples, lines), replace=True)
    found = np.array([difference(rows) for rows in chosen])
    least = difference(range(lines)) - 1e-9
    return (1 + sum(one - found.mean() >= least for one in found)) / (resamples + 1)


@pytest.mark.parametrize("metric", ["bleu", "chrf", "ter"])
@pytest.mark.parametrize("several", [False, True])
def test_p_is_that_of_scoring_every_resample_anew(metric, several, monkeypatch):
    monkeypatch.setattr(bootstrap, "RESAMPLES", 150)
    references, first, second = corpus(8, 4)
    further = [first[1:] + first[:1]] if several else []
    (found,) = paired_bootstrap(first, second, references, [metric], further=further)
    assert found.baseline != found.system
    assert found.p_value == written_out(metric, first, second, [references, *further], 150)
    assert found.signature.startswith("nrefs:2|" if several else "nrefs:1|")


@pytest.mark.parametrize("seed", range(3))
def test_scores_intervals_and_p_are_sacrebleus_where_nothing_is_equal(seed, monkeypatch):
    monkeypatch.setenv("SACREBLEU_SEED", "12345")
    references, first, second = corpus(40, seed)
    systems = [("baseline", first), ("system", second)]
    test = PairedTest(systems, {name: made() for name, made in MADE.items()}, [references], "bs", 1000)
    signatures, results = test()
    for found in paired_bootstrap(first, second, references, list(MADE)):
        before, after = results[found.name]
        assert (found.baseline, found.system) == (before.score, after.score)
        assert found.baseline_interval == pytest.approx((before.mean, before.ci), rel=1e-4)
        assert found.system_interval == pytest.approx((after.mean, after.ci), rel=1e-4)
        assert found.p_value == pytest.approx(after.p_value, abs=2e-3)
        assert found.signature == str(signatures[found.name])


@pytest.mark.parametrize("metric", ["bleu", "chrf", "ter"])
def test_the_order_of_the_two_does_not_matter(metric):
    references, first, second = corpus(15, 5)
    (one,) = paired_bootstrap(first, second, references, [metric])
    (other,) = paired_bootstrap(second, first, references, [metric])
    assert one.p_value == other.p_value
    assert (one.baseline, one.baseline_interval) == (other.system, other.system_interval)


def test_equal_scores_have_p_1_however_the_texts_differ():
    references, first, _ = corpus(20, 2)
    lower = [line.lower() for line in first]  # TER and chrF without spaces do not see what changes
    spaced = [line.replace(" ", "  ") for line in first]
    swapped = first[:]
    swapped[3:5] = [first[3].upper(), first[4]]
    cases = [
        ("ter", first, lower),
        ("chrf", first, spaced),
        ("bleu", first, spaced),
        ("bleu", ["no"] * 20, ["nothing"] * 20),  # both are 0
        ("chrf", [""] * 20, [" "] * 20),
        ("ter", first, first),
    ]
    for metric, one, other in cases:
        (found,) = paired_bootstrap(one, other, references, [metric])
        assert found.baseline == found.system and found.p_value == 1.0, (metric, found)


def test_equal_sums_of_other_lines_have_p_1():
    """Each of two systems has one line right: the scores are equal, those of the resamples are not."""
    references = ["a b c d e", "f g h i j"]
    (found,) = paired_bootstrap(["a b c d e", "x"], ["x", "f g h i j"], references, ["ter"])
    assert found.baseline == found.system and found.p_value == 1.0


@pytest.mark.parametrize("metric", ["bleu", "chrf", "ter"])
def test_one_line_is_no_sample(metric):
    (found,) = paired_bootstrap(["a b c d x"], ["a b c d e"], ["a b c d e"], [metric])
    assert found.baseline != found.system and found.p_value == 1.0


def test_what_differs_in_every_line_is_significant():
    references = [f"line {i} is a sentence of seven words" for i in range(20)]
    (found,) = paired_bootstrap(["bad"] * 20, references, references)
    assert found.p_value == 1 / (RESAMPLES + 1)


def test_no_lines_are_refused():
    with pytest.raises(Refused, match="^references: expected at least one line to score, found none; check "):
        paired_bootstrap([], [], [])
    with pytest.raises(
        Refused,
        match="^references: expected a reference for each of the 2 lines of the baseline, found 1 "
        "references; check that both are of the same test set$",
    ):
        paired_bootstrap(["a", "b"], ["a", "b"], ["a", "b"], further=[["a"]])
