"""seqsru.SRU is used like torch.nn.GRU."""

import inspect

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import seqsru
from seqsru import SRU
from seqsru.cells import Stack
from seqsru.cells.sru import SRUCell
from seqsru.errors import Refused

T, B, I, D = 6, 3, 5, 4
LENGTHS = torch.tensor([3, 6, 1])
VALID = torch.arange(T).unsqueeze(1) < LENGTHS


def shapes(module, *inputs):
    """Shapes of the outputs and the state."""
    y, state = module(*inputs)
    return (y.data if isinstance(y, tuple) else y).shape, state.shape


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_shapes_are_those_of_gru(batch_first, bidirectional):
    options = {"num_layers": 2, "bidirectional": bidirectional, "batch_first": batch_first}
    ours, torchs = SRU(I, D, **options), nn.GRU(I, D, **options)
    dirs = 1 + bidirectional
    for steps in (1, T):
        x = torch.randn(B, steps, I) if batch_first else torch.randn(steps, B, I)
        assert shapes(ours, x) == shapes(torchs, x)
        state = torch.randn(2 * dirs, B, D)
        assert shapes(ours, x, state) == shapes(torchs, x, state)
        alone, state = torch.randn(steps, I), torch.randn(2 * dirs, D)
        assert shapes(ours, alone, state) == shapes(torchs, alone, state)
    packed = pack_padded_sequence(torch.randn(T, B, I), LENGTHS, enforce_sorted=False)
    assert shapes(ours, packed) == shapes(torchs, packed)
    x = torch.randn(B, 0, I) if batch_first else torch.randn(0, B, I)
    state = torch.randn(2 * dirs, B, D)
    y, last = ours(x, state)
    assert y.shape == (*x.shape[:2], dirs * D) and torch.equal(last, state)


def test_defaults_are_written_once():
    own = inspect.signature(SRU).parameters
    for source, left_out in ((SRUCell, {"slice", "slices"}), (Stack, {"cell", "options", "num_layers"})):
        for name, parameter in inspect.signature(source).parameters.items():
            if name not in left_out:
                assert own[name].default == parameter.default
    assert own["num_layers"].default == inspect.signature(Stack).parameters["num_layers"].default == 1


def test_options_reach_the_cells():
    rnn = SRU(
        D,
        D,
        3,
        version=1,
        highway="project",
        activation="tanh",
        highway_bias=-1.0,
        rescale=True,
        dropout=0.25,
        input_dropout=0.125,
        layer_norm=True,
        projection_size=3,
        backend="reference",
        project_input=True,
        normalize_after=True,
        norm_eps=0.5,
        residual=True,
    )
    cell = rnn.stack.layers[0][0]
    assert (
        cell.version,
        cell.highway,
        cell.activation,
        cell.highway_bias,
        cell.rescale,
        cell.dropout,
        cell.input_dropout,
        cell.projection.shape,
        cell.backend,
    ) == (1, "project", "tanh", -1.0, True, 0.25, 0.125, (3, D), "reference")
    assert cell.layer_norm is not None and rnn.stack.input_map is not None and rnn.stack.residual
    assert rnn.stack.norms[0].eps == 0.5 and rnn.stack.layers[2][0].dropout == 0.0


@pytest.mark.parametrize("bidirectional", [False, True])
@torch.no_grad()
def test_every_form_of_the_input_gives_the_same(bidirectional):
    rnn = SRU(I, D, bidirectional=bidirectional)
    first = SRU(I, D, bidirectional=bidirectional, batch_first=True)
    first.load_state_dict(rnn.state_dict())
    x, state = torch.randn(T, B, I), torch.randn(rnn.stack.state_size, B, D)
    y, last = rnn(x, state, VALID)
    assert not y[~VALID].any()
    other, found = first(x.transpose(0, 1), state, VALID.t())
    assert torch.equal(other.transpose(0, 1), y) and torch.equal(found, last)
    for row, n in enumerate(LENGTHS.tolist()):
        alone, found = rnn(x[:n, row], state[:, row])
        assert torch.equal(alone, y[:n, row]) and torch.equal(found, last[:, row])
        alone, found = rnn(x[:, row], state[:, row], VALID[:, row])
        assert torch.equal(alone, y[:, row]) and torch.equal(found, last[:, row])
    packed = pack_padded_sequence(x, LENGTHS, enforce_sorted=False)
    out, found = rnn(packed, state)
    assert torch.equal(out.batch_sizes, packed.batch_sizes)
    assert torch.equal(out.sorted_indices, packed.sorted_indices)
    assert torch.equal(out.unsorted_indices, packed.unsorted_indices)
    padded, lengths = pad_packed_sequence(out)
    assert torch.equal(padded, y) and torch.equal(lengths, LENGTHS) and torch.equal(found, last)
    order = torch.argsort(LENGTHS, descending=True)
    out, found = rnn(pack_padded_sequence(x[:, order], LENGTHS[order]), state[:, order])
    assert out.sorted_indices is None
    assert torch.equal(pad_packed_sequence(out)[0], y[:, order]) and torch.equal(found, last[:, order])


def test_streaming_equals_whole():
    rnn = SRU(I, D, num_layers=3)
    x = torch.randn(T, B, I)
    y, last = rnn(x)
    state, outputs = None, []
    for step in x.split([1, 2, 3]):
        out, state = rnn(step, state)
        outputs.append(out)
    torch.testing.assert_close((torch.cat(outputs), state), (y, last))


def test_gradients_reach_everything():
    rnn = SRU(I, D, 2, bidirectional=True, layer_norm=True, projection_size=3, normalize_after=True)
    x, state = torch.randn(T, B, I, requires_grad=True), torch.randn(4, B, D, requires_grad=True)
    y, last = rnn(x, state, VALID)
    (y.square().sum() + last.square().sum()).backward()
    for tensor in (x, state, *rnn.parameters()):
        assert tensor.grad.abs().sum() > 0


def test_compiles():
    torch._dynamo.reset()
    rnn = SRU(I, D)
    x = torch.randn(T, B, I)
    torch.testing.assert_close(torch.compile(rnn, fullgraph=True, backend="aot_eager")(x), rnn(x))


def test_wrong_inputs():
    rnn = SRU(I, D, 2)
    x = torch.randn(T, B, I)
    with pytest.raises(Refused, match=r"x: expected 3 axes, or 2 .* found shape \(5,\)"):
        rnn(x[0, 0])
    with pytest.raises(Refused, match=r"state: expected shape .* = \(2, 3, 4\), found \(1, 3, 4\)"):
        rnn(x, torch.zeros(1, B, D))
    with pytest.raises(Refused, match=r"valid: expected bool of shape \(6, 3\) .* found bool of shape"):
        rnn(x, None, VALID.t())
    with pytest.raises(Refused, match="valid: expected bool .*found int64"):
        rnn(x, None, VALID.long())
    with pytest.raises(
        Refused, match="valid: expected none beside a PackedSequence, .*found both; leave it out"
    ):
        rnn(pack_padded_sequence(x, LENGTHS, enforce_sorted=False), None, VALID)
    with pytest.raises(Refused, match=r"x: expected shape \(T, B, 5\), found \(6, 3, 6\)"):
        rnn(torch.randn(T, B, I + 1))


def test_the_package_exports_the_layer():
    assert seqsru.SRU is seqsru.cells.SRU
