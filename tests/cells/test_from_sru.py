"""SRU.from_sru_package: recorded checkpoints of two releases, the layouts of the others, and its errors."""

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load, save
from torch.nn import functional

from seqsru import SRU
from seqsru.errors import Refused

FIXTURES = Path(__file__).parent.parent / "fixtures"
NAMES = ["sru-2.6.0-v2-padded", "sru-2.6.0-v1-tanh", "sru-2.6.0-bidirectional-projection"]
WITHIN = {"rtol": 0.0, "atol": 1e-5}


def recorded(path):
    """Tensors and arguments of a fixture."""
    with safe_open(path, "pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}, json.loads(file.metadata()["arguments"])


def part(tensors, prefix):
    return {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}


def check(path):
    """Compare outputs, final states and gradients with a fixture's."""
    tensors, arguments = recorded(path)
    two, D = arguments.get("bidirectional", False), arguments["hidden_size"]
    rnn = SRU.from_sru_package(part(tensors, "state."), bidirectional=two, use_tanh=arguments.get("use_tanh"))
    assert rnn.stack.num_layers == arguments["num_layers"] and rnn.hidden_size == D

    def own(state):  # (layers, B, D·dirs) -> (layers·dirs, B, D)
        return state.unflatten(2, (1 + two, D)).transpose(1, 2).flatten(0, 1)

    x, valid = tensors["input"].requires_grad_(), tensors.get("valid")
    start = own(tensors["initial_state"]).requires_grad_() if "initial_state" in tensors else None
    y, last = rnn(x, start, valid)
    compared = torch.ones(x.shape[:2], dtype=torch.bool) if valid is None else valid
    torch.testing.assert_close(y[compared], tensors["output"][compared], **WITHIN)
    torch.testing.assert_close(last, own(tensors["final_state"]), **WITHIN)
    if "output_gradient" not in tensors:
        return
    torch.autograd.backward([y, last], [tensors["output_gradient"], own(tensors["final_state_gradient"])])
    torch.testing.assert_close(x.grad, tensors["input_gradient"], **WITHIN)
    for key, expected in part(tensors, "gradient.").items():
        torch.testing.assert_close(gradient(rnn, key), expected, **WITHIN)


def gradient(rnn, key):
    """The gradient of a tensor of the package, put together from those of ours."""
    _, layer, name = key.split(".", 2)
    cells = rnn.stack.layers[int(layer)]
    if name == "weight":  # (k·D, I) of each direction -> (I, dirs, D, k)
        slices = torch.stack([cell.weight.grad.unflatten(0, (cell.k, -1)) for cell in cells])
        return slices.permute(3, 0, 2, 1).flatten(1)
    if name in ("bias", "weight_c"):  # (2, D) of each direction -> (2, dirs, D)
        return torch.stack([(cell.bias if name == "bias" else cell.v).grad for cell in cells], 1).flatten()
    if name == "weight_proj":
        return cells[0].projection.grad.t()
    return cells[0].layer_norm.get_parameter(name.removeprefix("layer_norm.")).grad


@pytest.mark.parametrize("name", NAMES)
def test_fixtures_of_release_2_6(name):
    check(FIXTURES / f"{name}.safetensors")


def test_fixture_of_release_2_3_5(mirror):
    check(mirror / "fixtures" / "sru-2.3.5.safetensors")


# Other releases. A dictionary of release 2.6 is drawn and rewritten as they lay it out.


def drawn(I=5, D=4, layers=2, *, two=False, ranks=None, norm=None, skip=True, first=None, scale=1.0):
    """A state dictionary of release 2.6; `ranks` of the projections by layer, `norm` "before" or "after"."""
    out, state = D * (1 + two), {}
    if first:
        state["input_to_hidden.weight"] = 0.3 * torch.randn(out, first)
        I = out
    for i in range(layers):
        size = out if i else I
        k = 4 if skip and size != out else 3
        rank = ranks[i] if ranks else None
        tensors = {
            "weight": torch.randn(rank or size, out * k),
            "weight_c": torch.randn(2 * out),
            "bias": torch.randn(2 * out),
            "scale_x": torch.tensor([scale]),
        }
        if rank:
            tensors["weight_proj"] = torch.randn(size, rank)
        if norm:
            width = size if norm == "before" else out
            tensors |= {"layer_norm.weight": torch.randn(width), "layer_norm.bias": torch.randn(width)}
        state |= {f"rnn_lst.{i}.{name}": tensor for name, tensor in tensors.items()}
    return state


def same(one, other, size=5):
    """Check that two layers compute the same."""
    x, valid = torch.randn(6, 3, size), torch.arange(6).unsqueeze(1) < torch.tensor([6, 2, 0])
    for mask in (None, valid):
        torch.testing.assert_close(one(x, None, mask), other(x, None, mask), **WITHIN)


@pytest.mark.parametrize("two", [False, True])
def test_2017(two):
    state = {key: tensor for key, tensor in drawn(two=two).items() if key.endswith((".weight", ".bias"))}
    later = state | {
        key.replace("bias", "weight_c"): torch.zeros_like(tensor)
        for key, tensor in state.items()
        if key.endswith("bias")
    }
    later |= {f"rnn_lst.{i}.scale_x": torch.ones(1) for i in range(2)}
    rnn = SRU.from_sru_package(state, bidirectional=two)
    assert rnn.stack.layers[0][0].activation == "tanh" and rnn.stack.layers[0][0].version == 1
    same(rnn, SRU.from_sru_package(later, bidirectional=two, use_tanh=True))
    assert SRU.from_sru_package(state, use_tanh=False).stack.layers[0][0].activation == "identity"
    assert SRU.from_sru_package(later).stack.layers[0][0].activation == "identity"


@torch.no_grad()
def test_2_0_layer_norm_after_the_layers():
    state = drawn(layers=1)
    a, b = torch.randn(4), torch.randn(4)
    rnn = SRU.from_sru_package(state | {"ln_lst.0.a": a, "ln_lst.0.b": b})
    x = 1e-3 * torch.randn(6, 3, 5)  # small, so that epsilon matters
    h = SRU.from_sru_package(state)(x)[0]
    expected = a * (h - h.mean(-1, keepdim=True)) / (h.var(-1, keepdim=True) + 1e-6).sqrt() + b
    torch.testing.assert_close(rnn(x)[0], expected, **WITHIN)
    again = SRU.from_sru_package(state | {"ln_lst.0.a": a, "ln_lst.0.b": b}, normalize_after=True)
    assert torch.equal(again(x)[0], rnn(x)[0])


@torch.no_grad()
def test_2_0_weight_norm():
    state = drawn()
    gains = {f"rnn_lst.{i}.gain": torch.rand(state[f"rnn_lst.{i}.weight"].shape[1]) for i in range(2)}
    plain = dict(state)
    for i in range(2):
        weight = state[f"rnn_lst.{i}.weight"]
        plain[f"rnn_lst.{i}.weight"] = gains[f"rnn_lst.{i}.gain"] * weight / weight.square().sum(0).sqrt()
    same(SRU.from_sru_package(state | gains), SRU.from_sru_package(plain))


@torch.no_grad()
@pytest.mark.parametrize("two", [False, True])
@pytest.mark.parametrize("ranks", [None, (3, 3)], ids=["", "projection"])
def test_3_0_dev(two, ranks):
    state, renamed = drawn(two=two, ranks=ranks, norm="before"), {}
    for key, tensor in state.items():
        if key.endswith("weight_proj"):
            renamed[key.replace("weight_proj", "transform_module.0.weight")] = tensor.t().contiguous()
        elif key.endswith(("0.weight", "1.weight")):
            name = "transform_module.1.weight" if ranks else "transform_module.weight"
            renamed[key.removesuffix("weight") + name] = tensor.t().contiguous()
        else:
            renamed[key] = tensor
    assert len(renamed) == len(state) and renamed.keys() != state.keys()
    same(SRU.from_sru_package(renamed, bidirectional=two), SRU.from_sru_package(state, bidirectional=two))


@torch.no_grad()
def test_projections_that_only_some_layers_have():
    state = drawn(layers=3, ranks=(None, 2, 2))
    folded = {key: tensor for key, tensor in state.items() if not key.endswith("weight_proj")}
    for i in (1, 2):
        folded[f"rnn_lst.{i}.weight"] = state[f"rnn_lst.{i}.weight_proj"] @ state[f"rnn_lst.{i}.weight"]
    rnn = SRU.from_sru_package(state)
    assert rnn.stack.layers[1][0].projection is None
    same(rnn, SRU.from_sru_package(folded))


@torch.no_grad()
def test_layer_norm_after_the_layers_in_2_6():
    state = drawn(layers=1, norm="after")
    rnn = SRU.from_sru_package(state, normalize_after=True)
    x = torch.randn(6, 3, 5)
    bare = {key: tensor for key, tensor in state.items() if "layer_norm" not in key}
    weight, bias = (state[f"rnn_lst.0.layer_norm.{name}"] for name in ("weight", "bias"))
    expected = functional.layer_norm(SRU.from_sru_package(bare)(x)[0], (4,), weight, bias)
    torch.testing.assert_close(rnn(x)[0], expected, **WITHIN)


@torch.no_grad()
def test_input_to_hidden():
    state = drawn(first=7, two=True)
    rnn = SRU.from_sru_package(state, bidirectional=True)
    x = torch.randn(6, 3, 7)
    weights = {key: tensor for key, tensor in state.items() if key.startswith("rnn_lst")}
    inner = SRU.from_sru_package(weights, bidirectional=True)
    torch.testing.assert_close(rnn(x), inner(x @ state["input_to_hidden.weight"].T), **WITHIN)
    assert rnn.input_size == 7


@torch.no_grad()
@pytest.mark.parametrize("I", [4, 5])
def test_no_highway(I):
    rnn = SRU.from_sru_package(drawn(I=I, layers=1, skip=False), has_skip_term=False)
    assert rnn.stack.layers[0][0].highway == "none"
    rnn.stack.layers[0][0].bias[1] = -40.0  # a closed reset gate leaves nothing
    assert rnn(torch.randn(6, 3, I))[0].abs().max() < 1e-12


def test_the_scale_and_the_type_are_kept():
    state = {key: tensor.double() for key, tensor in drawn(scale=1.75).items()}
    rnn = SRU.from_sru_package(state)
    assert [layer[0].scale for layer in rnn.stack.layers] == [1.75, 1.75]
    assert {parameter.dtype for parameter in rnn.parameters()} == {torch.float64}
    with torch.no_grad():
        x = torch.randn(2, 1, 5).double()
        other = SRU.from_sru_package(state | {"rnn_lst.1.scale_x": torch.ones(1)})
        assert not torch.allclose(rnn(x)[0], other(x)[0])


def test_what_was_read_can_be_saved_and_loaded():
    state = drawn(two=True, ranks=(3, 3), norm="before", scale=1.5)
    rnn = SRU.from_sru_package(state, bidirectional=True)
    other = SRU(5, 4, 2, bidirectional=True, projection_size=3, layer_norm=True)
    other.load_state_dict(load(save({key: tensor.clone() for key, tensor in rnn.state_dict().items()})))
    same(rnn, other)
    assert other.stack.layers[0][1].scale == 1.5


# Errors


BLAMED = "state_dict|bidirectional|has_skip_term|normalize_after"


def without(*keys):
    return {key: tensor for key, tensor in drawn(norm="before").items() if key not in keys}


@pytest.mark.parametrize(
    "state, arguments, message",
    [
        ({}, {}, "keys that start with 'rnn_lst.0.', found nothing"),
        (
            {f"encoder.{i}": torch.ones(1) for i in range(6)},
            {},
            "keys that start with 'rnn_lst.0.', found 'encoder.0', .*'encoder.3' and 2 more",
        ),
        (drawn() | {"out.weight": torch.ones(1)}, {}, "the keys of such a module, found also 'out.weight'"),
        (drawn() | {"rnn_lst.0.weights": torch.ones(1)}, {}, "found also 'rnn_lst.0.weights'"),
        (without("rnn_lst.1.bias"), {}, "rnn_lst.1.bias, found only .*'rnn_lst.1.weight'.* of layer 1"),
        (without("rnn_lst.0.weight"), {}, "rnn_lst.0.weight, found only"),
        (without("rnn_lst.1.weight_c"), {}, "rnn_lst.1.weight_c, found only"),
        (without("rnn_lst.0.scale_x"), {}, "rnn_lst.0.scale_x, found only"),
        (
            without("rnn_lst.1.layer_norm.weight", "rnn_lst.1.layer_norm.bias"),
            {},
            "rnn_lst.1.layer_norm.bias, found only",
        ),
        (drawn() | {"ln_lst.0.a": torch.ones(4), "ln_lst.0.b": torch.ones(4)}, {}, "ln_lst.1.a, found only"),
        (
            {key.replace("lst.1", "lst.2"): tensor for key, tensor in drawn().items()},
            {},
            "rnn_lst.1.bias, found only nothing of layer 1",
        ),
        (
            drawn() | {"rnn_lst.0.transform_module.linear1.weight": torch.ones(1)},
            {},
            "checkpoint of SRU layers, found 'rnn_lst.0.transform_module.linear1.weight', which SRU\\+\\+",
        ),
        (
            drawn() | {"rnn_lst.0.custom_m.weight": torch.ones(1)},
            {},
            "found 'rnn_lst.0.custom_m.weight', which SRU",
        ),
        (
            drawn() | {"rnn_lst.0.transform_module.weight": torch.ones(16, 5)},
            {},
            "one of rnn_lst.0.transform_module.weight and rnn_lst.0.weight, found both",
        ),
        (
            drawn(D=3),
            {"bidirectional": True},
            "an even number of outputs for two directions, found 3; pass bidirectional=",
        ),
        (
            drawn(),
            {"has_skip_term": False},
            "rnn_lst.0.weight with 12 columns, the highway of 4 features from 5 being left out, found 16; "
            "pass has_skip_term=True",
        ),
        (
            drawn(skip=False),
            {},
            "rnn_lst.0.weight with 16 columns, the highway of 4 features from 5 being one slice, found 12; "
            "pass has_skip_term=False",
        ),
        (
            drawn(),
            {"normalize_after": True},
            "rnn_lst.0.layer_norm.weight with normalize_after, found none; pass",
        ),
        (
            drawn(norm="before"),
            {"normalize_after": True},
            r"rnn_lst.0.layer_norm.weight of shape \(4,\), found \(5,\)",
        ),
        (
            drawn() | {"rnn_lst.1.weight": torch.ones(6, 12)},
            {},
            r"rnn_lst.1.weight of shape \(4, 12\), found \(6, 12\)",
        ),
        (drawn() | {"rnn_lst.1.bias": torch.ones(10)}, {}, r"rnn_lst.1.bias of shape \(8,\), found \(10,\)"),
        (
            drawn() | {"rnn_lst.0.weight_c": torch.ones(9)},
            {},
            r"rnn_lst.0.weight_c of shape \(8,\), found \(9,\)",
        ),
        (
            drawn() | {"rnn_lst.0.scale_x": torch.ones(2)},
            {},
            r"rnn_lst.0.scale_x of shape \(1,\), found \(2,\)",
        ),
        (
            drawn() | {"rnn_lst.0.weight": torch.ones(5)},
            {},
            r"rnn_lst.0.weight of shape \(rows, columns\), found \(5,\)",
        ),
        (
            drawn(ranks=(3, 3)) | {"rnn_lst.1.weight": torch.ones(2, 12)},
            {},
            r"rnn_lst.1.weight of shape \(3, 12\), found \(2, 12\)",
        ),
        (
            drawn(ranks=(3, 3)) | {"rnn_lst.1.weight_proj": torch.ones(5, 3)},
            {},
            r"rnn_lst.1.weight_proj of shape \(4, 3\), found \(5, 3\)",
        ),
        (
            drawn(first=7) | {"input_to_hidden.weight": torch.ones(5, 7)},
            {},
            r"input_to_hidden.weight of shape \(4, I\), found \(5, 7\)",
        ),
        (
            drawn(D=1, layers=1) | {"ln_lst.0.a": torch.ones(1), "ln_lst.0.b": torch.ones(1)},
            {},
            "more than one output where ln_lst.0.a is given, found 1",
        ),
    ],
)
def test_wrong_dictionaries(state, arguments, message):
    with pytest.raises(Refused, match=f"^({BLAMED}): expected .*{message}"):
        SRU.from_sru_package(state, **arguments)


def test_a_transposed_matrix_is_named_as_it_is_stored():
    state = drawn()
    del state["rnn_lst.1.weight"]
    state["rnn_lst.1.transform_module.weight"] = torch.ones(12, 6)
    with pytest.raises(Refused, match=r"1.transform_module.weight of shape \(12, 4\), found \(12, 6\)"):
        SRU.from_sru_package(state)


def test_the_old_epsilon():
    norms = {f"ln_lst.{i}.{name}": torch.ones(4) for i in range(2) for name in "ab"}
    rnn = SRU.from_sru_package(drawn() | norms)
    assert math.isclose(rnn.stack.norms[0].eps, 0.75e-6)
