"""Stacks of every cell: depth, two directions, dropout between layers, norms and highways across them."""

import pytest
import torch
from safetensors.torch import load, save
from torch.nn import functional

from seqsru.cells import CELLS, Stack
from seqsru.errors import Refused

T, B, I, D = 7, 4, 5, 4
LENGTHS = torch.tensor([7, 3, 1, 0])
VALID = torch.arange(T).unsqueeze(1) < LENGTHS
OWN = [name for name in CELLS if name not in ("lstm", "gru")]  # those that compile and export
over_cells = pytest.mark.parametrize("cell", CELLS)
shapes = pytest.mark.parametrize(
    "options",
    [
        {},
        {"num_layers": 3},
        {"num_layers": 3, "normalize_after": True, "residual": True},
        {"num_layers": 2, "bidirectional": True, "project_input": True},
        {"num_layers": 3, "bidirectional": True, "normalize_after": True, "norm_eps": 1e-3, "residual": True},
        {"num_layers": 3, "bidirectional": True, "skips": "dense"},
        {"num_layers": 3, "normalize_after": True, "skips": "dense_output"},
    ],
    ids=str,
)


def made(cell, dtype=torch.float64, **options):
    """A stack with parameters off their initial values, in evaluation mode."""
    stack = Stack(cell, I, D, **options).to(dtype).eval()
    with torch.no_grad():
        for parameter in stack.parameters():
            parameter.normal_(0.0, 0.5)
    return stack


def a_state(stack, rows):
    """A state that is not the initial one; counts differ from row to row."""
    return tuple(
        torch.randn_like(tensor) if tensor.is_floating_point() else tensor + torch.arange(rows) % 3
        for tensor in stack.initial_state(rows)
    )


@over_cells
@shapes
def test_padded_equals_unpadded_and_nan_reaches_nothing(cell, options):
    stack = made(cell, **options)
    x, start = torch.randn(T, B, I).double(), a_state(stack, B)
    y, last = stack(x, start, VALID)
    assert y.shape == (T, B, stack.output_size) and not y[~VALID].any()
    assert len(last) == len(start) == stack.state_size
    for row, n in enumerate(LENGTHS.tolist()):
        alone, state = stack(x[:n, row : row + 1], tuple(tensor[row : row + 1] for tensor in start))
        torch.testing.assert_close(y[:n, row : row + 1], alone)
        torch.testing.assert_close(tuple(tensor[row : row + 1] for tensor in last), state)
    dirty = x.masked_fill(~VALID.unsqueeze(-1), float("nan")).requires_grad_()
    found, state = stack(dirty, start, VALID)
    assert torch.equal(found, y) and all(torch.equal(a, b) for a, b in zip(state, last))
    found.square().sum().backward()
    for tensor in (dirty, *stack.parameters()):
        assert tensor.grad.isfinite().all() and tensor.grad.abs().sum() > 0
    assert not dirty.grad[~VALID].any()


@over_cells
def test_streaming_equals_whole_in_one_direction(cell):
    stack = made(cell, num_layers=3, residual=True, normalize_after=True)
    x = torch.randn(T, B, I).double()
    for valid in (None, VALID):
        whole, last = stack(x, None, valid)
        state, outputs = None, []
        for at in range(T):
            y, state = stack(x[at : at + 1], state, None if valid is None else valid[at : at + 1])
            outputs.append(y)
        torch.testing.assert_close((torch.cat(outputs), state), (whole, last))


@over_cells
@shapes
@torch.no_grad()
def test_rows_have_the_same_bits_in_any_batch(cell, options):
    stack = made(cell, torch.float32, **options)
    x, start = torch.randn(T, 13, I), a_state(stack, 13)
    valid = torch.arange(T).unsqueeze(1) < torch.tensor([7, 6, 5, 4, 3, 2, 1, 0, 7, 7, 2, 2, 1])
    for known in (None, valid):
        y, last = stack(x, start, known)
        for n in (1, 2, 5, 12):
            some = torch.randperm(13)[:n]
            among = None if known is None else known[:, some]
            found, state = stack(x[:, some], tuple(t[some] for t in start), among)
            assert torch.equal(found, y[:, some])
            assert all(torch.equal(a, b[some]) for a, b in zip(state, last))


@over_cells
@shapes
def test_no_steps_and_one_step(cell, options):
    stack = made(cell, **options)
    start = a_state(stack, B)
    y, last = stack(torch.randn(0, B, I).double(), start, VALID[:0])
    assert y.shape == (0, B, stack.output_size) and all(torch.equal(a, b) for a, b in zip(last, start))
    y, last = stack(torch.randn(1, B, I).double())
    assert y.shape == (1, B, stack.output_size)
    assert [t.shape for t in last] == [t.shape for t in start]


@over_cells
@shapes
def test_save_and_load(cell, options):
    stack, other = made(cell, torch.float32, **options), Stack(cell, I, D, **options).eval()
    x = torch.randn(T, B, I)
    saved = {key: tensor.clone() for key, tensor in stack.state_dict().items()}
    other.load_state_dict(load(save(saved)))
    assert torch.equal(other(x)[0], stack(x)[0])


@over_cells
def test_a_stack_is_its_cells_one_after_the_other(cell):
    stack = made(cell, num_layers=2, bidirectional=True)
    x, start = torch.randn(T, 1, I).double(), a_state(stack, 1)
    each, y, expected = len(start) // 4, x, []
    for layer in range(2):
        halves = []
        for direction in range(2):
            number = 2 * layer + direction
            read = y.flip(0) if direction else y
            out, state = stack.layers[layer][direction](read, start[number * each : (number + 1) * each])
            halves.append(out.flip(0) if direction else out)
            expected += state
        y = torch.cat(halves, dim=-1)
    torch.testing.assert_close(stack(x, start), (y, tuple(expected)))


def test_norms_and_residuals_stand_where_they_should():
    stack = made("gru", num_layers=2, normalize_after=True, norm_eps=0.1, residual=True)
    x = torch.randn(T, B, I).double()
    first = stack.norms[0](stack.layers[0][0](x, stack.initial_state(B)[:1])[0])
    second = stack.norms[1](stack.layers[1][0](first, stack.initial_state(B)[:1])[0])
    torch.testing.assert_close(stack(x)[0], second + first)
    assert stack.norms[0].eps == 0.1
    assert made("gru", normalize_after=True).norms[0].eps == torch.nn.LayerNorm(1).eps
    mapped = made("sru", project_input=True)
    read = functional.linear(x, mapped.input_map.weight)
    torch.testing.assert_close(mapped(x), mapped.layers[0][0](read, mapped.initial_state(B)))


@over_cells
def test_dropout_stands_between_layers_only(cell):
    stack = Stack(cell, 30, 40, 2, dropout=0.5)
    masks = "dropout" in CELLS[cell].set_by_stack
    assert stack.dropout == (0.0 if masks else 0.5)
    if masks:
        assert [layer[0].dropout for layer in stack.layers] == [0.5, 0.0]
    single = Stack(cell, 30, 40, 1, dropout=0.5)
    x = torch.randn(T, 20, 30)
    assert torch.equal(single.train()(x)[0], single.eval()(x)[0])
    assert not torch.allclose(stack.train()(x)[0], stack.eval()(x)[0])
    assert torch.equal(stack(x)[0], stack(x)[0])


def test_dropout_of_other_cells_is_shared_over_time(monkeypatch):
    stack, seen = Stack("gru", 30, 40, 2, dropout=0.3).train(), {}
    second = stack.layers[1][0]
    forward = second.forward
    monkeypatch.setattr(second, "forward", lambda x, *rest: seen.update(x=x) or forward(x, *rest))
    x = torch.randn(T, 20, 30)
    stack(x)
    dropped = seen["x"] == 0
    assert torch.equal(dropped, dropped[:1].expand_as(dropped))
    assert dropped[0].float().mean().item() == pytest.approx(0.3, abs=0.05)
    whole = stack.layers[0][0](x, stack.initial_state(20)[:1])[0]
    torch.testing.assert_close(seen["x"], torch.where(dropped, 0.0, whole / 0.7))


def test_two_directions_carry_their_slices_and_share_what_belongs_to_the_layer():
    stack = Stack("sru", I, D, 2, bidirectional=True, options={"layer_norm": True, "projection_size": 3})
    saved = stack.state_dict()
    for forward, backward in stack.layers:
        assert forward.layer_norm is backward.layer_norm and forward.projection is backward.projection
        assert forward.weight is not backward.weight
        assert (forward.slice, backward.slice) == (0, 1)
    assert [cell.highway for layer in stack.layers for cell in layer] == ["project"] * 2 + ["identity"] * 2
    for name in ("projection", "layer_norm.weight", "layer_norm.bias"):
        pointers = {saved[f"layers.1.{direction}.{name}"].data_ptr() for direction in range(2)}
        assert len(pointers) == 1
    names = [name for name, _ in stack.named_parameters()]
    assert "layers.0.0.projection" in names and "layers.0.1.projection" not in names


@pytest.mark.parametrize("cell", OWN)
def test_compiles(cell):
    torch._dynamo.reset()
    stack = made(cell, torch.float32, num_layers=2, bidirectional=True, normalize_after=True)
    x, start = torch.randn(T, B, I), a_state(stack, B)
    compiled = torch.compile(stack, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x, start, VALID), stack(x, start, VALID))


@pytest.mark.parametrize("cell", OWN)
def test_compiles_in_training(cell):
    torch._dynamo.reset()
    stack = made(cell, torch.float32, num_layers=2, dropout=0.3).train()
    x = torch.randn(T, B, I)
    results = []
    for module in (stack, torch.compile(stack, fullgraph=True, backend="aot_eager")):
        torch.manual_seed(1)
        stack.zero_grad()
        y, _ = module(x)
        y.square().sum().backward()
        results.append([y, *(parameter.grad.clone() for parameter in stack.parameters())])
    torch.testing.assert_close(*results)


@pytest.mark.parametrize("cell", OWN)
def test_exports_with_any_number_of_steps(cell):
    stack = made(cell, torch.float32, num_layers=2, bidirectional=True, residual=True)
    x, steps = torch.randn(T, B, I), torch.export.Dim("T")
    shapes = {0: steps}, None, {0: steps}
    program = torch.export.export(stack, (x, None, VALID), dynamic_shapes=shapes).module()
    for n in (2, T):
        torch.testing.assert_close(program(x[:n], None, VALID[:n]), stack(x[:n], None, VALID[:n]))


@pytest.mark.parametrize(
    "options, message",
    [
        ({"cell": "srv"}, "cell: expected one of sru, .*found 'srv'; did you mean 'sru'\\?"),
        ({"cell": "qqqq"}, "cell: expected one of .*found 'qqqq'; choose one of these"),
        ({"num_layers": 0}, "num_layers: expected at least 1, found 0"),
        ({"input_size": 0}, "input_size: expected at least 1, found 0"),
        ({"hidden_size": 0}, "hidden_size: expected at least 1, found 0"),
        ({"dropout": 1.5}, "dropout: expected a probability from 0 to below 1, found 1.5"),
        ({"norm_eps": 1e-3}, "norm_eps: expected a value only with normalize_after, found 0.001 without it"),
        (
            {"options": {"hiway": "none"}},
            "hiway: expected an option of cell 'sru' \\(version, .*found 'hiway'; did you mean 'highway'\\?",
        ),
        (
            {"options": {"dropout": 0.1}},
            "dropout: expected options of cell 'sru' without it, .*found 0.1; give it beside the options",
        ),
        (
            {"options": {"slices": 3}},
            "slices: expected options of cell 'sru' without it, .*found 3; leave it out",
        ),
        (
            {"cell": "lstm", "options": {"version": 1}},
            "version: expected no option, as cell 'lstm' has none, found 'version'; leave it out",
        ),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(Refused, match=f"^{message}"):
        Stack(**({"cell": "sru", "input_size": I, "hidden_size": D} | options))


def test_wrong_inputs():
    stack = Stack("lstm", I, D, 2)
    x = torch.randn(T, B, I)
    with pytest.raises(Refused, match=r"x: expected shape \(T, B, 5\), found \(7, 4, 6\)"):
        stack(torch.randn(T, B, I + 1))
    with pytest.raises(Refused, match=r"x: expected shape \(T, B, 5\), found \(7, 5\)"):
        stack(x[:, 0])
    with pytest.raises(Refused, match="state: expected 4 tensors, found 2; pass what initial_state"):
        stack(x, stack.initial_state(B)[:2])
    with pytest.raises(Refused, match=r"state: expected 4 rows as x has, found \[3, 3, 3, 3\]"):
        stack(x, stack.initial_state(3))
    with pytest.raises(
        Refused, match=r"valid: expected bool of shape \(7, 4\) as x has, found bool of shape \(4, 7\)"
    ):
        stack(x, None, VALID.t())
    with pytest.raises(Refused, match=r"valid: expected bool of .* found float32 of shape \(7, 4\)"):
        stack(x, None, VALID.float())
