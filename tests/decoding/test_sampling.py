"""Sampling: the right distribution, the cuts, and the same draws again from the same seed."""

import pytest
import torch

from seqsru.decoding import ForbiddenTokens, sample
from seqsru.errors import Refused
from tests.decoding.fakes import EOS, Fake


def draw(fake, limits, seed=0, **changed):
    memory, state = fake.begin()
    return sample(
        fake.step,
        memory,
        state,
        fake.start(),
        eos=EOS,
        max_length=torch.tensor(limits),
        generator=torch.Generator().manual_seed(seed),
        **changed,
    )


def fixed(log_probs):
    """A step that always gives one distribution."""
    return lambda tokens, memory, state: (log_probs.expand(len(tokens), -1), None, state)


def frequencies(log_probs, count=20000, **changed):
    """How often each token is drawn first."""
    start = torch.zeros(count, dtype=torch.int64)
    drawn = sample(
        fixed(log_probs),
        (),
        (),
        start,
        eos=EOS,
        max_length=torch.ones_like(start),
        generator=torch.Generator().manual_seed(1),
        **changed,
    )
    return torch.bincount(torch.tensor([h.tokens[0] for h in drawn]), minlength=log_probs.shape[-1]) / count


PROBS = torch.tensor([0.1, 0.4, 0.2, 0.05, 0.25])


@pytest.mark.parametrize(
    "changed, expected",
    [
        ({}, PROBS),
        ({"temperature": 0.5}, PROBS**2 / (PROBS**2).sum()),
        ({"temperature": 3.0}, PROBS ** (1 / 3) / (PROBS ** (1 / 3)).sum()),
        ({"top_k": 2}, torch.tensor([0, 0.4, 0, 0, 0.25]) / 0.65),
        ({"top_k": 99}, PROBS),
        ({"top_p": 0.6}, torch.tensor([0, 0.4, 0, 0, 0.25]) / 0.65),
        ({"top_p": 0.3}, torch.tensor([0, 1.0, 0, 0, 0])),
        ({"top_k": 3, "top_p": 0.5}, torch.tensor([0, 0.4, 0, 0, 0.25]) / 0.65),
        ({"rules": [ForbiddenTokens([1])]}, torch.tensor([0.1, 0, 0.2, 0.05, 0.25]) / 0.6),
    ],
)
def test_distribution(changed, expected):
    found = frequencies(PROBS.log(), **changed)
    assert (found[expected == 0] == 0).all()
    # five standard deviations of a frequency in 20,000 draws
    assert (found - expected).abs().max() < 5 * (0.25 / 20000) ** 0.5


def test_one_choice_is_the_likeliest_and_ties_take_the_lower():
    fake = Fake(9, 4, seed=1)
    for sentence, hypothesis in enumerate(draw(fake, [6] * 4, top_k=1)):
        tokens = []
        while len(tokens) < 6 and EOS not in tokens:
            tokens.append(int(torch.tensor(fake.next(sentence, tokens)).argmax()))
        assert hypothesis.tokens == tokens
    assert frequencies(torch.tensor([-5.0, -1, -1, -1]), count=50, top_k=1).tolist() == [0, 1, 0, 0]


def test_log_prob_is_the_models_own():
    fake = Fake(9, 5, seed=3)
    for sentence, hypothesis in enumerate(draw(fake, [8] * 5, temperature=0.7, top_k=4, top_p=0.9)):
        assert hypothesis.log_prob == pytest.approx(sum(fake.follow(sentence, hypothesis.tokens)[0]))
        assert hypothesis.score == hypothesis.log_prob and hypothesis.attention is None


def test_length_and_end():
    fake = Fake(4, 40, seed=0)
    limits = [1 + n % 7 for n in range(40)]
    drawn = draw(fake, limits)
    for limit, hypothesis in zip(limits, drawn):
        assert EOS not in hypothesis.tokens[:-1]
        assert len(hypothesis.tokens) == limit or hypothesis.tokens[-1] == EOS
        assert 1 <= len(hypothesis.tokens) <= limit
    assert any(h.tokens[-1] != EOS for h in drawn)


def test_a_seed_repeats_and_sentences_that_end_change_nothing():
    fake = Fake(8, 6, seed=0)
    drawn = draw(fake, [9] * 6, seed=5)
    assert draw(fake, [9] * 6, seed=5) == drawn
    assert draw(fake, [9] * 6, seed=6) != drawn
    shorter = draw(fake, [1, 9, 1, 9, 1, 9], seed=5)
    assert shorter[1::2] == drawn[1::2]


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"temperature": 0.0}, "temperature: expected a finite number above 0, found 0.0"),
        ({"top_k": -1}, "top_k: expected at least 0, found -1"),
        ({"top_p": 0.0}, "top_p: expected above 0 and at most 1, found 0.0"),
        ({"rules": [ForbiddenTokens([0, 1, 2])]}, "expected a token to choose from, found none"),
    ],
)
def test_impossible_settings(changed, message):
    with pytest.raises(Refused, match=message):
        draw(Fake(3, 1), [4], **changed)
