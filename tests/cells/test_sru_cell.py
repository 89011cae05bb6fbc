"""The SRU cell: its equations, its initialisation, its dropouts, its options and their errors."""

import math

import pytest
import torch
from torch.nn import functional

from seqsru.cells import highway, sru
from seqsru.cells.sru import SRUCell
from seqsru.errors import Refused


def by_hand(cell, x, c, valid=None):
    """The equations of the cell's docstring, one number of one row at a time."""
    D, P = cell.hidden_size, cell.projection
    g = {"identity": lambda a: a, "tanh": math.tanh, "relu": lambda a: max(a, 0.0)}[cell.activation]
    norm = cell.layer_norm
    seen = x if norm is None else functional.layer_norm(x, x.shape[-1:], norm.weight, norm.bias)
    weight = cell.weight if P is None else cell.weight @ P
    h, c = torch.zeros(*x.shape[:2], D, dtype=x.dtype), c.clone()
    for t in range(len(x)):
        for b in range(x.shape[1]):
            if valid is not None and not valid[t, b]:
                continue
            for d in range(D):
                u = [float(weight[s * D + d] @ seen[t, b]) for s in range(cell.k)]
                v = [0.0, 0.0] if cell.v is None else cell.v[:, d].tolist()
                old = float(c[b, d])
                f = 1 / (1 + math.exp(-(u[1] + v[0] * old + float(cell.bias[0, d]))))
                r = 1 / (1 + math.exp(-(u[2] + v[1] * old + float(cell.bias[1, d]))))
                new = f * old + (1 - f) * u[0]
                carried = 0.0
                if cell.highway != "none":
                    own = cell.highway == "identity"
                    carried = cell.scale * float(x[t, b, cell.slice * D + d]) if own else u[3]
                h[t, b, d] = g(new) * r + (1 - r) * carried
                c[b, d] = new
    return h, c


@torch.no_grad()
@pytest.mark.parametrize(
    "input_size, options",
    [
        (3, {}),
        (4, {}),
        (3, {"version": 1, "activation": "tanh"}),
        (3, {"highway": "project"}),
        (3, {"highway": "none", "activation": "relu"}),
        (6, {"slice": 1, "slices": 2, "rescale": True, "highway_bias": -1.0}),
        (4, {"layer_norm": True, "projection_size": 2}),
        (6, {"slices": 2, "layer_norm": True}),
        (4, {"rescale": True, "highway_bias": 0.5}),
    ],
    ids=str,
)
def test_equations(input_size, options):
    cell = SRUCell(input_size, 3, **options).double()
    for parameter in cell.parameters():
        parameter.add_(torch.randn_like(parameter), alpha=0.3)
    x, start = torch.randn(4, 2, input_size).double(), torch.randn(2, 3).double()
    valid = torch.tensor([[1, 1], [1, 1], [1, 0], [1, 0]], dtype=torch.bool)
    for mask in (None, valid):
        h, (c,) = cell(x, (start,), mask)
        expected = by_hand(cell, x, start, mask)
        torch.testing.assert_close((h, c), expected)


def test_highway_auto_follows_the_sizes():
    assert SRUCell(4, 4).highway == "identity" and SRUCell(5, 4).highway == "project"
    assert SRUCell(8, 4, slices=2, slice=1).highway == "identity" and SRUCell(8, 4).highway == "project"
    assert SRUCell(4, 4, highway="project").weight.shape == (16, 4)
    assert SRUCell(4, 4, highway="none").weight.shape == (12, 4)


def spread(tensor):
    """Largest magnitude and variance: of U(±a), a and a²/3."""
    return tensor.abs().max().item(), tensor.var().item()


@torch.no_grad()
def test_initialisation_of_version_2():
    size, D = 300, 400
    cell = SRUCell(size, D, highway_bias=-2.0, rescale=True, dropout=0.3, input_dropout=0.2)
    alpha = math.sqrt(1 + 2 * math.exp(-2.0))
    assert cell.scale == pytest.approx(alpha) and cell.highway == "project"
    assert torch.equal(cell.bias, torch.tensor([0.0, -2.0]).unsqueeze(1).expand(2, D))
    factors = [0.7 * 0.8, 0.5 * 0.8, 0.5 * 0.8, alpha**2 * 0.8]  # of the variance 1/I
    for u, factor in zip(cell.weight.view(4, D, size), factors):
        largest, variance = spread(u)
        assert variance == pytest.approx(factor / size, rel=0.02)
        assert largest == pytest.approx(math.sqrt(3 * factor / size), rel=1e-3)
    largest, variance = spread(cell.v)
    assert variance == pytest.approx(0.5, rel=0.1) and largest == pytest.approx(math.sqrt(1.5), rel=0.01)


@torch.no_grad()
def test_initialisation_of_version_1():
    cell = SRUCell(300, 300, version=1, highway_bias=-1.0, rescale=True)
    assert cell.v is None and "v" not in dict(cell.named_parameters())
    assert cell.scale == pytest.approx(math.sqrt(1 + 2 * math.exp(-1.0)))
    for u in cell.weight.view(3, 300, 300):
        assert spread(u)[1] == pytest.approx(1 / 300, rel=0.02)


@torch.no_grad()
def test_initialisation_with_layer_norm_and_projection():
    cell = SRUCell(300, 500, version=1, layer_norm=True, projection_size=100)
    assert spread(cell.projection)[1] == pytest.approx(1 / 300, rel=0.02)
    assert spread(cell.weight)[1] == pytest.approx(0.01 / 100, rel=0.02)
    assert torch.equal(cell.layer_norm.weight, torch.ones(300)) and not cell.layer_norm.bias.any()


def test_dropout_mask_is_shared_over_time_and_spares_the_highway():
    cell = SRUCell(50, 50, dropout=0.4, highway="none", version=1)
    x, state = torch.randn(6, 40, 50), cell.initial_state(40)
    whole = cell.eval()(x, state)[0]
    masked, (c,) = cell.train()(x, state)
    dropped = masked == 0
    assert torch.equal(dropped, dropped[:1].expand_as(dropped))
    assert dropped[0].float().mean().item() == pytest.approx(0.4, abs=0.04)
    torch.testing.assert_close(masked, torch.where(dropped, 0.0, whole / 0.6))
    assert torch.equal(c, cell.eval()(x, state)[1][0])
    carrying = SRUCell(50, 50, dropout=0.4, version=1).train()
    with torch.no_grad():
        carrying.weight[:50] = 0.0  # c stays 0, so that only the highway is left
        h = carrying(x, state)[0]
        r = torch.sigmoid(x @ carrying.weight[100:].T)
        kept = (h - (1 - r / 0.6) * x).abs() < 1e-5
        torch.testing.assert_close(h, torch.where(kept, (1 - r / 0.6) * x, x))
    assert not torch.equal(cell.train()(x, state)[0], masked)


def test_input_dropout_masks_the_product_and_not_the_highway(monkeypatch):
    seen = {}
    scan, product = highway.sru_scan, sru.linear
    monkeypatch.setattr(sru, "linear", lambda x, weight: seen.update(product=x) or product(x, weight))
    monkeypatch.setattr(
        highway, "sru_scan", lambda u, x, *a, **k: seen.update(carried=x) or scan(u, x, *a, **k)
    )
    cell = SRUCell(40, 40, input_dropout=0.25)
    x, state = torch.randn(5, 30, 40), cell.initial_state(30)
    cell.train()(x, state)
    dropped = seen["product"] == 0
    assert torch.equal(dropped, dropped[:1].expand_as(dropped))
    assert dropped[0].float().mean().item() == pytest.approx(0.25, abs=0.04)
    torch.testing.assert_close(seen["product"], torch.where(dropped, 0.0, x / 0.75))
    assert torch.equal(seen["carried"], x)
    whole = SRUCell(40, 40)
    whole.load_state_dict(cell.state_dict())
    assert torch.equal(cell.eval()(x, state)[0], whole(x, state)[0])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_parameters_keep_a_float32_state(dtype):
    cell = SRUCell(6, 6, layer_norm=True)
    half = SRUCell(6, 6, layer_norm=True)
    half.load_state_dict(cell.state_dict())
    half.to(dtype)
    x = torch.randn(5, 3, 6)
    (start,) = half.initial_state(3)
    assert start.dtype == torch.float32
    y, (c,) = half(x.to(dtype), (start,))
    assert y.dtype == dtype and c.dtype == torch.float32
    torch.testing.assert_close(y.float(), cell(x, (start,))[0], atol=0.05, rtol=0.05)


def test_autocast_computes_the_product_in_bfloat16():
    cell = SRUCell(6, 6)
    x = torch.randn(5, 3, 6)
    with torch.autocast("cpu", torch.bfloat16):
        y, (c,) = cell(x, cell.initial_state(3))
    assert y.dtype == torch.bfloat16 and c.dtype == torch.float32


def test_the_scale_is_saved():
    cell, other = SRUCell(4, 4, rescale=True, highway_bias=-3.0), SRUCell(4, 4)
    assert cell.state_dict()["_extra_state"].tolist() == [cell.scale]
    other.load_state_dict(cell.state_dict())
    assert other.scale == cell.scale != 1.0
    other.reset_parameters()
    assert other.scale == 1.0


@pytest.mark.parametrize(
    "options, message",
    [
        ({"input_size": 0}, "input_size: expected at least 1, found 0"),
        ({"hidden_size": -1}, "hidden_size: expected at least 1, found -1"),
        ({"version": 3}, "version: expected one of 1, 2, found 3"),
        ({"highway": "identiy"}, "highway: expected one of auto, identity, project, none, found 'identiy'"),
        ({"activation": "selu"}, "activation: expected one of identity, tanh, relu, found 'selu'"),
        ({"backend": "gpu"}, "backend: expected one of auto, reference, cpu, cuda, found 'gpu'"),
        ({"dropout": 1.0}, "dropout: expected a probability from 0 to below 1, found 1.0"),
        ({"input_dropout": -0.1}, "input_dropout: expected a probability from 0 to below 1, found -0.1"),
        ({"slice": 2, "slices": 2}, "slice: expected from 0 to 1, found 2; slices counts"),
        ({"slices": 0}, "slices: expected at least 1, found 0"),
        ({"projection_size": -1}, "projection_size: expected at least 0, found -1"),
        (
            {"highway": "identity", "input_size": 5},
            r"highway: expected input_size = slices \* hidden_size = 4 .*, found 5; use",
        ),
        ({"highway": "none", "rescale": True}, "rescale: expected a highway to scale, found highway 'none'"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(Refused, match=f"^{message}"):
        SRUCell(**({"input_size": 4, "hidden_size": 4} | options))
