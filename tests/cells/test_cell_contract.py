"""What every cell keeps, for every entry of CELLS and every value of its options that its signature spells
out.

A cell added to CELLS is covered as it stands. `EXTRA` holds options whose values a signature does not list,
and `OTHERS` the cells that are not our own: they may break a compiled graph, and export without `valid`.
"""

import inspect
import typing

import pytest
import torch
from safetensors.torch import load, save

from seqsru.cells import CELLS, Cell

EXTRA = {
    "sru": [
        {"projection_size": 2},
        {"highway": "project", "projection_size": 2, "layer_norm": True},
        {"rescale": True, "highway_bias": -1.0},
        {"version": 1, "activation": "tanh"},
    ],
    "srupp": [
        {"num_heads": 2, "projection_size": 4, "memory": 2},
        {"attention_every": 2},
        {"attention": "full", "num_heads": 4},
        {"rescale": True},
    ],
    "qrnn": [{"window": 1}, {"window": 3, "pooling": "ifo"}, {"zoneout": 0.5}],
    "conv": [{"window": 2}],
}
# Where differences are taken of every output: hundreds of past steps in a state are thousands of outputs.
SMALL = {"srupp": {"memory": 4}}
OTHERS = {"lstm", "gru"}
I, T, B = 4, 9, 4
LENGTHS = torch.tensor([9, 4, 1, 0])
VALID = torch.arange(T).unsqueeze(1) < LENGTHS


def variants():
    """Every cell by itself, from a wider input, and with each listed value of each option."""
    for name, make in CELLS.items():
        hints = typing.get_type_hints(make.__init__)
        found = [{}]
        for option, parameter in inspect.signature(make).parameters.items():
            values = [True] if hints[option] is bool else typing.get_args(hints[option])
            found += [{option: value} for value in values if value not in (parameter.default, "cuda")]
        for options in found + EXTRA.get(name, []):
            label = "-".join([name, *(f"{option}={value}" for option, value in options.items())])
            yield pytest.param(name, I, options, id=label)
        yield pytest.param(name, I + 3, {}, id=f"{name}-wider")


over_variants = pytest.mark.parametrize("name, input_size, options", list(variants()))
over_cells = pytest.mark.parametrize("name", CELLS)


def made(name, input_size=I, options=(), dtype=torch.float64, width=I):
    """A cell with parameters off their initial values, evaluating; `width` - I is added to both sizes."""
    cell = CELLS[name](input_size - I + width, width, **dict(options)).to(dtype).eval()
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter.normal_(0.0, width**-0.5)
    return cell


def a_state(cell, batch, **kwargs):
    """A state that is not the initial one, of the dtypes a cell gives it; counts differ from row to row."""
    return tuple(
        torch.rand_like(tensor) if tensor.is_floating_point() else tensor + torch.arange(batch) % 3
        for tensor in cell.initial_state(batch)
    )


def inputs(cell, steps=T, batch=B, dtype=torch.float64):
    return torch.randn(steps, batch, cell.input_size, dtype=dtype)


def close(found, expected, **tolerance):
    """Compare outputs (y, state)."""
    for a, b in zip((found[0], *found[1]), (expected[0], *expected[1]), strict=True):
        torch.testing.assert_close(a, b, **tolerance)


@over_cells
def test_a_cell_is_made_of_two_sizes_and_named_options(name):
    parameters = list(inspect.signature(CELLS[name]).parameters.values())
    assert [p.name for p in parameters[:2]] == ["input_size", "hidden_size"]
    hints = typing.get_type_hints(CELLS[name].__init__)
    for option in parameters[2:]:
        assert option.kind is option.KEYWORD_ONLY and option.default is not option.empty
        assert option.name in hints
    assert issubclass(CELLS[name], Cell) and not inspect.isabstract(CELLS[name])
    assert not any(issubclass(CELLS[name], other) for key, other in CELLS.items() if key != name)
    taken = {p.name for p in parameters}
    assert set(CELLS[name].set_by_stack) <= taken & {"dropout", "slice", "slices", "layer"}
    assert ("slice" in CELLS[name].set_by_stack) == ("slices" in CELLS[name].set_by_stack)


@over_variants
def test_streaming_equals_whole(name, input_size, options):
    cell = made(name, input_size, options)
    if not cell.causal:
        pytest.skip("what sees later steps does not stream")
    x, start = inputs(cell), a_state(cell, B)
    for valid in (None, VALID):
        whole = cell(x, start, valid)
        for cuts in ([1] * T, [4, 0, 5], [2, 3, 1, 3]):
            state, outputs, at = start, [], 0
            for n in cuts:
                y, state = cell(x[at : at + n], state, None if valid is None else valid[at : at + n])
                outputs.append(y)
                at += n
            close((torch.cat(outputs), state), whole)


@over_variants
def test_padded_equals_unpadded(name, input_size, options):
    cell = made(name, input_size, options)
    x, start = inputs(cell), a_state(cell, B)
    y, last = cell(x, start, VALID)
    assert not y[~VALID].any()
    for row, n in enumerate(LENGTHS.tolist()):
        alone = cell(x[:n, row : row + 1], tuple(tensor[row : row + 1] for tensor in start))
        close((y[:n, row : row + 1], tuple(tensor[row : row + 1] for tensor in last)), alone)
    assert all(torch.equal(new[3], old[3]) for new, old in zip(last, start))


@over_variants
@pytest.mark.parametrize("width", [64, 20])
@torch.no_grad()
def test_a_row_has_the_same_bits_alone_and_in_any_batch(name, input_size, options, width):
    cell = made(name, input_size, options, torch.float32, width=width)
    rows = 14
    x, start = inputs(cell, T, rows, torch.float32), a_state(cell, rows)
    lengths = torch.randint(0, T + 1, (rows,))
    lengths[5] = T
    all_valid = torch.arange(T).unsqueeze(1) < lengths
    for valid in (None, all_valid):
        y, last = cell(x, start, valid)
        for n in (1, 2, 3, 5, 6, 8, 11, 13):
            some = torch.randperm(rows)[:n]
            steps = T if valid is None else int(lengths[some].max())
            found, state = cell(
                x[:steps, some],
                tuple(tensor[some] for tensor in start),
                None if valid is None else valid[:steps, some],
            )
            assert torch.equal(found, y[:steps, some])
            assert all(torch.equal(a, b[some]) for a, b in zip(state, last))


@over_variants
def test_gradients_equal_differences_and_reach_every_parameter(name, input_size, options):
    cell = made(name, input_size, {**SMALL.get(name, {}), **options}, width=3)
    x, start = inputs(cell, 3, 3).requires_grad_(), a_state(cell, 3)
    for tensor in start:
        tensor.requires_grad_(tensor.is_floating_point())
    valid = torch.tensor([[True, True, False], [True, False, False], [True, False, False]])
    parameters = list(cell.parameters())

    def outputs(x, *others):
        y, last = cell(x, tuple(others[: len(start)]), valid)
        return y, *(tensor for tensor in last if tensor.is_floating_point())

    assert torch.autograd.gradcheck(outputs, (x, *start, *parameters), atol=1e-6)
    results = outputs(x, *start)
    torch.autograd.backward(results, [torch.rand_like(tensor) for tensor in results])
    for parameter in parameters:
        assert parameter.grad.abs().sum() > 0


@over_variants
def test_nan_in_padding_reaches_nothing(name, input_size, options):
    cell = made(name, input_size, options)
    clean = inputs(cell) * VALID.unsqueeze(-1)
    start = a_state(cell, B)
    found = []
    for x in (clean, clean.masked_fill(~VALID.unsqueeze(-1), float("nan"))):
        cell.zero_grad()
        x = x.requires_grad_()
        y, last = cell(x, start, VALID)
        (y.sum() + sum(tensor.sum() for tensor in last if tensor.is_floating_point())).backward()
        found.append([y, *last, x.grad, *(p.grad.clone() for p in cell.parameters())])
    for a, b in zip(*found, strict=True):
        assert torch.equal(a, b) and a.isfinite().all()


@over_variants
def test_states_keep_shape_and_type(name, input_size, options):
    cell = made(name, input_size, options, torch.float32)
    start = cell.initial_state(B)
    assert isinstance(start, tuple)
    for steps in (0, 1, 2, T):
        for valid in (None, VALID[:steps]):
            y, last = cell(inputs(cell, steps, dtype=torch.float32), start, valid)
            assert y.shape == (steps, B, cell.output_size) and y.dtype == torch.float32
            for new, old in zip(last, start, strict=True):
                assert new.shape == old.shape and new.shape[0] == B and new.dtype == old.dtype
    close((y[:0], cell(inputs(cell, 0, dtype=torch.float32), last)[1]), (y[:0], last))


@over_variants
def test_save_and_load(name, input_size, options):
    cell, other = made(name, input_size, options), made(name, input_size, options)
    x, start = inputs(cell), a_state(cell, B)
    assert not torch.equal(cell(x, start)[0], other(x, start)[0])
    other.load_state_dict(load(save(cell.state_dict())))
    close(other(x, start), cell(x, start), rtol=0, atol=0)


@over_cells
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_near_the_exact_result(name, dtype):
    cell = made(name, dtype=dtype, width=16)
    exact = made(name, width=16)
    exact.load_state_dict(cell.state_dict())
    x, start = inputs(cell, dtype=dtype), a_state(cell, B)
    for valid in (None, VALID):
        y, last = cell(x, start, valid)
        assert y.dtype == dtype and [t.dtype for t in last] == [t.dtype for t in start]
        wide = tuple(t.double() if t.is_floating_point() else t for t in start)
        expected, end = exact(x.double(), wide, valid)
        found = tuple(t.double() if t.is_floating_point() else t for t in last)
        close((y.double(), found), (expected, end), atol=0.1, rtol=0.05)


@over_cells
def test_autocast_keeps_the_type_of_the_state(name):
    cell = made(name, dtype=torch.float32)
    x, start = inputs(cell, dtype=torch.float32), a_state(cell, B)
    exact = cell(x, start, VALID)
    for given in (x, x.bfloat16()):
        for valid in (None, VALID):
            with torch.autocast("cpu", torch.bfloat16):
                y, last = cell(given, start, valid)
                (y.float().sum() + sum(tensor.sum() for tensor in last)).backward()
            assert [tensor.dtype for tensor in last] == [tensor.dtype for tensor in start]
    close((y.float(), last), exact, atol=0.05, rtol=0.05)


@over_cells
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # at a break
def test_compiles(name):
    torch._dynamo.reset()
    cell = made(name, dtype=torch.float32)
    x, start = inputs(cell, dtype=torch.float32), a_state(cell, B)
    compiled = torch.compile(cell, fullgraph=name not in OTHERS, backend="aot_eager")
    for valid in (None, VALID):
        close(compiled(x, start, valid), cell(x, start, valid))


@pytest.mark.parametrize("name", [name for name in CELLS if name not in OTHERS])
def test_exports_with_any_number_of_steps(name):
    cell = made(name, dtype=torch.float32)
    x, start = inputs(cell, dtype=torch.float32), a_state(cell, B)
    steps = torch.export.Dim("T")
    for valid in (None, VALID):
        shapes = ({0: steps}, tuple(None for _ in start), None if valid is None else {0: steps})
        program = torch.export.export(cell, (x, start, valid), dynamic_shapes=shapes).module()
        for n in (2, T):
            arguments = x[:n], start, None if valid is None else valid[:n]
            close(program(*arguments), cell(*arguments))


@pytest.mark.parametrize("name", sorted(OTHERS))
@pytest.mark.filterwarnings("ignore:The tensor attributes self.rnn._flat_weights")  # torch.export's
def test_torch_cells_export_with_one_number_of_steps(name):
    cell = made(name, dtype=torch.float32)
    x, start = inputs(cell, dtype=torch.float32), a_state(cell, B)
    close(torch.export.export(cell, (x, start)).module()(x, start), cell(x, start))
