"""The recogniser: its loss is that of all paths, padding reaches nothing, and one direction streams."""

import itertools

import numpy
import pytest
import torch

from seqsru.cells import CELLS, Stack
from seqsru.errors import Refused
from seqsru.models.recognizer import Recognizer


def made(cell="sru", units=3, bidirectional=True, **options):
    options = {**({"options": {"backend": "reference"}} if cell == "sru" else {}), **options}
    return Recognizer(4, units, Stack(cell, 4, 6, 2, bidirectional=bidirectional, **options)).eval()


def test_the_loss_is_that_of_every_path():
    model = made(units=2).double()
    x, valid = torch.randn(5, 2, 4, dtype=torch.float64), torch.ones(5, 2, dtype=torch.bool)
    valid[4:, 1] = False
    log_probs, _ = model(x, valid)
    targets, there = torch.tensor([[0, 1], [0, 0]]), torch.tensor([[True, True], [True, False]])
    losses, log_probs = model.ctc_loss(log_probs, valid, targets, there).detach(), log_probs.detach()
    for row, (steps, text) in enumerate([(5, (0, 0)), (4, (1,))]):
        total = -numpy.inf
        for path in itertools.product(range(3), repeat=steps):
            joined = tuple(token for token, _ in itertools.groupby(path) if token != model.blank)
            if joined == text:
                total = numpy.logaddexp(total, sum(float(log_probs[t, row, k]) for t, k in enumerate(path)))
        assert float(losses[row]) == pytest.approx(-total, abs=1e-9)


def test_padding_reaches_nothing():
    model = made()
    x, valid = torch.randn(7, 3, 4), torch.ones(7, 3, dtype=torch.bool)
    valid[3:, 1] = False
    x[3:, 1] = float("nan")
    alone, _ = model(x[:3, 1:2])
    together, _ = model(x, valid)
    torch.testing.assert_close(together[:3, 1:2], alone)
    assert torch.isfinite(together[valid]).all()


@pytest.mark.parametrize("cell", CELLS)
def test_one_direction_streams_over_every_cell(cell):
    model = made(cell, bidirectional=False)
    if not model.streams:
        pytest.skip("it sees later steps")
    x = torch.randn(9, 2, 4)
    whole, _ = model(x)
    state, parts = None, []
    for first, last in ((0, 2), (2, 3), (3, 9)):
        part, state = model(x[first:last], None, state)
        parts.append(part)
    torch.testing.assert_close(torch.cat(parts), whole, atol=1e-5, rtol=1e-5)
    assert not made("lstm").streams


def test_dropout_is_of_training_alone():
    model = Recognizer(4, 3, Stack("lstm", 4, 6), input_dropout=0.5, output_dropout=0.5)
    x = torch.randn(5, 2, 4)
    assert not torch.equal(model(x)[0], model(x)[0])
    model.eval()
    assert torch.equal(model(x)[0], model(x)[0])
    assert model.output.weight.shape == (4, 6) and model.blank == 3


def test_mistakes():
    with pytest.raises(Refused, match="^input_dropout: expected a probability from 0 to below 1, found 1.0"):
        Recognizer(4, 3, Stack("lstm", 4, 6), input_dropout=1.0)
