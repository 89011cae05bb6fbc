"""The reader: its equations against a plain loop, rows that know of no other, any cell."""

import pytest
import torch

from seqsru.cells import CELLS, Stack
from seqsru.errors import Refused
from seqsru.models.reader import Reader, paragraph_features

V, E, F, D = 20, 6, 3, 5
LENGTHS, ASKED = [9, 4, 1], [2, 5, 1]
VALID, ASKED_VALID = (
    torch.arange(size).unsqueeze(1) < torch.tensor(lengths) for size, lengths in ((9, LENGTHS), (5, ASKED))
)


def build(cell="sru", aligned=True, layers=2, **options):
    torch.manual_seed(4)
    paragraph = Stack(cell, paragraph_features(E, F, aligned), D, layers, bidirectional=True)
    question = Stack(cell, E, D + 1, 1, bidirectional=True)
    model = Reader(V, F, paragraph, question, E, aligned=aligned, **options)
    torch.nn.init.normal_(model.weigh)  # it begins as the mean
    return model


def batch():
    draw = torch.Generator().manual_seed(1)
    tokens, question = (torch.randint(V, shape, generator=draw) for shape in ((9, 3), (5, 3)))
    return tokens, VALID, torch.rand(9, 3, F, generator=draw), question, ASKED_VALID


def by_hand(model, tokens, features, question):
    """Equations 1 to 6 for one paragraph (n,) and one question (s,) alone."""
    e, g = model.embedding(tokens), model.embedding(question)
    parts = [[e[t], features[t]] for t in range(len(e))]
    if model.aligned:
        for t, row in enumerate(e):
            seen, asked = (torch.relu(model.align(x)) for x in (row, g))
            row = torch.softmax(torch.stack([seen @ one for one in asked]), 0)
            parts[t].insert(1, sum(a * one for a, one in zip(row, g)))
    x = torch.stack([torch.cat(row) for row in parts]).unsqueeze(1)
    h, u = model.paragraph(x)[0][:, 0], model.question(g.unsqueeze(1))[0][:, 0]
    weights = torch.softmax(torch.stack([model.weigh @ one for one in u]), 0)
    q = sum(a * one for a, one in zip(weights, u))
    return [torch.stack([row @ layer(q) for row in h]) for layer in (model.start, model.end)]


@torch.no_grad()
@pytest.mark.parametrize("aligned", [True, False])
def test_it_equals_a_loop(aligned):
    model, given = build(aligned=aligned).eval(), batch()
    found = model(*given)
    tokens, _, features, question, _ = given
    for row, (n, s) in enumerate(zip(LENGTHS, ASKED)):
        expected = by_hand(model, tokens[:n, row], features[:n, row], question[:s, row])
        for scores, right in zip(found, expected):
            torch.testing.assert_close(scores[:n, row], right)
            assert (scores[n:, row] == -torch.inf).all()


@torch.no_grad()
@pytest.mark.parametrize("cell", CELLS)
def test_a_row_does_not_know_of_others_nor_of_padding(cell):
    model, (tokens, valid, features, question, asked) = build(cell).eval(), batch()
    whole = model(tokens, valid, features, question, asked)
    for row, (n, s) in enumerate(zip(LENGTHS, ASKED)):
        column = slice(row, row + 1)
        parts = tokens[:n, column], valid[:n, column], features[:n, column]
        alone = model(*parts, question[:s, column], asked[:s, column])
        for one, scores in zip(alone, whole):
            torch.testing.assert_close(one, scores[:n, column])


@torch.no_grad()
def test_what_padding_holds_reaches_nothing():
    model, (tokens, valid, features, question, asked) = build().eval(), batch()
    whole = model(tokens, valid, features, question, asked)
    features = features.masked_fill(~valid.unsqueeze(-1), torch.nan)
    other = model(tokens.masked_fill(~valid, 3), valid, features, question.masked_fill(~asked, 7), asked)
    assert all(torch.equal(first, second) for first, second in zip(whole, other))


def test_the_loss_is_that_of_both_ends():
    model, answers = build().double().eval(), torch.tensor([[3, 0, 0], [5, 3, 0]])
    given = batch()
    start, end = model(*given[:2], given[2].double(), *given[3:])
    loss = model.cross_entropy(start, end, answers)
    for row, n in enumerate(LENGTHS):
        logs = [torch.log_softmax(scores[:n, row], 0) for scores in (start, end)]
        expected = -sum(log[place] for log, place in zip(logs, answers[:, row]))
        torch.testing.assert_close(loss[row], expected)
    loss.sum().backward()
    assert all(p.grad.isfinite().all() and p.grad.any() for p in model.parameters())


@torch.no_grad()
def test_gradients_are_those_of_differences():
    model, given, answers = build("gru").double(), batch(), torch.tensor([[3, 0, 0], [5, 3, 0]])
    given = *given[:2], given[2].double(), *given[3:]

    def loss():
        return model.cross_entropy(*model(*given), answers).sum()

    with torch.enable_grad():
        loss().backward()
    for parameter in model.parameters():
        place = torch.randint(parameter.numel(), ())
        flat, small = parameter.view(-1), 1e-6
        before = flat[place].item()
        ends = []
        for change in (small, -small):
            flat[place] = before + change
            ends.append(loss())
        flat[place] = before
        expected = (ends[0] - ends[1]) / (2 * small)
        torch.testing.assert_close(parameter.grad.view(-1)[place], expected, atol=1e-6, rtol=1e-5)


def test_dropout_is_of_training_alone():
    model, given = build(embedding_dropout=0.5, word_dropout=0.3, output_dropout=0.5), batch()
    assert not torch.equal(model(*given)[0][VALID], model(*given)[0][VALID])
    model.eval()
    assert torch.equal(model(*given)[0], model(*given)[0])


def test_a_frozen_embedding_and_the_mean():
    model = build(frozen_embedding=True)
    assert not model.embedding.weight.requires_grad and model.device == torch.device("cpu")
    stacks = Stack("sru", 2 * E + F, D), Stack("sru", E, D)
    assert not Reader(V, F, *stacks, E).weigh.any()


@pytest.mark.parametrize(
    "change, sentence",
    [
        ({"paragraph": Stack("sru", 4, D)}, "paragraph: expected a stack that reads 15 features"),
        ({"question": Stack("sru", 4, D)}, "question: expected a stack that reads 6 features"),
        ({"output_dropout": 1.0}, "output_dropout: expected a probability from 0 to below 1, found 1.0"),
        ({"word_dropout": -0.1}, "word_dropout: expected a probability from 0 to below 1, found -"),
        ({"embedding_dropout": 2.0}, "embedding_dropout: expected a probability from 0 to below 1"),
        ({"features": 0}, "features: expected at least 1, found 0"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(change, sentence):
    given = {"paragraph": Stack("sru", 2 * E + F, D), "question": Stack("sru", E, D), "features": F, **change}
    with pytest.raises(Refused, match=f"^{sentence}"):
        Reader(V, embedding_size=E, **given)
