"""The product whose rows do not influence each other."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from seqsru.ops import linear


@pytest.mark.parametrize("threads", [1, 2], indirect=True)
@pytest.mark.parametrize(
    "inputs, outputs",
    [(512, 1536), (37, 111), (7, 33), (64, 1), (650, 3), (7, 5), (128, 15), (31, 16), (256, 700)],
)
@torch.no_grad()
def test_the_bits_of_a_row_do_not_depend_on_the_number_of_rows(inputs, outputs, threads):
    weight, bias, x = torch.randn(outputs, inputs), torch.randn(outputs), torch.randn(1100, inputs)
    for given in (bias, None):
        whole = linear(x, weight, given)
        for rows in (*range(1, 18), 31, 32, 33, 63, 65, 100, 127, 129, 257, 700):
            for start in (0, 3):
                part = linear(x[start : start + rows], weight, given)
                assert torch.equal(part, whole[start : start + rows]), rows


@torch.no_grad()
@pytest.mark.parametrize("shape", [(5,), (1, 5), (3, 1, 5), (2, 3, 2, 5), (0, 5), (0,)])
def test_the_product_is_that_of_torch(shape):
    x = torch.randn(shape)
    for outputs in (3, 40, 0):
        weight, bias = torch.randn(outputs, shape[-1]), torch.randn(outputs)
        for given in (bias, None):
            found, want = linear(x, weight, given), functional.linear(x, weight, given)
            assert found.shape == want.shape and torch.allclose(found, want, atol=1e-5)


@torch.no_grad()
def test_the_layout_of_the_rows_does_not_matter():
    x, weight = torch.randn(6, 4, 50), torch.randn(70, 50)
    want = linear(x, weight)
    assert torch.equal(linear(x.transpose(0, 1), weight).transpose(0, 1), want)
    wide = torch.randn(6, 4, 100)
    wide[:, :, 25:75] = x
    assert torch.equal(linear(wide[:, :, 25:75], weight), want)


def test_where_gradients_are_wanted_it_is_torchs_own():
    x, weight, bias = torch.randn(3, 5), torch.randn(7, 5, requires_grad=True), torch.randn(7)
    assert torch.equal(linear(x, weight, bias), functional.linear(x, weight, bias))
    assert linear(x, weight, bias).requires_grad
    (gradient,) = torch.autograd.grad(linear(x, weight, bias).sum(), weight)
    assert torch.allclose(gradient, x.sum(0).expand(7, 5))


@torch.no_grad()
def test_other_dtypes_autocast_and_graphs_use_torchs_own():
    x, weight = torch.randn(3, 5), torch.randn(20, 5)
    assert torch.equal(linear(x.double(), weight.double()), functional.linear(x.double(), weight.double()))
    with torch.autocast("cpu", torch.bfloat16):
        assert linear(x, weight).dtype == torch.bfloat16
    torch._dynamo.reset()
    compiled = torch.compile(linear, fullgraph=True, backend="aot_eager", dynamic=True)
    assert torch.allclose(compiled(x, weight), linear(x, weight), atol=1e-6)
    rows = torch.export.Dim("rows")

    class Product(torch.nn.Module):
        def forward(self, x, weight):
            return linear(x, weight)

    program = torch.export.export(Product(), (x, weight), dynamic_shapes=({0: rows}, None))
    for count in (1, 5, 30):
        x = torch.randn(count, 5)
        assert torch.allclose(program.module()(x, weight), linear(x, weight), atol=1e-6)


@torch.no_grad()
def test_a_shape_that_does_not_fit_is_torchs_error():
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        linear(torch.randn(3, 5), torch.randn(7, 6))
