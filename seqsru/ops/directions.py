"""Two directions of a layer as one scan, by a scan of each: what defines it, and all that a CPU needs.

A u of five axes, (T, B, 2, k, D/2), holds the slices of a layer's first direction and then those of its
second. Of the D features of every other tensor the first half runs from the first step to the last and the
second from the last to the first; so h has the outputs of both side by side. An invalid step leaves the state
as it is: a padded row's second direction begins at its last valid step. On a GPU it is one launch
(`cuda_kernels`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def forward(
    run: Callable[..., tuple[Tensor, Tensor, Tensor | None]],
    u: Tensor,
    x: Tensor | None,
    c0: Tensor,
    v: Tensor | None,
    b: Tensor,
    mask: Tensor | None,
    valid: Tensor | None,
    *more: Any,
) -> tuple[Tensor, Tensor, Any]:
    """Return h, c_last and c of a u with two directions, where `run` takes one; `c` is None where its is."""
    given = u, x, c0, v, b, mask, valid
    (h, c_last, c), (other_h, other_last, other_c) = (run(*_one(i, *given), *more) for i in range(2))
    states = None if c is None or other_c is None else _beside(c, other_c.flip(0))
    return _beside(h, other_h.flip(0)), _beside(c_last, other_last), states


def backward(
    run: Callable[..., tuple[Tensor, Tensor | None, Tensor, Tensor | None, Tensor]],
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
    *more: Any,
) -> tuple[Tensor, Tensor | None, Tensor, Tensor | None, Tensor]:
    """Return the gradients of u, x, c0, v and b, as `run` does of one direction."""
    given = u, x, c0, v, b, mask, valid
    first, second = (
        run(_half(i, gh, True), _half(i, gc_last), *_one(i, *given), _half(i, c, True), *more)
        for i in range(2)
    )
    gu = torch.stack([first[0], second[0].flip(0)], 2)
    gx = None if first[1] is None or second[1] is None else _beside(first[1], second[1].flip(0))
    gv = None if first[3] is None or second[3] is None else _beside(first[3], second[3])
    return gu, gx, _beside(first[2], second[2]), gv, _beside(first[4], second[4])


def _one(
    i: int,
    u: Tensor,
    x: Tensor | None,
    c0: Tensor,
    v: Tensor | None,
    b: Tensor,
    mask: Tensor | None,
    valid: Tensor | None,
) -> tuple[Tensor | None, ...]:
    """Return what the scan of direction i is given, contiguous and forward in time."""
    wide = _half(i, x, True), _half(i, c0), _half(i, v), _half(i, b), _half(i, mask)
    slices, known = u[:, :, i], valid
    if i:
        slices, known = slices.flip(0), None if valid is None else valid.flip(0)
    return slices.contiguous(), *wide, known


def _half(i: int, tensor: Tensor | None, timed: bool = False) -> Any:
    """Return the features of direction i; of what has time forward in it."""
    if tensor is None:
        return None
    half = tensor.chunk(2, -1)[i] if tensor.shape[-1] else tensor
    return (half.flip(0) if i and timed else half).contiguous()


def _beside(one: Tensor, other: Tensor) -> Tensor:
    return torch.cat([one, other], -1)
