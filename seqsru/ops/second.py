"""Gradients of gradients, through the loops that define the results.

The kernels compute first gradients alone. A penalty on a gradient, or a product with a Hessian,
differentiates these once more: then a loop in torch's operators takes the kernel's place, and autograd goes
through it twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def second_gradients(
    loop: Callable[..., Sequence[Tensor]],
    inputs: Sequence[Tensor | None],
    gradients: Sequence[Tensor],
    directions: Sequence[Tensor | None],
) -> list[Tensor | None]:
    """Differentiate the gradients of a loop.

    Parameters
    ----------
    loop : callable
        The definition: of the inputs, its outputs.
    inputs : sequence of Tensor or None
        What it was called with.
    gradients : sequence of Tensor
        Gradients of its outputs.
    directions : sequence of Tensor or None
        For each input, the gradient of that input's gradient.

    Returns
    -------
    list of Tensor or None
        The gradients of `gradients` and then of `inputs`; None where there is none.
    """
    again = torch.is_grad_enabled()
    with torch.enable_grad():
        given = [*gradients, *inputs]
        # New names for all of them: one may have been computed from another, and is no path to it here.
        read = [None if t is None else _leaf(t, again) for t in given]
        of_outputs, of_inputs = read[: len(gradients)], read[len(gradients) :]
        wanted = [t for t in of_inputs if t is not None]
        found = iter(
            torch.autograd.grad(loop(*of_inputs), wanted, of_outputs, create_graph=True, allow_unused=True)
        )
        first = [None if t is None else next(found) for t in of_inputs]
        pairs = [
            (gradient, direction)
            for gradient, direction in zip(first, directions)
            if gradient is not None and gradient.requires_grad and direction is not None and direction.numel()
        ]
        if not pairs:
            return [None] * len(given)
        sources = [t for t in read if t is not None]
        results = iter(
            torch.autograd.grad(
                [gradient for gradient, _ in pairs],
                sources,
                [direction for _, direction in pairs],
                create_graph=again,
                allow_unused=True,
            )
        )
        return [None if t is None else next(results) for t in read]


def _leaf(tensor: Tensor, again: bool) -> Tensor:
    """Return the tensor under a new name that wants a gradient, joined to its past if need be."""
    if again and tensor.requires_grad:
        return tensor.view_as(tensor)
    return tensor.detach().requires_grad_()
