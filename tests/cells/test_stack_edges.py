"""No rows, no steps, one layer: what a stack of any cell does at its edges, and SRU beside torch.nn.GRU."""

import copy
import inspect
import pickle

import pytest
import torch
from torch import nn

from seqsru.cells import CELLS, SRU, Stack
from seqsru.cells.stack import trained_already
from seqsru.errors import Refused
from seqsru.models.decoder import Decoder

I, D = 5, 4
ONE_LAYER = (
    "expected dropout between layers, found dropout 0.3 of one layer, which drops nothing; "
    "add layers, or leave it out"
)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("name", CELLS)
def test_no_steps_and_no_rows_give_zeros_as_gradients(name, bidirectional):
    stack = Stack(name, I, D, 2, bidirectional=bidirectional, residual=True, project_input=True)
    for steps, rows in ((0, 3), (3, 0), (0, 0)):
        for valid in (None, torch.ones(steps, rows, dtype=torch.bool)):
            stack.zero_grad()
            x = torch.randn(steps, rows, I, requires_grad=True)
            y, state = stack(x, None, valid)
            assert y.shape == (steps, rows, stack.output_size)
            assert all(
                torch.equal(new, old) for new, old in zip(state, stack.initial_state(rows), strict=True)
            )
            y.sum().backward()
            for tensor in (x, *stack.parameters()):
                assert tensor.grad is not None and not tensor.grad.any()
            sum(t.sum() for t in stack(x, None, valid)[1] if t.requires_grad).backward()


@pytest.mark.parametrize("name", CELLS)
def test_a_dropout_of_one_layer_is_told(name):
    with pytest.warns(UserWarning) as warned:
        stack = Stack(name, I, D, dropout=0.3).train()
    assert [str(each.message) for each in warned] == [ONE_LAYER]
    x = torch.randn(3, 2, I)
    torch.testing.assert_close(stack(x)[0], stack.eval()(x)[0])
    Stack(name, I, D, 2, dropout=0.3)
    with trained_already():  # as a run that is loaded
        Stack(name, I, D, dropout=0.3)
    Decoder(name, I, 6, D, 1, dropout=0.3)  # which drops the outputs of every layer


def test_the_layer_has_the_attributes_of_gru():
    for options in ({}, {"num_layers": 3, "dropout": 0.2, "bidirectional": True, "batch_first": True}):
        ours, torchs = SRU(I, D, **options), nn.GRU(I, D, **options)
        for name in (
            "input_size",
            "hidden_size",
            "num_layers",
            "bias",
            "batch_first",
            "dropout",
            "bidirectional",
        ):
            assert getattr(ours, name) == getattr(torchs, name)
            assert type(getattr(ours, name)) is type(getattr(torchs, name))
    ours.flatten_parameters()
    defaults = {name: p.default for name, p in inspect.signature(SRU).parameters.items()}
    assert defaults["num_layers"] == torchs.__class__(I, D).num_layers == 1
    with pytest.warns(UserWarning, match=ONE_LAYER):
        SRU(I, D, dropout=0.3)


def test_parameters_are_drawn_anew():
    rnn = SRU(
        I,
        D,
        2,
        bidirectional=True,
        layer_norm=True,
        normalize_after=True,
        projection_size=3,
        project_input=True,
    )
    with torch.no_grad():
        for parameter in rnn.parameters():
            parameter.fill_(7.0)
    torch.manual_seed(1)
    rnn.reset_parameters()
    assert not any((parameter == 7.0).any() for parameter in rnn.parameters())


@pytest.mark.parametrize(
    "dtype, carried",
    [
        (torch.float64, torch.float64),
        (torch.float32, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float16, torch.float32),
    ],
)
def test_the_state_has_the_type_of_the_arithmetic_and_others_are_cast(dtype, carried):
    rnn = SRU(I, D, 2).to(dtype).eval()
    x = torch.randn(3, 2, I, dtype=dtype)
    y, state = rnn(x)
    assert y.dtype == dtype and state.dtype == carried
    expected = rnn(x, state)
    for given in (torch.float64, torch.float32, torch.bfloat16, torch.float16):
        y, last = rnn(x, state.to(given))
        assert last.dtype == carried and y.dtype == dtype
        torch.testing.assert_close(last, expected[1], atol=0.05, rtol=0.05)
    with pytest.raises(
        Refused, match=r"^state: expected a floating type, found int64; pass state\.float\(\)$"
    ):
        rnn(x, state.long())


def test_another_width_is_refused_in_the_layout_that_was_given():
    for rnn, batch in ((SRU(I, D), "T, B"), (SRU(I, D, batch_first=True), "B, T")):
        for shape, axes in (((2, 3, 7), batch), ((3, 7), "T")):
            with pytest.raises(Refused) as refused:
                rnn(torch.randn(shape))
            do = "transpose it, or make a layer for that input_size"
            assert str(refused.value) == f"x: expected shape ({axes}, 5), found {shape}; {do}"


@pytest.mark.parametrize("name", CELLS)
def test_modules_are_copied_pickled_and_cast(name):
    stack = Stack(name, I, D, 2, bidirectional=True).eval()
    x = torch.randn(3, 2, I)
    y, state = stack(x)
    for other in (copy.deepcopy(stack), pickle.loads(pickle.dumps(stack))):
        again, last = other(x)
        assert torch.equal(again, y) and all(torch.equal(a, b) for a, b in zip(last, state))
    for dtype in (torch.float64, torch.bfloat16, torch.float16):
        cast, _ = copy.deepcopy(stack).to(dtype)(x.to(dtype))
        assert cast.dtype == dtype
        torch.testing.assert_close(cast.float(), y, atol=0.1, rtol=0.1)
