"""What the scans require of their arguments, checked once, before any backend sees them.

One decoding step pays for these checks too, so what is compared on every call is little and plain, and no
text is made before something is refused.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from seqsru.errors import Refused, unknown
from seqsru.ops.backends import BACKENDS
from seqsru.ops.calls import ACTIVATIONS
from seqsru.ops.reference import accumulation_dtype

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
Named = Iterable[tuple[str, "Tensor | None"]]


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
    """Raise Refused unless the arguments of `sru_scan` fit together."""
    if activation not in ACTIVATIONS:
        raise unknown(activation, ACTIVATIONS, "activation")
    if backend not in BACKENDS:
        raise unknown(backend, BACKENDS, "backend")
    if u.dim() == 5 and (u.shape[2] != 2 or u.shape[3] not in (3, 4)):
        raise Refused(
            "shape (T, B, 2, k, D/2) with k 3 or 4 for two directions",
            _shape(u),
            "view the product so, a direction's slices after the other's",
            "u",
        )
    if u.dim() != 5 and (u.dim() != 4 or u.shape[2] not in (3, 4)):
        raise Refused(
            "shape (T, B, k, D) with k 3 or 4",
            _shape(u),
            "view the product as (T, B, k, D), slices before features",
            "u",
        )
    T, B, k, D = u.shape if u.dim() == 4 else (*u.shape[:2], u.shape[3], 2 * u.shape[4])
    if c0.shape != (B, D):
        raise _state(c0, (B, D), "u")
    if x is None:
        if scale != 1.0:
            raise Refused(
                "1 without x",
                scale,
                "pass x, which it multiplies, or multiply the highway slice of u by it",
                "scale",
            )
    elif k == 4:
        raise Refused(
            "None beside a u with k = 4, whose last slice is the highway input",
            "both",
            "pass x=None, or a u with k = 3",
            "x",
        )
    elif x.shape != (T, B, D):
        raise Refused(
            f"shape (T, B, D) = ({T}, {B}, {D}) to go with u",
            _shape(x),
            "where x has another width, project it and pass it as u's fourth slice",
            "x",
        )
    if b.shape != (2, D):
        raise Refused(f"shape (2, D) = (2, {D}), the forget and reset biases", _shape(b), "view it so", "b")
    if v is not None and v.shape != (2, D):
        raise Refused(
            f"shape (2, D) = (2, {D}), the forget and reset weights",
            _shape(v),
            "view it so, or pass None for version 1",
            "v",
        )
    if mask is not None:
        if mask.shape != (B, D):
            raise Refused(
                f"shape (B, D) = ({B}, {D}), one draw for all steps",
                _shape(mask),
                "drop its time axis",
                "mask",
            )
        if mask.requires_grad:
            raise Refused("a tensor without gradient", "one that requires it", "pass mask.detach()", "mask")
    _check_valid("u", u, valid)
    _check_alike("u", u, (("x", x), ("mask", mask)), (("c0", c0), ("v", v), ("b", b)))


def check_linear(a: Tensor, b: Tensor, c0: Tensor, valid: Tensor | None, backend: str) -> None:
    """Raise Refused unless the arguments of `linear_scan` fit together."""
    if backend not in BACKENDS:
        raise unknown(backend, BACKENDS, "backend")
    if a.dim() != 3:
        raise Refused("shape (T, B, D)", _shape(a), "add the axes it lacks", "a")
    if b.shape != a.shape:
        raise Refused(f"the shape of a, {_shape(a)}", _shape(b), "expand it", "b")
    if c0.shape != a.shape[1:]:
        raise _state(c0, tuple(a.shape[1:]), "a")
    _check_valid("a", a, valid)
    _check_alike("a", a, (("b", b),), (("c0", c0),))


def _check_valid(name: str, first: Tensor, valid: Tensor | None) -> None:
    if valid is None:
        return
    if valid.dtype != torch.bool:
        raise Refused("bool, True on real tokens", _dtype(valid), "pass valid != 0", "valid")
    if valid.shape != first.shape[:2]:
        raise Refused(
            f"shape (T, B) = {tuple(first.shape[:2])} to go with {name}",
            _shape(valid),
            "transpose it if it is batch first",
            "valid",
        )
    if valid.device != first.device:
        raise _elsewhere(name, first, "valid", valid)


def _check_alike(name: str, first: Tensor, same: Named, wide: Named) -> None:
    """Check dtypes, those in `same` as the first tensor's and in `wide` of accumulation, and devices."""
    dtype, device = first.dtype, first.device
    if dtype not in DTYPES:
        raise Refused("float64, float32, bfloat16 or float16", _dtype(first), "cast it", name)
    for other, tensor in same:
        if tensor is not None:
            if tensor.dtype is not dtype:
                raise Refused(
                    f"{_dtype(first)} as {name} is",
                    _dtype(tensor),
                    f"cast it to the dtype of {name}",
                    other,
                )
            if tensor.device != device:
                raise _elsewhere(name, first, other, tensor)
    accumulation = accumulation_dtype(dtype)
    for other, tensor in wide:
        if tensor is not None:
            if tensor.dtype is not accumulation:
                raise Refused(
                    f"{str(accumulation).removeprefix('torch.')} beside {name} in {_dtype(first)}",
                    _dtype(tensor),
                    "keep states, weights and biases in it",
                    other,
                )
            if tensor.device != device:
                raise _elsewhere(name, first, other, tensor)


def _state(c0: Tensor, shape: tuple[int, ...], name: str) -> Refused:
    return Refused(
        f"shape (B, D) = {shape} to go with {name}",
        _shape(c0),
        "project the input to the state's size, or begin a state for this batch",
        "c0",
    )


def _elsewhere(name: str, first: Tensor, other: str, tensor: Tensor) -> Refused:
    return Refused(f"device '{first.device}' as {name} is on", f"'{tensor.device}'", "move it there", other)


def _shape(tensor: Tensor) -> str:
    return str(tuple(tensor.shape))


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
