"""What cells keep of their state, against gates that are constants, and derivatives taken whole."""

import math

import pytest
import torch

from seqsru.cells import CELLS, Stack
from seqsru.errors import Refused
from seqsru.evaluation.state_use import GATES, state_use, table
from seqsru.models import Decoder, LanguageModel, Translator

I, D, T, B = 5, 4, 12, 3


def stack(name, layers=1, **options):
    made = Stack(name, I, D, layers, options=options).double()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.uniform_(-1, 1)
    return made


def used(made, x, **options):
    return state_use(made, lambda: made(x), **options)


def test_every_cell_that_has_a_state_of_its_own_has_a_gate():
    assert set(GATES) == set(CELLS) - {"conv"}  # whose state is its last inputs


def constant(made, p):
    """Set the gate that keeps c to the constant p: its weights to 0 and its bias to what gives p."""
    (cell,) = made.layers[0]
    name, bias = made.cell, math.log(p / (1 - p))
    with torch.no_grad():
        if name in ("lstm", "gru"):
            rows = slice(D, 2 * D)
            for parameter in cell.rnn.parameters():
                parameter[rows] = 0
            cell.rnn.bias_ih_l0[rows] = bias
        elif name in ("sru", "srupp"):
            cell.weight[D : 2 * D] = 0
            cell.v[0], cell.bias[0] = 0, bias
        elif name == "ssru":
            cell.weight[D:] = 0
            cell.bias.fill_(bias)
        elif name == "minlstm":  # f / (f + i) with i = 1/2
            half = p / (1 - p) / 2
            cell.weight[: 2 * D] = 0
            cell.bias[:D], cell.bias[D : 2 * D] = math.log(half / (1 - half)), 0
        else:
            rows = slice(D, 2 * D) if name in ("qrnn", "pru") else slice(0, D)
            cell.weight[rows] = 0
            if name in ("mgu", "pru"):
                cell.recurrent_weight[rows] = 0
            cell.bias[rows] = -bias if name in ("mgu", "mingru") else bias


@pytest.mark.parametrize("p", [0.25, 0.6])
@pytest.mark.parametrize("name", GATES)
def test_a_constant_gate_keeps_that_share_and_reaches_by_its_powers(name, p):
    made = stack(name)
    constant(made, p)
    (use,) = used(made, torch.randn(T, B, I, dtype=torch.float64), farthest=8)
    assert use.cell == name and use.name == "layers.0.0"
    assert use.kept == pytest.approx(p) and use.percentiles == pytest.approx((p,) * 5)
    assert use.slow == 0
    if name not in ("lstm", "gru", "mgu", "pru"):  # of these more than the gate depends on the state
        assert use.reach == pytest.approx([p**k for k in range(9)])
        assert use.half == {0.25: 1, 0.6: 2}[p]


VARIANTS = [
    *((name, {}) for name in GATES),
    ("qrnn", {"window": 3, "pooling": "ifo"}),
    ("qrnn", {"window": 1, "zoneout": 0.4}),
    ("sru", {"version": 1, "highway": "none"}),
    ("sru", {"projection_size": 3, "layer_norm": True, "input_dropout": 0.5}),
    ("srupp", {"layer_norm": True, "attention_every": 2}),
]


@pytest.mark.parametrize("name, options", VARIANTS)
def test_the_share_is_what_the_cell_multiplies_its_state_by(name, options):
    """From two runs of one step: c = kept c' + rest, and the rest is the same for cells whose gate is not.

    Where gate and candidate read the state, what they read is held: the derivative by c alone of an LSTM, and
    by the factor of an interpolation otherwise.
    """
    made = stack(name, **options).eval()
    (cell,) = made.layers[0]
    x = torch.randn(1, B, I, dtype=torch.float64)
    state = tuple(torch.rand_like(t) if t.is_floating_point() else t for t in cell.initial_state(B))
    gate = GATES[name](cell, x, state)
    assert gate.shape == (B, D) and ((gate > 0) & (gate < 1)).all()
    c = state[1 if name == "lstm" else 0].clone().requires_grad_()
    before = (state[0], c) if name == "lstm" else (c, *state[1:])
    after = cell(x, before)[1][1 if name == "lstm" else 0]
    if name in ("lstm", "qrnn", "ssru", "mingru", "minlstm"):
        (slope,) = torch.autograd.grad(after.sum(), c)
        torch.testing.assert_close(slope, gate)
        return
    candidate = (after - gate * c) / (1 - gate)  # c = kept c' + (1 - kept) n
    if name in ("sru", "srupp"):
        read = x if cell.layer_norm is None else cell.layer_norm(x)
        if name == "srupp":
            read, _ = cell.attention(read, state[1:], None)
        elif cell.projection is not None:
            read = read @ cell.projection.T
        expected = (read @ cell.weight.T)[0].unflatten(-1, (cell.k, D))[:, 0]
    elif name == "gru":
        rnn = cell.rnn
        read, own = x[0] @ rnn.weight_ih_l0.T + rnn.bias_ih_l0, c @ rnn.weight_hh_l0.T + rnn.bias_hh_l0
        r = torch.sigmoid(read[:, :D] + own[:, :D])
        expected = torch.tanh(read[:, 2 * D :] + r * own[:, 2 * D :])
    else:
        read, U = x[0] @ cell.weight.T + cell.bias, cell.recurrent_weight
        if name == "mgu":
            expected = torch.tanh(read[:, D:] + ((1 - gate) * c) @ U[D:].T)
        else:
            expected = torch.tanh(read[:, :D] + c @ U[:D].T)
    torch.testing.assert_close(candidate, expected)


@pytest.mark.parametrize("name", ["sru", "lstm", "gru", "qrnn"])
def test_the_reach_is_the_size_of_the_whole_derivative(name):
    """Against the Jacobian of the last c by an earlier one, all of it, in float64."""
    made = stack(name)
    (cell,), x, back = made.layers[0], torch.randn(T, 1, I, dtype=torch.float64), 3
    draws = 1 if name in ("sru", "qrnn") else 4000
    (use,) = used(made, x, farthest=back, draws=draws)
    _, state = cell(x[:-back], cell.initial_state(1))
    place = 1 if name == "lstm" else 0

    def last(c):
        return cell(x[-back:], tuple(c if n == place else t for n, t in enumerate(state)))[1][place]

    whole = torch.autograd.functional.jacobian(last, state[place])[0, :, 0]  # (D, D)
    expected = math.sqrt(whole.square().sum().item() / D)
    assert use.reach[back] == pytest.approx(expected, rel=1e-9 if draws == 1 else 0.05)
    assert use.reach[0] == 1 and len(use.reach) == back + 1


def test_of_a_model_every_layer_with_what_it_read():
    """The gates of the second layer are those of the first one's outputs, and nothing is changed."""
    model = LanguageModel(12, Stack("sru", 6, 6, 2), 6).train()
    tokens = torch.randint(12, (T, B))
    before = {name: tensor.clone() for name, tensor in model.named_parameters()}
    first, second = state_use(model, lambda: model(tokens), farthest=4)
    assert model.training and all(torch.equal(before[name], p) for name, p in model.named_parameters())
    assert (first.name, second.name) == ("stack.layers.0.0", "stack.layers.1.0")
    cell = model.stack.layers[1][0]
    with torch.no_grad():
        read, _ = model.stack.layers[0][0](model.embedding(tokens), model.stack.layers[0][0].initial_state(B))
        c, gates = cell.initial_state(B), []
        for step in range(T):
            gates.append(GATES["sru"](cell, read[step : step + 1], c))
            _, c = cell(read[step : step + 1], c)
    assert second.kept == pytest.approx(torch.stack(gates).double().mean().item(), rel=1e-6)
    lines = table([first, second]).splitlines()
    assert lines[0].split() == ["layer", "cell", "kept", "P5", "P50", "P95", "slow", "1", "back", "4", "back"]
    assert float(lines[2].split()[2]) == pytest.approx(second.kept, abs=1e-3)


@pytest.mark.parametrize("name", GATES)
def test_every_cell_can_be_looked_at_in_every_role(name):
    """In both directions of an encoder, and in a decoder whose layers attend."""
    both = Stack(name, 8, 4, 2, bidirectional=True)
    model = Translator(12, 12, both, Decoder(name, 8, 8, 8, 2, attend="all"), 8)
    tokens, valid = torch.randint(12, (T, B)), torch.ones(T, B, dtype=torch.bool)
    found = state_use(model, lambda: model(tokens, valid, tokens), farthest=5)
    assert len(found) == 2 * 2 + 2 and len({use.name for use in found}) == 6
    assert all(0 < use.kept < 1 and 0 < use.reach[5] < math.inf for use in found)


def test_refusals():
    x, made = torch.randn(T, B, I, dtype=torch.float64), stack("sru")
    with pytest.raises(Refused, match="^expected a model with cells that have a gated state, found none; "):
        used(stack("conv"), x)
    with pytest.raises(Refused, match="^farthest: expected more than farthest = 12 steps, found 12; run "):
        used(made, x, farthest=T)
    with pytest.raises(Refused, match="^farthest: expected at least 1, found 0"):
        used(made, x, farthest=0)
    with pytest.raises(Refused, match="^run: expected a run through layers.0.0, found one that left it out"):
        state_use(made, lambda: None, farthest=3)
    valid = torch.arange(T).unsqueeze(1) < torch.tensor([T, 3, T])
    with pytest.raises(Refused, match="^run: expected rows without padding, found padded ones; run rows of "):
        state_use(made, lambda: made(x, valid=valid), farthest=3)
    hooks = [len(module._forward_pre_hooks) for module in made.modules()]
    assert not any(hooks)
