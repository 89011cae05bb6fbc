"""SRU++: its attention against a loop over steps, its memory, its place in a stack, and the `sru` package."""

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from seqsru.cells import CELLS, Stack, self_attention, stack_from_srupp
from seqsru.cells.self_attention import SelfAttention
from seqsru.errors import Refused

FIXTURES = Path(__file__).parents[1] / "fixtures"


def made(*sizes, **options):
    """A cell with parameters off their initial values."""
    cell = CELLS["srupp"](*sizes, **options).double().eval()
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter.normal_(0.0, 0.5)
    return cell


def attend_by_steps(cell, x, keep):
    """Equations (2) to (5) for x (T, B, I), a step and a row at a time; step t sees the steps `keep(t)`."""
    inside = cell.attention
    T, B, _ = x.shape
    out = torch.empty(T, B, len(inside.project), dtype=x.dtype)
    heads = inside.num_heads
    for row in range(B):
        z = x[:, row] @ inside.project.t()  # (T, P)
        q = inside.norm(z) if inside.normalize == "before" else z
        k, v = (q @ inside.key_value.t()).chunk(2, dim=1)
        for t in range(T):
            found = []
            for head_q, head_k, head_v in zip(q[t].chunk(heads), k.chunk(heads, 1), v.chunk(heads, 1)):
                scores = torch.stack([head_k[s] @ head_q for s in keep(t)]) / math.sqrt(len(head_q))
                share = scores.exp() / scores.exp().sum()
                found.append(sum(p * head_v[s] for p, s in zip(share, keep(t))))
            o = z[t] + inside.alpha * torch.cat(found)
            out[t, row] = inside.norm(o) if inside.normalize == "after" else o
    return out


@pytest.fixture(params=[(128, 16), (4, 2), (3, 1)], ids=["one-block", "blocks-of-4", "blocks-of-3"])
def blocks(request, monkeypatch):
    block, step = request.param
    monkeypatch.setattr(self_attention, "BLOCK", block)
    monkeypatch.setattr(self_attention, "STEP", step)


@pytest.mark.parametrize("normalize", ["after", "before", "none"])
@pytest.mark.parametrize("heads, memory", [(1, 3), (2, 1), (4, 50)])
def test_causal_attention_equals_a_loop_over_steps(blocks, normalize, heads, memory):
    cell = made(6, 6, projection_size=8, num_heads=heads, memory=memory, normalize=normalize)
    x = torch.randn(11, 2, 6, dtype=torch.float64)
    found, _ = cell.attention(x, cell.initial_state(2)[1:], None)
    expected = attend_by_steps(cell, x, lambda t: range(max(0, t - memory), t + 1))
    torch.testing.assert_close(found, expected)


def test_full_attention_equals_a_loop_over_steps_and_ignores_padding():
    cell = made(6, 6, projection_size=8, num_heads=2, attention="full")
    x = torch.randn(7, 2, 6, dtype=torch.float64)
    found, past = cell.attention(x, (), None)
    torch.testing.assert_close(found, attend_by_steps(cell, x, lambda t: range(7)))
    assert past == () and len(cell.initial_state(2)) == 1 and not cell.causal
    valid = torch.arange(7).unsqueeze(1) < torch.tensor([7, 4])
    padded, _ = cell.attention(x, (), valid)
    torch.testing.assert_close(padded[:, :1], found[:, :1])
    torch.testing.assert_close(padded[:4, 1:], cell.attention(x[:4, 1:], (), None)[0])


def test_the_past_is_bounded_and_counted():
    cell = made(6, 6, projection_size=8, memory=5)
    state = cell.initial_state(3)
    assert [tuple(tensor.shape) for tensor in state] == [(3, 6), (3, 5, 16), (3,)]
    x = torch.randn(9, 3, 6, dtype=torch.float64)
    valid = torch.arange(9).unsqueeze(1) < torch.tensor([9, 4, 0])
    _, (_, kept, count) = cell(x, state, valid)
    assert count.tolist() == [5, 4, 0] and not kept[2].any()
    key_value = (x @ cell.attention.project.t()) @ cell.attention.key_value.t()
    torch.testing.assert_close(kept[0], key_value[4:, 0])
    torch.testing.assert_close(kept[1, 1:], key_value[:4, 1])
    assert not kept[1, 0].any()


def test_what_lies_in_the_past_beyond_the_count_has_no_influence():
    cell = made(6, 6, projection_size=8, memory=4)
    x = torch.randn(3, 2, 6, dtype=torch.float64)
    c, kept, _ = cell.initial_state(2)
    count = torch.tensor([2, 0])
    results = []
    for filling in (0.0, 100.0):
        other = kept.clone()
        other[0, :2], other[1] = filling, filling
        results.append(cell(x, (c, other, count))[0])
    torch.testing.assert_close(*results)


def test_it_starts_as_an_sru_with_a_projection():
    """alpha is 0: without a LayerNorm the product is W3 W1, which `SRUCell` has as weight and projection."""
    cell = CELLS["srupp"](12, 12, projection_size=8, normalize="none")
    sru = CELLS["sru"](12, 12, projection_size=8, version=2)
    with torch.no_grad():
        sru.projection.copy_(cell.attention.project)
        for name in ("weight", "v", "bias"):
            getattr(sru, name).copy_(getattr(cell, name))
    x = torch.randn(9, 2, 12)
    torch.testing.assert_close(cell(x, cell.initial_state(2))[0], sru(x, sru.initial_state(2))[0])


def test_initial_weights_are_the_package_s():
    cell = CELLS["srupp"](300, 400, projection_size=96, projection_dropout=0.36)
    inside = cell.attention
    for matrix, bound in (
        (inside.project, (6 / 396) ** 0.5),
        (inside.key_value, (6 / 288) ** 0.5),
        (cell.weight, (6 / 1696) ** 0.5 * 0.8),
        (cell.v, 1.0),
    ):
        assert matrix.abs().max() <= bound
        assert matrix.std().item() == pytest.approx(bound / 3**0.5, rel=0.05)
    assert not inside.alpha.any() and not cell.bias[0].any() and (cell.bias[1] == -2.0).all()
    both = CELLS["srupp"](300, 200, projection_size=96, slices=2)
    assert both.weight.abs().max().item() == pytest.approx((6 / (2 * 800 + 96)) ** 0.5, rel=1e-3)


def test_layers_with_attention():
    stack = Stack("srupp", 16, 16, 6, options={"attention_every": 2, "attention_from": 2})
    assert [cells[0].attention.num_heads for cells in stack.layers] == [0, 0, 0, 1, 0, 1]


def test_two_directions_share_all_but_the_recurrence():
    stack = Stack("srupp", 16, 8, 2, bidirectional=True, options={"attention": "full", "layer_norm": True})
    for cells in stack.layers:
        assert cells[0].attention is cells[1].attention and cells[0].layer_norm is cells[1].layer_norm
        assert cells[0].weight is not cells[1].weight
        assert cells[0].highway == "identity" and (cells[0].slice, cells[1].slice) == (0, 1)
    assert not stack.causal


def test_bidirectional_full_attention_does_not_depend_on_padding():
    stack = Stack("srupp", 6, 6, 2, bidirectional=True, options={"attention": "full"}).double().eval()
    with torch.no_grad():
        for parameter in stack.parameters():
            parameter.normal_(0.0, 0.4)
    x = torch.randn(8, 3, 6, dtype=torch.float64)
    lengths = torch.tensor([8, 5, 2])
    y, _ = stack(x, valid=torch.arange(8).unsqueeze(1) < lengths)
    for row, n in enumerate(lengths.tolist()):
        torch.testing.assert_close(y[:n, row : row + 1], stack(x[:n, row : row + 1])[0])


@pytest.mark.parametrize("option", ["input_dropout", "projection_dropout", "attention_dropout", "dropout"])
def test_dropouts_act_in_training_alone(option):
    cell = made(16, 16, projection_size=8, **{option: 0.5}).float()
    x, start = torch.randn(20, 4, 16), CELLS["srupp"](16, 16, projection_size=8).initial_state(4)
    still = cell.eval()(x, start)[0]
    assert torch.equal(still, cell(x, start)[0])
    cell.train()
    torch.manual_seed(1)
    first = cell(x, start)[0]
    second = cell(x, start)[0]
    assert not torch.equal(first, still) and not torch.equal(first, second)


@pytest.mark.parametrize(
    "options, message",
    [
        (
            {"projection_size": 9, "num_heads": 2},
            "projection_size: expected a multiple of num_heads 2, found 9",
        ),
        ({"projection_size": -8}, "projection_size: expected a multiple of num_heads 1, found -8"),
        ({"attention": "both"}, "attention: expected one of causal, full, found 'both'"),
        ({"normalize": "never"}, "normalize: expected one of after, before, none"),
        ({"memory": 0}, "memory: expected at least 1, found 0"),
        ({"attention_every": 0}, "attention_every: expected at least 1, found 0"),
        ({"slice": 1}, "slice: expected from 0 to 0, found 1"),
        ({"attention_dropout": -0.1}, "attention_dropout: expected a probability from 0 to below 1"),
    ],
)
def test_options_outside_their_values_are_refused(options, message):
    with pytest.raises(Refused, match=f"^{message}"):
        CELLS["srupp"](16, 16, **options)


# ---- weights of the sru package, release 3.0.0.dev6 ------------------------------------------------

PACKAGE = sorted(FIXTURES.glob("srupp-*.safetensors"))


def test_there_are_fixtures():
    assert len(PACKAGE) == 5


@pytest.mark.parametrize("path", PACKAGE, ids=lambda path: path.stem)
def test_it_computes_what_the_package_computes(path):
    """Outputs, final states and gradients that release 3.0.0.dev6 gave, alpha being off its initial 0."""
    with safe_open(path, "pt") as file:
        arguments = json.loads(file.metadata()["arguments"])
        tensors = {key: file.get_tensor(key) for key in file.keys()}
    weights = {
        key.removeprefix("state."): tensor for key, tensor in tensors.items() if key.startswith("state.")
    }
    stack = stack_from_srupp(weights, **arguments).eval()
    x = tensors["input"].requires_grad_()
    valid = tensors.get("valid")
    valid = None if valid is None else valid.bool()
    pieces, state, at = [], None, 0
    for steps in tensors["steps"].tolist():
        y, state = stack(x[at : at + steps], state, None if valid is None else valid[at : at + steps])
        pieces.append(y)
        at += steps
    y = torch.cat(pieces)
    kept = torch.ones(y.shape[:2], dtype=torch.bool) if valid is None else valid
    torch.testing.assert_close(y[kept], tensors["output"][kept], rtol=1e-5, atol=1e-5)
    c = torch.stack([tensor for tensor in state if tensor.dim() == 2])
    c = c.unflatten(0, (stack.num_layers, -1)).transpose(1, 2).flatten(2)
    torch.testing.assert_close(c, tensors["final_state"], rtol=1e-5, atol=1e-5)
    if "input_gradient" in tensors:
        (y * tensors["output_gradient"]).sum().backward()
        torch.testing.assert_close(x.grad, tensors["input_gradient"], rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("threads", [1, 2], indirect=True)
@pytest.mark.parametrize("reach", [0, 7, 100])
def test_what_a_step_sees_has_the_same_bits_beside_longer_rows(reach, threads):
    """Past multiples of what steps are padded to, past a block of queries, and past one of keys."""
    for size, heads in ((20, 1), (48, 3)):
        attention = SelfAttention(24, size, heads, reach, "after", 0.0).eval()
        attention.alpha.fill_(0.7)
        x, lengths = torch.randn(290, 6, 24), torch.tensor([290, 1, 15, 33, 129, 200])
        valid = torch.arange(290).unsqueeze(1) < lengths
        whole, _ = attention(x, attention.initial_past(6), valid)
        for some in ([1], [2], [3], [4], [5], [1, 3], [5, 2, 4]):
            steps = int(lengths[some].max())
            given = x[:steps, some], attention.initial_past(len(some)), valid[:steps, some]
            found, _ = attention(*given)
            assert torch.equal(found[valid[:steps, some]], whole[:steps, some][valid[:steps, some]])


@pytest.mark.parametrize("reach", [0, 7, 150])
def test_with_and_without_gradients_a_step_sees_the_same(reach):
    attention = SelfAttention(24, 48, 3, reach, "after", 0.0)
    with torch.no_grad():
        attention.alpha.fill_(0.7)
    x, valid = torch.randn(290, 4, 24), torch.arange(290).unsqueeze(1) < torch.tensor([290, 1, 130, 0])
    for given in (None, valid):
        want, _ = attention(x, attention.initial_past(4), given)  # torch's own attention
        with torch.no_grad():
            found, _ = attention(x, attention.initial_past(4), given)
        assert want.requires_grad and (found - want).abs().max() < 2e-5
