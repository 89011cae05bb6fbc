"""Weights of torch.nn and torchqrnn: the stack computes the same, and a wrong dictionary names the key."""

import pytest
import torch
from torch import nn

from seqsru.cells import stack_from_srupp, stack_from_torch, stack_from_torchqrnn
from seqsru.errors import Refused


@pytest.mark.parametrize("make", [nn.LSTM, nn.GRU])
@pytest.mark.parametrize(
    "options", [{}, {"num_layers": 3}, {"bidirectional": True, "num_layers": 2}, {"bias": False}]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_torch_layers(make, options, dtype):
    rnn = make(5, 6, **options).to(dtype)
    stack = stack_from_torch(rnn.state_dict())
    x = torch.randn(9, 3, 5, dtype=dtype)
    with torch.no_grad():
        expected, last = rnn(x)
        y, state = stack(x)
    torch.testing.assert_close(y, expected)
    h = torch.stack(state[::2] if make is nn.LSTM else state)
    torch.testing.assert_close(h, last[0] if make is nn.LSTM else last)


class TorchQRNN(nn.Module):
    """What ``torchqrnn`` computes, from its documentation: F updates, and zoneout scales it in evaluation."""

    def __init__(self, sizes, windows, output_gate, zoneout):
        super().__init__()
        self.windows, self.output_gate, self.zoneout = windows, output_gate, zoneout
        slices = 3 if output_gate else 2
        self.layers = nn.ModuleList()
        for size, hidden, window in zip(sizes, sizes[1:], windows):
            layer = nn.Module()
            layer.linear = nn.Linear(window * size, slices * hidden)
            self.layers.append(layer)

    def forward(self, x):
        for layer, window in zip(self.layers, self.windows):
            if window == 2:
                x = torch.cat([x, torch.cat([torch.zeros_like(x[:1]), x[:-1]])], dim=2)
            z, f, *o = layer.linear(x).chunk(3 if self.output_gate else 2, dim=2)
            f = torch.sigmoid(f) * (1 - self.zoneout)
            c, out = torch.zeros_like(z[0]), []
            for t in range(len(x)):
                c = f[t] * torch.tanh(z[t]) + (1 - f[t]) * c
                out.append(c)
            c_all = torch.stack(out)
            x = torch.sigmoid(o[0]) * c_all if self.output_gate else c_all
        return x, c


@pytest.mark.parametrize(
    "sizes, windows", [([5, 6], [1]), ([5, 6], [2]), ([4, 6, 6], [2, 1]), ([6, 6, 6], [1, 2])]
)
@pytest.mark.parametrize("output_gate", [True, False])
@pytest.mark.parametrize("zoneout", [0.0, 0.2])
def test_torchqrnn(sizes, windows, output_gate, zoneout):
    qrnn = TorchQRNN(sizes, windows, output_gate, zoneout).double()
    stack = stack_from_torchqrnn(
        qrnn.state_dict(), window=windows[0], output_gate=output_gate, zoneout=zoneout
    ).eval()
    x = torch.randn(9, 3, sizes[0], dtype=torch.float64)
    y, state = stack(x)
    expected, c = qrnn(x)
    torch.testing.assert_close(y, expected)
    torch.testing.assert_close([tensor for tensor in state if tensor.dim() == 2][-1], c)


def without(state_dict, key):
    return {name: tensor for name, tensor in state_dict.items() if name != key}


def lstm(**options):
    return nn.LSTM(5, 6, num_layers=2, **options).state_dict()


def qrnn():
    return TorchQRNN([5, 6, 6], [1, 1], True, 0.0).state_dict()


def srupp():
    state = {}
    for layer in range(2):
        key = f"rnn_lst.{layer}"
        state |= {
            f"{key}.transform_module.linear1.weight": torch.zeros(4, 6),
            f"{key}.transform_module.linear2.weight": torch.zeros(8, 4),
            f"{key}.transform_module.linear3.weight": torch.zeros(18, 4),
            f"{key}.transform_module.alpha": torch.zeros(1),
            f"{key}.weight_c": torch.zeros(12),
            f"{key}.bias": torch.zeros(12),
            f"{key}.scale_x": torch.ones(1),
        }
    return state


@pytest.mark.parametrize(
    "read, state, options, message",
    [
        (stack_from_torch, {}, {}, "state_dict: expected weight_ih_l0, found nothing"),
        (stack_from_torch, {"rnn.weight_ih_l0": torch.zeros(1)}, {}, "without a larger one's prefix"),
        (stack_from_torch, without(lstm(), "weight_hh_l1"), {}, "weight_hh_l1, found 'weight_ih_l0'"),
        (stack_from_torch, without(lstm(), "bias_ih_l0"), {}, "bias_ih_l0, found"),
        (
            stack_from_torch,
            without(lstm(bidirectional=True), "weight_ih_l1_reverse"),
            {},
            "weight_ih_l1_reverse, found",
        ),
        (
            stack_from_torch,
            lstm() | {"weight_hh_l1": torch.zeros(24, 7)},
            {},
            r"weight_hh_l1 of shape \(24, 6\), found \(24, 7\)",
        ),
        (stack_from_torch, nn.LSTM(5, 6, proj_size=2).state_dict(), {}, "found also 'weight_hr_l0'"),
        (
            stack_from_torch,
            nn.RNN(5, 6).state_dict(),
            {},
            r"\(4·H, H\) for an LSTM or \(3·H, H\) for a GRU, found \(6, 6\)",
        ),
        (
            stack_from_torch,
            lstm() | {"bias_hh_l0": torch.zeros(24, 1)},
            {},
            r"bias_hh_l0 of shape \(24,\), found \(24, 1\)",
        ),
        (stack_from_torchqrnn, {}, {}, "layers.0.linear.weight, found nothing"),
        (stack_from_torchqrnn, without(qrnn(), "layers.1.linear.bias"), {}, "layers.1.linear.bias, found"),
        (
            stack_from_torchqrnn,
            without(qrnn(), "layers.0.linear.weight"),
            {},
            "layers.0.linear.weight, found",
        ),
        (
            stack_from_torchqrnn,
            qrnn() | {"layers.0.zoneout": torch.zeros(1)},
            {},
            "found also 'layers.0.zoneout'",
        ),
        (
            stack_from_torchqrnn,
            qrnn(),
            {"window": 2},
            "window: expected 1 or 2 that divides the 5 columns .* found 2",
        ),
        (
            stack_from_torchqrnn,
            {"layers.0.linear.weight": torch.zeros(8, 5)},
            {},
            "output_gate: expected .* 3 rows a feature, found 8 rows; pass output_gate=False",
        ),
        (
            stack_from_torchqrnn,
            qrnn() | {"layers.1.linear.weight": torch.zeros(18, 7)},
            {},
            r"layers.1.linear.weight of shape \(18, 6\), found \(18, 7\)",
        ),
        (stack_from_srupp, {}, {"num_heads": 1}, "rnn_lst.0.bias, found nothing"),
        (
            stack_from_srupp,
            without(srupp(), "rnn_lst.1.weight_c"),
            {"num_heads": 1},
            "rnn_lst.1.weight_c, found",
        ),
        (
            stack_from_srupp,
            without(srupp(), "rnn_lst.0.transform_module.linear2.weight"),
            {"num_heads": 1},
            "rnn_lst.0.transform_module.linear2.weight, found",
        ),
        (
            stack_from_srupp,
            srupp() | {"rnn_lst.0.gain": torch.zeros(1)},
            {"num_heads": 1},
            "found also 'rnn_lst.0.gain'",
        ),
        (
            stack_from_srupp,
            srupp() | {"rnn_lst.1.bias": torch.zeros(10)},
            {"num_heads": 1},
            r"rnn_lst.1.bias of shape \(12,\), found \(10,\)",
        ),
        (
            stack_from_srupp,
            srupp(),
            {"num_heads": 3},
            "projection_size: expected a multiple of num_heads 3, found 4",
        ),
        (
            stack_from_srupp,
            srupp(),
            {"num_heads": 1, "normalize_after": True},
            "normalize_after: expected rnn_lst.0.layer_norm.weight with normalize_after, found none",
        ),
    ],
)
def test_a_wrong_dictionary_names_the_key(read, state, options, message):
    with pytest.raises(Refused, match=message):
        read(state, **options)


def test_an_older_srupp_without_alpha_has_it_at_one():
    state = {key: tensor for key, tensor in srupp().items() if not key.endswith("alpha")}
    stack = stack_from_srupp(state, num_heads=2)
    assert all(cells[0].attention.alpha.item() == 1.0 for cells in stack.layers)


def test_srupp_layers_with_attention_are_inferred():
    state = srupp()
    without_attention = {
        key: tensor for key, tensor in state.items() if not key.startswith("rnn_lst.0.transform_module")
    }
    without_attention |= {
        "rnn_lst.0.transform_module.linear1.weight": torch.zeros(4, 6),
        "rnn_lst.0.transform_module.linear2.weight": torch.zeros(18, 4),
    }
    stack = stack_from_srupp(without_attention, num_heads=1)
    assert [cells[0].attention.num_heads for cells in stack.layers] == [0, 1]
