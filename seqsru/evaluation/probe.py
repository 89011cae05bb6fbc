"""Whether a deep stack is set well: how large activations and gradients are in each layer before training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from seqsru.cells import Cell
from seqsru.errors import Refused


@dataclass(frozen=True)
class LayerProbe:
    """What one batch showed of one cell.

    Attributes
    ----------
    name : str
        The cell's place in the model.
    cell : str
        Its class.
    output : float
        Variance of h over all real steps, rows and features.
    state : float or None
        Variance of the state after the last step, c where the cell has one; None without such a state.
    gradient : float
        Variance of the gradient of h.
    weights : float
        Norm of the gradient of the cell's parameters.
    """

    name: str
    cell: str
    output: float
    state: float | None
    gradient: float
    weights: float


def probe(model: nn.Module, loss: Callable[[], Tensor]) -> list[LayerProbe]:
    """Run one loss forward and backward and look at every cell of a model.

    The model is in training mode, so its masks are drawn. A layer whose variances are far from its
    neighbours' by a factor, layer after layer, is one whose signal or gradient vanishes or explodes.

    Parameters
    ----------
    model : nn.Module
        Any module with `Cell` modules in it; its gradients are cleared.
    loss : callable
        Gives the loss of a batch, a sum over tokens; called once.

    Returns
    -------
    list of LayerProbe
        In the order of the model's modules.

    Raises
    ------
    Refused
        The model has no cells, or the loss does not depend on one of them.
    """
    cells = {module: name for name, module in model.named_modules() if isinstance(module, Cell)}
    if not cells:
        raise Refused("a model with cells in it", "none", "give one with a stack")
    seen: dict[nn.Module, tuple[Tensor, Tensor | None, Tensor | None]] = {}

    def look(cell: nn.Module, arguments: tuple[Any, ...], result: tuple[Tensor, tuple[Tensor, ...]]) -> None:
        (y, state), valid = result, arguments[2] if len(arguments) > 2 else None
        y.retain_grad()
        flat = [tensor for tensor in state if tensor.dim() == 2 and tensor.is_floating_point()]
        seen[cell] = y, flat[-1].detach() if flat else None, valid

    hooks = [cell.register_forward_hook(look) for cell in cells]
    try:
        model.train()
        model.zero_grad()
        torch.autograd.backward(loss())
    finally:
        for hook in hooks:
            hook.remove()
    found = []
    for cell, name in cells.items():
        if cell not in seen or seen[cell][0].grad is None:
            raise Refused(
                f"a loss that depends on {name}", "one that does not", "give the loss of the whole model"
            )
        y, state, valid = seen[cell]
        assert y.grad is not None  # for the checker of types: it was looked at above
        norms = [p.grad.norm() for p in cell.parameters() if p.grad is not None]
        found.append(
            LayerProbe(
                name,
                type(cell).__name__,
                _variance(y.detach(), valid),
                None if state is None else _variance(state, None),
                _variance(y.grad, valid),
                float(torch.stack(norms).norm()),
            )
        )
    model.zero_grad()
    return found


def _variance(tensor: Tensor, valid: Tensor | None) -> float:
    """Return the variance of the elements at valid steps."""
    kept = tensor if valid is None else tensor[valid]
    return float(kept.double().var(correction=0))


def table(layers: list[LayerProbe]) -> str:
    """Return the probe as lines of text, under their headings."""
    width = max(len("layer"), *(len(layer.name) for layer in layers))
    lines = [f"{'layer':<{width}}  {'cell':<12}{'var h':>12}{'var c':>12}{'var dL/dh':>12}{'|dL/dw|':>12}"]
    for layer in layers:
        state = f"{'-':>12}" if layer.state is None else f"{layer.state:12.3g}"
        lines.append(
            f"{layer.name:<{width}}  {layer.cell:<12}{layer.output:12.3g}{state}"
            f"{layer.gradient:12.3g}{layer.weights:12.3g}"
        )
    return "\n".join(lines)
