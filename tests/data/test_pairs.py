"""Batches of pairs: limits kept, every pair once an epoch, an order from (seed, epoch) alone."""

import random
from types import SimpleNamespace

import numpy
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from seqsru.data import PairBatches, Pairs, Words, read_parallel
from seqsru.data.lines import LineReport, ParallelLines
from seqsru.data.padding import Ragged
from seqsru.errors import Refused

LENGTHS = st.lists(st.tuples(st.integers(1, 30), st.integers(1, 30)), min_size=1, max_size=60)


def pairs_of(lengths):
    """Pairs of given lengths; the tokens of each are its index + 10."""
    source = Ragged.from_sequences([[i + 10] * s for i, (s, _) in enumerate(lengths)])
    target = Ragged.from_sequences([[i + 10] * t for i, (_, t) in enumerate(lengths)])
    numbers = numpy.arange(len(lengths)) * 2 + 1
    return Pairs(source, target, numbers, LineReport("a + b", 2 * len(lengths)), 1, 2, 3)


@given(LENGTHS, st.integers(8, 200), st.none() | st.integers(1, 40), st.integers(0, 3))
def test_limits_are_kept_and_every_pair_is_in_one_batch(lengths, limit, max_length, epoch):
    def too_long(s, t):
        padded = max(-(-(s + 1) // 8) * 8, t + 1)
        return padded > limit or (max_length is not None and max(s, t) + 1 > max_length)

    kept = [i for i, pair in enumerate(lengths) if not too_long(*pair)]
    if not kept:
        with pytest.raises(Refused, match="expected sentence pairs to make batches of, found none"):
            PairBatches(pairs_of(lengths), limit, seed=1, max_length=max_length)
        return
    batches = PairBatches(pairs_of(lengths), limit, seed=1, max_length=max_length)
    drawn = batches.epoch(epoch)
    assert len(drawn) == len(batches)
    assert sorted(sum(drawn, [])) == kept
    for indices in drawn:
        batch = batches.collate(indices)
        assert len(indices) * max(len(batch.source), len(batch.target_in)) <= limit
    assert sum(batches.report.counts.values()) == len(lengths) - len(kept)


@given(LENGTHS)
def test_collated_pairs(lengths):
    batches = PairBatches(pairs_of(lengths), 10_000, seed=0)
    batch = batches.collate(range(len(lengths)))
    assert len(batch.source) % 8 == 0 and len(batch.source) - 8 < max(s + 1 for s, _ in lengths)
    assert len(batch.target_in) == max(t + 1 for _, t in lengths)
    assert batch.count == int(batch.target_valid.sum()) == sum(t + 1 for _, t in lengths)
    for i, (s, t) in enumerate(lengths):
        assert batch.source[:, i][batch.source_valid[:, i]].tolist() == [i + 10] * s + [1]
        assert batch.target_in[:, i][batch.target_valid[:, i]].tolist() == [2] + [i + 10] * t
        assert batch.target_out[:, i][batch.target_valid[:, i]].tolist() == [i + 10] * t + [3]
        assert batch.source_valid[: s + 1, i].all() and batch.target_valid[: t + 1, i].all()
    assert set(batch.source[~batch.source_valid].tolist()) <= {1}
    assert set(batch.target_out[~batch.target_valid].tolist()) <= {3}
    assert {batch.source.dtype, batch.target_in.dtype, batch.target_out.dtype} == {torch.int64}
    assert batch.source_valid.dtype == batch.target_valid.dtype == torch.bool


def some_lengths(n):
    draw = random.Random(5)
    return [(draw.randrange(1, 40), draw.randrange(1, 40)) for _ in range(n)]


def test_order_comes_from_seed_and_epoch_alone():
    pairs = pairs_of(some_lengths(400))
    first = PairBatches(pairs, 256, seed=7)
    before = [first.epoch(e) for e in range(3)]
    numpy.random.seed(1)
    torch.manual_seed(99)
    state = torch.get_rng_state(), numpy.random.get_state()[1].tolist()
    second = PairBatches(pairs, 256, seed=7)
    assert [second.epoch(e) for e in (2, 0, 1)] == [before[2], before[0], before[1]]
    assert torch.equal(torch.get_rng_state(), state[0]) and numpy.random.get_state()[1].tolist() == state[1]
    assert before[0] != before[1] != before[2]
    assert PairBatches(pairs, 256, seed=8).epoch(0) != before[0]
    # Not only the order of the batches: who is beside whom changes as well.
    assert {frozenset(batch) for batch in before[0]} != {frozenset(batch) for batch in before[1]}


def test_the_order_is_the_same_on_every_machine():
    """A change of these numbers would break the resuming of runs begun before it."""
    assert PairBatches(pairs_of([(3, 3)] * 9 + [(20, 2)] * 3), 32, seed=3).epoch(2) == [
        [10],
        [9],
        [4, 0, 8, 5],
        [11],
        [3, 7, 6, 1],
        [2],
    ]


def test_batches_are_of_like_lengths():
    batches = PairBatches(pairs_of([(n, n) for n, _ in some_lengths(3000)]), 2048, seed=1)
    collated = [batches.collate(indices) for indices in batches.epoch(0)]
    assert sum(b.count for b in collated) > 0.85 * sum(b.target_in.numel() for b in collated)


def test_too_long_is_reported_by_line():
    batches = PairBatches(pairs_of([(3, 3), (30, 3), (3, 12), (3, 3)]), 24, seed=1, max_length=20)
    assert batches.report.first == {"longer than 20 tokens, skipped": [3]}
    batches = PairBatches(pairs_of([(3, 3), (30, 3), (3, 12), (3, 30)]), 16, seed=1, max_length=31)
    assert batches.report.first == {"longer than a batch of 16 tokens, skipped": [3, 7]}
    assert "2 longer than a batch of 16 tokens, skipped (lines 3, 7)" in str(batches.report)
    assert not batches.pairs.report


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"tokens": 7, "seed": 1}, "tokens: expected at least 8, found 7"),
        ({"tokens": 64, "seed": -1}, "seed: expected at least 0, found -1"),
        (
            {"tokens": 64, "seed": 1, "max_length": 3},
            r"max_length: .* found none \(a \+ b: 4 lines; 2 longer than 3 tokens, skipped",
        ),
    ],
)
def test_errors(arguments, message):
    with pytest.raises(Refused, match=message):
        PairBatches(pairs_of([(5, 5), (6, 6)]), **arguments)


def test_encoded_pairs_leave_empty_lines_out():
    lines = ParallelLines(
        "s + t",
        ["a b", "", " \t", "b", "a"],
        ["c", "c", "c", "\u00a0", "c c"],
        [1, 2, 4, 5, 6],
        LineReport("s + t", 6, {"NUL, skipped": 1}, {"NUL, skipped": [3]}),
    )
    source, target = Words.train(["a b"]), Words.train(["c"])
    pairs = Pairs.from_lines(lines, source, target)
    assert len(pairs) == 2 and pairs.numbers.tolist() == [1, 6]
    assert [pairs.source[i] for i in range(2)] == [[2, 3], [2]] and list(pairs.target) == [[2], [2, 2]]
    assert pairs.report.first == {"NUL, skipped": [3], "empty, skipped": [2, 4, 5]}
    assert lines.report.counts == {"NUL, skipped": 1}


def test_a_line_that_encodes_to_nothing_is_empty():
    silent = SimpleNamespace(encode=lambda line: [], eos=1, bos=1)
    lines = ParallelLines("s + t", ["a"], ["b"], [1], LineReport("s + t", 1))
    assert len(Pairs.from_lines(lines, Words.train(["a"]), silent)) == 0


def test_multi30k(mirror):
    lines = read_parallel(mirror / "multi30k" / "train.en", mirror / "multi30k" / "train.de")
    pairs = Pairs.from_lines(lines, Words.train(lines.source), Words.train(lines.target))
    batches = PairBatches(pairs, 4096, seed=1, max_length=30)
    assert not pairs.report and list(batches.report.counts) == ["longer than 30 tokens, skipped"]
    assert sorted(sum(batches.epoch(0), [])) == [
        i for i in range(29_000) if max(len(pairs.source[i]), len(pairs.target[i])) < 30
    ]
    for indices in batches.epoch(1):
        batch = batches.collate(indices)
        assert len(indices) * max(len(batch.source), len(batch.target_in)) <= 4096
