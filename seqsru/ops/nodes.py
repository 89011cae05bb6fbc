"""The scans and loops as nodes of torch's autograd, for training that nobody watches.

The operators of `operators` and `loop_operators` show a compiler, an exporter or a tracer one node each, and
cost a host two hundred microseconds forward and backward for that. Where nobody watches (`watchers`) these
nodes do the same with the same kernels, and the same bits, at a tenth of the cost. A gradient that is itself
differentiated is the operator's, whose own gradient is registered.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

from seqsru.ops import operators
from seqsru.ops.calls import ACTIVATIONS
from seqsru.ops.checks import check_sru
from seqsru.ops.operators import (
    output_is_state,
    run_linear_backward,
    run_linear_forward,
    run_sru_backward,
    run_sru_forward,
)
from seqsru.ops.watchers import watched

Gradients: TypeAlias = "tuple[Tensor | None, ...]"


def _recorded(*gradients: Tensor | None) -> bool:
    """Say whether somebody wants to know how gradients were computed from these."""
    return torch.is_grad_enabled() or watched(*gradients)


def _sru_gradients(
    ctx: Any, gh: Tensor | None, gc_last: Tensor | None, u: Tensor, x: Tensor | None, *others: Tensor | None
) -> tuple[Tensor, Tensor | None, Tensor, Tensor | None, Tensor]:
    """Return the gradients of u, x, c0, v and b, from what a node has saved."""
    c0, v, b, mask, valid, c = others
    assert c0 is not None and b is not None and c is not None
    if gh is None:
        gh = u.new_zeros(u.shape[0], u.shape[1], c0.shape[1])
    if gc_last is None:
        gc_last = torch.zeros_like(c0)
    given = gh, gc_last, u, x, c0, v, b, mask, valid, c, ctx.activation, ctx.scale, ctx.backend
    if not _recorded(gh, gc_last):
        return run_sru_backward(*given)
    gu, gx, gc0, gv, gb = operators.sru_backward(*given)
    return gu, None if x is None else gx, gc0, None if v is None else gv, gb


class SruNode(torch.autograd.Function):
    """`seqsru.ops.operators.sru_forward` with the states kept: h and c_last."""

    @staticmethod
    def forward(
        ctx: Any,
        u: Tensor,
        x: Tensor | None,
        c0: Tensor,
        v: Tensor | None,
        b: Tensor,
        mask: Tensor | None,
        valid: Tensor | None,
        activation: int,
        scale: float,
        backend: str,
    ) -> tuple[Tensor, Tensor]:
        h, c_last, c = run_sru_forward(u, x, c0, v, b, mask, valid, activation, scale, True, backend)
        ctx.activation, ctx.scale, ctx.backend = activation, scale, backend
        ctx.set_materialize_grads(False)  # absent gradients are zeros made where they are needed
        ctx.save_for_backward(u, x, c0, v, b, mask, valid, c)
        return h, c_last

    @staticmethod
    def backward(ctx: Any, gh: Tensor | None, gc_last: Tensor | None) -> Gradients:
        return *_sru_gradients(ctx, gh, gc_last, *ctx.saved_tensors), None, None, None, None, None


class ProductNode(torch.autograd.Function):
    """A product and the scan over it: h and c_last of an SRU, u being ``x @ weight.T``.

    What the highway carries is a slice of x, `first` its place. So the gradient of x is the scan's, to which
    the product adds its own where it lies: no sum of two, in a kernel of its own, and none of zeros around a
    slice.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        directions: int,
        first: int | None,
        c0: Tensor,
        v: Tensor | None,
        b: Tensor,
        mask: Tensor | None,
        valid: Tensor | None,
        activation: str,
        scale: float,
        backend: str,
    ) -> tuple[Tensor, Tensor]:
        T, B, I = x.shape
        slices, D = weight.shape[0], b.shape[1]
        # Of two axes, which saves torch its own folding and unfolding; and a whole x is no slice of it.
        u = as_slices(functional.linear(x.reshape(T * B, I), weight), T, B, slices // D, D, directions)
        carried = None if first is None else x if D == I else x.narrow(2, first, D)
        check_sru(u, carried, c0, v, b, mask, valid, activation, scale, backend)
        code = ACTIVATIONS[activation]
        h, c_last, c = run_sru_forward(u, carried, c0, v, b, mask, valid, code, scale, True, backend)
        ctx.first, ctx.activation, ctx.scale, ctx.backend = first or 0, code, scale, backend
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, weight, u, carried, c0, v, b, mask, valid, c)
        return h, c_last

    @staticmethod
    def backward(ctx: Any, gh: Tensor | None, gc_last: Tensor | None) -> Gradients:
        x, weight, u, carried, c0, *others = ctx.saved_tensors
        wants_x, wants_weight, *_ = ctx.needs_input_grad
        again = torch.is_grad_enabled()
        if again:  # to be differentiated, they are to be known as what they are of x
            u = functional.linear(x, weight).view(u.shape)
            carried = None if carried is None else x.narrow(2, ctx.first, carried.shape[2])
        gu, gcarried, *rest = _sru_gradients(ctx, gh, gc_last, u, carried, c0, *others)
        rows = gu.view(x.shape[0] * x.shape[1], weight.shape[0])  # (T·B, k·D)
        gweight = rows.t().mm(x.reshape(rows.shape[0], weight.shape[1])) if wants_weight else None
        gx = _gradient_of_x(rows, weight, gcarried, ctx.first, x, again) if wants_x else None
        return gx, gweight, None, None, *rest, None, None, None, None, None


def as_slices(product: Tensor, T: int, B: int, k: int, D: int, directions: int) -> Tensor:
    """Return the product of so many directions' weights, one below the other, as a scan takes it."""
    return product.view(T, B, k, D) if directions == 1 else product.view(T, B, 2, k, D // 2)


def _gradient_of_x(
    rows: Tensor, weight: Tensor, carried: Tensor | None, first: int, x: Tensor, again: bool
) -> Tensor:
    """Return the product's gradient of x, and where the highway reads x that of what it carried as well."""
    if carried is not None and carried.shape == x.shape:
        flat = carried.view(rows.shape[0], weight.shape[1])
        if again:
            return flat.addmm(rows, weight).view(x.shape)
        flat.addmm_(rows, weight)
        return carried
    gx = rows.mm(weight).view(x.shape)
    if carried is None:
        return gx
    width = carried.shape[2]
    if again:
        return gx + functional.pad(carried, (first, x.shape[2] - first - width))
    gx.narrow(2, first, width).add_(carried)
    return gx


class LinearNode(torch.autograd.Function):
    """`seqsru.ops.operators.linear_forward` with the states kept: the output and c_last."""

    @staticmethod
    def forward(
        ctx: Any, a: Tensor, b: Tensor, c0: Tensor, valid: Tensor | None, backend: str
    ) -> tuple[Tensor, Tensor]:
        out, c_last, c = run_linear_forward(a, b, c0, valid, not output_is_state(a, c0, valid), backend)
        ctx.backend = backend
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(a, b, c0, valid, out if c is None else c)
        return out, c_last

    @staticmethod
    def backward(ctx: Any, gout: Tensor | None, gc_last: Tensor | None) -> Gradients:
        a, b, c0, valid, c = ctx.saved_tensors
        gout = a.new_zeros(a.shape) if gout is None else gout
        gc_last = c0.new_zeros(c0.shape) if gc_last is None else gc_last
        run = operators.linear_backward if _recorded(gout, gc_last) else run_linear_backward
        return *run(gout, gc_last, a, b, c0, c, valid, ctx.backend), None, None


class LoopNode(torch.autograd.Function):
    """A loop of `loop_operators`: the outputs and the last state."""

    @staticmethod
    def forward(
        ctx: Any,
        u: Tensor,
        state: Tensor,
        weight: Tensor,
        valid: Tensor | None,
        run: Callable[..., tuple[Tensor, ...]],
        gradients: tuple[Callable[..., Gradients], Callable[..., Gradients]],
    ) -> tuple[Tensor, Tensor]:
        out, last, before, gates = run(u, state, weight, valid, True)
        ctx.gradients = gradients
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(u, state, weight, valid, before, gates)
        return out, last

    @staticmethod
    def backward(ctx: Any, gout: Tensor | None, glast: Tensor | None) -> Gradients:
        u, state, weight, valid, before, gates = ctx.saved_tensors
        gout = u.new_zeros(before.shape) if gout is None else gout
        glast = before.new_zeros(before.shape[1:]) if glast is None else glast
        run, operator = ctx.gradients
        gradients = operator if _recorded(gout, glast) else run
        return *gradients(gout, glast, before, gates, u, state, weight, valid), None, None, None


# `apply` has no types.
sru_node: Callable[..., tuple[Tensor, Tensor]] = SruNode.apply
product_node: Callable[..., tuple[Tensor, Tensor]] = ProductNode.apply
linear_node: Callable[..., tuple[Tensor, Tensor]] = LinearNode.apply
loop_node: Callable[..., tuple[Tensor, Tensor]] = LoopNode.apply
