"""lstm and gru equal torch.nn's layers; what is done for their rows changes no result."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from seqsru.cells import CELLS
from seqsru.errors import Refused

LAYERS = {"lstm": nn.LSTM, "gru": nn.GRU}
T, B, I, H = 7, 5, 6, 4
LENGTHS = torch.tensor([7, 3, 1, 5, 2])
VALID = torch.arange(T).unsqueeze(1) < LENGTHS
over_layers = pytest.mark.parametrize("name", LAYERS)


def pair(name):
    """The cell and torch's own layer with the same weights."""
    cell, layer = CELLS[name](I, H), LAYERS[name](I, H)
    layer.load_state_dict({key.removeprefix("rnn."): value for key, value in cell.state_dict().items()})
    return cell, layer


def torch_state(state):
    state = tuple(tensor.unsqueeze(0) for tensor in state)
    return state if len(state) == 2 else state[0]


def own_state(state):
    return tuple(tensor.squeeze(0) for tensor in (state if isinstance(state, tuple) else (state,)))


def run(module, x, state, *more):
    """Outputs, final state, and the gradients of the weights and of x."""
    x = x.clone().requires_grad_()
    y, last = module(x, state, *more)
    tensors = own_state(last) if last[0].dim() == 3 or not isinstance(last, tuple) else last
    (y.square().sum() + sum(tensor.sum() for tensor in tensors)).backward()
    return y, *tensors, x.grad, *(parameter.grad for parameter in module.parameters())


@over_layers
def test_equal_to_torch(name):
    cell, layer = pair(name)
    x, state = torch.randn(T, B, I), tuple(torch.randn(B, H) for _ in cell.initial_state(B))
    torch.testing.assert_close(run(cell, x, state), run(layer, x, torch_state(state)))
    with torch.no_grad():
        y, last = layer(x, torch_state(state))
        torch.testing.assert_close(cell(x, state), (y, own_state(last)))


@over_layers
def test_equal_to_torch_packed(name):
    cell, layer = pair(name)
    x, state = torch.randn(T, B, I), tuple(torch.randn(B, H) for _ in cell.initial_state(B))
    y, last = layer(pack_padded_sequence(x, LENGTHS, enforce_sorted=False), torch_state(state))
    expected = pad_packed_sequence(y)[0], own_state(last)
    torch.testing.assert_close(cell(x, state, VALID), expected)
    with torch.no_grad():
        torch.testing.assert_close(cell(x, state, VALID), expected)


class Packed(nn.Module):
    """torch's own layer over packed rows, behind the contract of a cell."""

    def __init__(self, layer):
        super().__init__()
        self.rnn = layer

    def forward(self, x, state, lengths):
        y, last = self.rnn(pack_padded_sequence(x, lengths, enforce_sorted=False), torch_state(state))
        return pad_packed_sequence(y, total_length=len(x))[0], own_state(last)


@over_layers
@pytest.mark.parametrize("longest", [T, 5], ids=["all steps", "steps that no row has"])
def test_gradients_of_rows_of_different_lengths(name, longest):
    cell, layer = (module.double() for module in pair(name))
    x, lengths = torch.randn(T, B, I, dtype=torch.float64), LENGTHS.clamp(max=longest)
    state = tuple(torch.randn(B, H, dtype=torch.float64) for _ in cell.initial_state(B))
    valid = torch.arange(T).unsqueeze(1) < lengths
    expected = run(Packed(layer), x, state, lengths)
    torch.testing.assert_close(run(cell, x, state, valid), expected, rtol=1e-12, atol=1e-12)


@over_layers
@pytest.mark.parametrize("autocast", [False, True], ids=["float32", "bfloat16"])
def test_what_follows_a_row_changes_no_bit_of_its_state(name, autocast):
    """However long, and whatever stands there."""
    cell, _ = pair(name)
    for parameter in cell.parameters():
        nn.init.uniform_(parameter, -3, 3)  # gates far from their middle
    state = tuple(5 * torch.randn(B, H) for _ in cell.initial_state(B))
    x, longer = torch.randn(T, B, I), torch.full((300, B, I), torch.nan)
    longer[:T] = x
    longer[0, 0] = torch.nan  # of no step at all
    lengths = torch.tensor([0, *LENGTHS[1:]])
    found = []
    for given in (x, longer, torch.cat([longer, longer])):
        valid = torch.arange(len(given)).unsqueeze(1) < lengths
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            y, last = cell(given, state, valid)
        found.append((y[:T], *last))
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other))


@over_layers
def test_rows_of_length_0_pass_the_gradient_of_their_state(name):
    cell, _ = pair(name)
    x = torch.randn(T, 2, I)
    state = tuple(torch.randn(2, H, requires_grad=True) for _ in cell.initial_state(2))
    y, last = cell(x, state, torch.arange(T).unsqueeze(1) < torch.tensor([4, 0]))
    assert not y[:, 1].any()
    sum(tensor[1].sum() for tensor in last).backward()
    for tensor in state:
        assert torch.equal(tensor.grad, torch.tensor([[0.0], [1.0]]).expand(2, H))
    none = torch.zeros(T, 2, dtype=torch.bool)
    y, last = cell(x, state, none)
    assert not y.any() and all(torch.equal(new, old) for new, old in zip(last, state))


@over_layers
def test_no_rows_and_no_steps(name):
    cell, _ = pair(name)
    for steps, rows in ((0, 3), (4, 0), (0, 0)):
        state = cell.initial_state(rows)
        y, last = cell(torch.randn(steps, rows, I), state, torch.ones(steps, rows, dtype=torch.bool))
        assert y.shape == (steps, rows, H) and all(torch.equal(new, old) for new, old in zip(last, state))


@over_layers
@torch.no_grad()
@pytest.mark.parametrize("size", [96, 260])
def test_bits_do_not_depend_on_memory_layout_or_on_neighbours_in_wide_layers(name, size):
    cell = CELLS[name](size, size)
    x, state = torch.randn(3, 13, size), tuple(torch.randn(13, size) for _ in cell.initial_state(13))
    lengths = torch.tensor([3, 1, 2] * 4 + [3])
    for valid in (None, torch.arange(3).unsqueeze(1) < lengths):
        y, last = cell(x, state, valid)
        for n in (1, 4, 7, 12, 13):
            some, known = tuple(t[:n] for t in state), None if valid is None else valid[:, :n]
            batch_first = x.transpose(0, 1).contiguous().transpose(0, 1)
            for given in (x[:, :n], x[:, :n].contiguous(), batch_first[:, :n]):
                found, new = cell(given, some, known)
                assert torch.equal(found, y[:, :n]) and all(torch.equal(a, b[:n]) for a, b in zip(new, last))


@over_layers
@pytest.mark.parametrize("valid", [None, torch.ones_like(VALID), VALID])
@torch.no_grad()
def test_nothing_of_the_process_is_changed_for_a_call(name, valid, monkeypatch):
    """Nor put back: another thread would compute with it meanwhile, or put back what it found."""

    def changed(*_):
        raise AssertionError("oneDNN was switched for the whole process")

    monkeypatch.setattr(torch._C, "_set_mkldnn_enabled", changed)
    cell, layer = pair(name)
    for steps in (T, 1):
        x, state = torch.randn(steps, B, I), tuple(torch.randn(B, H) for _ in cell.initial_state(B))
        cell(x, state, None if valid is None else valid[:steps])
    with pytest.raises(RuntimeError):
        cell(torch.randn(1, 1, I + 1), cell.initial_state(1))


@over_layers
def test_threads_that_run_a_cell_at_once_get_the_bits_of_one(name):
    cell = CELLS[name](32, 32)
    x, enabled = torch.randn(T, B, 32), torch.backends.mkldnn.enabled

    def run(_):
        with torch.no_grad():
            return [cell(x[:steps], cell.initial_state(B))[0] for steps in (T, 1, 2) * 20]

    expected = run(0)
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(run, range(8)):
            assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert torch.backends.mkldnn.enabled is enabled


@over_layers
def test_wrong_sizes(name):
    with pytest.raises(Refused, match="input_size: expected at least 1, found 0"):
        CELLS[name](0, 3)
    with pytest.raises(Refused, match="hidden_size: expected at least 1, found -2"):
        CELLS[name](3, -2)
