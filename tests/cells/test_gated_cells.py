"""The cells by hand, by their loops, and at their limits: qrnn, mgu, pru, ssru, mingru, minlstm, conv.

The golden values are worked out in the comments with L = ln 3, for which σ(L) = 3/4, σ(-L) = 1/4, σ(0) = 1/2,
tanh(L/2) = 1/2 and tanh(L) = 4/5.
"""

import math

import pytest
import torch

from seqsru.cells import CELLS, Stack
from seqsru.errors import Refused
from seqsru.ops import sru_scan

L = math.log(3.0)


def cell_with(name, options=(), **parameters):
    """A cell of one feature, in float64, with these parameters."""
    cell = CELLS[name](1, 1, **dict(options)).double().eval()
    assert {key for key, _ in cell.named_parameters()} == set(parameters)
    with torch.no_grad():
        for key, value in parameters.items():
            getattr(cell, key).copy_(torch.tensor(value, dtype=torch.float64).view(getattr(cell, key).shape))
    return cell


def outputs(cell, *inputs):
    """Outputs of one row from the initial state, and the first tensor of the last state."""
    x = torch.tensor(inputs, dtype=torch.float64).view(-1, 1, 1)
    y, state = cell(x, cell.initial_state(1))
    return y.flatten().tolist(), state[0].flatten().tolist()


# Columns x_t and x_(t-1), which is 0 at first; inputs 1 and 2.
# z: L/2 - 0 = L/2 and 2 L/2 - L/2 = L/2, so tanh gives 1/2 and 1/2
# f: L - 0 = L and 2L - 2L = 0, so 3/4 and 1/2
# o: -L + 0 = -L and -2L + 2L = 0, so 1/4 and 1/2
# i: 0 + 0 = 0 and 0 + L = L, so 1/2 and 3/4
QRNN_ROWS = [[L / 2, -L / 2], [L, -2 * L], [-L, 2 * L], [0.0, L]]


@pytest.mark.parametrize(
    "options, rows, expected, state",
    [
        # c = 1/4 1/2 = 1/8;  c = 1/2 1/8 + 1/2 1/2 = 5/16
        ({"pooling": "f"}, 2, [1 / 8, 5 / 16], 5 / 16),
        # the same c;  h = 1/4 1/8 and 1/2 5/16
        ({"pooling": "fo"}, 3, [1 / 32, 5 / 32], 5 / 16),
        # c = 1/2 1/2 = 1/4;  c = 1/2 1/4 + 3/4 1/2 = 1/2;  h = 1/4 1/4 and 1/2 1/2
        ({"pooling": "ifo"}, 4, [1 / 16, 1 / 4], 1 / 2),
        # f = 1 - 1/2 (1 - 3/4) = 7/8 and 1 - 1/2 1/2 = 3/4
        # c = 1/8 1/2 = 1/16;  c = 3/4 1/16 + 1/4 1/2 = 11/64
        ({"pooling": "f", "zoneout": 0.5}, 2, [1 / 16, 11 / 64], 11 / 64),
    ],
)
def test_qrnn_by_hand(options, rows, expected, state):
    cell = cell_with("qrnn", {"window": 2, **options}, weight=QRNN_ROWS[:rows], bias=[0.0] * rows)
    assert outputs(cell, 1.0, 2.0) == (pytest.approx(expected, abs=1e-15), pytest.approx([state], abs=1e-15))


def test_mgu_by_hand():
    # first: f = σ(2L - L) = 3/4;  n = tanh(L - L/2) = 1/2;  h = 1/4 0 + 3/4 1/2 = 3/8
    # then:  f = σ(L - 8/3 L 3/8) = σ(0) = 1/2;  f h = 3/16;  n = tanh(L/2 + 8/3 L 3/16) = tanh(L) = 4/5
    #        h = 1/2 3/8 + 1/2 4/5 = 47/80
    cell = cell_with("mgu", weight=[2 * L, L], bias=[-L, -L / 2], recurrent_weight=[-8 / 3 * L, 8 / 3 * L])
    assert outputs(cell, 1.0, 1.0) == (pytest.approx([3 / 8, 47 / 80]), pytest.approx([47 / 80]))


def test_pru_by_hand():
    # first: n = tanh(L/2) = 1/2;  c = σ(-2L + L) = 1/4;  s = 1/4 0 + 3/4 1/2 = 3/8
    #        y = tanh(4/3 L 3/8) = tanh(L/2) = 1/2
    # then:  n = tanh(L/2 + 4/3 L 3/8) = tanh(L) = 4/5;  c = σ(-L + 8/3 L 3/8) = σ(0) = 1/2
    #        s = 1/2 3/8 + 1/2 4/5 = 47/80
    #        y = tanh(4/3 L 47/80) = tanh(47/60 L), and e^(2 47/60 L) = 3^(47/30)
    cell = cell_with(
        "pru",
        weight=[L / 2, -2 * L],
        bias=[0.0, L],
        recurrent_weight=[4 / 3 * L, 8 / 3 * L],
        output_weight=[4 / 3 * L],
        output_bias=[0.0],
    )
    power = 3.0 ** (47 / 30)
    assert outputs(cell, 1.0, 1.0) == (
        pytest.approx([1 / 2, (power - 1) / (power + 1)]),
        pytest.approx([47 / 80]),
    )


def test_ssru_by_hand():
    # first: u = 2;  f = σ(2L - L) = 3/4;  c = 1/4 2 = 1/2, and so is h
    # then:  u = -2;  f = σ(-2L - L) = 1/28;  c = 1/28 1/2 - 27/28 2 = -107/56;  h = 0
    cell = cell_with("ssru", weight=[2.0, 2 * L], bias=[-L])
    assert outputs(cell, 1.0, -1.0) == (pytest.approx([1 / 2, 0.0]), pytest.approx([-107 / 56]))


def test_mingru_by_hand():
    # first: z = σ(L) = 3/4;  n = g(3/2) = 2;  h = 3/4 2 = 3/2
    # then:  z = σ(-L) = 1/4;  n = g(-L) = σ(-L) = 1/4;  h = 3/4 3/2 + 1/4 1/4 = 19/16
    cell = cell_with("mingru", weight=[L, (1.5 + L) / 2], bias=[0.0, (1.5 - L) / 2])
    assert outputs(cell, 1.0, -1.0) == (pytest.approx([3 / 2, 19 / 16]), pytest.approx([19 / 16]))


def test_minlstm_by_hand():
    # first: f = σ(L) = 3/4, i = 1/2, so 3/5 and 2/5;  n = g(3/2) = 2;  h = 2/5 2 = 4/5
    # then:  f = 1/4, i = 1/2, so 1/3 and 2/3;  n = g(-L) = 1/4;  h = 1/3 4/5 + 2/3 1/4 = 13/30
    cell = cell_with("minlstm", weight=[L, 0.0, (1.5 + L) / 2], bias=[0.0, 0.0, (1.5 - L) / 2])
    assert outputs(cell, 1.0, -1.0) == (pytest.approx([4 / 5, 13 / 30]), pytest.approx([13 / 30]))


def test_conv_by_hand():
    # first: 2 1 + 0 + 1 = 3, times σ(L) = 3/4;  then: 2 2 + 1 1 + 1 = 6, times σ(2L - 2L) = 1/2
    cell = cell_with("conv", {"window": 2}, weight=[[2.0, 1.0], [L, -2 * L]], bias=[1.0, 0.0])
    assert outputs(cell, 1.0, 2.0) == (pytest.approx([9 / 4, 3.0]), pytest.approx([2.0]))


# ---- the loops of the docstrings, in float64 -------------------------------------------------------


def sigmoid(a):
    """Right at any size, which 1 / (1 + exp(-a)) is not."""
    return torch.where(a >= 0, 1 / (1 + torch.exp(-a.abs())), torch.exp(-a.abs()) / (1 + torch.exp(-a.abs())))


def positive(a):
    return torch.where(a >= 0, a + 0.5, sigmoid(a))


def qrnn_loop(cell, x, c, history):
    k, slices = cell.window, len(cell.weight) // cell.hidden_size
    past, out = list(history.unbind(1)), []
    for x_t in x:
        past.append(x_t)
        seen = torch.cat(past[: -k - 1 : -1], dim=1)
        z, f, *gates = (seen @ cell.weight.t() + cell.bias).chunk(slices, dim=1)
        i = sigmoid(gates[1]) if cell.pooling == "ifo" else sigmoid(-f)
        c = sigmoid(f) * c + i * torch.tanh(z)
        out.append(c if cell.pooling == "f" else sigmoid(gates[0]) * c)
    return torch.stack(out)


def ssru_loop(cell, x, c):
    out = []
    for x_t in x:
        u, v = (x_t @ cell.weight.t()).chunk(2, dim=1)
        c = sigmoid(v + cell.bias) * c + sigmoid(-v - cell.bias) * u
        out.append(c.clamp(min=0))
    return torch.stack(out)


def mingru_loop(cell, x, h):
    out = []
    for x_t in x:
        z, n = (x_t @ cell.weight.t() + cell.bias).chunk(2, dim=1)
        h = sigmoid(-z) * h + sigmoid(z) * positive(n)
        out.append(h)
    return torch.stack(out)


def log_sigmoid(a):
    return -torch.log1p(torch.exp(-a.abs())) - (-a).clamp(min=0)


def minlstm_loop(cell, x, h):
    """With f / (f + i) = 1 / (1 + i / f), and i / f from logarithms."""
    out = []
    for x_t in x:
        f, i, n = (x_t @ cell.weight.t() + cell.bias).chunk(3, dim=1)
        ratio = torch.exp((log_sigmoid(i) - log_sigmoid(f)).clamp(max=700.0))
        h = h / (1 + ratio) + ratio / (1 + ratio) * positive(n)
        out.append(h)
    return torch.stack(out)


LOOPS = [
    ("qrnn", {"pooling": "f", "window": 3}, qrnn_loop),
    ("qrnn", {}, qrnn_loop),
    ("qrnn", {"pooling": "ifo"}, qrnn_loop),
    ("ssru", {}, ssru_loop),
    ("mingru", {}, mingru_loop),
    ("minlstm", {}, minlstm_loop),
]


def drawn(name, options, spread):
    cell = CELLS[name](5, 7, **options).double().eval()
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter.normal_(0.0, spread)
    return cell


@pytest.mark.parametrize("name, options, loop", LOOPS)
def test_a_cell_on_the_linear_scan_equals_its_loop(name, options, loop):
    cell = drawn(name, options, 0.7)
    x = torch.randn(11, 3, 5, dtype=torch.float64, requires_grad=True)
    state = tuple(torch.rand_like(tensor).requires_grad_() for tensor in cell.initial_state(3))
    inputs = [x, *state, *cell.parameters()]
    y, _ = cell(x, state)
    expected = loop(cell, x, *state)
    torch.testing.assert_close(y, expected, rtol=1e-12, atol=1e-13)
    weights = torch.randn_like(y)
    for found, wanted in zip(
        torch.autograd.grad(y, inputs, weights), torch.autograd.grad(expected, inputs, weights), strict=True
    ):
        torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name, options, loop", LOOPS)
def test_extreme_gates_and_long_sequences_are_right_in_float32(name, options, loop):
    """Pre-activations of up to ±200 and more, over 3,000 steps: gates that are shut, open, or both."""
    cell = drawn(name, options, 60.0)
    x = torch.randn(3000, 2, 5, dtype=torch.float64)
    state = cell.initial_state(2)
    with torch.no_grad():
        expected = loop(cell, x, *state)
    narrow = drawn(name, options, 1.0).float()
    narrow.load_state_dict(cell.state_dict())
    y, last = narrow(x.float().requires_grad_(), tuple(tensor.float() for tensor in state))
    assert y.isfinite().all()
    # A pre-activation of 200 is itself known to 1e-5 in float32; a gate's error is a quarter of that.
    assert ((y - expected).abs() <= 2e-4 * expected.abs().clamp(min=1.0)).all()
    y.sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in narrow.parameters())


def test_a_forget_gate_near_one_survives_bfloat16():
    """1 - 1/400 is 1 in bfloat16; the gate is computed in float32, so that the state decays as it should."""
    cell = CELLS["ssru"](1, 1).eval()
    with torch.no_grad():
        cell.weight.copy_(torch.tensor([[1.0], [0.0]]))
        cell.bias.fill_(math.log(399.0))
    y, _ = cell.bfloat16()(torch.zeros(400, 1, 1, dtype=torch.bfloat16), (torch.ones(1, 1),))
    assert y[-1].item() == pytest.approx((1 - 1 / 400) ** 400, rel=0.02)


# ---- what the papers say of one another ------------------------------------------------------------


def test_sru_version_1_without_highway_and_qrnn_of_window_1_are_one_recurrence():
    """c = f c + (1 - f) z and h = o c in both, with gates that see the input alone.

    They differ in the candidate: the QRNN's is tanh(W_z x + b_z), the SRU's W x without either; and in the
    SRU's g (identity here) and highway (none here), which the QRNN does not have.
    """
    qrnn = drawn("qrnn", {"window": 1}, 0.7)
    x = torch.randn(9, 3, 5, dtype=torch.float64)
    c = torch.randn(3, 7, dtype=torch.float64)
    y, (last,) = qrnn(x, (c,))
    u = (x @ qrnn.weight.t() + qrnn.bias).unflatten(-1, (3, 7))
    bias = torch.zeros(2, 7, dtype=torch.float64)
    candidate = torch.cat([torch.tanh(u[:, :, :1]), u[:, :, 1:]], dim=2)
    h, end = sru_scan(candidate, None, c, None, bias)
    torch.testing.assert_close(y, h)
    torch.testing.assert_close(last, end)
    assert not torch.allclose(y, sru_scan(u, None, c, None, bias)[0])

    sru = CELLS["sru"](5, 7, version=1, highway="none").double().eval()
    with torch.no_grad():
        qrnn.bias[:7] = 0.0
        qrnn.weight[:7] *= 1e-5  # where tanh(a) is a to ten digits
        sru.weight.copy_(qrnn.weight)
        sru.bias.copy_(qrnn.bias[7:].view(2, 7))
    torch.testing.assert_close(sru(x, (c,))[0], qrnn(x, (c,))[0], rtol=1e-8, atol=1e-13)


# ---- options ---------------------------------------------------------------------------------------


def test_zoneout_keeps_the_state_where_it_strikes_and_nowhere_else():
    cell = CELLS["qrnn"](6, 200, pooling="f", zoneout=0.25).train()
    x, start = torch.randn(50, 4, 6), torch.randn(4, 200)
    y, _ = cell(x, (start, torch.zeros(4, 1, 6)))
    before = torch.cat([start.unsqueeze(0), y[:-1]])
    kept = y == before
    assert kept.float().mean().item() == pytest.approx(0.25, abs=0.01)
    cell.zoneout = 0.0
    y_all, _ = cell(x[:1], (start, torch.zeros(4, 1, 6)))
    torch.testing.assert_close(y[:1][~kept[:1]], y_all[~kept[:1]])


@pytest.mark.parametrize(
    "name, options, message",
    [
        ("qrnn", {"window": 0}, "window: expected at least 1, found 0"),
        ("qrnn", {"pooling": "of"}, "pooling: expected one of f, fo, ifo, found 'of'"),
        ("qrnn", {"zoneout": 1.0}, "zoneout: expected a probability from 0 to below 1, found 1.0"),
        ("qrnn", {"backend": "gpu"}, "backend: expected one of auto, reference, cpu, cuda, found 'gpu'"),
        ("conv", {"window": 1}, "window: expected at least 2, as 1 sees no other step, found 1"),
        ("ssru", {"backend": "gpu"}, "backend: expected one of auto"),
        ("mingru", {"backend": "gpu"}, "backend: expected one of auto"),
        ("minlstm", {"backend": "gpu"}, "backend: expected one of auto"),
    ],
)
def test_an_option_outside_its_values_is_refused(name, options, message):
    with pytest.raises(Refused, match=message):
        CELLS[name](4, 4, **options)


@pytest.mark.parametrize("name", ["mgu", "pru", "ssru", "mingru", "minlstm", "conv", "qrnn"])
def test_no_features_are_refused(name):
    with pytest.raises(Refused, match="hidden_size: expected at least 1, found 0"):
        CELLS[name](4, 0)


def test_initial_weights_are_the_papers():
    """Bounds and spreads of what each docstring says under *Variables*."""
    size, width = 300, 200
    cells = {
        name: CELLS[name](size, width) for name in ("qrnn", "mgu", "pru", "ssru", "mingru", "minlstm", "conv")
    }
    bounds = {
        "qrnn": (2 * size) ** -0.5,
        "mgu": width**-0.5,
        "pru": width**-0.5,
        "ssru": (6 / (size + width)) ** 0.5,
        "mingru": size**-0.5,
        "minlstm": size**-0.5,
    }
    for name, bound in bounds.items():
        weight = cells[name].weight
        assert weight.abs().max() <= bound
        assert weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.02)
    assert cells["conv"].weight.std().item() == pytest.approx((2 / (3 * size)) ** 0.5, rel=0.02)
    for name in ("ssru", "conv"):
        assert not cells[name].bias.any()
    for name in ("qrnn", "mgu", "pru", "mingru", "minlstm"):
        assert cells[name].bias.std().item() == pytest.approx(bounds[name] / 3**0.5, rel=0.15)


def test_stack_of_cells_with_different_numbers_of_states_keeps_them_apart():
    stack = Stack("srupp", 8, 8, 4, options={"attention_every": 2, "memory": 3})
    assert stack.state_sizes == [1, 3, 1, 3]
    x = torch.randn(6, 2, 8)
    y, state = stack(x)
    first, middle = stack(x[:4])
    second, end = stack(x[4:], middle)
    torch.testing.assert_close(torch.cat([first, second]), y)
    assert [tensor.shape for tensor in end] == [tensor.shape for tensor in state]
