"""The scans registered with `torch.library`: one node to compile or export, gradients included.

The operators are ``seqsru::sru_forward`` and ``seqsru::linear_forward``, and their gradients. Each runs a
backend, a module with the four functions of `reference`, on tensors laid out as its contract says. Outputs
alias neither inputs nor each other, and what is absent is an empty tensor, because an operator cannot return
None. The functions whose names begin with ``run`` do the same without dispatch.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from seqsru.ops.backends import backend_module
from seqsru.ops.reference import linear_loop, sru_loop
from seqsru.ops.second import second_gradients


def run_sru_forward(
    u: Tensor,
    x: Tensor | None,
    c0: Tensor,
    v: Tensor | None,
    b: Tensor,
    mask: Tensor | None,
    valid: Tensor | None,
    activation: int,
    scale: float,
    keep: bool,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return h, c_last and c, None unless `keep`."""
    found: tuple[Tensor, Tensor, Tensor | None] = backend_module(backend, u.device).sru_forward(
        u.contiguous(),
        _last_axis_contiguous(x),
        c0.contiguous(),
        _contiguous(v),
        b.contiguous(),
        _contiguous(mask),
        _contiguous(valid),
        activation,
        scale,
        keep,
    )
    return found


@torch.library.custom_op("seqsru::sru_forward", mutates_args=())
def sru_forward(
    u: Tensor,
    x: Tensor | None,
    c0: Tensor,
    v: Tensor | None,
    b: Tensor,
    mask: Tensor | None,
    valid: Tensor | None,
    activation: int,
    scale: float,
    keep: bool,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return h, c_last and c, empty unless `keep`."""
    h, c_last, c = run_sru_forward(u, x, c0, v, b, mask, valid, activation, scale, keep, backend)
    return h, c_last, c0.new_empty(0) if c is None else c


@sru_forward.register_fake
def _(
    u: Tensor,
    x: Tensor | None,
    c0: Tensor,
    v: Tensor | None,
    b: Tensor,
    mask: Tensor | None,
    valid: Tensor | None,
    activation: int,
    scale: float,
    keep: bool,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor]:
    shape = (u.shape[0], u.shape[1], c0.shape[1])
    return u.new_empty(shape), c0.new_empty(c0.shape), c0.new_empty(shape if keep else (0,))


def run_sru_backward(
    gh: Tensor,
    gc_last: Tensor,
    u: Tensor,
    x: Tensor | None,
    c0: Tensor,
    v: Tensor | None,
    b: Tensor,
    mask: Tensor | None,
    valid: Tensor | None,
    c: Tensor,
    activation: int,
    scale: float,
    backend: str,
) -> tuple[Tensor, Tensor | None, Tensor, Tensor | None, Tensor]:
    """Return the gradients of u, x, c0, v and b; that of x or v is None where it is absent."""
    found: tuple[Tensor, Tensor | None, Tensor, Tensor | None, Tensor]
    found = backend_module(backend, u.device).sru_backward(
        gh.contiguous(),
        gc_last.contiguous(),
        u.contiguous(),
        _last_axis_contiguous(x),
        c0.contiguous(),
        _contiguous(v),
        b.contiguous(),
        _contiguous(mask),
        _contiguous(valid),
        c,
        activation,
        scale,
    )
    return found


@torch.library.custom_op("seqsru::sru_backward", mutates_args=())
def sru_backward(
    gh: Tensor,
    gc_last: Tensor,
    u: Tensor,
    x: Tensor | None,
    c0: Tensor,
    v: Tensor | None,
    b: Tensor,
    mask: Tensor | None,
    valid: Tensor | None,
    c: Tensor,
    activation: int,
    scale: float,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of u, x, c0, v and b, empty where x or v is absent."""
    gu, gx, gc0, gv, gb = run_sru_backward(
        gh, gc_last, u, x, c0, v, b, mask, valid, c, activation, scale, backend
    )
    # A backend may return the last two side by side in one memory, which an operator may not.
    gv = b.new_empty(0) if gv is None else gv.clone()
    return gu, u.new_empty(0) if gx is None else gx, gc0, gv, gb


@sru_backward.register_fake
def _(
    gh: Tensor,
    gc_last: Tensor,
    u: Tensor,
    x: Tensor | None,
    c0: Tensor,
    v: Tensor | None,
    b: Tensor,
    mask: Tensor | None,
    valid: Tensor | None,
    c: Tensor,
    activation: int,
    scale: float,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    return (
        u.new_empty(u.shape),
        u.new_empty(gh.shape if x is not None else (0,)),
        c0.new_empty(c0.shape),
        b.new_empty(b.shape if v is not None else (0,)),
        b.new_empty(b.shape),
    )


def _sru_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    u, x, c0, v, b, mask, valid, ctx.activation, ctx.scale, ctx.keep, ctx.backend = inputs
    ctx.mark_non_differentiable(output[2])
    ctx.set_materialize_grads(False)  # c's gradient would be as large as h, and zero
    ctx.save_for_backward(u, x, c0, v, b, mask, valid, output[2])


def _sru_gradients(
    ctx: Any, gh: Tensor | None, gc_last: Tensor | None, _: Tensor | None
) -> tuple[Tensor | None, ...]:
    u, x, c0, v, b, mask, valid, c = ctx.saved_tensors
    if not ctx.keep:  # a graph that was recorded without gradients
        with torch.no_grad():
            _, _, c = sru_forward(u, x, c0, v, b, mask, valid, ctx.activation, ctx.scale, True, ctx.backend)
    if gh is None:
        gh = u.new_zeros(u.shape[0], u.shape[1], c0.shape[1])
    if gc_last is None:
        gc_last = c0.new_zeros(c0.shape)
    gu, gx, gc0, gv, gb = sru_backward(
        gh, gc_last, u, x, c0, v, b, mask, valid, c, ctx.activation, ctx.scale, ctx.backend
    )
    gx, gv = None if x is None else gx, None if v is None else gv
    return gu, gx, gc0, gv, gb, None, None, None, None, None, None


sru_forward.register_autograd(_sru_gradients, setup_context=_sru_context)


def _sru_second_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(*inputs[:9])
    ctx.set_materialize_grads(False)
    ctx.activation, ctx.scale = inputs[10:12]


def _sru_second(ctx: Any, *directions: Tensor | None) -> tuple[Tensor | None, ...]:
    gh, gc_last, u, x, c0, v, b, mask, valid = ctx.saved_tensors

    def loop(u: Tensor, x: Tensor | None, c0: Tensor, v: Tensor | None, b: Tensor) -> tuple[Tensor, ...]:
        return sru_loop(u, x, c0, v, b, mask, valid, ctx.activation, ctx.scale)[:2]

    found = second_gradients(loop, (u, x, c0, v, b), (gh, gc_last), directions)
    return *found, None, None, None, None, None, None


sru_backward.register_autograd(_sru_second, setup_context=_sru_second_context)


def run_linear_forward(
    a: Tensor,
    b: Tensor,
    c0: Tensor,
    valid: Tensor | None,
    keep: bool,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return the output, c_last and c, None unless `keep`."""
    found: tuple[Tensor, Tensor, Tensor | None] = backend_module(backend, a.device).linear_forward(
        a.contiguous(), b.contiguous(), c0.contiguous(), _contiguous(valid), keep
    )
    return found


@torch.library.custom_op("seqsru::linear_forward", mutates_args=())
def linear_forward(
    a: Tensor,
    b: Tensor,
    c0: Tensor,
    valid: Tensor | None,
    keep: bool,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the output, c_last and c, empty unless `keep`."""
    out, c_last, c = run_linear_forward(a, b, c0, valid, keep, backend)
    return out, c_last, c0.new_empty(0) if c is None else c


@linear_forward.register_fake
def _(
    a: Tensor, b: Tensor, c0: Tensor, valid: Tensor | None, keep: bool, backend: str
) -> tuple[Tensor, Tensor, Tensor]:
    return a.new_empty(a.shape), c0.new_empty(c0.shape), c0.new_empty(a.shape if keep else (0,))


def run_linear_backward(
    gout: Tensor,
    gc_last: Tensor,
    a: Tensor,
    b: Tensor,
    c0: Tensor,
    c: Tensor,
    valid: Tensor | None,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of a, b and c0; b itself is read by their own gradients alone."""
    found: tuple[Tensor, Tensor, Tensor] = backend_module(backend, a.device).linear_backward(
        gout.contiguous(), gc_last.contiguous(), a.contiguous(), c0.contiguous(), c, _contiguous(valid)
    )
    return found


linear_backward = torch.library.custom_op("seqsru::linear_backward", run_linear_backward, mutates_args=())


@linear_backward.register_fake
def _(
    gout: Tensor,
    gc_last: Tensor,
    a: Tensor,
    b: Tensor,
    c0: Tensor,
    c: Tensor,
    valid: Tensor | None,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor]:
    return a.new_empty(a.shape), a.new_empty(a.shape), c0.new_empty(c0.shape)


def _linear_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    a, b, c0, valid, keep, ctx.backend = inputs
    ctx.mark_non_differentiable(output[2])
    ctx.set_materialize_grads(False)
    ctx.known = keep or output_is_state(a, c0, valid)
    ctx.save_for_backward(a, b, c0, valid, output[2] if keep else output[0])


def _linear_gradients(
    ctx: Any, gout: Tensor | None, gc_last: Tensor | None, _: Tensor | None
) -> tuple[Tensor | None, ...]:
    a, b, c0, valid, c = ctx.saved_tensors
    if not ctx.known:  # a graph that was recorded without gradients
        with torch.no_grad():
            _, _, c = linear_forward(a, b, c0, valid, True, ctx.backend)
    gout = a.new_zeros(a.shape) if gout is None else gout
    gc_last = c0.new_zeros(c0.shape) if gc_last is None else gc_last
    ga, gb, gc0 = linear_backward(gout, gc_last, a, b, c0, c, valid, ctx.backend)
    return ga, gb, gc0, None, None, None


linear_forward.register_autograd(_linear_gradients, setup_context=_linear_context)


def _linear_second_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    gout, gc_last, a, b, c0, _, valid, _ = inputs
    ctx.save_for_backward(gout, gc_last, a, b, c0, valid)
    ctx.set_materialize_grads(False)


def _linear_second(ctx: Any, *directions: Tensor | None) -> tuple[Tensor | None, ...]:
    gout, gc_last, a, b, c0, valid = ctx.saved_tensors

    def loop(a: Tensor, b: Tensor, c0: Tensor) -> tuple[Tensor, ...]:
        return linear_loop(a, b, c0, valid)[:2]

    return *second_gradients(loop, (a, b, c0), (gout, gc_last), directions), None, None, None


linear_backward.register_autograd(_linear_second, setup_context=_linear_second_context)


def output_is_state(a: Tensor, c0: Tensor, valid: Tensor | None) -> bool:
    """Say whether the output of a linear scan is the state itself, neither rounded nor zeroed anywhere."""
    return valid is None and a.dtype == c0.dtype


def any_requires_grad(*tensors: Tensor | None) -> bool:
    """Say whether any of the tensors wants a gradient."""
    return any(t is not None and t.requires_grad for t in tensors)


def _contiguous(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.contiguous()


def _last_axis_contiguous(x: Tensor | None) -> Tensor | None:
    return x if x is None or x.stride(2) == 1 else x.contiguous()
