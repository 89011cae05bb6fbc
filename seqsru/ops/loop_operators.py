"""The loops of `loops`: what defines them, what runs, and both registered with `torch.library`.

A definition is differentiable by autograd as often as one likes. What runs keeps the state before each step
and the two gates if a gradient is wanted, and its backward pass is written out; each output is its own
tensor.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor

from seqsru.ops.elementwise import pointwise
from seqsru.ops.products import linear
from seqsru.ops.second import second_gradients

# Of u, the state, the weights, `valid` and whether to keep: outputs, last state, states and gates kept.
Loop: TypeAlias = Callable[
    [Tensor, Tensor, Tensor, "Tensor | None", bool], tuple[Tensor, Tensor, Tensor, Tensor]
]


def mgu_definition(u: Tensor, h0: Tensor, weight: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the outputs and the last state of `seqsru.ops.mgu_loop`."""
    h, outputs = h0, []
    gate_weight, candidate_weight = weight.chunk(2)
    for t in range(u.shape[0]):
        f, n = u[t].to(h.dtype).chunk(2, dim=1)
        f = torch.sigmoid(f + _product(h, gate_weight))  # (1)
        n = torch.tanh(n + _product(f * h, candidate_weight))  # (2)
        out, h = _where_valid(t, h + f * (n - h), h, valid)  # (3)
        outputs.append(out)
    return _stacked(outputs, u, h), h


def pru_definition(u: Tensor, s0: Tensor, weight: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the outputs and the last state of `seqsru.ops.pru_loop`."""
    s, outputs = s0, []
    for t in range(u.shape[0]):
        n, c = (u[t].to(s.dtype) + _product(s, weight)).chunk(2, dim=1)
        n, c = torch.tanh(n), torch.sigmoid(c)  # (1), (2)
        out, s = _where_valid(t, n + c * (s - n), s, valid)  # (3)
        outputs.append(out)
    return _stacked(outputs, u, s), s


def _where_valid(t: int, new: Tensor, old: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the output of a step and the state after it."""
    if valid is None:
        return new, new
    here = valid[t].unsqueeze(1)
    return torch.where(here, new, 0.0), torch.where(here, new, old)


def _stacked(outputs: list[Tensor], u: Tensor, state: Tensor) -> Tensor:
    return torch.stack(outputs).to(u.dtype) if outputs else u[..., : state.shape[1]]


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


def run_mgu_forward(
    u: Tensor,
    h0: Tensor,
    weight: Tensor,
    valid: Tensor | None,
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return outputs, last state, and the states and gates, none unless `keep`."""
    out, before, gates = _begin(u, h0, keep)
    gate_weight, candidate_weight = weight.chunk(2)
    h = h0
    for t in range(u.shape[0]):
        f, n = u[t].to(h.dtype, copy=True).chunk(2, dim=1)
        f = pointwise(torch.sigmoid, f.add_(_product(h, gate_weight)))  # (1)
        n = pointwise(torch.tanh, n.add_(_product(f * h, candidate_weight)))  # (2)
        if keep:
            before[t] = h
            torch.cat([f, n], dim=1, out=gates[t])
        h = _step_done(t, h + f * (n - h), h, out, valid)  # (3)
    return out, h.clone(), before, gates


mgu_forward = torch.library.custom_op("seqsru::mgu_forward", run_mgu_forward, mutates_args=())


def run_mgu_backward(
    gout: Tensor,
    glast: Tensor,
    before: Tensor,
    gates: Tensor,
    u: Tensor,
    state: Tensor,
    weight: Tensor,
    valid: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of u, the state and the weights."""
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


mgu_backward = torch.library.custom_op("seqsru::mgu_backward", run_mgu_backward, mutates_args=())


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


def run_pru_forward(
    u: Tensor,
    s0: Tensor,
    weight: Tensor,
    valid: Tensor | None,
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return outputs, last state, and the states and gates, none unless `keep`."""
    out, before, gates = _begin(u, s0, keep)
    s = s0
    for t in range(u.shape[0]):
        n, c = (u[t].to(s.dtype) + _product(s, weight)).chunk(2, dim=1)
        n, c = pointwise(torch.tanh, n), pointwise(torch.sigmoid, c)  # (1), (2)
        if keep:
            before[t] = s
            torch.cat([n, c], dim=1, out=gates[t])
        s = _step_done(t, n + c * (s - n), s, out, valid)  # (3)
    return out, s.clone(), before, gates


pru_forward = torch.library.custom_op("seqsru::pru_forward", run_pru_forward, mutates_args=())


def run_pru_backward(
    gout: Tensor,
    glast: Tensor,
    before: Tensor,
    gates: Tensor,
    u: Tensor,
    state: Tensor,
    weight: Tensor,
    valid: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of u, the state and the weights."""
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


pru_backward = torch.library.custom_op("seqsru::pru_backward", run_pru_backward, mutates_args=())


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
    state: Tensor,
    weight: Tensor,
    valid: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    return u.new_empty(u.shape), glast.new_empty(glast.shape), weight.new_empty(weight.shape)


def _context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    u, state, weight, valid, ctx.keep = inputs
    ctx.mark_non_differentiable(*output[2:])
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(u, state, weight, valid, *output[2:])


def _second_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    gout, glast, _, _, u, state, weight, valid = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(gout, glast, u, state, weight, valid)


def _register(definition: Callable[..., tuple[Tensor, Tensor]], forward: Any, backward: Any) -> None:
    def gradients(
        ctx: Any, gout: Tensor | None, glast: Tensor | None, *_: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        u, state, weight, valid, before, gates = ctx.saved_tensors
        if not ctx.keep:  # a graph that was recorded without gradients
            with torch.no_grad():
                _, _, before, gates = forward(u, state, weight, valid, True)
        gout = u.new_zeros(before.shape) if gout is None else gout
        glast = before.new_zeros(before.shape[1:]) if glast is None else glast
        return *backward(gout, glast, before, gates, u, state, weight, valid), None, None

    def second(ctx: Any, *directions: Tensor | None) -> tuple[Tensor | None, ...]:
        gout, glast, *inputs, valid = ctx.saved_tensors

        def loop(*inputs: Any) -> tuple[Tensor, Tensor]:
            return definition(*inputs, valid)

        gout, glast, *found = second_gradients(loop, inputs, (gout, glast), directions)
        return gout, glast, None, None, *found, None

    forward.register_fake(_fake_forward)
    backward.register_fake(_fake_backward)
    forward.register_autograd(gradients, setup_context=_context)
    backward.register_autograd(second, setup_context=_second_context)


_register(mgu_definition, mgu_forward, mgu_backward)
_register(pru_definition, pru_forward, pru_backward)
