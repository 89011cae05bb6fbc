"""Functions of single elements, whose bits do not depend on where in a tensor an element stands."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from seqsru.ops.watchers import recorded

# Torch goes through a tensor on a CPU two vectors at a time, in a share for each thread, and computes what is
# left of a share element by element, where sigmoid and softplus round otherwise. So shares are made of whole
# BLOCKs, which two vectors of any processor divide; a tensor has one share for each GRAIN begun, if there is
# a thread for it (`at::internal::GRAIN_SIZE`). `tests/ops/test_elementwise.py` measures both again.
BLOCK, GRAIN = 32, 32768


def pointwise(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Compute ``function(x)``, and keep the bits of each element independent of the others and of threads.

    Elsewhere than on a CPU, in a recorded graph, and where a gradient is wanted, this is the function itself.

    Parameters
    ----------
    function : callable
        Of each element alone, such as `torch.sigmoid`.
    x : Tensor

    Returns
    -------
    Tensor
        Of the shape and dtype of x.
    """
    if recorded() or x.device.type != "cpu" or (x.requires_grad and torch.is_grad_enabled()):
        return function(x)
    n = x.numel()
    shares = max(1, min(torch.get_num_threads(), -(-n // GRAIN)))
    left = -n % (BLOCK * shares)
    if not left and (x.is_contiguous() or (x.stride(-1) == 1 and x.shape[-1] % BLOCK == 0)):
        return function(x)
    flat = x.new_empty(n + left)
    flat[:n].view(x.shape).copy_(x)
    flat[n:].zero_()
    return function(flat)[:n].view(x.shape)
