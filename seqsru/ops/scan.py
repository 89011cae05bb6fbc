"""The two scans as PyTorch operators: arguments checked, gradients registered, one node to compile or export.

`sru_scan` and `linear_scan` check their arguments and then do one of two things. Where a gradient will be
wanted, or a compiler or exporter is looking, they call an operator registered with `torch.library`
(``seqsru::sru_forward`` and ``seqsru::linear_forward``, whose gradients are operators too). Otherwise they
call the backend directly, which saves the dispatcher's time: it is most of the time of one decoding step.

A backend is a module with the four functions of `reference`. None is imported before it is used.
"""

from __future__ import annotations

import torch
from torch import Tensor

from seqsru.ops.backends import Backend, backend_module
from seqsru.ops.calls import ACTIVATIONS, Activation
from seqsru.ops.checks import check_linear, check_sru


def sru_scan(
    u: Tensor,
    x: Tensor | None,
    c0: Tensor,
    v: Tensor | None,
    b: Tensor,
    *,
    mask: Tensor | None = None,
    valid: Tensor | None = None,
    activation: Activation = "identity",
    scale: float = 1.0,
    backend: Backend = "auto",
) -> tuple[Tensor, Tensor]:
    """Run the SRU recurrence over time.

    The equations are those of Lei et al., *Simple Recurrent Units for Highly Parallelizable Recurrence*,
    EMNLP 2018 (arXiv 1709.02755), section 3, and are numbered in `seqsru.ops.reference.sru_loop`, which
    defines the result.

    Parameters
    ----------
    u : Tensor of shape (T, B, k, D)
        Candidate, forget and reset pre-activations; with k = 4 also the highway input. T may be 0. float64,
        float32, bfloat16 or float16.
    x : Tensor of shape (T, B, D) or None
        Highway input for k = 3, in the dtype of u; it may be a slice of the last axis of a wider tensor. With
        k = 3 and no x there is no highway. None with k = 4.
    c0 : Tensor of shape (B, D)
        Initial state. float64 where u is, else float32, as are v, b, the arithmetic, and the state returned.
    v : Tensor of shape (2, D) or None
        Weights of c in the forget and reset gates; None is version 1 of the layer, whose gates do not read c.
    b : Tensor of shape (2, D)
        Biases of the forget and reset gates.
    mask : Tensor of shape (B, D) or None
        Variational dropout mask on the output path, in the dtype of u. It is given no gradient.
    valid : bool Tensor of shape (T, B) or None
        True on real tokens. At an invalid step h is 0, the state stays, and nothing that u or x hold there,
        NaN included, reaches any output or gradient.
    activation : {"identity", "tanh", "relu"}
        g, applied to the state on its way out.
    scale : float
        Factor of x on the highway; 1 unless x is given.
    backend : {"auto", "reference", "cpu", "cuda"}
        "auto" is "cuda" for CUDA tensors, "cpu" for CPU tensors, and never anything else in their place.

    Returns
    -------
    h : Tensor of shape (T, B, D)
        Outputs, in the dtype of u.
    c_last : Tensor of shape (B, D)
        State after the last valid step of each row, in the dtype of c0.

    Raises
    ------
    Refused
        Shapes, dtypes or devices that do not fit, or an unknown name.
    NotInstalled
        CUDA tensors without the package numba-cuda.
    """
    check_sru(u, x, c0, v, b, mask, valid, activation, scale, backend)
    code = ACTIVATIONS[activation]
    keep = torch.is_grad_enabled() and any_requires_grad(u, x, c0, v, b)
    if keep or not may_call_directly(u):
        h, c_last, _ = _sru_forward(u, x, c0, v, b, mask, valid, code, scale, keep, backend)
    else:
        h, c_last, _ = _run_sru_forward(u, x, c0, v, b, mask, valid, code, scale, False, backend)
    return h, c_last


def linear_scan(
    a: Tensor,
    b: Tensor,
    c0: Tensor,
    *,
    valid: Tensor | None = None,
    backend: Backend = "auto",
) -> tuple[Tensor, Tensor]:
    """Run the linear recurrence ``c = a * c + b`` over time.

    Parameters
    ----------
    a, b : Tensor of shape (T, B, D)
        Factor and summand of each step, of one dtype: float64, float32, bfloat16 or float16. T may be 0.
    c0 : Tensor of shape (B, D)
        Initial state. float64 where a is, else float32, as are the arithmetic and the state returned.
    valid : bool Tensor of shape (T, B) or None
        True on real tokens. At an invalid step the output is 0, the state stays, and nothing that a or b hold
        there, NaN included, reaches any output or gradient.
    backend : {"auto", "reference", "cpu", "cuda"}
        As for `sru_scan`.

    Returns
    -------
    c : Tensor of shape (T, B, D)
        The state after each step, in the dtype of a.
    c_last : Tensor of shape (B, D)
        State after the last valid step of each row, in the dtype of c0.

    Raises
    ------
    Refused
        Shapes, dtypes or devices that do not fit, or an unknown name.
    NotInstalled
        CUDA tensors without the package numba-cuda.
    """
    check_linear(a, b, c0, valid, backend)
    grads = torch.is_grad_enabled() and any_requires_grad(a, b, c0)
    if grads or not may_call_directly(a):
        keep = grads and not _output_is_state(a, c0, valid)
        out, c_last, _ = _linear_forward(a, b, c0, valid, keep, backend)
    else:
        out, c_last, _ = _run_linear_forward(a, b, c0, valid, False, backend)
    return out, c_last


# The operators. Each runs a backend on tensors laid out as its contract says; outputs alias neither inputs
# nor each other, and an absent gradient is an empty tensor, because an operator cannot return None.


def _run_sru_forward(
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
    return backend_module(backend, u.device).sru_forward(
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


_sru_forward = torch.library.custom_op("seqsru::sru_forward", _run_sru_forward, mutates_args=())


@_sru_forward.register_fake
def _(u, x, c0, v, b, mask, valid, activation, scale, keep, backend):
    shape = (u.shape[0], u.shape[1], u.shape[3])
    return u.new_empty(shape), c0.new_empty(c0.shape), c0.new_empty(shape if keep else (0,))


@torch.library.custom_op("seqsru::sru_backward", mutates_args=())
def _sru_backward(
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
    gu, gx, gc0, gv, gb = backend_module(backend, u.device).sru_backward(
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
    return gu, u.new_empty(0) if gx is None else gx, gc0, b.new_empty(0) if gv is None else gv, gb


@_sru_backward.register_fake
def _(gh, gc_last, u, x, c0, v, b, mask, valid, c, activation, scale, backend):
    return (
        u.new_empty(u.shape),
        u.new_empty(gh.shape if x is not None else (0,)),
        c0.new_empty(c0.shape),
        b.new_empty(b.shape if v is not None else (0,)),
        b.new_empty(b.shape),
    )


def _sru_context(ctx, inputs, output):
    u, x, c0, v, b, mask, valid, ctx.activation, ctx.scale, _, ctx.backend = inputs
    ctx.mark_non_differentiable(output[2])
    ctx.set_materialize_grads(False)  # c's gradient would be as large as h, and zero
    ctx.save_for_backward(u, x, c0, v, b, mask, valid, output[2])


def _sru_gradients(ctx, gh, gc_last, _):
    u, x, c0, v, b, mask, valid, c = ctx.saved_tensors
    if gh is None:
        gh = u.new_zeros(u.shape[0], u.shape[1], u.shape[3])
    if gc_last is None:
        gc_last = c0.new_zeros(c0.shape)
    gu, gx, gc0, gv, gb = _sru_backward(
        gh, gc_last, u, x, c0, v, b, mask, valid, c, ctx.activation, ctx.scale, ctx.backend
    )
    gx, gv = None if x is None else gx, None if v is None else gv
    return gu, gx, gc0, gv, gb, None, None, None, None, None, None


_sru_forward.register_autograd(_sru_gradients, setup_context=_sru_context)


def _run_linear_forward(
    a: Tensor,
    b: Tensor,
    c0: Tensor,
    valid: Tensor | None,
    keep: bool,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor]:
    return backend_module(backend, a.device).linear_forward(
        a.contiguous(), b.contiguous(), c0.contiguous(), _contiguous(valid), keep
    )


_linear_forward = torch.library.custom_op("seqsru::linear_forward", _run_linear_forward, mutates_args=())


@_linear_forward.register_fake
def _(a, b, c0, valid, keep, backend):
    return a.new_empty(a.shape), c0.new_empty(c0.shape), c0.new_empty(a.shape if keep else (0,))


@torch.library.custom_op("seqsru::linear_backward", mutates_args=())
def _linear_backward(
    gout: Tensor, gc_last: Tensor, a: Tensor, c0: Tensor, c: Tensor, valid: Tensor | None, backend: str
) -> tuple[Tensor, Tensor, Tensor]:
    return backend_module(backend, a.device).linear_backward(
        gout.contiguous(), gc_last.contiguous(), a.contiguous(), c0.contiguous(), c, _contiguous(valid)
    )


@_linear_backward.register_fake
def _(gout, gc_last, a, c0, c, valid, backend):
    return a.new_empty(a.shape), a.new_empty(a.shape), c0.new_empty(c0.shape)


def _linear_context(ctx, inputs, output):
    a, _, c0, valid, keep, ctx.backend = inputs
    ctx.mark_non_differentiable(output[2])
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(a, c0, valid, output[2] if keep else output[0])


def _linear_gradients(ctx, gout, gc_last, _):
    a, c0, valid, c = ctx.saved_tensors
    gout = a.new_zeros(a.shape) if gout is None else gout
    gc_last = c0.new_zeros(c0.shape) if gc_last is None else gc_last
    ga, gb, gc0 = _linear_backward(gout, gc_last, a, c0, c, valid, ctx.backend)
    return ga, gb, gc0, None, None, None


_linear_forward.register_autograd(_linear_gradients, setup_context=_linear_context)


def _output_is_state(a: Tensor, c0: Tensor, valid: Tensor | None) -> bool:
    """Say whether the output of a linear scan is the state itself, neither rounded nor zeroed anywhere."""
    return valid is None and a.dtype == c0.dtype


def may_call_directly(tensor: Tensor) -> bool:
    """Say whether nothing but the result is wanted: none looks for an operator.

    Compilers, exporters and fake tensors do.
    """
    return type(tensor) is Tensor and not tensor.is_meta and not torch.compiler.is_compiling()


def any_requires_grad(*tensors: Tensor | None) -> bool:
    """Say whether any of the tensors wants a gradient."""
    return any(t is not None and t.requires_grad for t in tensors)


def _contiguous(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.contiguous()


def _last_axis_contiguous(x: Tensor | None) -> Tensor | None:
    return x if x is None or x.stride(2) == 1 else x.contiguous()
