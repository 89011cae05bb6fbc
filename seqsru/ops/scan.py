"""The two scans: their arguments checked, and the way to a backend chosen.

Where somebody watches (`watchers`), `sru_scan` and `linear_scan` call an operator of `operators`, and under a
transform of functions the loop of `reference`. Otherwise they call the backend directly, as a node of `nodes`
where a gradient will be wanted, which saves the dispatcher's time: it is most of the time of a decoding step,
and of a small layer's training.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from seqsru.ops.backends import Backend
from seqsru.ops.calls import ACTIVATIONS, Activation
from seqsru.ops.checks import check_linear, check_sru
from seqsru.ops.nodes import as_slices, linear_node, product_node, sru_node
from seqsru.ops.operators import (
    any_requires_grad,
    linear_forward,
    output_is_state,
    run_linear_forward,
    run_sru_forward,
    sru_forward,
)
from seqsru.ops.products import linear, product_weight
from seqsru.ops.reference import linear_loop, sru_loop
from seqsru.ops.watchers import traced, transformed, watched


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
        float32, bfloat16 or float16. Of shape (T, B, 2, k, D/2) it has two directions: of the D features of
        all other tensors the first half runs forward in time, and the second from the last step to the first.
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
    if not watched(u, x, c0, v, b, mask, valid):
        if keep:
            h, c_last = sru_node(u, x, c0, v, b, mask, valid, code, scale, backend)
        else:
            h, c_last, _ = run_sru_forward(u, x, c0, v, b, mask, valid, code, scale, False, backend)
    elif transformed():
        h, c_last, _ = sru_loop(u, x, c0, v, b, mask, valid, code, scale)
    else:
        keep = keep and not traced()
        h, c_last, _ = sru_forward(u, x, c0, v, b, mask, valid, code, scale, keep, backend)
    return h, c_last


def product_scan(
    x: Tensor,
    weight: Tensor,
    c0: Tensor,
    v: Tensor | None,
    b: Tensor,
    *,
    highway: int | None,
    directions: Literal[1, 2] = 1,
    mask: Tensor | None = None,
    valid: Tensor | None = None,
    activation: Activation = "identity",
    scale: float = 1.0,
    backend: Backend = "auto",
) -> tuple[Tensor, Tensor]:
    """Run the SRU recurrence over the product of its input.

    This is `sru_scan` of ``linear(x, weight)``. On a GPU, in training that nobody watches, the two are one
    node of autograd, in which the gradient of x is summed by the product. On a CPU they stay two, where this
    would change the last bit of what earlier versions have trained.

    Parameters
    ----------
    x : Tensor of shape (T, B, I)
        Inputs of the product, and of the highway.
    weight : Tensor of shape (k · D, I)
        Slices for the candidate, the forget and the reset gate, and with k = 4 the highway; with two
        directions those of the second below those of the first.
    c0, v, b, mask, valid, activation, scale, backend
        As for `sru_scan`.
    highway : int or None
        First of the D features of x that the highway carries, with k = 3; None is no such slice.
    directions : 1 or 2
        With 2 the second half of the D features runs from the last step to the first.

    Returns
    -------
    h, c_last : Tensor
        As of `sru_scan`.
    """
    if not (
        _sums_in_products(x)
        and torch.is_grad_enabled()
        and any_requires_grad(x, weight, c0, v, b)
        and not watched(x, weight, c0, v, b, mask, valid)
    ):
        T, B, D = *x.shape[:2], b.shape[1]
        u = as_slices(linear(x, weight), T, B, weight.shape[0] // D, D, directions)
        carried = None if highway is None else x.narrow(2, highway, D).to(u.dtype)  # (T, B, D)
        return sru_scan(
            u, carried, c0, v, b, mask=mask, valid=valid, activation=activation, scale=scale, backend=backend
        )
    weight = product_weight(weight)
    x = x if x.dtype is weight.dtype else x.to(weight.dtype)
    return product_node(x, weight, directions, highway, c0, v, b, mask, valid, activation, scale, backend)


def scans_both(x: Tensor, backend: Backend) -> bool:
    """Say whether a scan of two directions takes less than a scan of each."""
    return x.device.type == "cuda" and backend in ("auto", "cuda")


def _sums_in_products(x: Tensor) -> bool:
    """Say whether `product_scan` may sum the gradient of x in another order than two nodes would."""
    return x.device.type == "cuda"


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
    if not watched(a, b, c0, valid):
        if grads:
            out, c_last = linear_node(a, b, c0, valid, backend)
        else:
            out, c_last, _ = run_linear_forward(a, b, c0, valid, False, backend)
    elif transformed():
        out, c_last, _ = linear_loop(a, b, c0, valid)
    else:
        keep = grads and not output_is_state(a, c0, valid) and not traced()
        out, c_last, _ = linear_forward(a, b, c0, valid, keep, backend)
    return out, c_last
