"""Recurrences with a matrix in them, which no scan can take apart: one loop over time, one operator.

What depends on the input alone comes in for all steps at once, and the gradients of the matrices are products
over all steps at once, after the loop. In between, a step is what it must be: the product with the state, and
some elementwise arithmetic. The loops (`loop_operators`) are written in torch operations, so that they run on
every device; a compiler or exporter sees one node, with any number of steps.

The state is float64 where the input is, else float32, and so is the arithmetic; products run in the dtype of
the weights.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from seqsru.errors import Refused
from seqsru.ops.loop_operators import (
    Loop,
    mgu_backward,
    mgu_definition,
    mgu_forward,
    pru_backward,
    pru_definition,
    pru_forward,
    run_mgu_backward,
    run_mgu_forward,
    run_pru_backward,
    run_pru_forward,
)
from seqsru.ops.nodes import loop_node
from seqsru.ops.operators import any_requires_grad
from seqsru.ops.reference import accumulation_dtype
from seqsru.ops.watchers import traced, transformed, watched


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
    backward = run_mgu_backward, mgu_backward
    return _call(mgu_definition, run_mgu_forward, mgu_forward, backward, u, h0, weight, valid)


def pru_loop(u: Tensor, s0: Tensor, weight: Tensor, *, valid: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Run the recurrence of the prototypical recurrent unit's state.

    With W the rows of ``weight`` for the candidate and V those for the gate::

        (1) n = tanh(u_n + W s)
        (2) c = sigmoid(u_c + V s)
        (3) s = c s + (1 - c) n

    Parameters and results are those of `mgu_loop`, with the candidate before the gate.
    """
    _check(u, "s0", s0, weight, valid)
    backward = run_pru_backward, pru_backward
    return _call(pru_definition, run_pru_forward, pru_forward, backward, u, s0, weight, valid)


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


def _call(
    definition: Callable[[Tensor, Tensor, Tensor, Tensor | None], tuple[Tensor, Tensor]],
    run: Loop,
    operator: Loop,
    backward: tuple[Callable[..., tuple[Tensor, ...]], Callable[..., tuple[Tensor, ...]]],
    u: Tensor,
    state: Tensor,
    weight: Tensor,
    valid: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Run the loop, as an operator where somebody watches and a node where a gradient is wanted."""
    keep = torch.is_grad_enabled() and any_requires_grad(u, state, weight)
    if not watched(u, state, weight, valid):
        if keep:
            out, last = loop_node(u, state, weight, valid, run, backward)
        else:
            out, last, _, _ = run(u, state, weight, valid, False)
    elif transformed():
        out, last = definition(u, state, weight, valid)
    else:
        out, last, _, _ = operator(u, state, weight, valid, keep and not traced())
    return out, last
