"""The scans as nodes of autograd: the bits of the operators, second gradients, and who sees an operator."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from seqsru.cells.sru import SRUCell
from seqsru.ops import linear_scan, loops, nodes, scan, sru_scan


def leaves(*shapes, dtype=torch.float32):
    return [torch.randn(shape, dtype=dtype, requires_grad=True) for shape in shapes]


def sru(dtype=torch.float32, **options):
    u, x, c0, v, b = given = leaves((4, 2, 3, 5), (4, 2, 5), (2, 5), (2, 5), (2, 5), dtype=dtype)
    return given, lambda: sru_scan(u, x, c0, v, b, activation="tanh", scale=1.5, **options)


def linear(dtype=torch.float32, **options):
    a, b, c0 = given = leaves((4, 2, 5), (4, 2, 5), (2, 5), dtype=dtype)
    return given, lambda: linear_scan(a.sigmoid(), b, c0, **options)


def mgu(dtype=torch.float32, **options):
    given = leaves((4, 2, 10), (2, 5), (10, 5), dtype=dtype)
    return given, lambda: loops.mgu_loop(*given, **options)


def pru(dtype=torch.float32, **options):
    given = leaves((4, 2, 10), (2, 5), (10, 5), dtype=dtype)
    return given, lambda: loops.pru_loop(*given, **options)


every = pytest.mark.parametrize("make", [sru, linear, mgu, pru])
valid = torch.arange(4).unsqueeze(1) < torch.tensor([4, 2])


class Names(TorchDispatchMode):
    """Remember which operators of this package ran."""

    def __init__(self):
        super().__init__()
        self.seen = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function.namespace == "seqsru":
            self.seen.add(function.name().removeprefix("seqsru::"))
        return function(*args, **(kwargs or {}))


@every
@pytest.mark.parametrize("mask", [None, valid], ids=["whole", "padded"])
@pytest.mark.parametrize("wanted", ["both", "outputs", "state"])
def test_a_node_has_the_bits_of_the_operator(make, mask, wanted):
    given, run = make(valid=mask)

    def results():
        out, last = run()
        used = {"both": (out, last), "outputs": (out,), "state": (last,)}[wanted]
        total = sum((one * torch.linspace(-1, 2, one.numel()).view(one.shape)).sum() for one in used)
        gradients = torch.autograd.grad(total, given, allow_unused=True)
        return type(out.grad_fn).__name__, [out, last, *gradients]

    name, found = results()
    with Names() as names:
        _, expected = results()
    assert name.endswith("NodeBackward") and names.seen and len(names.seen) == 2
    for one, other in zip(found, expected, strict=True):
        assert (one is None) == (other is None) and (one is None or torch.equal(one, other))


@every
def test_gradients_of_gradients(make):
    given, run = make(torch.float64)
    for one in given:
        one.data.mul_(0.5)

    def outputs(*_):
        return run()

    assert torch.autograd.gradgradcheck(outputs, given, atol=1e-4)


@every
def test_backward_alone_may_be_watched(make):
    """Who watches only the gradients is shown the operator of the gradients."""
    given, run = make()
    out, _ = run()
    with Names() as names:
        torch.autograd.grad(out.sum(), given, allow_unused=True)
    assert [name.endswith("_backward") for name in names.seen] == [True]


@every
def test_batches_of_gradients_are_refused_as_they_were(make):
    """A vectorised derivative gets no tensors with memory of their own: it must not reach a kernel."""
    given, run = make()
    out, _ = run()
    directions = torch.stack([torch.ones_like(out), torch.zeros_like(out)])
    try:
        found = torch.autograd.grad(out, given[:1], directions, is_grads_batched=True)
    except RuntimeError:
        return
    single = torch.autograd.grad(run()[0], given[:1], directions[0])
    torch.testing.assert_close(found[0][0], single[0])


@pytest.mark.parametrize("highway", ["identity", "project", "none"])
@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("frozen", [None, "x", "weight"])
def test_product_and_scan_as_one_node(monkeypatch, highway, directions, frozen):
    """Gradients are those of the two nodes but for the order of one sum, and x is read once."""
    cell = SRUCell(5 * directions, 5, highway=highway, slices=directions, slice=directions - 1, dropout=0.3)
    x, c0 = leaves((4, 2, 5 * directions), (2, 5))
    x.requires_grad_(frozen != "x")
    cell.weight.requires_grad_(frozen != "weight")
    wanted = [one for one in (x, c0, *cell.parameters()) if one.requires_grad]

    def results(joined):
        monkeypatch.setattr(scan, "_sums_in_products", lambda x: joined)
        torch.manual_seed(3)
        out, (last,) = cell(x, (c0,), valid)
        return out, last, torch.autograd.grad(out.sin().sum() + last.square().sum(), wanted)

    h, c, found = results(True)
    assert type(h.grad_fn).__name__ == "ProductNodeBackward"
    h2, c2, expected = results(False)
    assert torch.equal(h, h2) and torch.equal(c, c2)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("directions", [1, 2])
def test_gradients_of_gradients_of_product_and_scan(monkeypatch, directions):
    monkeypatch.setattr(scan, "_sums_in_products", lambda x: True)
    cell = SRUCell(3 * directions, 3, slices=directions, slice=directions - 1).double()
    x, c0 = leaves((3, 2, 3 * directions), (2, 3), dtype=torch.float64)

    def run(x, c0, *_):
        out, (last,) = cell(x, (c0,))
        return out, last

    assert torch.autograd.gradgradcheck(run, (x, c0, cell.weight, cell.v, cell.bias), atol=1e-4)


def test_product_and_scan_under_autocast(monkeypatch):
    cell, (x, c0) = SRUCell(5, 5), leaves((4, 2, 5), (2, 5))

    def results(joined):
        monkeypatch.setattr(scan, "_sums_in_products", lambda x: joined)
        with torch.autocast("cpu", torch.bfloat16):
            out, _ = cell(x, (c0,))
        return out, torch.autograd.grad(out.float().square().sum(), (x, cell.weight, cell.bias))

    (h, found), (h2, expected) = results(True), results(False)
    assert h.dtype == torch.bfloat16 and torch.equal(h, h2)
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype
        torch.testing.assert_close(one, other, rtol=3e-2, atol=3e-2)


def test_the_product_adds_to_the_gradient_of_the_highway_where_it_lies(monkeypatch):
    """No sum of two gradients of x in a kernel of its own: the least that a GPU has to do."""
    monkeypatch.setattr(scan, "_sums_in_products", lambda x: True)
    cell, (x, c0) = SRUCell(5, 5), leaves((4, 2, 5), (2, 5))
    out, _ = cell(x, (c0,))
    seen = []

    class Operators(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            seen.append(function.name())
            return function(*args, **(kwargs or {}))

    monkeypatch.setattr(nodes, "watched", lambda *tensors: False)
    with Operators():
        torch.autograd.grad(out.sum(), (x, cell.weight))
    assert seen.count("aten::addmm_") == seen.count("aten::mm") == 1
    assert not {"aten::add.Tensor", "aten::add_.Tensor"} & set(seen)


def test_shapes_are_checked_before_a_kernel_is_given_them(monkeypatch):
    from seqsru.errors import Refused

    monkeypatch.setattr(scan, "_sums_in_products", lambda x: True)
    cell, (x, c0) = SRUCell(5, 5), leaves((4, 2, 5), (3, 5))
    with pytest.raises(
        Refused, match=r"^c0: expected shape \(B, D\) = \(2, 5\) to go with u, found \(3, 5\); "
    ):
        cell(x, (c0,))
