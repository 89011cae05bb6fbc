"""CTC: the best path by hand, prefix beam search against a sum over every path of every text."""

import itertools
import re

import numpy
import pytest

from seqsru.decoding.ctc import BestPath, PrefixBeam, best_path
from seqsru.decoding.fusion import CtcDecoding, TokenFusion, WordFusion
from seqsru.errors import Refused


def outputs(steps, units, seed, sharp=2.0):
    """Random log probabilities (T, V + 1)."""
    scores = numpy.random.default_rng(seed).normal(size=(steps, units + 1)) * sharp
    return scores - numpy.logaddexp.reduce(scores, axis=1, keepdims=True)


def text_of(path, blank):
    joined = [token for token, _ in itertools.groupby(path)]
    return tuple(token for token in joined if token != blank)


def every_text(log_probs):
    """Log probability of each text that there is, from all paths."""
    steps, width = log_probs.shape
    texts = {}
    for path in itertools.product(range(width), repeat=steps):
        total = sum(log_probs[step, token] for step, token in enumerate(path))
        text = text_of(path, width - 1)
        texts[text] = numpy.logaddexp(texts.get(text, -numpy.inf), total)
    return texts


def searched(log_probs, **options):
    search = PrefixBeam(log_probs.shape[1] - 1, **options)
    search.advance(log_probs)
    return search


CASES = [(1, 2, 0), (2, 3, 1), (4, 2, 2), (5, 2, 3), (4, 3, 4), (6, 1, 5), (3, 4, 6)]


@pytest.mark.parametrize("steps, units, seed", CASES)
def test_a_wide_beam_equals_all_paths_of_all_texts(steps, units, seed):
    log_probs = outputs(steps, units, seed)
    expected, found = every_text(log_probs), searched(log_probs, beam=10_000).best(10_000)
    assert {tuple(one.tokens) for one in found} == set(expected) and len(found) == len(expected)
    for one in found:
        assert one.log_prob == pytest.approx(expected[tuple(one.tokens)], abs=1e-9) == one.score
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
    assert numpy.logaddexp.reduce([one.log_prob for one in found]) == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("beam", [1, 2, 3, 5])
def test_a_narrow_beam_gives_texts_once_each_and_never_more_than_they_have(beam):
    for seed in range(20):
        log_probs = outputs(6, 3, seed, sharp=1.0)
        expected, found = every_text(log_probs), searched(log_probs, beam=beam).best(99)
        assert len({tuple(one.tokens) for one in found}) == len(found) <= beam
        assert all(one.log_prob <= expected[tuple(one.tokens)] + 1e-9 for one in found)


class Bigrams:
    """A language model of random numbers over the units."""

    def __init__(self, units, seed):
        scores = numpy.random.default_rng(seed).normal(size=(units + 1, units + 1))
        self.table = scores - numpy.logaddexp.reduce(scores, axis=1, keepdims=True)

    def begin(self):
        return -1

    def log_probs(self, state):
        return self.table[state, :-1].copy()

    def end(self, state):
        return float(self.table[state, -1])

    def advance(self, states, units):
        return list(units)

    def whole(self, text):
        return sum(self.table[a, b] for a, b in zip((-1, *text), (*text, -1)))


@pytest.mark.parametrize("weight, bonus", [(0.7, 0.0), (0.0, 1.5), (2.0, -0.5)])
@pytest.mark.parametrize("steps, units, seed", CASES)
def test_with_a_language_model_over_units(steps, units, seed, weight, bonus):
    log_probs, model = outputs(steps, units, seed), Bigrams(units, seed + 50)
    fusion = TokenFusion(model, weight, bonus)
    found = searched(log_probs, beam=10_000, fusion=fusion).best(10_000)
    expected = {
        text: total + weight * model.whole(text) + bonus * len(text)
        for text, total in every_text(log_probs).items()
    }
    assert len(found) == len(expected)
    for one in found:
        assert one.score == pytest.approx(expected[tuple(one.tokens)], abs=1e-9)
    assert tuple(found[0].tokens) == max(expected, key=expected.get)


class Lexicon:
    """A language model over words that likes each less the longer it is and the later it comes."""

    words = frozenset(["a", "aab", "bb", "c", "cab"])

    def begin(self):
        return 0

    def score(self, state, word):
        return -1.0 * state if word is None else -0.3 * len(word) * (state + 1)

    def advance(self, states, words):
        assert all(words)
        return [state + 1 for state in states]

    def whole(self, words):
        return sum(self.score(place, word) for place, word in enumerate([*words, None]))


@pytest.mark.parametrize(
    "units, split",
    [
        ([(False, "a"), (True, ""), (False, "b")], lambda text: "".join("a b"[t] for t in text).split()),
        (
            [(True, "a"), (False, "b"), (True, "c")],
            lambda text: "".join([" a", "b", " c"][t] for t in text).split(),
        ),
    ],
    ids=["characters", "pieces"],
)
@pytest.mark.parametrize("steps, unknown", [(2, 0.0), (4, 0.0), (5, 0.0), (2, 1.7), (5, 1.7)])
def test_with_a_language_model_over_words(units, split, steps, unknown):
    log_probs, model = outputs(steps, 3, steps), Lexicon()
    fusion = WordFusion(model, units, 0.8, 0.4, unknown)
    found = searched(log_probs, beam=10_000, fusion=fusion).best(10_000)

    def added(words):
        strange = sum(word not in model.words for word in words)
        return 0.8 * model.whole(words) + 0.4 * len(words) - unknown * strange

    expected = {text: total + added(split(text)) for text, total in every_text(log_probs).items()}
    assert len(found) == len(expected)
    for one in found:
        assert one.score == pytest.approx(expected[tuple(one.tokens)], abs=1e-9)


def test_a_word_that_can_be_none_of_the_vocabulary_is_lost_at_once():
    """So that a narrow beam keeps what may still become one; and it is lost once."""
    units = [(False, "a"), (False, "b"), (False, "c"), (True, "")]
    fusion = WordFusion(Lexicon(), units, 0.0, 0.0, 3.0)
    for text, losses in {
        "a": [0], "aa": [0, 0], "aab": [0, 0, 0], "ba": [0, 3], "bacc": [0, 3, 0, 0], "b b": [0, 3, 0],
        "ab a": [0, 3, 0, 0], "aabc  bb": [0, 0, 0, 3, 0, 0, 0, 0], " ": [0],
    }.items():  # fmt: skip
        state, found = fusion.begin(), []
        for letter in text:
            unit = "abc ".index(letter)
            found.append(-fusion.gains([state])[0][unit])
            (state,) = fusion.extend([state], [unit])
        assert found == losses, text
    ends = {"": 0, "a": 0, "aa": 3, "aab": 0, "ba": 0, "b": 3, "a ": 0}  # "ba" has lost its own before
    for text, loss in ends.items():
        state = fusion.begin()
        for letter in text:
            (state,) = fusion.extend([state], ["abc ".index(letter)])
        assert fusion.ends([state]) == [-loss], text


@pytest.mark.parametrize("piece", [1, 2, 5])
@pytest.mark.parametrize("beam", [1, 4])
def test_steps_in_pieces_give_the_same(piece, beam):
    log_probs = outputs(11, 5, 8)
    for make in (
        BestPath,
        lambda blank: PrefixBeam(blank, beam=beam, fusion=TokenFusion(Bigrams(5, 1), 1, 0)),
    ):
        whole, parts = make(5), make(5)
        whole.advance(log_probs)
        for first in range(0, 11, piece):
            parts.advance(log_probs[first : first + piece])
        assert parts.best(beam) == whole.best(beam)


def test_the_best_path_by_hand():
    rows = numpy.log([[0.6, 0.3, 0.1], [0.5, 0.1, 0.4], [0.1, 0.2, 0.7], [0.5, 0.4, 0.1], [0.1, 0.8, 0.1]])
    found = best_path(rows, 2)
    assert found.tokens == [0, 0, 1]
    assert found.score == found.log_prob == pytest.approx(numpy.log(0.6 * 0.5 * 0.7 * 0.5 * 0.8))
    assert best_path(rows[:0], 2).tokens == []


def test_equal_texts_keep_one_order():
    even = numpy.log(numpy.full((3, 5), 0.2))
    first = searched(even, beam=3).best(3)
    assert first == searched(even, beam=3).best(3)
    assert [one.tokens for one in first] == sorted([one.tokens for one in first], key=len)


def test_candidates_are_the_likeliest_units_of_a_step():
    log_probs = outputs(4, 6, 3)
    assert searched(log_probs, beam=50, candidates=6).best(50) == searched(log_probs, beam=50).best(50)
    few = searched(log_probs, beam=10_000, candidates=1).best(10_000)
    likeliest = log_probs[:, :6].argmax(1).tolist()
    assert {token for one in few for token in one.tokens} <= set(likeliest)


def test_what_no_path_can_write_has_no_probability():
    nothing = numpy.full((2, 3), -numpy.inf)
    assert [(one.tokens, one.score) for one in searched(nothing, beam=4).best(3)] == [([], -numpy.inf)]


@pytest.mark.parametrize("search", [BestPath(2), PrefixBeam(2, beam=3)])
def test_not_a_number_is_refused(search):
    told = (
        "expected log probabilities, found NaN; the weights are damaged or training diverged: load another "
        "checkpoint"
    )
    with pytest.raises(Refused, match=f"^{re.escape(told)}$"):
        search.advance(numpy.full((1, 3), numpy.nan))


@pytest.mark.parametrize(
    "options, sentence",
    [
        ({"beam": 0}, "beam: expected at least 1, found 0; raise it"),
        ({"candidates": -1}, "candidates: expected at least 0, found -1; raise it"),
        (
            {"beam": 2, "n_best": 3},
            "n_best: expected 1 to the beam's 2, found 3; widen the beam or ask for fewer",
        ),
        ({"lm_weight": -0.1}, "lm_weight: expected at least 0, found -0.1; raise it"),
        (
            {"lm_bonus": float("nan")},
            "lm_bonus: expected a finite number of at least -1000, found nan; give such a number",
        ),
        ({"lm_unknown": -1.0}, "lm_unknown: expected at least 0, found -1.0; raise it"),
    ],
)
def test_what_cannot_be_meant(options, sentence):
    with pytest.raises(Refused, match=f"^{re.escape(sentence)}$"):
        CtcDecoding(**options)
