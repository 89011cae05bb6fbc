"""The matrix products of the layers, whose rows do not influence each other."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from seqsru.ops.watchers import recorded

# Numbers of rows and of outputs from which on the library sums every element of a float32 product in one
# order, whatever their number; it does with 4 and 8 rows too. Smaller products go to other routines.
# Measured with one thread and two and 1 to 60,000 rows on a processor with AVX2; the rule for rows was
# found on one with AVX-512. `tests/ops/test_products.py` measures both again.
ROWS, ROW_BLOCK, OUTPUTS = 12, 4, 16
# The same where 4 and 8 rows go elsewhere too: found on a processor with AMX, for 1 to 4,200 inputs, 16 to
# 3,000 outputs and up to 300 rows.
MORE_ROWS = 16

_C: Any = torch._C  # torch has no types here
_any_autocast = _C._is_any_autocast_enabled


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Compute ``x @ weight.T + bias``, and keep the bits of each row independent of the other rows.

    `torch.nn.functional.linear` gives a row other bits when its number of companions changes, so a sentence's
    score would depend on its batch. Here, on a CPU in float32 and where no gradient is wanted, a small
    product is padded with zero rows and zero outputs to a size whose routine does not. Elsewhere (in
    training, under autocast, in a recorded graph, on other devices) this is `torch.nn.functional.linear`.

    Parameters
    ----------
    x : Tensor of shape (..., I)
        Inputs; all axes but the last count as rows.
    weight : Tensor of shape (O, I)
        Weights.
    bias : Tensor of shape (O,) or None
        Added to each row.

    Returns
    -------
    Tensor of shape (..., O)
        The product.
    """
    if not _pads(x, weight, bias):
        return functional.linear(x, weight, bias)
    rows, outputs = x.shape[:-1].numel(), weight.shape[0]
    flat = x.reshape(rows, x.shape[-1]).contiguous()
    fewest, block = row_rule()
    if rows < fewest and rows % block:
        flat = functional.pad(flat, (0, 0, 0, -rows % block))
    if outputs < OUTPUTS:
        weight = functional.pad(weight, (0, 0, 0, OUTPUTS - outputs))
        bias = None if bias is None else functional.pad(bias, (0, OUTPUTS - outputs))
    product = functional.linear(flat, weight, bias)
    return product[:rows, :outputs].reshape(*x.shape[:-1], outputs)


def apply_linear(layer: nn.Module, x: Tensor) -> Tensor:
    """Apply a linear layer by `linear`; one that was put in a `torch.nn.Linear`'s place applies itself.

    `torch.ao.quantization.quantize_dynamic` and parametrisations put such layers there.
    """
    return linear(x, layer.weight, layer.bias) if type(layer) is nn.Linear else layer(x)


def product(a: Tensor, b: Tensor) -> Tensor:
    """Return the products of matrices a (G, M, d) and b (G, d, S), whose bits do not depend on G.

    On a CPU fewer matrices than threads are each cut among threads, which rounds differently: without
    gradients zeros make up the number. `b` is to be contiguous, so that it is laid out alike with and without
    them. Nor do few matrices of half precision round as many do: their products are float32's, rounded once.
    """
    if a.device.type == "cpu" and not (torch.is_grad_enabled() or recorded()):
        kind = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else a.dtype
        if kind.itemsize == 2:
            with torch.autocast("cpu", enabled=False):
                return product(a.float(), b.float()).to(kind)
    missing = torch.get_num_threads() - a.shape[0] if a.device.type == "cpu" else 0
    if torch.is_grad_enabled() or missing <= 0 or recorded():
        return torch.bmm(a, b)
    more = torch.bmm(functional.pad(a, (0, 0, 0, 0, 0, missing)), functional.pad(b, (0, 0, 0, 0, 0, missing)))
    return more[: a.shape[0]]


def product_dtype(weight: Tensor) -> torch.dtype:
    """Return the dtype that products with a weight have, under ``torch.autocast`` too.

    Without autocast, and in float64 always, that is the weight's own.
    """
    if not _any_autocast() or weight.is_meta or weight.dtype is torch.float64:
        return weight.dtype
    device = weight.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype


def product_weight(weight: Tensor) -> Tensor:
    """Return a weight in the dtype of its products, for operators unknown to autocast."""
    dtype = product_dtype(weight)
    return weight if weight.dtype is dtype else weight.to(dtype)


def keeps_rows_apart(*factors: Tensor | None) -> bool:
    """Say whether a row's bits are to depend on no other row.

    That is on a CPU in float32, where no gradient is wanted, without autocast and not in a recorded graph.
    """
    if recorded() or torch.is_autocast_enabled("cpu"):
        return False
    graded = torch.is_grad_enabled()
    for tensor in factors:
        if tensor is not None and (
            tensor.device.type != "cpu" or tensor.dtype != torch.float32 or graded and tensor.requires_grad
        ):
            return False
    return True


@cache
def row_rule() -> tuple[int, int]:
    """Numbers of rows from which on, and of which multiples, this processor has one routine: see `ROWS`."""
    inputs = 512
    values = torch.arange(MORE_ROWS * inputs, dtype=torch.float32, device="cpu")  # whatever the default is
    x, weight = values.sin().view(MORE_ROWS, inputs), values[: OUTPUTS * inputs].cos().view(OUTPUTS, inputs)
    whole = functional.linear(x, weight)
    few = range(ROW_BLOCK, MORE_ROWS, ROW_BLOCK)
    if all(torch.equal(functional.linear(x[:rows], weight), whole[:rows]) for rows in few):
        return ROWS, ROW_BLOCK
    return MORE_ROWS, MORE_ROWS


def _pads(x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """Say whether the promise of `linear` holds for this product; a shape error is left to torch."""
    if not keeps_rows_apart(x, weight, bias):
        return False
    fits = x.dim() > 0 and weight.dim() == 2 and x.shape[-1] == weight.shape[1]
    return fits and x.numel() * weight.numel() > 0
