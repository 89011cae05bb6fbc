"""The classifier: each pooling and the convolution against a plain loop, and rows that know of no other."""

import pytest
import torch
import torch.nn.functional as F

from seqsru.cells import CELLS, Stack
from seqsru.errors import Refused
from seqsru.models.classifier import Classifier, Convolution

V, C, E, D = 30, 4, 10, 6
LENGTHS = [9, 4, 1, 0, 6]
VALID = torch.arange(9).unsqueeze(1) < torch.tensor(LENGTHS)
POOLINGS = ["last", "max", "mean", "attention"]
READERS = [*((pooling, both) for pooling in POOLINGS for both in (False, True)), ("convolution", False)]
over_readers = pytest.mark.parametrize("reader, both", READERS)


def build(reader="max", both=False, cell="sru", layers=2, **options):
    torch.manual_seed(5)
    if reader == "convolution":
        encoder, pooling = Convolution(E, widths=(1, 3, 12), features=5), "max"
    else:
        encoder, pooling = Stack(cell, E, D, layers, bidirectional=both), reader
    model = Classifier(V, C, encoder, E, pooling=pooling, **options)
    if model.query is not None:  # it begins as the mean
        torch.nn.init.normal_(model.query)
    return model


def texts(steps=9, rows=5):
    return torch.randint(V, (steps, rows), generator=torch.Generator().manual_seed(2))


def pooled_by_hand(h, model):
    """The definition, for the steps (n, O) of one row alone."""
    size = model.encoder.output_size
    if not len(h):
        return torch.zeros(size)
    if model.pooling == "last":
        one = size // model.encoder.directions
        return torch.cat([h[-1, :one], h[0, one:]])
    if model.pooling == "max":
        return torch.stack([max(column) for column in h.unbind(1)])
    if model.pooling == "mean":
        return sum(h) / len(h)
    scores = torch.stack([model.query @ step / size**0.5 for step in h])
    weights = scores.exp() / scores.exp().sum()
    return sum(a * step for a, step in zip(weights, h))


@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("pooling", POOLINGS)
def test_poolings_equal_a_loop_over_rows_without_padding(pooling, both):
    model, tokens = build(pooling, both).eval(), texts()
    features = model(tokens, VALID)
    assert features.shape == (5, model.encoder.output_size)
    for row, n in enumerate(LENGTHS):
        h, _ = model.encoder(model.embedding(tokens[:n, row : row + 1]))
        torch.testing.assert_close(features[row], pooled_by_hand(h[:, 0], model))


def test_attention_begins_as_the_mean():
    attention = Classifier(V, C, Stack("sru", E, D), E, pooling="attention")
    mean = Classifier(V, C, attention.encoder, E, pooling="mean")
    mean.embedding = attention.embedding
    assert not attention.query.any()
    torch.testing.assert_close(attention(texts(), VALID), mean(texts(), VALID))


def convolved_by_hand(x, convolution):
    """Equation 1 for one row (n, I), step by step and width by width."""
    n, found = len(x), []
    for width, weight, bias in zip(convolution.widths, convolution.weights, convolution.biases):
        steps = []
        for t in range(n + width - 1 if n else 0):
            window = [x[t - back] if 0 <= t - back < n else torch.zeros(x.shape[1]) for back in range(width)]
            steps.append((weight @ torch.cat(window) + bias).clamp(min=0))
        found.append(torch.stack(steps).amax(0) if steps else torch.zeros(len(bias)))
    return torch.cat(found)


def test_a_convolution_equals_a_loop_over_rows_without_padding():
    torch.manual_seed(1)
    convolution, x = Convolution(E, widths=(1, 2, 5, 12), features=3), torch.randn(9, 5, E)
    y = convolution(x, VALID)
    assert y.shape == (5, 12) == (5, convolution.output_size)
    for row, n in enumerate(LENGTHS):
        torch.testing.assert_close(y[row], convolved_by_hand(x[:n, row], convolution))


def test_a_convolution_is_that_of_torch():
    convolution, x = Convolution(E, widths=(2, 3), features=7), torch.randn(9, 5, E)
    expected = []
    for width, weight, bias in zip(convolution.widths, convolution.weights, convolution.biases):
        kernel = weight.view(7, width, E).flip(1).transpose(1, 2)  # newest input last
        y = F.conv1d(x.permute(1, 2, 0), kernel, bias, padding=width - 1)  # (B, F, T + w - 1)
        expected.append(F.relu(y).amax(-1))
    y = convolution(x, torch.ones(9, 5, dtype=torch.bool))
    torch.testing.assert_close(y, torch.cat(expected, dim=-1))


def test_a_convolution_sees_no_padding_through_its_bias():
    """Past a row's end a window of zeros alone would give the bias, which may be above all that is real."""
    convolution = Convolution(1, widths=(2,), features=1)
    with torch.no_grad():
        convolution.weights[0].fill_(1.0)
        convolution.biases[0].fill_(3.0)
    x = torch.full((6, 2, 1), -2.0)
    y = convolution(x, torch.arange(6).unsqueeze(1) < torch.tensor([2, 0]))
    assert y.tolist() == [[1.0], [0.0]]


@over_readers
def test_a_row_does_not_know_of_others_nor_of_padding(reader, both):
    model, tokens = build(reader, both).eval(), texts()
    features = model(tokens, VALID)
    for row, n in enumerate(LENGTHS):
        alone = model(tokens[:n, row : row + 1], VALID[:n, row : row + 1])
        torch.testing.assert_close(alone, features[row : row + 1])
    longer = model(F.pad(tokens, (0, 0, 0, 7), value=3), F.pad(VALID, (0, 0, 0, 7)))
    torch.testing.assert_close(longer, features)
    order = [3, 1, 4, 0, 2]
    torch.testing.assert_close(model(tokens[:, order], VALID[:, order]), features[order])


@over_readers
def test_what_stands_at_padding_reaches_nothing(reader, both):
    model = build(reader, both, embedding_dropout=0.2, word_dropout=0.1, output_dropout=0.2)
    tokens, last = texts() % (V - 1), V - 1
    torch.manual_seed(3)
    features = model(tokens.masked_fill(~VALID, 0), VALID)
    with torch.no_grad():
        model.embedding.weight[last] = torch.nan
    torch.manual_seed(3)
    padded = model(tokens.masked_fill(~VALID, last), VALID)
    torch.testing.assert_close(padded, features)
    loss, nll = model.cross_entropy(padded, torch.tensor([0, 1, 2, 3, 0]))
    loss.backward()
    assert torch.isfinite(nll).all()
    for name, parameter in model.named_parameters():
        assert torch.isfinite(parameter.grad).all(), name
    assert not model.embedding.weight.grad[last].any()


@over_readers
@pytest.mark.parametrize("steps", [0, 1, 5])
def test_rows_without_a_step(reader, both, steps):
    """Features 0, so the bias alone decides, and gradients that are numbers; also where no row has a step."""
    model = build(reader, both)
    tokens, valid = texts(steps, 3), torch.zeros(steps, 3, dtype=torch.bool)
    features = model(tokens, valid)
    assert features.shape == (3, model.encoder.output_size) and not features.any()
    log_probs = model.log_probs(features)
    torch.testing.assert_close(log_probs, model.output.bias.log_softmax(-1).expand(3, C))
    loss, _ = model.cross_entropy(features, torch.tensor([0, 1, 2]))
    loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
    assert model.output.bias.grad.any()


@over_readers
def test_gradients_reach_every_parameter(reader, both):
    model = build(reader, both)
    loss, _ = model.cross_entropy(model(texts(), VALID), torch.tensor([0, 1, 2, 3, 0]), 0.1)
    loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad.any(), name
    unread = set(range(V)) - set(texts()[VALID].tolist())
    read = model.embedding.weight.grad.abs().sum(1)
    assert unread and not any(read[i] for i in unread)


@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_every_cell_encodes(cell, both):
    for pooling in ("last", "attention"):
        model, tokens = build(pooling, both, cell).eval(), texts()
        with torch.no_grad():
            features = model(tokens, VALID)
            alone = model(tokens[:4, 1:2], VALID[:4, 1:2])
        assert torch.isfinite(features).all() and not features[3].any() and features[:3].any(1).all()
        torch.testing.assert_close(alone, features[1:2], rtol=1e-4, atol=1e-6)


def test_a_frozen_embedding_stays():
    model = build(frozen_embedding=True)
    names = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    assert names == {"embedding.weight"}
    before = model.embedding.weight.clone()
    optimizer = torch.optim.AdamW(model.parameters(), 0.1, weight_decay=0.5)
    loss, _ = model.cross_entropy(model(texts(), VALID), torch.tensor([0, 1, 2, 3, 0]))
    loss.backward()
    optimizer.step()
    assert torch.equal(model.embedding.weight, before) and model.embedding.weight.grad is None
    assert "embedding.weight" in model.state_dict()


def test_log_probs_and_loss_are_of_the_same_logits():
    model, labels = build().double(), torch.tensor([0, 1, 2, 3, 0])
    features = model(texts(), VALID)
    logits = F.linear(features, model.output.weight, model.output.bias)
    torch.testing.assert_close(model.log_probs(features), logits.log_softmax(-1))
    loss, nll = model.cross_entropy(features, labels, 0.1)
    torch.testing.assert_close(loss, F.cross_entropy(logits, labels, reduction="sum", label_smoothing=0.1))
    torch.testing.assert_close(nll, F.cross_entropy(logits, labels, reduction="none"))


def test_dropout_masks_are_drawn_once_a_batch():
    """A sum over time in the place of the encoder's steps shows the masks as they are."""

    class Probe(torch.nn.Module):
        input_size, output_size, directions = E, E, 1

        def forward(self, x, state, valid):
            self.read = x.detach()
            return torch.ones_like(x), ()

    model = Classifier(200, 2, Probe(), E, embedding_dropout=0.5, word_dropout=0.3, output_dropout=0.25)
    torch.nn.init.ones_(model.embedding.weight)
    tokens = torch.arange(200).repeat(2)[:, None].repeat(1, 3)  # each word twice
    features = model(tokens, torch.ones_like(tokens, dtype=torch.bool))
    read = model.encoder.read
    kept_words, kept_features = read.sum(-1) > 0, read.amax(0) > 0
    assert torch.equal(kept_words[:200], kept_words[200:])  # a type, wherever it is
    assert kept_words[:200, 0].float().mean() == pytest.approx(0.7, abs=0.1)
    torch.testing.assert_close(read, kept_words[..., None] * kept_features / (0.7 * 0.5))
    assert not torch.equal(kept_features[0], kept_features[1])  # rows have masks of their own
    torch.testing.assert_close(features.unique(), torch.tensor([0.0, 1 / 0.75]))
    assert model.eval()(tokens, torch.ones_like(tokens, dtype=torch.bool)).eq(1).all()
    assert model.encoder.read.eq(1).all()


def test_first_weights():
    model = Classifier(400, 3, Convolution(50, widths=(4,), features=60), 50)
    assert 0.099 < model.embedding.weight.abs().max() <= 0.1
    for one in (model.encoder.weights[0], model.encoder.biases[0]):
        assert one.abs().max() <= (4 * 50) ** -0.5 and one.std() > 0.4 * (4 * 50) ** -0.5
    names = [name for name, _ in model.named_parameters()]
    assert names == [
        "embedding.weight",
        "encoder.weights.0",
        "encoder.biases.0",
        "output.weight",
        "output.bias",
    ]
    assert "query" in dict(build("attention").named_parameters())


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: build("first"), "^pooling: expected one of last, max, mean, attention, found 'first'"),
        (
            lambda: Classifier(V, C, Convolution(E), E, pooling="mean"),
            "^pooling: expected max with encoder convolution, found 'mean'; set it to max, or "
            "choose a stack$",
        ),
        (
            lambda: Classifier(V, C, Stack("sru", 8, D), E),
            "^embedding_size: expected an encoder that reads embedding_size = 10 features, found one that "
            "reads 8; make them equal$",
        ),
        (lambda: Classifier(V, C, Convolution(8), E), "^embedding_size: expected .*, found one that reads 8"),
        (lambda: Classifier(0, C, Convolution(E), E), "^vocabulary_size: expected at least 1, found 0"),
        (lambda: Classifier(V, 1, Convolution(E), E), "^classes: expected at least 2, found 1"),
        (lambda: Classifier(V, C, Convolution(E), 0), "^embedding_size: expected at least 1, found 0"),
        (lambda: build(embedding_dropout=1.0), r"^embedding_dropout: expected a probability .*, found 1\.0"),
        (lambda: build(word_dropout=-0.1), r"^word_dropout: expected a probability from 0 .*, found -0\.1"),
        (
            lambda: build(output_dropout=2),
            "^output_dropout: expected a probability from 0 to below 1, found 2",
        ),
        (
            lambda: Convolution(E, widths=()),
            "^widths: expected at least one width, found none; 3, 4 and 5 are common$",
        ),
        (lambda: Convolution(E, widths=(3, 0)), "^widths: expected at least 1, found 0"),
        (lambda: Convolution(E, features=0), "^features: expected at least 1, found 0"),
        (lambda: Convolution(0), "^input_size: expected at least 1, found 0"),
    ],
)
def test_mistakes_are_refused(call, message):
    with pytest.raises(Refused, match=message):
        call()
