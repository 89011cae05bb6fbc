"""Beam search: the best of everything when wide enough, and exactly its description when not."""

from typing import get_args

import numpy as np
import pytest
import torch

from seqsru.decoding import PENALTIES, Decoding, MinimumLength, Stop, beam_search, coverage_penalty
from seqsru.decoding.beam import rank
from seqsru.errors import Refused
from tests.decoding.fakes import EOS, Fake, every_output, plain_beam

STOPS = get_args(Stop)


def search(fake, limits, *, source_valid=None, with_attention=False, **settings):
    memory, state = fake.begin()
    beam = settings.pop("beam", 3)
    return beam_search(
        fake.step,
        memory,
        state,
        fake.start(),
        eos=EOS,
        max_length=torch.tensor(limits),
        decoding=Decoding(**{"beam": beam, "n_best": beam, **settings}),
        source_valid=source_valid,
        with_attention=with_attention,
    )


def check_numbers(hypotheses, expected):
    """Scores and log probabilities are those of `expected`, (score, log probability, …) each."""
    np.testing.assert_allclose([h.score for h in hypotheses], [entry[0] for entry in expected], rtol=1e-12)
    np.testing.assert_allclose([h.log_prob for h in hypotheses], [entry[1] for entry in expected], rtol=1e-12)


@pytest.mark.parametrize("stop", STOPS)
@pytest.mark.parametrize("penalty, alpha", [("power", 1.0), ("power", 0.5), ("gnmt", 0.6), ("none", 1.0)])
def test_wide_beam_is_exhaustive_search(penalty, alpha, stop):
    vocabulary, limits = 4, [3, 4, 4, 2]
    fake = Fake(vocabulary, len(limits), seed=3)
    found = search(fake, limits, beam=vocabulary**4, penalty=penalty, alpha=alpha, stop=stop)
    for sentence, (limit, hypotheses) in enumerate(zip(limits, found)):
        expected = []
        for tokens in every_output(vocabulary, limit):
            log_prob = sum(fake.follow(sentence, tokens)[0])
            expected.append((log_prob / PENALTIES[penalty](len(tokens), alpha), log_prob, tokens))
        expected.sort(key=lambda entry: -entry[0])
        assert len(hypotheses) == len(expected)
        assert [h.tokens for h in hypotheses] == [tokens for _, _, tokens in expected]
        check_numbers(hypotheses, expected)


def test_wide_beam_is_exhaustive_search_with_coverage():
    vocabulary, limits = 3, [4, 3]
    fake = Fake(vocabulary, 2, source=5, seed=4)
    valid = torch.tensor([[True] * 5, [True, True, True, False, False]]).t()
    found = search(fake, limits, beam=vocabulary**4, coverage=0.7, source_valid=valid, with_attention=True)
    for sentence, (limit, hypotheses) in enumerate(zip(limits, found)):
        expected = []
        for tokens in every_output(vocabulary, limit):
            log_probs, weights = fake.follow(sentence, tokens)
            seen = torch.stack(weights).double().sum(0)[valid[:, sentence]]
            score = sum(log_probs) / len(tokens) + 0.7 * float(seen.clamp(max=1).log().sum())
            expected.append((score, sum(log_probs), tokens, torch.stack(weights)))
        expected.sort(key=lambda entry: -entry[0])
        assert [h.tokens for h in hypotheses] == [tokens for _, _, tokens, _ in expected]
        check_numbers(hypotheses, expected)
        for hypothesis, (_, _, _, weights) in zip(hypotheses, expected):
            assert torch.equal(hypothesis.attention, weights)


def test_coverage_without_attention_kept():
    fake = Fake(5, 2, seed=5)
    valid = torch.ones(3, 2, dtype=torch.bool)
    asked = search(fake, [5, 5], coverage=0.3, source_valid=valid, with_attention=True)
    unasked = search(fake, [5, 5], coverage=0.3, source_valid=valid)
    for one, other in zip(sum(asked, []), sum(unasked, [])):
        assert (one.tokens, one.score) == (other.tokens, other.score)
        assert one.attention.shape == (len(one.tokens), 3) and other.attention is None


@pytest.mark.parametrize("quantum", [0.0, 0.5])
@pytest.mark.parametrize("stop", STOPS)
@pytest.mark.parametrize("beam", [1, 2, 3, 5, 12])
def test_follows_its_description(beam, stop, quantum):
    """A quantum makes log probabilities tie often: ties go to the lower flat index, in both."""
    limits = [7, 1, 4, 9, 6, 2]
    for seed in range(5):
        fake = Fake(7, len(limits), seed=seed, quantum=quantum, sharpness=0.5)
        found = search(fake, limits, beam=beam, stop=stop)
        for sentence, (limit, hypotheses) in enumerate(zip(limits, found)):
            expected = plain_beam(fake, sentence, limit, beam, float, stop)[:beam]
            assert [h.tokens for h in hypotheses] == [tokens for _, _, tokens in expected]
            assert [h.score for h in hypotheses] == [score for score, _, _ in expected]
            assert [h.log_prob for h in hypotheses] == [total for _, total, _ in expected]


def test_beam_one_is_greedy():
    fake = Fake(9, 6, seed=1)
    for sentence, (hypothesis,) in enumerate(search(fake, [12] * 6, beam=1)):
        tokens = []
        while not tokens or tokens[-1] != EOS:
            log_probs = fake.next(sentence, tokens)
            tokens.append(int(np.argmax(log_probs)) if len(tokens) < 11 else EOS)
        assert hypothesis.tokens == tokens


def test_a_twenty_line_model():
    """The greedy road 1 1 0 (.6 · .5 · .5) is not the best: 2 0 (.4 · .9) is."""
    table = torch.tensor([[0.0, 0.6, 0.4], [0.5, 0.3, 0.2], [0.9, 0.05, 0.05]]).log()

    def step(tokens, memory, state):
        return table[torch.where(state[0] > 0, tokens, 0)], None, (state[0] + 1,)

    for beam, best in ((1, [1, 0]), (2, [2, 0])):
        (hypotheses,) = beam_search(
            step,
            (),
            (torch.zeros(1),),
            torch.tensor([0]),
            eos=0,
            max_length=torch.tensor([5]),
            decoding=Decoding(beam=beam, penalty="none"),
        )
        assert [h.tokens for h in hypotheses] == [best]
        assert hypotheses[0].log_prob == pytest.approx(np.log(0.6 * 0.5 if beam == 1 else 0.4 * 0.9))


def test_n_best_is_sorted_and_cut():
    fake = Fake(20, 3, seed=2)
    everything = search(fake, [8] * 3, beam=6)
    for hypotheses, few in zip(everything, search(fake, [8] * 3, beam=6, n_best=2)):
        scores = [h.score for h in hypotheses]
        assert len(scores) == 6 and scores == sorted(scores, reverse=True)
        assert few == hypotheses[:2]
        assert len({tuple(h.tokens) for h in hypotheses}) == 6


def test_max_length_counts_the_end():
    for limit in (1, 2, 5):
        fake = Fake(6, 2, seed=limit, sharpness=3.0)
        fake.table[:, :, EOS] = -30.0
        found = search(fake, [limit, limit + 1], beam=4)
        assert [len(hypotheses[0].tokens) for hypotheses in found] == [limit, limit + 1]
        for hypotheses in found:
            assert all(h.tokens[-1] == EOS and EOS not in h.tokens[:-1] for h in hypotheses)


def test_rows_of_a_step():
    """One row a sentence first, then `beam` of them; sentences that are done leave."""
    fake = Fake(3, 2, seed=0)
    search(fake, [1, 6], beam=5, stop="all")
    assert fake.widths == [1, 5, 5, 5, 5, 5]


def test_neighbours_change_nothing():
    limits = [9, 3, 7, 5, 8, 2]
    fake = Fake(11, 6, seed=8, quantum=0.25)
    together = search(fake, limits, beam=4)
    for sentence, limit in enumerate(limits):
        memory, state = fake.begin()
        one = slice(sentence, sentence + 1)
        (alone,) = beam_search(
            fake.step,
            tuple(m[one] for m in memory),
            tuple(s[one] for s in state),
            fake.start()[one],
            eos=EOS,
            max_length=torch.tensor([limit]),
            decoding=Decoding(beam=4, n_best=4),
        )
        assert alone == together[sentence]


def test_a_beam_wider_than_the_vocabulary():
    fake = Fake(2, 1, seed=0)
    (hypotheses,) = search(fake, [4], beam=50, stop="all")
    assert sorted(h.tokens for h in hypotheses) == sorted(every_output(2, 4))


def test_a_model_that_cannot_end():
    fake = Fake(5, 1, seed=0)
    fake.table[:, :, EOS] = -torch.inf
    (hypotheses,) = search(fake, [3], beam=2)
    assert len(hypotheses) == 2 and all(len(h.tokens) == 2 and EOS not in h.tokens for h in hypotheses)
    assert hypotheses[0].log_prob == pytest.approx(sum(fake.follow(0, hypotheses[0].tokens)[0]))
    (hypotheses,) = search(fake, [1], beam=2)
    assert [h.tokens for h in hypotheses] == [[]]


def test_no_sentences():
    fake = Fake(5, 0)
    assert search(fake, []) == []


def test_ties_at_the_cut_go_to_the_lower_index():
    log_probs = torch.full((2, 1000), -3.0)
    log_probs[0, 700] = -2.0
    totals, rows, tokens = rank(log_probs, np.array([[0.0, -1.0]]), 4)
    assert tokens.tolist() == [[700, 0, 1, 2]]
    assert rows.tolist() == [[0, 0, 0, 0]] and totals.tolist() == [[-2.0, -3.0, -3.0, -3.0]]
    totals, rows, tokens = rank(log_probs, np.array([[-1.0, 0.0]]), 3)
    assert tokens.tolist() == [[700, 0, 1]] and rows.tolist() == [[0, 1, 1]]
    assert totals.tolist() == [[-3.0, -3.0, -3.0]]


def test_equal_scores_keep_the_order_they_finished_in():
    uniform = torch.full((1, 1, 4), -1.0)

    def step(tokens, memory, state):
        return uniform[0].expand(len(tokens), -1), None, state

    (hypotheses,) = beam_search(
        step,
        (),
        (),
        torch.tensor([1]),
        eos=0,
        max_length=torch.tensor([3]),
        decoding=Decoding(beam=4, n_best=4),
    )
    assert [h.tokens for h in hypotheses] == [[0], [1, 0], [1, 1, 0], [1, 2, 0]]
    assert [h.score for h in hypotheses] == [-1.0] * 4


def test_forced_length():
    """A minimum equal to the maximum fixes the length: `</s>` comes at max_length whatever the rule says."""
    fake = Fake(6, 2, seed=0)
    for rules in ((MinimumLength(5),), (MinimumLength(9),)):
        found = search(fake, [5, 5], beam=3, rules=rules)
        assert [[len(h.tokens) for h in hypotheses] for hypotheses in found] == [[5, 5, 5]] * 2


def test_coverage_penalty_is_finite():
    assert coverage_penalty(np.array([0.5, 1.0, 2.5])) == pytest.approx(np.log(0.5))
    assert np.isfinite(coverage_penalty(np.array([0.0, 1.0])))


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"beam": 0}, "beam: expected at least 1, found 0"),
        ({"n_best": 4}, "n_best: expected 1 to the beam's 3, found 4"),
        ({"n_best": 0}, "n_best: expected 1 to the beam's 3, found 0"),
        ({"penalty": "gnm"}, "penalty: expected one of power, gnmt, none, found 'gnm'; did you mean 'gnmt'"),
        ({"stop": "frist"}, "stop: expected one of first, exact, all, found 'frist'; did you mean 'first'"),
        ({"alpha": -1.0}, "alpha: expected a finite number of at least 0, found -1.0"),
        ({"coverage": float("nan")}, "coverage: expected a finite number of at least 0, found nan"),
    ],
)
def test_impossible_settings(changed, message):
    with pytest.raises(Refused, match=message) as caught:
        Decoding(**{"beam": 3, **changed})
    assert [caught.value.setting] == list(changed)


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"batch_by": "lines"}, "batch_by: expected one of sentences, tokens, found 'lines'"),
        ({"batch_size": 0}, "batch_size: expected at least 1, found 0"),
        ({"max_source": 1}, "max_source: expected at least 2, a token and </s>, found 1"),
        ({"length_factor": -0.5}, "length_factor: expected a finite number of at least 0, found -0.5"),
        ({"length_offset": -2}, r"length_offset: .* at least 1, found 2.0 \+ -2"),
        ({"rules": ("min_length",)}, "rules: expected rules of .*, found min_length; make them first"),
    ],
)
def test_impossible_translation_settings(changed, message):
    with pytest.raises(Refused, match=message) as caught:
        Decoding(**changed)
    assert [caught.value.setting] == list(changed)


def test_some_settings_changed():
    decoding = Decoding(beam=3)
    assert decoding.changed() == decoding
    assert decoding.changed(n_best=2, stop="all") == Decoding(beam=3, n_best=2, stop="all")
    with pytest.raises(
        Refused, match=r"a setting of decoding \(beam, .*\), found 'bean'; did you mean 'beam'\?"
    ):
        decoding.changed(bean=2)
    with pytest.raises(Refused, match="n_best: expected 1 to the beam's 3, found 4"):
        decoding.changed(n_best=4)


def test_longest_output():
    assert Decoding().longest(7) == 24
    assert Decoding(length_factor=0.5, length_offset=3).longest(7) == 6


def test_impossible_input():
    with pytest.raises(Refused, match=r"one shape \(B,\), found \(2,\) and \(1,\)"):
        search(Fake(5, 2), [4])
    with pytest.raises(Refused, match="max_length: expected at least 1, found 0; </s> is a token too"):
        search(Fake(5, 2), [4, 0])
    with pytest.raises(Refused, match="source_valid: expected .* with a coverage penalty, found None"):
        search(Fake(5, 1), [4], coverage=0.1)
    broken = Fake(5, 1)
    broken.table[:] = torch.nan
    with pytest.raises(Refused, match="expected log probabilities, found NaN"):
        search(broken, [4])

    def blind(tokens, memory, state):
        return torch.zeros(len(tokens), 3), None, state

    with pytest.raises(Refused, match="with_attention: expected attention weights from the step, found None"):
        beam_search(
            blind,
            (),
            (),
            torch.tensor([1]),
            eos=0,
            max_length=torch.tensor([3]),
            with_attention=True,
            decoding=Decoding(),
        )
