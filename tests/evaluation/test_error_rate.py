"""Error rates: by hand, against a slow alignment, and the interval."""

import random
from functools import cache

import pytest

from seqsru.errors import Refused
from seqsru.evaluation.error_rate import ErrorCounts, error_counts, error_rates


def slow(reference, hypothesis):
    """The fewest errors, then the fewest deletions and insertions, by the definition."""

    @cache
    def cost(i, j):
        if i == 0 or j == 0:
            return i + j, i + j
        ways = [
            tuple(map(sum, zip(cost(i - 1, j - 1), (int(reference[i - 1] != hypothesis[j - 1]), 0)))),
            tuple(map(sum, zip(cost(i - 1, j), (1, 1)))),
            tuple(map(sum, zip(cost(i, j - 1), (1, 1)))),
        ]
        return min(ways)

    return cost(len(reference), len(hypothesis))


def test_counts_are_those_of_the_definition():
    draw = random.Random(5)
    for _ in range(300):
        reference, hypothesis = (tuple(draw.choices("abcd", k=draw.randint(0, 9))) for _ in range(2))
        found = error_counts(reference, hypothesis)
        assert (found.errors, found.deletions + found.insertions) == slow(reference, hypothesis)
        assert found.insertions - found.deletions == len(hypothesis) - len(reference)
        assert min(found.substitutions, found.deletions, found.insertions) >= 0


@pytest.mark.parametrize(
    "reference, hypothesis, expected",
    [
        ("a b c", "a b c", (0, 0, 0, 3)),
        ("a b c", "", (0, 3, 0, 3)),
        ("a", "x y z", (1, 0, 2, 1)),
        ("a b c d", "b c d e", (0, 1, 1, 4)),
        ("a b", "b a", (2, 0, 0, 2)),  # as dear as a deletion and an insertion
    ],
)
def test_by_hand(reference, hypothesis, expected):
    assert error_counts(reference.split(), hypothesis.split()) == ErrorCounts(*expected)


def test_jiwer_counts_as_many():
    jiwer = pytest.importorskip("jiwer")
    draw = random.Random(7)
    references, hypotheses = (
        [" ".join(draw.choices("one two three four".split(), k=draw.randint(1, 8))) for _ in range(60)]
        for _ in range(2)
    )
    wer, cer = error_rates(references, hypotheses)
    assert wer.counts.rate == pytest.approx(100 * jiwer.wer(references, hypotheses), abs=1e-9)
    assert cer.counts.rate == pytest.approx(100 * jiwer.cer(references, hypotheses), abs=1e-9)


def test_sums_and_their_interval():
    references = ["GO  ON", "STOP", "YES NO"] * 20
    hypotheses = ["GO ON", "STEP", "YES"] * 20
    wer, cer = error_rates(references, hypotheses)
    assert wer.counts == ErrorCounts(20, 20, 0, 100) and wer.counts.rate == 40.0
    assert cer.counts == ErrorCounts(20, 60, 0, (5 + 4 + 6) * 20)
    assert error_rates(references, hypotheses) == (wer, cer)  # the resamples are the same ones
    assert wer.line == (
        f"WER 40.00 (95 % {wer.low:.2f} to {wer.high:.2f}; 40 errors in 100 words: 20 substitutions, "
        "20 deletions, 0 insertions)"
    )
    assert wer.as_dict()["rate"] == 40.0 and 30 < wer.low < 40 < wer.high < 50
    perfect, _ = error_rates(references, references)
    assert (perfect.counts.rate, perfect.low, perfect.high) == (0.0, 0.0, 0.0)


def test_mistakes():
    with pytest.raises(
        Refused, match="^hypotheses: expected a text for each of the 2 utterances, found 1; check"
    ):
        error_rates(["a", "b"], ["a"])
    for nothing in ([], ["", " "]):
        with pytest.raises(
            Refused, match="^references: expected a word in the references, found none; check"
        ):
            error_rates(nothing, nothing)
