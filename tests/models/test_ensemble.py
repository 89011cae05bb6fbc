"""Translators that predict together: the mean of their probabilities, whatever they are made of."""

import itertools
import re

import pytest
import torch

from seqsru.cells import Stack
from seqsru.decoding import Decoding, beam_search, sample
from seqsru.errors import Refused
from seqsru.models import Decoder, Ensemble, Translator
from seqsru.models.ensemble import mean_log_probs

V = 5


def translator(seed, cell="sru", layers=1, attention="dot", width=8, vocabulary=V, dtype=torch.float64):
    """A random model whose predictions are far from even."""
    torch.manual_seed(seed)
    options = {"backend": "reference"} if cell == "sru" else {}
    encoder = Stack(cell, width, width, layers, bidirectional=True, options=options)
    decoder = Decoder(
        cell, width, 2 * width, width, layers, attention=attention, attend="last", options=options
    )
    model = Translator(vocabulary, vocabulary, encoder, decoder, width).to(dtype).eval()
    for parameter in model.parameters():
        parameter.data.mul_(2.0)
    return model


def members(dtype=torch.float64):
    """Models of three architectures: other cells, depths, widths, states and attentions."""
    return [
        translator(1, dtype=dtype),
        translator(2, "lstm", layers=2, width=12, dtype=dtype),
        translator(3, "gru", attention="additive", dtype=dtype),
    ]


def source(*lengths):
    """Random sources (S, B) that end at these lengths, and their validity."""
    tokens = torch.randint(2, V, (max(lengths), len(lengths)))
    return tokens, torch.arange(max(lengths)).unsqueeze(1) < torch.tensor(lengths)


def averaged(models, tokens, valid, target_in):
    """Log of the mean probability of every token after every prefix (T, B, V), member by member."""
    parts = [torch.softmax(model.logits(model(tokens, valid, target_in)), -1) for model in models]
    return (sum(parts) / len(parts)).log()


@torch.no_grad()
def test_steps_and_losses_are_those_of_the_mean():
    models, (tokens, valid) = members(), source(4, 7, 2)
    ensemble = Ensemble(models).eval()
    target = torch.randint(0, V, (6, 3))
    expected = averaged(models, tokens, valid, target)
    memory, state = ensemble.begin(tokens, valid)
    attentions = [one.begin(tokens, valid) for one in models]
    for time, row in enumerate(target):
        found, attention, state = ensemble.step(row, memory, state, with_attention=True)
        assert torch.allclose(found, expected[time], rtol=0, atol=1e-12)
        parts = []
        for index, one in enumerate(models):
            _, weights, after = one.step(row, *attentions[index], with_attention=True)
            attentions[index] = attentions[index][0], after
            parts.append(weights)
        assert torch.allclose(attention, sum(parts) / 3, rtol=0, atol=1e-12)
        assert (attention[~valid.t()] == 0).all()
    assert ensemble.step(target[0], memory, state)[1] is None
    real = torch.arange(6).unsqueeze(1) < torch.tensor([6, 3, 5])
    out = torch.randint(0, V, (6, 3))
    total, nll = ensemble.cross_entropy(ensemble(tokens, valid, target), out, real)
    wanted = -expected.gather(2, out.unsqueeze(2)).squeeze(2).masked_fill(~real, 0.0)
    assert torch.allclose(nll, wanted, rtol=0, atol=1e-12) and (nll[~real] == 0).all()
    assert torch.isclose(total, wanted.sum())


@torch.no_grad()
def test_beam_search_with_room_for_all_finds_the_best_of_all():
    models, (tokens, valid) = members(), source(4, 6)
    ensemble, eos, longest = Ensemble(models).eval(), 1, 3
    found = beam_search(
        ensemble.step,
        *ensemble.begin(tokens, valid),
        torch.ones(2, dtype=torch.int64),
        eos=eos,
        max_length=torch.tensor([longest, longest]),
        decoding=Decoding(beam=V**longest, n_best=3, stop="all"),
        source_valid=valid,
    )
    words = [token for token in range(V) if token != eos]
    every = [
        [*words_, eos] for length in range(longest) for words_ in itertools.product(words, repeat=length)
    ]
    for sentence in range(2):
        of = tokens[:, [sentence]], valid[:, [sentence]]
        scored = []
        for output in every:
            into = torch.tensor([1, *output[:-1]]).unsqueeze(1)
            steps = averaged(models, *of, into)[:, 0]
            total = sum(steps[time, token].item() for time, token in enumerate(output))
            scored.append((total / len(output), output))
        best = sorted(scored, reverse=True)[:3]
        assert [one.tokens for one in found[sentence]] == [output for _, output in best]
        assert [one.score for one in found[sentence]] == pytest.approx([score for score, _ in best])


@torch.no_grad()
def test_samples_are_drawn_from_the_mean():
    models, (tokens, valid) = members(), source(4, 6)
    ensemble = Ensemble(models).eval()
    histories = []

    def by_hand(last, memory, state):
        histories.append(last)
        return averaged(models, tokens, valid, torch.stack(histories))[-1], None, state

    def drawn(step, memory, state):
        start, generator = torch.ones(2, dtype=torch.int64), torch.Generator().manual_seed(3)
        longest = torch.tensor([9, 9])
        return sample(
            step, memory, state, start, eos=V, max_length=longest, temperature=1.2, generator=generator
        )

    never_ends = [one.tokens for one in drawn(ensemble.step, *ensemble.begin(tokens, valid))]
    assert len({tuple(one) for one in never_ends}) == 2
    assert [one.tokens for one in drawn(by_hand, (), ())] == never_ends


@pytest.mark.parametrize("times", [1, 2, 3, 7])
@torch.no_grad()
def test_a_model_any_number_of_times_is_itself_to_the_bit(times):
    model, (tokens, valid) = translator(4, "lstm", dtype=torch.float32), source(3, 9, 5)
    ensemble = Ensemble([model] * times).eval()
    (memory, state), (other, after) = model.begin(tokens, valid), ensemble.begin(tokens, valid)
    assert len(other) == times * len(memory)
    for row in torch.randint(0, V, (4, 3)):
        expected, attention, state = model.step(row, memory, state, True)
        found, weights, after = ensemble.step(row, other, after, True)
        assert torch.equal(found, expected) and torch.equal(weights, attention)
    target = torch.randint(0, V, (4, 3))
    expected = model.cross_entropy(model(tokens, valid, target), target)[1]
    assert torch.equal(ensemble.cross_entropy(ensemble(tokens, valid, target), target)[1], expected)


@pytest.mark.parametrize("vocabulary", [5, 16, 37, 1003])
def test_a_row_has_the_bits_it_has_alone(vocabulary):
    parts = [torch.log_softmax(4 * torch.randn(13, vocabulary), -1) for _ in range(3)]
    together = mean_log_probs(parts)
    for row in range(13):
        alone = mean_log_probs([part[row : row + 1].clone() for part in parts])
        assert torch.equal(together[row], alone[0])


def test_extremes():
    never, sure = torch.tensor([[-torch.inf]]), torch.tensor([[0.0]])
    assert mean_log_probs([never, never]).item() == -torch.inf
    assert mean_log_probs([never, sure]).item() == pytest.approx(-0.6931471805599453)
    assert mean_log_probs([torch.tensor([[-1000.0]]), torch.tensor([[-1001.0]])]).item() == pytest.approx(
        -1000.3798854930417
    )
    assert mean_log_probs([torch.tensor([[float("nan")]]), sure]).isnan().all()


def test_what_does_not_go_together():
    with pytest.raises(Refused, match="^members: expected at least one translator, found none; give one$"):
        Ensemble([])
    sentence = (
        "members: expected source_vocabulary 5 of every member, found 6; average translators of the same "
        "tokenizers"
    )
    with pytest.raises(Refused, match=f"^{re.escape(sentence)}$"):
        Ensemble([translator(1), translator(2, vocabulary=6)])
