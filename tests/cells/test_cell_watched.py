"""Whoever watches what torch computes sees all of it: tracers, modes, transforms, forward derivatives."""

from functools import partial

import pytest
import torch
from torch.autograd import forward_ad
from torch.fx.experimental.proxy_tensor import make_fx
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from seqsru.cells import CELLS, SRU, Stack
from seqsru.models.language_model import LanguageModel
from seqsru.ops.cross_entropy import linear_cross_entropy

T, B, I = 5, 2, 4
over_cells = pytest.mark.parametrize("name", CELLS)
MODES = {"grad": torch.enable_grad, "no_grad": torch.no_grad, "inference": torch.inference_mode}
over_modes = pytest.mark.parametrize("mode", MODES)
# Of torch itself: that a size is read while tracing, and that its older tracer is to be replaced.
pytestmark = pytest.mark.filterwarnings(
    "ignore::torch.jit.TracerWarning", "ignore:.*torch.jit.*:DeprecationWarning"
)


def made(name, dtype=torch.float32, **options):
    """A cell with parameters off their initial values, evaluating."""
    cell = CELLS[name](I, I, **options).to(dtype).eval()
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter.normal_(0.0, 0.4)
    return cell


def same(found, expected, **tolerance):
    for a, b in zip((found[0], *found[1]), (expected[0], *expected[1]), strict=True):
        torch.testing.assert_close(a, b, **tolerance)


@over_modes
@over_cells
def test_a_traced_cell_computes_other_inputs_of_other_lengths(name, mode):
    cell = made(name)
    with MODES[mode]():
        traced = torch.jit.trace(cell, (torch.randn(T, B, I), cell.initial_state(B)))
        for steps, rows in ((T, B), (T, B), (T + 3, B), (T, B + 1), (1, 1)):
            x, start = torch.randn(steps, rows, I), cell.initial_state(rows)
            same(traced(x, start), cell(x, start))


@over_cells
def test_a_cell_traced_without_gradients_has_them_where_they_are_wanted(name):
    cell, valid = made(name), torch.arange(T).unsqueeze(1) < torch.tensor([T, 2])
    start = cell.initial_state(B)
    others = {"lstm", "gru"}  # torch packs them, whose lengths a trace cannot hold
    for known in ((), () if name in others else (valid,)):
        with torch.no_grad():
            traced = torch.jit.trace(cell, (torch.randn(T, B, I), start, *known))
        x, found = torch.randn(T, B, I), []
        for module in (cell, traced):
            y, last = module(x, start, *known)
            results = [t for t in (y, *last) if t.requires_grad]
            found.append(torch.autograd.grad([t.square().sum() for t in results], list(cell.parameters())))
        torch.testing.assert_close(*found)


@over_modes
@over_cells
def test_make_fx_records_a_cell(name, mode):
    cell = made(name)
    start = cell.initial_state(B)
    with MODES[mode]():
        for options in ({}, {"tracing_mode": "symbolic"}, {"pre_dispatch": True}):
            graph = make_fx(lambda x, start: cell(x, start), **options, _allow_non_fake_inputs=True)(
                torch.randn(T, B, I), start
            )
            for _ in range(2):
                x = torch.randn(T, B, I)
                same(graph(x, start), cell(x, start))
            if "tracing_mode" in options and name != "gru":  # which torch itself takes apart step by step
                x = torch.randn(T + 3, B, I)
                same(graph(x, start), cell(x, start))


@over_modes
@over_cells
def test_vmap_of_a_cell(name, mode):
    cell = made(name)
    start, x = cell.initial_state(B), torch.randn(3, T, B, I)

    def run(x):
        y, last = cell(x, start)
        return y, *last

    with MODES[mode]():
        if name in ("lstm", "gru"):
            with pytest.raises(RuntimeError, match="Batching rule not implemented for aten::"):
                torch.func.vmap(run)(x)
            return
        found = torch.func.vmap(run)(x)
        for tensor, each in zip(found, zip(*map(run, x), strict=True), strict=True):
            torch.testing.assert_close(tensor, torch.stack(each))


@pytest.mark.parametrize("mode", ["grad", "no_grad"])
@over_cells
def test_derivatives_taken_forward(name, mode):
    cell = made(name, torch.float64)
    start, x, direction = cell.initial_state(B), *torch.randn(2, T, B, I, dtype=torch.float64)
    valid = torch.arange(T).unsqueeze(1) < torch.tensor([T, 2])

    for known in (None, valid):

        def run(x, known=known):
            y, last = cell(x, start, known)
            return torch.cat([y.flatten(), *(t.flatten() for t in last if t.is_floating_point())])

        step = 1e-6 * direction
        expected = (run(x + step) - run(x - step)) / 2e-6
        with MODES[mode]():
            if name in ("lstm", "gru") and known is not None:
                with pytest.raises(NotImplementedError, match="forward AD with _pack_padded_sequence"):
                    torch.func.jvp(run, (x,), (direction,))
                continue
            _, found = torch.func.jvp(run, (x,), (direction,))
            torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)
            with forward_ad.dual_level():
                found = forward_ad.unpack_dual(run(forward_ad.make_dual(x, direction))).tangent
            torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)


@over_cells
def test_gradients_of_each_row_and_hessians_by_transforms(name):
    if name in ("lstm", "gru"):
        pytest.skip("torch has no vmap of them")
    cell = made(name, torch.float64)
    x = torch.randn(3, B, I, dtype=torch.float64)

    def loss(weights, x):
        y, _ = torch.func.functional_call(cell, weights, (x.unsqueeze(1), cell.initial_state(1)))
        return y.square().sum()

    weights = {key: value.detach() for key, value in cell.named_parameters()}
    each = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 1))(weights, x)
    for row in range(B):
        expected = torch.autograd.grad(
            loss(dict(cell.named_parameters()), x[:, row]), list(cell.parameters())
        )
        for key, gradient in zip(weights, expected):
            torch.testing.assert_close(each[key][row], gradient)
    found = torch.func.hessian(lambda x: loss(weights, x))(x[:, 0])
    step = torch.zeros_like(x[:, 0])
    step[1, 2] = 1e-5
    gradient = torch.func.grad(lambda x: loss(weights, x))
    expected = (gradient(x[:, 0] + step) - gradient(x[:, 0] - step)) / 2e-5
    torch.testing.assert_close(found[:, :, 1, 2], expected, atol=1e-6, rtol=1e-5)


@over_cells
def test_gradients_of_gradients(name):
    """float64, as torch has none for its float32 LSTM on a CPU nor for its attention."""
    cell = made(name, torch.float64)
    start, valid = cell.initial_state(B), torch.tensor([[True, True], [True, False], [True, False]])

    for known in (None, valid):

        def run(x, *parameters, known=known):
            y, last = cell(x, start, known)
            return y, *(t for t in last if t.is_floating_point())

        x = torch.randn(3, B, I, dtype=torch.float64, requires_grad=True)
        if name == "srupp":
            (gradient,) = torch.autograd.grad(run(x)[0].square().sum(), x, create_graph=True)
            with pytest.raises(RuntimeError, match="derivative for .*attention.* is not implemented"):
                gradient.sum().backward()
        else:
            results = run(x)
            weights = [torch.randn_like(t) for t in results]
            inputs = [x, *cell.parameters()]
            loss = sum((a * b).square().sum() for a, b in zip(results, weights))
            first = torch.autograd.grad(loss, inputs, create_graph=True)
            directions = [torch.randn_like(t) for t in inputs]
            found = torch.autograd.grad(first, inputs, directions, retain_graph=True)
            sides = []
            for sign in (1e-6, -1e-6):
                with torch.no_grad():
                    for tensor, direction in zip(inputs, directions):
                        tensor.add_(direction, alpha=sign)
                loss = sum((a * b).square().sum() for a, b in zip(run(x), weights))
                sides.append(torch.autograd.grad(loss, inputs))
                with torch.no_grad():
                    for tensor, direction in zip(inputs, directions):
                        tensor.sub_(direction, alpha=sign)
            expected = [(a - b) / 2e-6 for a, b in zip(*sides)]
            torch.testing.assert_close(list(found), expected, atol=1e-6, rtol=1e-5)


class Count(TorchDispatchMode):
    """Notes the names of the operators that it sees."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.seen.append(str(function))
        return function(*args, **(kwargs or {}))


class CountFunctions(TorchFunctionMode):
    """The same, above autograd."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_function__(self, function, types, args=(), kwargs=None):
        self.seen.append(str(function))
        return function(*args, **(kwargs or {}))


@torch.no_grad()
@pytest.mark.parametrize("name", [name for name in CELLS if name not in ("lstm", "gru", "conv")])
@pytest.mark.parametrize("mode", [Count, CountFunctions])
def test_modes_see_the_recurrence(name, mode):
    cell = made(name)
    with mode() as counted:
        cell(torch.randn(1, B, I), cell.initial_state(B))
    assert any("seqsru" in function and "forward" in function for function in counted.seen)


@torch.no_grad()
@over_cells
def test_negated_views_are_read_as_what_they_are(name):
    cell = made(name)
    x = torch.randn(T, B, I)
    hidden = tuple(t.uniform_() if t.is_floating_point() else t for t in cell.initial_state(B))
    negated = tuple(torch._neg_view(-t) if t.is_floating_point() else t for t in hidden)
    same(cell(torch._neg_view(-x), negated), cell(x, hidden))


@torch.no_grad()
@over_cells
def test_subclasses_and_fake_tensors(name):
    class Mine(torch.Tensor):
        pass

    cell = made(name)
    x, start = torch.randn(T, B, I), cell.initial_state(B)
    y, _ = cell(x.as_subclass(Mine), start)
    torch.testing.assert_close(y.as_subclass(torch.Tensor), cell(x, start)[0])
    meta = made(name).to("meta")
    y, last = meta(torch.empty(T, B, I, device="meta"), meta.initial_state(B))
    assert y.is_meta and y.shape == (T, B, I) and [t.shape for t in last] == [t.shape for t in start]


@over_modes
def test_the_layer_and_stacks_of_two_directions(mode):
    layers = [SRU(I, I, 2, bidirectional=True), SRU(I, 3, layer_norm=True, projection_size=2)]
    layers += [Stack(name, I, I, 2, bidirectional=True, residual=True) for name in ("sru", "qrnn", "mgu")]
    for layer in layers:
        layer.eval()
        x, other = torch.randn(2, T, B, I)
        with MODES[mode]():
            graph = make_fx(partial(lambda layer, x: layer(x), layer), _allow_non_fake_inputs=True)(x)
            same(graph(other), layer(other))
            traced = torch.jit.trace(layer, x)
            for given in (other, torch.randn(T + 2, B + 1, I)):
                same(traced(given), layer(given))


@over_modes
@pytest.mark.parametrize("cell", ["sru", "mgu", "minlstm"])
def test_the_language_model_and_its_loss(cell, mode):
    model = LanguageModel(11, Stack(cell, I, I, 2), I, tied=False).eval()

    class Loss(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, tokens, targets, valid):
            features, _ = self.model(tokens, None, valid)
            return self.model.cross_entropy(features, targets, valid, 0.1)

    loss = Loss()

    def batch(steps, rows):
        lengths = torch.randint(0, steps + 1, (rows,))
        return *torch.randint(0, 11, (2, steps, rows)), torch.arange(steps).unsqueeze(1) < lengths

    with MODES[mode]():
        graph = make_fx(lambda *given: loss(*given), _allow_non_fake_inputs=True)(*batch(T, B))
        traced = torch.jit.trace(loss, batch(T, B), check_trace=False)
        for given in (batch(T, B), batch(T, B)):
            torch.testing.assert_close(graph(*given), loss(*given))
        for given in (batch(T, B), batch(T + 4, B + 3)):
            torch.testing.assert_close(traced(*given), loss(*given))


def test_cross_entropy_under_transforms_and_differentiated_twice():
    x, weight = torch.randn(4, 3, 5, dtype=torch.float64), torch.randn(7, 5, dtype=torch.float64)
    bias, targets = torch.randn(7, dtype=torch.float64), torch.randint(0, 7, (4, 3))
    given = [t.requires_grad_() for t in (x, weight, bias)]
    for valid in (None, torch.rand(4, 3) > 0.3):

        def loss(*given, valid=valid):
            return linear_cross_entropy(*given, targets, valid=valid, smoothing=0.1)[0]

        options = {"nondet_tol": 1e-9}  # the first backward pass is the kernel's, a second torch's
        assert torch.autograd.gradcheck(loss, given, check_forward_ad=True, **options)
        assert torch.autograd.gradgradcheck(loss, given, **options)
        found = torch.func.vmap(torch.func.grad(lambda b, valid=valid: loss(x, weight, b)))(bias.expand(2, 7))
        (expected,) = torch.autograd.grad(loss(*given), bias)
        torch.testing.assert_close(found, expected.expand(2, 7))
