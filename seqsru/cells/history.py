"""What a causal convolution keeps between calls: its last inputs."""

from __future__ import annotations

import torch
from torch import Tensor


def extend(history: Tensor, x: Tensor) -> Tensor:
    """Return the inputs x (T, B, I) with those of the history (B, n, I) before them: (n + T, B, I)."""
    return torch.cat([history.transpose(0, 1).to(x.dtype), x])


def windows(extended: Tensor, window: int) -> Tensor:
    """Return what a convolution sees at each step: (n + T, B, I) to (n + T − window + 1, B, window · I).

    The newest input comes first: ``[x_t, x_{t−1}, …]``.
    """
    steps = extended.shape[0] - window + 1
    return torch.cat([extended[back : back + steps] for back in range(window - 1, -1, -1)], dim=-1)


def latest(extended: Tensor, history: Tensor, valid: Tensor | None) -> Tensor:
    """Return the last valid inputs of each row, of the shape and dtype of the history (B, n, I)."""
    n = history.shape[1]
    if valid is None:
        kept = extended[extended.shape[0] - n :]  # (n, B, I)
    else:
        steps = valid.sum(0) + torch.arange(n, device=valid.device).unsqueeze(1)  # (n, B)
        B = valid.shape[1]
        places = (steps * B + torch.arange(B, device=valid.device)).flatten()
        kept = extended.flatten(0, 1).index_select(0, places).view(n, B, extended.shape[2])  # (n, B, I)
    return kept.transpose(0, 1).to(history.dtype)
