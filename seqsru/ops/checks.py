"""What the scans require of their arguments, checked once, before any backend sees them.

Each message says what was expected, what was found, and what to do. One decoding step pays for these checks
too, so what is compared on every call is little and plain.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

import torch
from torch import Tensor

from seqsru.ops.backends import BACKENDS
from seqsru.ops.reference import ACTIVATIONS, accumulation_dtype

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def check_sru(
    u: Tensor,
    x: Tensor | None,
    c0: Tensor,
    v: Tensor | None,
    b: Tensor,
    mask: Tensor | None,
    valid: Tensor | None,
    activation: str,
    scale: float,
    backend: str,
) -> None:
    """Raise ValueError unless the arguments of `sru_scan` fit together."""
    if activation not in ACTIVATIONS:
        raise ValueError(_unknown("sru_scan", "activation", activation, ACTIVATIONS))
    if backend not in BACKENDS:
        raise ValueError(_unknown("sru_scan", "backend", backend, BACKENDS))
    if u.dim() != 4 or u.shape[2] not in (3, 4):
        raise ValueError(
            f"sru_scan: expected u of shape (T, B, k, D) with k 3 or 4, found {_shape(u)}; "
            "view the product as (T, B, k, D), slices before features."
        )
    T, B, k, D = u.shape
    if c0.shape != (B, D):
        raise ValueError(
            f"sru_scan: expected c0 of shape (B, D) = ({B}, {D}) to go with u, found "
            f"{_shape(c0)}; project the input to the state's size, or begin a state for this "
            "batch."
        )
    if x is None:
        if scale != 1.0:
            raise ValueError(
                f"sru_scan: expected scale = 1 without x, found {scale}; pass x, which it "
                "multiplies, or multiply the highway slice of u by it."
            )
    elif k == 4:
        raise ValueError(
            "sru_scan: expected no x beside a u with k = 4, whose last slice is the highway "
            "input, found both; pass x=None, or a u with k = 3."
        )
    elif x.shape != (T, B, D):
        raise ValueError(
            f"sru_scan: expected x of shape (T, B, D) = ({T}, {B}, {D}) to go with u, found "
            f"{_shape(x)}; where x has another width, project it and pass it as u's fourth "
            "slice."
        )
    if b.shape != (2, D):
        raise ValueError(
            f"sru_scan: expected b of shape (2, D) = (2, {D}), the forget and reset biases, "
            f"found {_shape(b)}; view it so."
        )
    if v is not None and v.shape != (2, D):
        raise ValueError(
            f"sru_scan: expected v of shape (2, D) = (2, {D}), the forget and reset weights, "
            f"found {_shape(v)}; view it so, or pass None for version 1."
        )
    if mask is not None:
        if mask.shape != (B, D):
            raise ValueError(
                f"sru_scan: expected mask of shape (B, D) = ({B}, {D}), one draw for all "
                f"steps, found {_shape(mask)}; drop its time axis."
            )
        if mask.requires_grad:
            raise ValueError(
                "sru_scan: expected a mask without gradient, found one that requires it; pass mask.detach()."
            )
    _check_valid("sru_scan", "u", u, valid)
    _check_alike("sru_scan", "u", u, (("x", x), ("mask", mask)), (("c0", c0), ("v", v), ("b", b)))


def check_linear(a: Tensor, b: Tensor, c0: Tensor, valid: Tensor | None, backend: str) -> None:
    """Raise ValueError unless the arguments of `linear_scan` fit together."""
    if backend not in BACKENDS:
        raise ValueError(_unknown("linear_scan", "backend", backend, BACKENDS))
    if a.dim() != 3:
        raise ValueError(
            f"linear_scan: expected a of shape (T, B, D), found {_shape(a)}; add the axes it lacks."
        )
    if b.shape != a.shape:
        raise ValueError(
            f"linear_scan: expected b of the shape of a, {_shape(a)}, found {_shape(b)}; expand it."
        )
    if c0.shape != a.shape[1:]:
        raise ValueError(
            f"linear_scan: expected c0 of shape (B, D) = {tuple(a.shape[1:])} to go with a, "
            f"found {_shape(c0)}; project the input to the state's size, or begin a state for "
            "this batch."
        )
    _check_valid("linear_scan", "a", a, valid)
    _check_alike("linear_scan", "a", a, (("b", b),), (("c0", c0),))


def _check_valid(scan: str, name: str, first: Tensor, valid: Tensor | None) -> None:
    if valid is None:
        return
    if valid.dtype != torch.bool:
        raise ValueError(
            f"{scan}: expected valid in bool, True on real tokens, found {_dtype(valid)}; pass valid != 0."
        )
    if valid.shape != first.shape[:2]:
        raise ValueError(
            f"{scan}: expected valid of shape (T, B) = {tuple(first.shape[:2])} to go with "
            f"{name}, found {_shape(valid)}; transpose it if it is batch first."
        )
    if valid.device != first.device:
        raise ValueError(_elsewhere(scan, name, first, "valid", valid))


def _check_alike(scan: str, name: str, first: Tensor, same: tuple, wide: tuple) -> None:
    """Check dtypes, those in `same` as the first tensor's and in `wide` of accumulation, and devices."""
    dtype, device = first.dtype, first.device
    if dtype not in DTYPES:
        raise ValueError(
            f"{scan}: expected {name} in float64, float32, bfloat16 or float16, found "
            f"{_dtype(first)}; cast it."
        )
    for other, tensor in same:
        if tensor is not None:
            if tensor.dtype != dtype:
                raise ValueError(
                    f"{scan}: expected {other} in {_dtype(first)} as {name} is, found "
                    f"{_dtype(tensor)}; cast it to the dtype of {name}."
                )
            if tensor.device != device:
                raise ValueError(_elsewhere(scan, name, first, other, tensor))
    accumulation = accumulation_dtype(dtype)
    for other, tensor in wide:
        if tensor is not None:
            if tensor.dtype != accumulation:
                raise ValueError(
                    f"{scan}: expected {other} in {str(accumulation)[6:]} beside {name} in "
                    f"{_dtype(first)}, found {_dtype(tensor)}; keep states, weights and biases "
                    "in it."
                )
            if tensor.device != device:
                raise ValueError(_elsewhere(scan, name, first, other, tensor))


def _elsewhere(scan: str, name: str, first: Tensor, other: str, tensor: Tensor) -> str:
    return (
        f"{scan}: expected {other} on '{first.device}' as {name} is, found it on '{tensor.device}'; "
        "move it there."
    )


def _unknown(scan: str, what: str, found: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(str(found), known, n=1)
    hint = f"did you mean '{near[0]}'?" if near else "use one of these."
    return f"{scan}: expected {what} to be one of {', '.join(known)}, found '{found}'; {hint}"


def _shape(tensor: Tensor) -> str:
    return str(tuple(tensor.shape))


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
