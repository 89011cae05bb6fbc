"""IBM model 1: against the sums written out, against a textbook, and with too little room."""

from collections import defaultdict

import numpy as np
import pytest

from seqsru.engine import alignment
from seqsru.engine.alignment import Alignment
from seqsru.errors import Refused

NULL = None


def written_out(pairs, iterations, null=True):
    """p(target | source) of every pair of tokens, and of a target by no word, as the formulas stand."""
    p = defaultdict(lambda: 1.0)
    for _ in range(iterations):
        counts, totals = defaultdict(float), defaultdict(float)
        for source, target in pairs:
            if not source or not target:
                continue
            words = [*source, NULL] if null else source
            for t in target:
                total = sum(p[s, t] for s in words)
                for s in words:
                    counts[s, t] += p[s, t] / total
                    totals[s] += p[s, t] / total
        p = {(s, t): count / totals[s] for (s, t), count in counts.items()}
    return p


def learned(pairs, iterations, sizes, *, most_pairs=1_000_000, null=True):
    model = Alignment(*sizes, most_pairs=most_pairs, null=null)
    for _ in range(iterations):
        model.iterate(pairs)
    return model


def as_dicts(model):
    found = model.associations()
    places = list(zip(found.source.tolist(), found.target.tolist()))
    return dict(zip(places, found.given_source.tolist())), dict(zip(places, found.given_target.tolist()))


def drawn(seed, sentences, sizes, longest=9):
    draw = np.random.default_rng(seed)
    return [
        tuple(draw.integers(0, size, draw.integers(0, longest)).tolist() for size in sizes)
        for _ in range(sentences)
    ]


def swapped(pairs):
    return [(target, source) for source, target in pairs]


@pytest.mark.parametrize("null", [True, False])
@pytest.mark.parametrize("iterations", [1, 2, 5])
def test_both_directions_are_the_sums_written_out(iterations, null):
    # Tokens occur twice in a sentence, sides are empty, and ids 0 and size - 1 occur.
    pairs = drawn(3, 200, (11, 17))
    model = learned(pairs, iterations, (11, 17), null=null)
    given_source, given_target = as_dicts(model)
    expected = written_out(pairs, iterations, null)
    assert given_source == pytest.approx(
        {place: p for place, p in expected.items() if place[0] is not NULL}, rel=1e-12, abs=1e-300
    )
    expected = written_out(swapped(pairs), iterations, null)
    assert given_target == pytest.approx(
        {(s, t): p for (t, s), p in expected.items() if t is not NULL}, rel=1e-12, abs=1e-300
    )


def test_the_textbook_example():
    # Koehn (2010), Statistical Machine Translation, figure 4.4: das Haus, das Buch, ein Buch; no empty word.
    das, haus, buch, ein = range(4)
    the, house, book, a = range(4)
    pairs = [([das, haus], [the, house]), ([das, buch], [the, book]), ([ein, buch], [a, book])]
    first, _ = as_dicts(learned(pairs, 1, (4, 4), null=False))
    assert first == pytest.approx(
        {
            (das, the): 0.5, (das, house): 0.25, (das, book): 0.25, (haus, the): 0.5, (haus, house): 0.5,
            (buch, the): 0.25, (buch, book): 0.5, (buch, a): 0.25, (ein, a): 0.5, (ein, book): 0.5,
        }
    )  # fmt: skip
    second, _ = as_dicts(learned(pairs, 2, (4, 4), null=False))
    assert second[das, the] == second[buch, book] == pytest.approx(0.6364, abs=5e-5)
    assert second[das, house] == second[das, book] == pytest.approx(0.1818, abs=5e-5)
    assert (second[haus, the], second[haus, house]) == pytest.approx((0.4286, 0.5714), abs=5e-5)
    third, _ = as_dicts(learned(pairs, 3, (4, 4), null=False))
    assert third[das, the] == pytest.approx(0.7479, abs=5e-5)
    assert third[das, house] == pytest.approx(0.1313, abs=5e-5)
    assert (third[haus, the], third[haus, house]) == pytest.approx((0.3466, 0.6534), abs=5e-5)
    last, _ = as_dicts(learned(pairs, 300, (4, 4), null=False))
    assert [last[pair] for pair in ((das, the), (haus, house), (buch, book), (ein, a))] == pytest.approx(
        [1.0] * 4, abs=0.02
    )


def test_counts_are_those_of_the_text():
    model = learned([([1, 1, 2], [0]), ([], [3]), ([2], [])], 3, (3, 4))
    assert model.source_counts.tolist() == [0, 2, 2]
    assert model.target_counts.tolist() == [1, 0, 0, 1]


def test_batches_and_a_growing_table_change_nothing(monkeypatch):
    pairs = drawn(5, 400, (90, 90))
    once = learned(pairs, 3, (90, 90)).associations()
    monkeypatch.setattr(alignment, "BATCH", 7)
    monkeypatch.setattr(alignment, "SMALLEST", 128)
    cut = learned(pairs, 3, (90, 90)).associations()
    assert len(once.source) > 4000
    for name in ("source", "target"):
        assert getattr(once, name).tolist() == getattr(cut, name).tolist()
    for name in ("given_source", "given_target"):  # where a pair lies decides in what order sums are made
        assert np.allclose(getattr(once, name), getattr(cut, name), rtol=1e-10, atol=0.0)


def test_arrays_are_read_as_lists_are():
    pairs = drawn(6, 50, (20, 20))
    arrays = [tuple(np.asarray(side, np.int32) for side in pair) for pair in pairs]
    assert as_dicts(learned(arrays, 2, (20, 20))) == as_dicts(learned(pairs, 2, (20, 20)))


def dictionary(sentences, words, seed):
    """Sentences of words that each have one translation, among words that come with everything."""
    draw = np.random.default_rng(seed)
    for _ in range(sentences):
        said = draw.integers(5, words, 6)
        yield said.tolist(), np.concatenate([draw.permutation(said), draw.integers(0, 5, 3)]).tolist()


def test_a_full_table_keeps_what_belongs_together():
    pairs = list(dictionary(3000, 300, 1))
    assert len(learned(pairs, 1, (300, 300)).associations().source) > 40_000
    model = learned(pairs, 4, (300, 300), most_pairs=4000)
    found = model.associations()
    assert len(found.source) <= 4000
    kept = set(zip(found.source.tolist(), found.target.tolist()))
    assert kept > {(word, word) for word in range(5, 300)}
    again = learned(pairs, 4, (300, 300), most_pairs=4000).associations()
    assert found.given_source.tobytes() == again.given_source.tobytes()


def test_a_sentence_longer_than_the_table_is_left_out_of_the_alignment_alone():
    model = learned([([1] * 40, [2] * 40), ([1], [1])], 2, (3, 3), most_pairs=1000)
    assert as_dicts(model)[0].keys() == {(1, 1)}
    assert model.source_counts.tolist() == [0, 41, 0]


def test_probabilities_of_every_token_sum_to_one():
    model = learned(drawn(8, 300, (40, 50)), 4, (40, 50))
    found = model.associations()
    assert np.bincount(found.source, found.given_source) == pytest.approx(np.ones(40))
    assert np.bincount(found.target, found.given_target) == pytest.approx(np.ones(50))


@pytest.mark.parametrize(
    "pairs, sentence",
    [
        ([], "pairs: expected sentence pairs to align, found none; check the training files"),
        (
            [([1, 5], [1])],
            "source_size: expected source ids from 0 to 4, found 5; give the tokenizer's size",
        ),
        (
            [([1], [1]), ([1], [2, -1])],
            "target_size: expected target ids from 0 to 5, found -1; give the tokenizer's size",
        ),
    ],
)
def test_refusals(pairs, sentence):
    with pytest.raises(Refused) as refused:
        Alignment(5, 6, most_pairs=1000).iterate(pairs)
    assert str(refused.value) == sentence


@pytest.mark.parametrize("name", ["source_size", "target_size", "most_pairs"])
def test_sizes_of_nothing_are_refused(name):
    sizes = {"source_size": 1, "target_size": 1, "most_pairs": 1, name: 0}
    with pytest.raises(Refused) as refused:
        Alignment(**sizes)
    assert str(refused.value) == f"{name}: expected at least 1, found 0; raise it"
