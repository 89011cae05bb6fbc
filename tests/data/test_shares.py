"""Corpora with weights: how often an epoch has each pair, limits kept, an order from (seed, epoch) alone."""

import random
from collections import Counter

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqsru.data.lines import LineReport
from seqsru.data.padding import Ragged
from seqsru.data.pairs import PairBatches, Pairs, _cuts
from seqsru.data.shares import Share
from seqsru.data.stream import StreamBatches, WeightedStream
from seqsru.errors import Refused

WEIGHTS = st.sampled_from([0.01, 0.3, 0.5, 1.0, 1.75, 2.0, 3.1])


def pairs_of(lengths, name="a + b"):
    """Pairs of given lengths; the tokens of each are its index + 10."""
    source = Ragged.from_sequences([[i + 10] * s for i, (s, _) in enumerate(lengths)])
    target = Ragged.from_sequences([[i + 10] * t for i, (_, t) in enumerate(lengths)])
    return Pairs(source, target, numpy.arange(len(lengths)) + 1, LineReport(name, len(lengths)), 1, 2, 3)


def corpora(*sizes, seed=5):
    draw = random.Random(seed)
    return [pairs_of([(draw.randrange(1, 40), draw.randrange(1, 40)) for _ in range(n)]) for n in sizes]


@given(
    st.lists(st.tuples(st.integers(1, 9), st.integers(1, 40)), min_size=1, max_size=12), st.integers(9, 99)
)
def test_cuts_are_those_of_one_after_the_other(buckets, limit):
    expected, widest = [0], 0
    costs = [cost for cost, size in buckets for _ in range(size)]
    for i, cost in enumerate(costs):
        widest = max(widest, cost)
        if (i + 1 - expected[-1]) * widest > limit:
            expected.append(i)
            widest = cost
    found = _cuts([cost for cost, _ in buckets], [size for _, size in buckets], limit)
    assert found.tolist() == [*expected, len(costs)]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 60), WEIGHTS), min_size=1, max_size=4),
    st.integers(40, 300),
    st.integers(0, 9),
)
def test_an_epoch_has_each_pair_as_often_as_its_weight_says(given, limit, seed):
    parts = corpora(*(size for size, _ in given), seed=seed)
    weights = [weight for _, weight in given]
    batches = PairBatches(list(map(Share, parts, weights)), limit, seed=seed)
    first = numpy.cumsum([0, *map(len, parts)])
    sides = zip(*((part.source.lengths.tolist(), part.target.lengths.tolist()) for part in parts))
    lengths = list(zip(*(sum(side, []) for side in sides)))
    for epoch in (1, 2):
        drawn = batches.epoch(epoch)
        assert len(drawn) == len(batches)
        for indices in drawn:
            source = max(lengths[i][0] + 1 for i in indices)
            target = max(lengths[i][1] + 1 for i in indices)
            assert len(indices) * max(-(-source // 8) * 8, target) <= limit
        times = Counter(sum(drawn, []))
        for number, (part, weight) in enumerate(zip(parts, weights)):
            of_part = [times[int(first[number]) + i] for i in range(len(part))]
            assert all(int(weight) <= n <= int(weight) + 1 for n in of_part)
            assert sum(of_part) == batches.counts[number][1]
            assert abs(sum(of_part) - weight * len(part)) <= 1
            assert batches.counts[number] == (len(part), sum(of_part))


def test_every_pair_is_as_likely_as_another():
    parts = corpora(50, 30)
    batches = PairBatches([Share(parts[0], 0.3), Share(parts[1], 1.4)], 128, seed=2)
    times = Counter(i for epoch in range(1, 301) for i in sum(batches.epoch(epoch), []))
    assert all(58 < times[i] < 122 for i in range(50))  # four standard deviations are 32
    assert all(386 < times[50 + i] < 454 for i in range(30))


def test_chosen_pairs_come_from_their_own_corpus():
    parts = [pairs_of([(3, 2)] * 5), pairs_of([(3, 4), (2, 1)])]
    batches = PairBatches([Share(parts[0]), Share(parts[1])], 4096, seed=1)
    batch = batches.collate([0, 6, 4, 5])
    assert batch.source[:4].T.tolist() == [[10, 10, 10, 1], [11, 11, 1, 1], [14, 14, 14, 1], [10, 10, 10, 1]]
    assert batch.target_out.T.tolist()[1:] == [[11, 3, 3, 3, 3], [14, 14, 3, 3, 3], [10, 10, 10, 10, 3]]
    assert batch.count == 3 + 2 + 3 + 5


@pytest.mark.parametrize("weights", [(1.0, 1.0), (2.5, 0.5)])
def test_an_epoch_may_be_begun_anywhere_and_is_drawn_from_seed_and_epoch_alone(weights):
    shares = list(map(Share, corpora(200, 70), weights))
    first = PairBatches(shares, 128, seed=3)
    whole = first.epoch(4)
    assert [batch.tolist() for batch in PairBatches(shares, 128, seed=3).batches(4, 5)] == whole[5:]
    assert first.epoch(5) != whole != PairBatches(shares, 128, seed=4).epoch(4)
    assert any(min(batch) < 200 <= max(batch) for batch in whole)  # both corpora in one batch


def test_one_corpus_of_weight_one_is_what_it_was():
    (pairs,) = corpora(300)
    assert PairBatches([Share(pairs)], 200, seed=1).epoch(2) == PairBatches(pairs, 200, seed=1).epoch(2)
    # Twice the same corpus is what a weight of two is, whoever of the two is meant.
    twice = PairBatches([Share(pairs), Share(pairs)], 200, seed=1).epoch(2)
    once = PairBatches([Share(pairs, 2.0)], 200, seed=1).epoch(2)
    assert [[i % 300 for i in batch] for batch in twice] == once


def test_reports_are_of_each_corpus():
    parts = [pairs_of([(3, 3), (30, 3)], "one"), pairs_of([(2, 2)], "two"), pairs_of([(99, 3)], "three")]
    batches = PairBatches(list(map(Share, parts)), 64, seed=1, max_length=20)
    assert list(map(str, batches.reports)) == [
        "one: 2 lines; 1 longer than 20 tokens, skipped (line 2)",
        "two: 1 lines",
        "three: 1 lines; 1 longer than 20 tokens, skipped (line 1)",
    ]
    assert batches.counts == [(1, 1), (1, 1), (0, 0)]
    with pytest.raises(Refused) as caught:
        PairBatches(list(map(Share, parts[::2])), 64, seed=1, max_length=3)
    assert str(caught.value) == (
        "max_length: expected sentence pairs to make batches of, found none (one: 2 lines; 2 longer than 3 "
        "tokens, skipped (lines 1, 2); three: 1 lines; 1 longer than 3 tokens, skipped (line 1)); check the "
        "files and the limits on length"
    )


@pytest.mark.parametrize("weight", [0.0, -1.0, 1000.5, float("inf"), float("nan")])
def test_what_is_no_weight(weight):
    with pytest.raises(Refused) as caught:
        Share(None, weight)
    assert str(caught.value) == (
        f"weight: expected a weight above 0 and up to 1,000, found {weight}; 1 takes each part of it once an "
        "epoch, 0.5 every second time"
    )


def test_too_many_pairs(monkeypatch):
    monkeypatch.setattr("seqsru.data.pairs.MOST_PAIRS", 1000)
    with pytest.raises(Refused) as caught:
        PairBatches([Share(corpora(60)[0], 20.0)], 100, seed=1)
    assert str(caught.value) == (
        "train: expected at most 1,000 pairs in an epoch, found 1,200; lower the weights, or leave some "
        "corpora out"
    )


# ---- streams ---------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(0, 30), WEIGHTS), min_size=1, max_size=3))
def test_an_epoch_of_streams(given):
    parts = [numpy.arange(size) + 100 * number for number, (size, _) in enumerate(given)]
    stream = WeightedStream([Share(part, weight) for part, (_, weight) in zip(parts, given)])
    epochs = [stream.epoch(epoch)[:].tolist() if len(stream) else [] for epoch in range(1, 9)]
    for tokens in epochs:
        assert len(tokens) == len(stream) == sum(stream.counts)
    for part, (size, weight) in zip(parts, given):
        times = Counter(token for tokens in epochs for token in tokens)
        counted = [times[token] for token in part.tolist()]
        assert not counted or max(counted) - min(counted) <= 1  # by turns
        assert abs(sum(counted) - 8 * weight * size) <= 8


def test_windows_of_weighted_streams_are_those_of_the_streams_of_their_epochs():
    parts = [Share(numpy.arange(50), 1.5), Share(numpy.arange(100, 130), 0.5)]
    weighted = StreamBatches(WeightedStream(parts), 4, 7, 1)
    assert weighted.targets == 75 + 15
    for epoch in (1, 2, 3):
        windows, tokens = weighted.epoch(epoch), WeightedStream(parts).epoch(epoch)[:]
        assert len(windows) == len(weighted)
        rows = [numpy.concatenate([windows[i].targets[:, b] for i in range(len(windows))]) for b in range(4)]
        ends = [90 * b // 4 for b in range(5)]
        for row, start, end in zip(rows, ends, ends[1:]):
            assert row[: end - start].tolist() == tokens[start:end].tolist()
    assert not (WeightedStream(parts).epoch(1)[:] == WeightedStream(parts).epoch(2)[:]).all()
