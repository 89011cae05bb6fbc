"""The language model: streaming, tying, dropouts, and the step that decoding uses."""

import pytest
import torch
import torch.nn.functional as F

from seqsru.cells import Stack
from seqsru.errors import Refused
from seqsru.models import LanguageModel


def build(hidden=12, embedding=12, cell="sru", layers=2, **options):
    torch.manual_seed(5)
    return LanguageModel(20, Stack(cell, embedding, hidden, layers), embedding, **options)


def text(steps=9, rows=3):
    return torch.randint(20, (steps, rows), generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("cell", ["sru", "lstm", "gru"])
def test_windows_with_the_state_carried_equal_the_whole(cell):
    model, tokens = build(cell=cell).eval(), text()
    whole, last = model(tokens)
    first, state = model(tokens[:4])
    second, state = model(tokens[4:], state)
    torch.testing.assert_close(torch.cat([first, second]), whole)
    torch.testing.assert_close(state, last)
    fresh, _ = model(tokens[4:])
    assert (fresh - second).abs().max() > 1e-3


@pytest.mark.parametrize("cell", ["sru", "lstm"])
def test_steps_equal_the_whole(cell):
    model, tokens = build(cell=cell).eval(), text()
    with torch.no_grad():
        features, _ = model(tokens)
        expected = F.log_softmax(model.logits(features), dim=-1)
        memory, state = model.begin(tokens[:4])
        assert memory == ()
        for t in range(4, len(tokens)):
            log_probs, attention, state = model.step(tokens[t], memory, state)
            assert attention is None and log_probs.dtype == torch.float32
            torch.testing.assert_close(log_probs, expected[t], rtol=1e-4, atol=1e-5)


def test_an_empty_prompt_is_the_initial_state():
    model = build().eval()
    _, state = model.begin(torch.empty(0, 3, dtype=torch.int64))
    torch.testing.assert_close(state, model.initial_state(3))


def test_a_padded_prompt_leaves_each_row_its_own_state():
    model, tokens = build().eval(), text(6, 2)
    valid = torch.tensor([[True] * 6, [True] * 2 + [False] * 4]).t()
    _, state = model.begin(tokens, valid)
    _, short = model.begin(tokens[:2, 1:])
    torch.testing.assert_close(tuple(t[1:] for t in state), short)


def test_tied_weights_are_one_tensor_with_both_gradients():
    model = build()
    assert model.output.weight is model.embedding.weight and model.projection is None
    tokens = torch.full((2, 1), 7)
    features, _ = model(tokens)
    loss, _ = model.cross_entropy(features, tokens)
    loss.backward()
    assert torch.count_nonzero(model.embedding.weight.grad.abs().sum(1)) == 20  # every row is an output
    names = [name for name, _ in model.named_parameters()]
    assert "embedding.weight" in names and "output.weight" not in names


def test_a_projection_stands_only_between_different_sizes_that_are_tied():
    wide = build(hidden=16)
    assert wide.projection.weight.shape == (12, 16) and wide.output.weight.shape == (20, 12)
    loose = build(hidden=16, tied=False)
    assert loose.projection is None and loose.output.weight.shape == (20, 16)
    for model in (wide, loose):
        features, _ = model(text())
        assert model.logits(features).shape == (9, 3, 20)


def test_first_weights_are_as_the_published_recipe_has_them():
    torch.manual_seed(0)
    model = LanguageModel(4000, Stack("sru", 50, 30), 50)
    for weight, width in ((model.embedding.weight, 50), (model.projection.weight, 30)):
        assert weight.abs().max() <= (3 / width) ** 0.5
        assert weight.var().item() == pytest.approx(1 / width, rel=0.1)
    assert not model.output.bias.any()


def test_cross_entropy_is_that_of_the_logits():
    model = build().double()
    features, _ = model(text())
    loss, nll = model.cross_entropy(features, text(), smoothing=0.1)
    logits = model.logits(features).flatten(0, 1)
    expected = F.cross_entropy(logits, text().flatten(), reduction="sum", label_smoothing=0.1)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(nll.flatten(), F.cross_entropy(logits, text().flatten(), reduction="none"))


def test_dropout_masks_are_drawn_once_a_window():
    """A linear probe in the place of the stack shows each mask as it is."""

    class Probe(torch.nn.Module):
        causal, input_size, output_size = True, 12, 12

        def forward(self, x, state, valid):
            self.read = x.detach()
            return torch.ones_like(x), ()

    model = LanguageModel(200, Probe(), 12, embedding_dropout=0.5, word_dropout=0.3, output_dropout=0.25)
    torch.nn.init.ones_(model.embedding.weight)
    tokens = torch.arange(200).repeat(2)[:, None].repeat(1, 3)  # each word twice
    output, _ = model(tokens)
    read = model.stack.read
    kept_words, kept_features = read.sum(-1) > 0, read.amax(0) > 0
    assert torch.equal(kept_words[:200], kept_words[200:])  # a type, wherever it is
    assert kept_words[:200, 0].float().mean() == pytest.approx(0.7, abs=0.1)
    expected = kept_words[..., None] * kept_features / (0.7 * 0.5)  # over time the same features
    torch.testing.assert_close(read, expected)
    assert torch.equal(output, output[:1].expand_as(output))
    torch.testing.assert_close(output.unique(), torch.tensor([0.0, 1 / 0.75]))
    assert 0 < kept_features.float().mean() < 1 and not torch.equal(kept_features[0], kept_features[1])
    model.eval()(tokens)
    assert model.stack.read.eq(1).all()


def test_mistakes_are_refused():
    with pytest.raises(
        Refused,
        match="bidirectional: expected a stack whose steps depend on no later one, found one that reads in",
    ):
        LanguageModel(20, Stack("sru", 8, 8, bidirectional=True), 8)
    with pytest.raises(
        Refused,
        match="stack: expected a stack that reads embedding_size = 10 features, found one that reads 8",
    ):
        LanguageModel(20, Stack("sru", 8, 8), 10)
    with pytest.raises(Refused, match=r"word_dropout: expected a probability from 0 to below 1, found 1\.0"):
        build(word_dropout=1.0)
