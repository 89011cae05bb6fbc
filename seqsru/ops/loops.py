"""Recurrences with a matrix in them, which no scan can take apart: one loop over time, one operator.

What depends on the input alone comes in for all steps at once, and the gradients of the matrices are products
over all steps at once, after the loop. In between, a step is what it must be: the product with the state, and
some elementwise arithmetic. The loops are written in torch operations, so that they run on every device; a
compiler or exporter sees one node, with any number of steps.

The state is float64 where the input is, else float32, and so is the arithmetic; products run in the dtype of
the weights.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor

from seqsru.errors import Refused
from seqsru.ops.operators import any_requires_grad, may_call_directly
from seqsru.ops.products import linear
from seqsru.ops.reference import accumulation_dtype


def mgu_loop(u: Tensor, h0: Tensor, weight: Tensor, *, valid: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Run the recurrence of the minimal gated unit.

    With W the rows of ``weight`` for the gate and V those for the candidate::

        (1) f = sigmoid(u_f + W h)
        (2) n = tanh(u_n + V (f h))
        (3) h = (1 - f) h + f n

    Parameters
    ----------
    u : Tensor of shape (T, B, 2·D)
        What the input contributes, gate and candidate. T may be 0.
    h0 : Tensor of shape (B, D)
        Initial state; float64 where u is, else float32.
    weight : Tensor of shape (2·D, D)
        Recurrent weights, gate and candidate, in the dtype of the products.
    valid : bool Tensor of shape (T, B), optional
        True on real tokens; elsewhere the output is 0 and the state stays. u must be finite there.

    Returns
    -------
    h : Tensor of shape (T, B, D)
        The state after each step, in the dtype of u.
    h_last : Tensor of shape (B, D)
        The state after the last valid step, in the dtype of h0.

    Raises
    ------
    Refused
        Shapes or a dtype of the state that do not fit.
    """
    _check(u, "h0", h0, weight, valid)
    return _call(_run_mgu_forward, _mgu_forward, u, h0, weight, valid)


def pru_loop(u: Tensor, s0: Tensor, weight: Tensor, *, valid: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Run the recurrence of the prototypical recurrent unit's state.

    With W the rows of ``weight`` for the candidate and V those for the gate::

        (1) n = tanh(u_n + W s)
        (2) c = sigmoid(u_c + V s)
        (3) s = c s + (1 - c) n

    Parameters and results are those of `mgu_loop`, with the candidate before the gate.
    """
    _check(u, "s0", s0, weight, valid)
    return _call(_run_pru_forward, _pru_forward, u, s0, weight, valid)


def _check(u: Tensor, name: str, state: Tensor, weight: Tensor, valid: Tensor | None) -> None:
    B, D = state.shape
    for other, tensor, shape in (
        ("u", u, (u.shape[0], B, 2 * D)),
        ("weight", weight, (2 * D, D)),
        ("valid", valid, u.shape[:2]),
    ):
        if tensor is not None and tensor.shape != shape:
            raise Refused(
                f"shape {tuple(shape)} beside a state of shape {(B, D)}",
                str(tuple(tensor.shape)),
                "check the order of the axes",
                other,
            )
    wanted = accumulation_dtype(u.dtype)
    if state.dtype != wanted:
        raise Refused(f"a state in {wanted} beside u in {u.dtype}", str(state.dtype), "cast it", name)


# Of u, the state, the weights, `valid` and whether to keep: outputs, last state, states and gates kept.
Loop: TypeAlias = Callable[
    [Tensor, Tensor, Tensor, "Tensor | None", bool], tuple[Tensor, Tensor, Tensor, Tensor]
]


def _call(
    run: Loop, operator: Loop, u: Tensor, state: Tensor, weight: Tensor, valid: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Run the loop, as an operator where gradients are wanted or somebody looks for one."""
    keep = torch.is_grad_enabled() and any_requires_grad(u, state, weight)
    call = operator if keep or not may_call_directly(u) else run
    out, last, _, _ = call(u, state, weight, valid, keep)
    return out, last


def _product(state: Tensor, weight: Tensor) -> Tensor:
    """Return ``state @ weight.T`` in the dtype of the state."""
    return linear(state.to(weight.dtype), weight).to(state.dtype)


def _back(gradient: Tensor, weight: Tensor) -> Tensor:
    """Return ``gradient @ weight`` in the dtype of the gradient."""
    return (gradient.to(weight.dtype) @ weight).to(gradient.dtype)


def _weight_gradient(gradients: Tensor, inputs: Tensor, weight: Tensor) -> Tensor:
    """Return the gradient of one matrix from those of its products (T, B, D) and from what it read."""
    rows, read = gradients.flatten(0, 1).to(weight.dtype), inputs.flatten(0, 1).to(weight.dtype)
    return rows.t() @ read


# The loops. A forward loop keeps the state before each step and the two gates; each output is its own tensor.


def _begin(u: Tensor, state: Tensor, keep: bool) -> tuple[Tensor, Tensor, Tensor]:
    (T, B, _), D = u.shape, state.shape[1]
    kept = T if keep else 0
    return u.new_empty(T, B, D), state.new_empty(kept, B, D), state.new_empty(kept, B, 2 * D)


def _step_done(t: int, new: Tensor, old: Tensor, out: Tensor, valid: Tensor | None) -> Tensor:
    """Write the output of a step; return the state after it."""
    if valid is None:
        out[t] = new
        return new
    here = valid[t].unsqueeze(1)
    out[t] = new.masked_fill(~here, 0.0)
    return torch.where(here, new, old)


def _run_mgu_forward(
    u: Tensor,
    h0: Tensor,
    weight: Tensor,
    valid: Tensor | None,
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    out, before, gates = _begin(u, h0, keep)
    gate_weight, candidate_weight = weight.chunk(2)
    h = h0
    for t in range(u.shape[0]):
        f, n = u[t].to(h.dtype, copy=True).chunk(2, dim=1)  # slices, as `seqsru.cells.cell.gates` says
        f = torch.sigmoid(f.add_(_product(h, gate_weight)))  # (1)
        n = torch.tanh(n.add_(_product(f * h, candidate_weight)))  # (2)
        if keep:
            before[t] = h
            torch.cat([f, n], dim=1, out=gates[t])
        h = _step_done(t, h + f * (n - h), h, out, valid)  # (3)
    return out, h.clone(), before, gates


_mgu_forward = torch.library.custom_op("seqsru::mgu_forward", _run_mgu_forward, mutates_args=())


@torch.library.custom_op("seqsru::mgu_backward", mutates_args=())
def _mgu_backward(
    gout: Tensor,
    glast: Tensor,
    before: Tensor,
    gates: Tensor,
    u: Tensor,
    weight: Tensor,
    valid: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    gu, (gate_weight, candidate_weight) = torch.empty_like(gates), weight.chunk(2)
    g_after = glast
    for t in range(len(before) - 1, -1, -1):
        h, (f, n) = before[t], gates[t].chunk(2, dim=1)
        g = g_after + gout[t].to(h.dtype)
        gn = g * f * (1.0 - n * n)
        g_read = _back(gn, candidate_weight)  # of f h in (2)
        gf = (g * (n - h) + g_read * h) * f * (1.0 - f)
        g_before = g * (1.0 - f) + g_read * f + _back(gf, gate_weight)
        g_after = _gradients_done(t, (gf, gn), g_before, g_after, gu, valid)
    gf, gn = gu.chunk(2, dim=-1)
    f = gates.chunk(2, dim=-1)[0]
    gweight = torch.cat([_weight_gradient(gf, before, weight), _weight_gradient(gn, f * before, weight)])
    return gu.to(u.dtype), g_after.clone(), gweight


def _gradients_done(
    t: int, gates: tuple[Tensor, Tensor], g_before: Tensor, g_after: Tensor, gu: Tensor, valid: Tensor | None
) -> Tensor:
    """Write the gradients of a step's gates; return that of the state before it."""
    torch.cat(gates, dim=1, out=gu[t])
    if valid is None:
        return g_before
    here = valid[t].unsqueeze(1)
    gu[t].masked_fill_(~here, 0.0)
    return torch.where(here, g_before, g_after)


def _run_pru_forward(
    u: Tensor,
    s0: Tensor,
    weight: Tensor,
    valid: Tensor | None,
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    out, before, gates = _begin(u, s0, keep)
    s = s0
    for t in range(u.shape[0]):
        n, c = (u[t].to(s.dtype) + _product(s, weight)).chunk(2, dim=1)
        n, c = torch.tanh(n), torch.sigmoid(c)  # (1), (2)
        if keep:
            before[t] = s
            torch.cat([n, c], dim=1, out=gates[t])
        s = _step_done(t, n + c * (s - n), s, out, valid)  # (3)
    return out, s.clone(), before, gates


_pru_forward = torch.library.custom_op("seqsru::pru_forward", _run_pru_forward, mutates_args=())


@torch.library.custom_op("seqsru::pru_backward", mutates_args=())
def _pru_backward(
    gout: Tensor,
    glast: Tensor,
    before: Tensor,
    gates: Tensor,
    u: Tensor,
    weight: Tensor,
    valid: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    gu = torch.empty_like(gates)
    g_after = glast
    for t in range(len(before) - 1, -1, -1):
        s, (n, c) = before[t], gates[t].chunk(2, dim=1)
        g = g_after + gout[t].to(s.dtype)
        gn = g * (1.0 - c) * (1.0 - n * n)
        gc = g * (s - n) * c * (1.0 - c)
        g_before = g * c + _back(torch.cat([gn, gc], dim=1), weight)
        g_after = _gradients_done(t, (gn, gc), g_before, g_after, gu, valid)
    return gu.to(u.dtype), g_after.clone(), _weight_gradient(gu, before, weight)


# What a compiler and autograd know of them.


def _fake_forward(
    u: Tensor, state: Tensor, weight: Tensor, valid: Tensor | None, keep: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    (T, B, _), D = u.shape, state.shape[1]
    kept = T if keep else 0
    return (
        u.new_empty(T, B, D),
        state.new_empty(state.shape),
        state.new_empty(kept, B, D),
        state.new_empty(kept, B, 2 * D),
    )


def _fake_backward(
    gout: Tensor,
    glast: Tensor,
    before: Tensor,
    gates: Tensor,
    u: Tensor,
    weight: Tensor,
    valid: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    return u.new_empty(u.shape), glast.new_empty(glast.shape), weight.new_empty(weight.shape)


def _context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    u, _, weight, valid, _ = inputs
    ctx.mark_non_differentiable(*output[2:])
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(u, weight, valid, *output[2:])


def _register(forward: Any, backward: Any) -> None:
    def gradients(
        ctx: Any, gout: Tensor | None, glast: Tensor | None, *_: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        u, weight, valid, before, gates = ctx.saved_tensors
        gout = u.new_zeros(before.shape) if gout is None else gout
        glast = before.new_zeros(before.shape[1:]) if glast is None else glast
        return *backward(gout, glast, before, gates, u, weight, valid), None, None

    forward.register_fake(_fake_forward)
    backward.register_fake(_fake_backward)
    forward.register_autograd(gradients, setup_context=_context)


_register(_mgu_forward, _mgu_backward)
_register(_pru_forward, _pru_backward)
