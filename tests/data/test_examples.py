"""Labels and their file; batches of labelled texts, every one once an epoch, drawn from (seed, epoch)."""

import json
import random

import numpy
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from seqsru.data.examples import ExampleBatches, Examples, Labels
from seqsru.data.labelled import LabelledLines, read_labelled
from seqsru.data.lines import LineReport
from seqsru.data.padding import Ragged
from seqsru.data.vocabulary import Words
from seqsru.errors import NotFound, Refused

LENGTHS = st.lists(st.integers(0, 30), min_size=1, max_size=60)


def labelled(labels, texts=None):
    count = len(labels)
    return LabelledLines(
        "set", labels, texts or ["x"] * count, [2 * i + 1 for i in range(count)], LineReport("set", 2 * count)
    )


def examples_of(lengths):
    """Examples of given lengths; the tokens of each are its index + 10, its label is index mod 3."""
    tokens = Ragged.from_sequences([[i + 10] * n for i, n in enumerate(lengths)])
    return Examples(tokens, numpy.arange(len(lengths)) % 3, 7)


def some_lengths(count):
    draw = random.Random(5)
    return [draw.randrange(1, 40) for _ in range(count)]


def test_labels_are_in_the_order_of_their_names():
    labels = Labels.train(labelled("b a c a b".split()))
    assert (labels.names, labels.size) == (("a", "b", "c"), 3)
    numbers = labels.encode(labelled("c a b".split()))
    assert numbers.tolist() == [2, 0, 1] and numbers.dtype == numpy.int64
    assert labels.encode(labelled([])).shape == (0,)
    assert labels.fingerprint == Labels.train(labelled("c b a".split())).fingerprint
    prints = {Labels(names).fingerprint for names in (["a", "b"], ["b", "a"], ["ab", "c"], ["a", "bc"])}
    assert len(prints) == 4


@pytest.mark.parametrize("names", [[], ["a"], ["a", "b", "a"]])
def test_labels_that_tell_nothing_apart(names):
    with pytest.raises(
        Refused, match=r"expected at least two labels, each once, found \[.*\]; check the train"
    ):
        Labels(names)


def test_unknown_label_is_named_with_its_place(tmp_path):
    labels = Labels(["neg", "neutral", "pos"])
    (tmp_path / "test").write_text("neg a\n\npos b\nneutrl c\nx d\n")
    lines = read_labelled(tmp_path / "test", on_bad_line="skip")
    with pytest.raises(
        Refused,
        match=r"^expected a label of the training data \(neg, neutral, pos\) at .*/test:4, found 'neutrl', "
        r"did you mean 'neutral'\?; correct it, or train with it$",
    ):
        labels.encode(lines)
    with pytest.raises(Refused, match=r"at set:3, found 'x'; correct it, or train with it$"):
        labels.encode(labelled(["neg", "x"]))


def test_saved_and_loaded(tmp_path):
    saved = Labels(["sehr gut", "übel", "\u2028"])
    saved.save(tmp_path, "labels")
    loaded = Labels.load(tmp_path, "labels")
    assert (loaded.names, loaded.fingerprint) == (saved.names, saved.fingerprint)
    assert [path.name for path in tmp_path.iterdir()] == ["labels.json"]


@pytest.mark.parametrize(
    "change",
    [
        lambda record: record["types"].append("more"),
        lambda record: record["types"].reverse(),
        lambda record: record.update(types=["a"]),
        lambda record: record.update(types=["a", "a"]),
        lambda record: record.update(types=["a", 3]),
        lambda record: record.update(types="ab"),
        lambda record: record.update(types=None),
        lambda record: record.update(kind="words"),
        lambda record: record.pop("types"),
    ],
)
def test_a_changed_file_is_refused(tmp_path, change):
    Labels(["a", "b"]).save(tmp_path, "labels")
    path = tmp_path / "labels.json"
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))
    with pytest.raises(
        Refused,
        match=r"expected a tokenizer with fingerprint \w{12} in .*labels\.json, found .*; the file was dam",
    ):
        Labels.load(tmp_path, "labels")


def test_a_cut_file_and_none(tmp_path):
    with pytest.raises(NotFound, match=r"expected a tokenizer at .*labels\.json, found no such file; check"):
        Labels.load(tmp_path, "labels")
    Labels(["a", "b"]).save(tmp_path, "labels")
    path = tmp_path / "labels.json"
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(Refused, match=r"JSON record of a tokenizer in .*labels\.json, found a damaged file"):
        Labels.load(tmp_path, "labels")


def test_lines_are_encoded():
    words, labels = Words.train(["a b"]), Labels(["no", "yes"])
    lines = labelled(["yes", "no"], ["b a zebra", "a"])
    examples = Examples.from_lines(lines, words, labels)
    assert list(examples.tokens) == [words.encode("b a zebra"), words.encode("a")]
    assert (examples.labels.tolist(), examples.pad, len(examples)) == ([1, 0], words.pad, 2)


@given(LENGTHS, st.integers(1, 20), st.integers(0, 3))
def test_every_example_is_in_one_batch(lengths, size, epoch):
    batches = ExampleBatches(examples_of(lengths), size, seed=1)
    drawn = batches.epoch(epoch)
    assert len(drawn) == len(batches) == -(-len(lengths) // size)
    assert sorted(sum(drawn, [])) == list(range(len(lengths)))
    smaller = [batch for batch in drawn if len(batch) < size]
    assert len(smaller) <= 1 and all(len(batch) <= size for batch in drawn)
    if smaller:  # it has the longest, by buckets of four
        assert max(-(-n // 4) for n in lengths) in {-(-lengths[i] // 4) for i in smaller[0]}
    # Like lengths together: batches do not interleave, and the cuts are those of every other epoch.
    spans = sorted((min(n), max(n)) for n in ([-(-lengths[i] // 4) for i in batch] for batch in drawn))
    assert all(first[1] <= second[0] for first, second in zip(spans, spans[1:]))
    assert spans == sorted(
        (min(n), max(n)) for n in ([-(-lengths[i] // 4) for i in batch] for batch in batches.epoch(epoch + 1))
    )


def test_batches_are_of_like_lengths():
    lengths = some_lengths(3000)
    for batch in ExampleBatches(examples_of(lengths), 16, seed=1).epoch(0):
        found = [lengths[i] for i in batch]
        assert max(found) - min(found) < 8  # less than four, but where two buckets meet


@given(LENGTHS)
def test_collated_examples(lengths):
    batches = ExampleBatches(examples_of(lengths), seed=0)
    order = list(range(len(lengths)))[::-1]
    batch = batches.collate(order)
    assert batch.tokens.shape == batch.valid.shape == (max(lengths), len(lengths))
    assert (batch.tokens.dtype, batch.valid.dtype, batch.labels.dtype) == (
        torch.int64,
        torch.bool,
        torch.int64,
    )
    assert batch.labels.tolist() == [i % 3 for i in order]
    for column, i in enumerate(order):
        n = lengths[i]
        assert batch.tokens[:, column].tolist() == [i + 10] * n + [7] * (max(lengths) - n)
        assert batch.valid[:, column].tolist() == [True] * n + [False] * (max(lengths) - n)


def test_order_comes_from_seed_and_epoch_alone():
    examples = examples_of(some_lengths(400))
    first = ExampleBatches(examples, seed=7)
    before = [first.epoch(e) for e in range(3)]
    numpy.random.seed(1)
    torch.manual_seed(99)
    state = torch.get_rng_state(), numpy.random.get_state()[1].tolist()
    second = ExampleBatches(examples, seed=7)
    assert [second.epoch(e) for e in (2, 0, 1)] == [before[2], before[0], before[1]]
    assert torch.equal(torch.get_rng_state(), state[0]) and numpy.random.get_state()[1].tolist() == state[1]
    assert before[0] != before[1] != before[2]
    assert ExampleBatches(examples, seed=8).epoch(0) != before[0]
    # Not only the order of the batches: who is beside whom changes as well.
    assert {frozenset(batch) for batch in before[0]} != {frozenset(batch) for batch in before[1]}


def test_the_order_is_the_same_on_every_machine():
    """A change of these numbers would break the resuming of runs begun before it."""
    assert ExampleBatches(examples_of([3] * 8 + [20] * 3), 4, seed=3).epoch(2) == [
        [7, 6, 1, 2],
        [10, 8, 9],
        [4, 0, 5, 3],
    ]


@pytest.mark.parametrize(
    "lengths, options, message",
    [
        ([], {}, "expected examples to make batches of, found none; check the training file"),
        ([1], {"batch_size": 0}, "batch_size: expected at least 1, found 0"),
        ([1], {"seed": -1}, "seed: expected at least 0, found -1"),
    ],
)
def test_impossible_batches(lengths, options, message):
    with pytest.raises(Refused, match=message):
        ExampleBatches(examples_of(lengths), **{"seed": 1, **options})


def test_a_corpus(mirror):
    train, test = (
        read_labelled(mirror / "classification" / f"TREC.{part}.all", encoding="latin-1")
        for part in ("train", "test")
    )
    words, labels = Words.train(train.texts), Labels.train(train)
    assert labels.names == tuple("012345") and len(labels.encode(test)) == 500
    batches = ExampleBatches(Examples.from_lines(train, words, labels), seed=1)
    tokens, room = 0, 0
    for indices in batches.epoch(1):
        batch = batches.collate(indices)
        tokens, room = tokens + int(batch.valid.sum()), room + batch.valid.numel()
    assert tokens == sum(len(text.split()) for text in train.texts) > 0.85 * room
