"""Both directions of an SRU layer at once, as a GPU runs them, against one after the other."""

import pytest
import torch
from torch.nn.utils import parametrize

from seqsru.cells import SRU, Stack, highway
from seqsru.cells.sru import SRUCell
from seqsru.ops import cpu, scan

T, B, D = 7, 4, 6
VARIANTS = [
    {},
    {"version": 1, "activation": "tanh"},
    {"highway": "none", "activation": "relu"},
    {"highway": "project", "rescale": True, "highway_bias": -1.0},
    {"rescale": True, "highway_bias": -2.0},
    {"layer_norm": True},
    {"projection_size": 3},
    {"projection_size": 3, "layer_norm": True, "version": 1, "highway": "project"},
]


@pytest.fixture(params=["two nodes", "one node"])
def at_once(request, monkeypatch):
    """Turn the way of a GPU on, for CPU tensors, and count the scans of two directions."""
    scans, forward = [], cpu.sru_forward

    def counted(u, *more):
        scans.append(u.dim())
        return forward(u, *more)

    def turn(on):
        scans.clear()
        monkeypatch.setattr(highway, "scans_both", lambda x, backend: on)
        monkeypatch.setattr(scan, "_sums_in_products", lambda x: on and request.param == "one node")
        return scans

    monkeypatch.setattr(cpu, "sru_forward", counted)
    return turn


def run(stack, x, state, valid, seed=0, autocast=None):
    """Outputs, state, and the gradients of everything, by weights that tell all elements apart."""
    torch.manual_seed(seed)
    x = x.detach().clone().requires_grad_()
    state = [tensor.detach().clone().requires_grad_() for tensor in state]
    with torch.autocast("cpu", autocast or torch.bfloat16, enabled=autocast is not None):
        y, last = stack(x, tuple(state), valid)
    total = (y.double() * torch.linspace(-1, 2, y.numel(), dtype=torch.float64).view(y.shape)).sum()
    for i, tensor in enumerate(last):
        total = total + (i + 1) * tensor.double().square().sum()
    leaves = [x, *state, *stack.parameters()]
    return [y.detach(), *(t.detach() for t in last), *torch.autograd.grad(total, leaves)]


def rows(padded):
    return torch.arange(T)[:, None] < torch.tensor([T, 3, 0, 1]) if padded else None


def made(options, dtype, layers=2, **more):
    torch.manual_seed(3)
    stack = Stack("sru", 2 * D, D, layers, bidirectional=True, options=options, **more).to(dtype)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    x = torch.randn(T, B, 2 * D).to(dtype)
    return stack, x, [torch.randn(B, D, dtype=wide) for _ in range(stack.state_size)]


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("options", VARIANTS)
def test_both_at_once_equal_one_after_the_other(options, padded, at_once):
    stack, x, state = made(options, torch.float64, dropout=0.3)
    valid = rows(padded)
    if padded:
        x = x.masked_fill(~valid.unsqueeze(-1), float("nan"))
    assert at_once(False) == []
    expected = run(stack, x, state, valid)
    scans = at_once(True)
    found = run(stack, x, state, valid)
    assert scans.count(5) == 2 and not found[0].isnan().any()
    # The order in which masks of dropout are drawn is that of the two.
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_in_every_type(dtype, at_once):
    stack, x, state = made({}, dtype, layers=1)
    at_once(False)
    expected = run(stack, x, state, rows(True))
    scans = at_once(True)
    found = run(stack, x, state, rows(True))
    assert 5 in scans
    near = {torch.float32: 1e-5, torch.bfloat16: 3e-2, torch.float16: 4e-3}[dtype]
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype
        assert (one.double() - other.double()).norm() <= near * other.double().norm().clamp(min=1)


def test_under_autocast(at_once):
    stack, x, state = made({}, torch.float32)
    at_once(False)
    expected = run(stack, x, state, rows(True), autocast=torch.bfloat16)
    at_once(True)
    found = run(stack, x, state, rows(True), autocast=torch.bfloat16)
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype
        assert (one.double() - other.double()).norm() <= 3e-2 * other.double().norm().clamp(min=1)


@pytest.mark.parametrize("dropped", ["input_dropout", "hooks", "everybody's hooks", "scale", "mode", "class"])
def test_what_differs_between_the_directions_keeps_them_apart(dropped, at_once, request):
    options = {"input_dropout": 0.5} if dropped == "input_dropout" else {"rescale": True}
    stack, x, state = made(options, torch.float64)
    scans, seen = at_once(True), []
    if dropped == "hooks":
        stack.layers[0][1].register_forward_hook(lambda *given: seen.append(1))
    elif dropped == "everybody's hooks":
        hook = torch.nn.modules.module.register_module_forward_hook(lambda *given: seen.append(given[0]))
        request.addfinalizer(hook.remove)
    elif dropped == "class":
        parametrize.register_parametrization(stack.layers[0][0], "weight", torch.nn.Identity())
    elif dropped == "scale":
        stack.layers[0][0].scale = 1.5
    elif dropped == "mode":
        stack.layers[0][0].eval()
    run(stack, x, state, None)
    assert scans.count(5) == (
        0 if dropped in ("input_dropout", "everybody's hooks") else 1
    )  # the other layer's
    cells = sum(isinstance(module, SRUCell) for module in seen)
    assert len(seen) == 1 if dropped == "hooks" else cells == (4 if dropped == "everybody's hooks" else 0)
    if dropped == "input_dropout":
        stack.eval()
        run(stack, x, state, None)
        assert scans.count(5) == 2


def test_without_gradients_steps_and_rows(at_once):
    rnn = SRU(3, D, 2, bidirectional=True).eval()
    for T, B in ((1, 1), (1, 3), (0, 2), (4, 0)):
        x = torch.randn(T, B, 3)
        at_once(False)
        with torch.no_grad():
            expected = rnn(x)
            at_once(True)
            found = rnn(x)
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_gradients_of_gradients_and_a_compiled_step(at_once):
    torch.manual_seed(0)
    one, other = (SRUCell(4, 2, slice=i, slices=2).double() for i in range(2))
    x = torch.randn(3, 2, 4, dtype=torch.float64, requires_grad=True)
    states = [(torch.randn(2, 2, dtype=torch.float64, requires_grad=True),) for _ in range(2)]
    at_once(True)

    def both(x, first, second):
        y, last = one.beside(other, x, ((first,), (second,)), None)
        return y, *last

    given = x, states[0][0], states[1][0]
    assert torch.autograd.gradcheck(both, given) and torch.autograd.gradgradcheck(both, given)
    compiled = torch.compile(both, backend="aot_eager", fullgraph=True)
    for found, expected in zip(compiled(*given), both(*given), strict=True):
        torch.testing.assert_close(found, expected)
    jacobian = torch.func.jacrev(lambda x: both(x, *given[1:])[0].sum())(x)
    torch.testing.assert_close(jacobian, torch.autograd.grad(both(*given)[0].sum(), x)[0])
