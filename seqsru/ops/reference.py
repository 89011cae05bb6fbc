"""The scans written out as loops over time in torch: the definition that every other backend must equal.

`sru_loop` and `linear_loop` are differentiable by autograd as they stand. The four functions of the backend
contract, which `cpu` and `cuda` have with the same signatures, stand below them: `sru_forward`,
`sru_backward`, `linear_forward` and `linear_backward`. Their backward passes are written out because they are
what the kernels transcribe.

A u of five axes has two directions, each a scan of its own: `directions`.

What a backend is handed has been checked by `scan`: shapes and dtypes agree, everything lies on one device
and is contiguous, except x, of which only the last axis has to be. Absent tensors are None.
"""

from __future__ import annotations

import torch
from torch import Tensor

from seqsru.ops import directions
from seqsru.ops.calls import RELU, TANH
from seqsru.ops.elementwise import pointwise


def accumulation_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype of states, of v and b, and of all arithmetic for inputs of `dtype`."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def sru_loop(
    u: Tensor,
    x: Tensor | None,
    c0: Tensor,
    v: Tensor | None,
    b: Tensor,
    mask: Tensor | None,
    valid: Tensor | None,
    activation: int,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Run the SRU recurrence as a loop over time (Lei et al., EMNLP 2018, arXiv 1709.02755, section 3).

    Parameters are those of `seqsru.ops.sru_scan`, the activation as its number in `calls.ACTIVATIONS`. For
    each step::

        (1) f = sigmoid(u1 + v_f * c + b_f)           forget gate
        (2) r = sigmoid(u2 + v_r * c + b_r)           reset gate, from the same c of the step before
        (3) c = (c - u0) * f + u0
        (4) h = x' + (g(c) - x') * m * r              x' is u3, or scale * x, or 0 without a highway

    At an invalid step h is 0 and c stays.

    Returns
    -------
    h : Tensor of shape (T, B, D)
        Outputs, in the dtype of u.
    c_last : Tensor of shape (B, D)
        State after the last valid step.
    c : Tensor of shape (T, B, D)
        State after every step.
    """
    if u.dim() == 5:
        return directions.forward(sru_loop, u, x, c0, v, b, mask, valid, activation, scale)
    dtype, c = u.dtype, c0
    u = u.to(c0.dtype)
    m = torch.ones_like(c0) if mask is None else mask.to(c0.dtype)
    v = torch.zeros_like(b) if v is None else v
    if x is None:
        x = u[:, :, 3] if u.shape[2] == 4 else torch.zeros_like(u[:, :, 0])
    else:
        x = scale * x.to(c0.dtype)
    if valid is None:
        valid = torch.ones(u.shape[:2], dtype=torch.bool, device=u.device)
    u = torch.where(valid[:, :, None, None], u, 0.0)  # before any arithmetic: NaN there reaches no gradient
    x = torch.where(valid[:, :, None], x, 0.0)
    outputs, states = [], []
    for now, skip, ok in zip(u.unbind(0), x.unbind(0), valid[:, :, None].unbind(0)):
        u0, u1, u2 = now.unbind(1)[:3]  # each (B, D)
        f = pointwise(torch.sigmoid, u1 + v[0] * c + b[0])  # (1)
        r = pointwise(torch.sigmoid, u2 + v[1] * c + b[1])  # (2)
        c = torch.where(ok, (c - u0) * f + u0, c)  # (3)
        h = skip + (_activate(c, activation) - skip) * m * r  # (4)
        outputs.append(torch.where(ok, h, 0.0))
        states.append(c)
    empty = u[:, :, 0]  # (0, B, D) when T = 0
    h = torch.stack(outputs) if outputs else empty
    return h.to(dtype), c.clone(), torch.stack(states) if states else empty.clone()


def linear_loop(a: Tensor, b: Tensor, c0: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Run ``c = a * c + b`` as a loop over time; at an invalid step the output is 0 and c stays.

    Returns
    -------
    out : Tensor of shape (T, B, D)
        c after every valid step, 0 at the others, in the dtype of a.
    c_last : Tensor of shape (B, D)
        State after the last valid step.
    c : Tensor of shape (T, B, D)
        State after every step, in the dtype of c0.
    """
    dtype, c = a.dtype, c0
    a, b = a.to(c0.dtype), b.to(c0.dtype)
    if valid is None:
        valid = torch.ones(a.shape[:2], dtype=torch.bool, device=a.device)
    a = torch.where(valid[:, :, None], a, 1.0)
    b = torch.where(valid[:, :, None], b, 0.0)
    states = []
    for a_t, b_t, ok in zip(a.unbind(0), b.unbind(0), valid[:, :, None].unbind(0)):
        c = torch.where(ok, a_t * c + b_t, c)
        states.append(c)
    kept = torch.stack(states) if states else b.clone()
    return torch.where(valid[:, :, None], kept, 0.0).to(dtype), c.clone(), kept


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
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return h, c_last, and c in the accumulation dtype, which is None unless `keep`."""
    h, c_last, c = sru_loop(u, x, c0, v, b, mask, valid, activation, scale)
    return h, c_last, c if keep else None


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
) -> tuple[Tensor, Tensor | None, Tensor, Tensor | None, Tensor]:
    """Return the gradients of u, x, c0, v and b; that of x or v is None where it is absent.

    `c` is what `sru_forward` kept. The gates are computed again rather than stored. From the last step to the
    first, with g' the derivative of g at c_t and `cur` the gradient of c_t that later steps gave::

        (5) gx' = gh * (1 - m * r)                      times scale for x; it goes to u3 when k = 4
        (6) gr  = gh * (g(c_t) - x') * m * r * (1 - r)
        (7) gc  = gh * m * r * g' + cur
        (8) gf  = gc * (c_{t-1} - u0) * f * (1 - f)
        (9) gu0 = gc * (1 - f);  gu1 = gf;  gu2 = gr
       (10) gv_f += gf * c_{t-1};  gv_r += gr * c_{t-1};  gb_f += gf;  gb_r += gr
       (11) cur = gc * f + gf * v_f + gr * v_r

    An invalid step leaves cur as it is and has no gradient of its own.
    """
    if u.dim() == 5:
        given = gh, gc_last, u, x, c0, v, b, mask, valid, c, activation, scale
        return directions.backward(sru_backward, *given)
    gu = torch.zeros_like(u)
    gx = None if x is None else u.new_zeros(u.shape[0], *c0.shape)
    gv, gb = torch.zeros_like(b), torch.zeros_like(b)
    m = torch.ones_like(c0) if mask is None else mask.to(c0.dtype)
    w = torch.zeros_like(b) if v is None else v
    if valid is None:
        valid = torch.ones(u.shape[:2], dtype=torch.bool, device=u.device)
    cur = gc_last
    for t in reversed(range(u.shape[0])):
        ok = valid[t, :, None]
        now = torch.where(ok[:, :, None], u[t].to(c0.dtype), 0.0)
        g_out = torch.where(ok, gh[t].to(c0.dtype), 0.0)
        if x is not None:
            skip = torch.where(ok, scale * x[t].to(c0.dtype), 0.0)
        else:
            skip = now[:, 3] if u.shape[2] == 4 else torch.zeros_like(c0)
        before = c[t - 1] if t else c0
        f = pointwise(torch.sigmoid, now[:, 1] + w[0] * before + b[0])
        r = pointwise(torch.sigmoid, now[:, 2] + w[1] * before + b[1])
        g = _activate(c[t], activation)
        gx_t = torch.where(ok, g_out * (1 - m * r), 0.0)  # (5)
        gr = g_out * (g - skip) * m * r * (1 - r)  # (6)
        gc = g_out * m * r * _slope(c[t], g, activation) + cur  # (7)
        gf = torch.where(ok, gc * (before - now[:, 0]) * f * (1 - f), 0.0)  # (8)
        slices = [torch.where(ok, gc * (1 - f), 0.0), gf, gr]  # (9)
        gu[t] = torch.stack(slices + [gx_t] * (u.shape[2] - 3), dim=1)
        if gx is not None:
            gx[t] = scale * gx_t
        gv += torch.stack([(gf * before).sum(0), (gr * before).sum(0)])  # (10)
        gb += torch.stack([gf.sum(0), gr.sum(0)])
        cur = torch.where(ok, gc * f + gf * w[0] + gr * w[1], cur)  # (11)
    return gu, gx, cur.clone(), None if v is None else gv, gb


def linear_forward(
    a: Tensor,
    b: Tensor,
    c0: Tensor,
    valid: Tensor | None,
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return the output, c_last, and c in the accumulation dtype, which is None unless `keep`."""
    out, c_last, c = linear_loop(a, b, c0, valid)
    return out, c_last, c if keep else None


def linear_backward(
    gout: Tensor,
    gc_last: Tensor,
    a: Tensor,
    c0: Tensor,
    c: Tensor,
    valid: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of a, b and c0.

    `c` is the state after every step in the accumulation dtype: what `linear_forward` kept, or its output
    where that is the same (no invalid steps, and no rounding). From the last step to the first::

        gb = gout + cur;  ga = gb * c_{t-1};  cur = gb * a
    """
    ga, gb = torch.zeros_like(a), torch.zeros_like(a)
    if valid is None:
        valid = torch.ones(a.shape[:2], dtype=torch.bool, device=a.device)
    cur = gc_last
    for t in reversed(range(a.shape[0])):
        ok = valid[t, :, None]
        gc = torch.where(ok, gout[t].to(c0.dtype) + cur, 0.0)
        gb[t] = gc
        ga[t] = gc * (c[t - 1] if t else c0)
        cur = torch.where(ok, gc * a[t].to(c0.dtype), cur)
    return ga, gb, cur.clone()


def _activate(c: Tensor, activation: int) -> Tensor:
    if activation == TANH:
        return pointwise(torch.tanh, c)
    return torch.relu(c) if activation == RELU else c


def _slope(c: Tensor, g: Tensor, activation: int) -> Tensor:
    """Return the derivative at c of the activation whose value there is g."""
    if activation == TANH:
        return 1 - g * g
    return (c > 0).to(c.dtype) if activation == RELU else torch.ones_like(c)
