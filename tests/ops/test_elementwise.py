"""Functions of single elements, whose bits do not depend on where in a tensor an element stands."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from seqsru.ops import pointwise
from seqsru.ops.elementwise import BLOCK, GRAIN

FUNCTIONS = [torch.sigmoid, torch.tanh, functional.softplus]


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("width", [1, 8, 20, 64, 100])
@torch.no_grad()
def test_an_element_has_the_same_bits_wherever_it_stands(function, width):
    product = 4 * torch.randn(3 * GRAIN // width + 7, 3 * width)
    whole = pointwise(function, product)
    for count in (1, 2, 3, 5, 16):
        torch.set_num_threads(count)
        for x, want in zip(product.chunk(3, -1), whole.chunk(3, -1)):
            for rows in (1, 2, 3, 5, 31, 33, 1000, len(x)):
                assert torch.equal(pointwise(function, x[:rows]), want[:rows])
                assert torch.equal(pointwise(function, x[-rows:].contiguous()), want[-rows:])
            assert torch.equal(pointwise(function, x.t()), want.t())


@pytest.mark.parametrize("function", FUNCTIONS)
@torch.no_grad()
def test_the_values_are_those_of_the_function(function):
    for shape in ((), (0,), (0, 5), (3,), (2, 1, 5), (4, BLOCK)):
        x = torch.randn(shape)
        found = pointwise(function, x)
        assert found.shape == x.shape
        torch.testing.assert_close(found, function(x))
        torch.testing.assert_close(pointwise(function, x.double()), function(x.double()))
    x = torch.tensor([float("nan"), -torch.inf, torch.inf, -0.0])
    torch.testing.assert_close(pointwise(function, x), function(x), equal_nan=True)


def test_where_gradients_are_wanted_it_is_the_function_itself():
    x = torch.randn(5, requires_grad=True)
    (gradient,) = torch.autograd.grad(pointwise(torch.tanh, x).sum(), x)
    torch.testing.assert_close(gradient, 1.0 - torch.tanh(x) ** 2)


def test_transforms_and_compilers_see_the_function_alone():
    x = torch.randn(3, 5)
    want = torch.sigmoid(x)
    torch.testing.assert_close(torch.func.vmap(lambda row: pointwise(torch.sigmoid, row))(x), want)
    torch._dynamo.reset()
    compiled = torch.compile(pointwise, fullgraph=True, backend="aot_eager", dynamic=True)
    torch.testing.assert_close(compiled(torch.sigmoid, x), want)
