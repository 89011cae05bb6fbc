"""The output product and its cross entropy as one operation that never holds two tables of rows × vocabulary.

Separate operations write the logits, their logarithmic softmax and its gradient to memory one after the
other. Here a block of rows is finished at once: logits, loss, the gradient of the logits in their place, and
its products with the weights and the features. Peak memory is one block, whatever the number of rows.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

from seqsru.errors import Refused, check_probability
from seqsru.ops.backends import backend_module
from seqsru.ops.calls import LEFT_OUT
from seqsru.ops.products import linear
from seqsru.ops.reference import accumulation_dtype
from seqsru.ops.watchers import recorded, transformed, watched

# Logits in a block on a CPU: the products are as fast at this size as over all rows, and 32 MiB of float32 is
# the peak memory.
BLOCK = 1 << 23
# Bytes of logits in a block on a GPU, which has more memory, and where every block costs six launches.
GPU_BLOCK = 1 << 28
# Logits in a chunk of a CPU's block: the elementwise passes over a chunk find it in the cache.
CHUNK = 1 << 20

# Of logits (n, V), a bias, targets, the smoothing, and whether to put the gradient in the logits' place.
Softmax: TypeAlias = Callable[[Tensor, "Tensor | None", Tensor, float, bool], tuple[Tensor, Tensor]]


def linear_cross_entropy(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    *,
    valid: Tensor | None = None,
    smoothing: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Negative log probability of targets under ``softmax(x Wᵀ + b)``, summed, by blocks of rows.

    With ``z = W x_n + b`` for row n, V the vocabulary, ε the smoothing and y the target,

    1. ``log p = z − log Σ_v exp z_v``
    2. ``nll_n = −log p_y``
    3. ``loss = Σ_n (1−ε)·nll_n + (ε/V)·Σ_v(−log p_v)``          (label smoothing as PyTorch defines it)
    4. ``∂loss/∂z = p − (1−ε)·[v = y] − ε/V``

    Under ``torch.autocast`` the three products run in its type; the softmax and all sums are float32.
    The gradients are computed in the forward pass, for one backward pass. For more of them, for gradients of
    gradients (``create_graph=True``), under transforms of functions and where torch's operators are recorded,
    the loss is computed by separate operations, which hold whole tables of rows × vocabulary.

    Parameters
    ----------
    x : Tensor of shape (..., E)
        Features.
    weight : Tensor of shape (V, E)
        Output weights.
    bias : Tensor of shape (V,) or None
        Output bias.
    targets : int64 Tensor of shape (...)
        Indices into the vocabulary.
    valid : bool Tensor of shape (...), optional
        False marks rows that are left out: their loss and gradient are 0, whatever they hold.
    smoothing : float
        ε of equation 3, from 0 to below 1.

    Returns
    -------
    loss : Tensor of shape ()
        Equation 3, differentiable.
    nll : Tensor of shape (...)
        Equation 2 for each row, without a gradient; 0 at rows left out.

    Raises
    ------
    Refused
        Shapes that do not fit, targets outside the vocabulary, or a smoothing outside [0, 1). On a GPU, which
        is not waited for, a target outside the vocabulary makes the loss NaN instead.
    """
    if targets.shape != x.shape[:-1]:
        raise Refused(
            f"shape {tuple(x.shape[:-1])} beside x of shape {tuple(x.shape)}",
            str(tuple(targets.shape)),
            "give one target for each row of features",
            "targets",
        )
    if weight.shape[1] != x.shape[-1]:
        raise Refused(
            f"E = {x.shape[-1]} as x has",
            f"E = {weight.shape[1]}",
            "project the features to the output's size first",
            "weight",
        )
    check_probability(smoothing=smoothing)
    if transformed() or (recorded() and not torch.compiler.is_compiling()):
        return _separately(x, weight, bias, targets, valid, smoothing, _product_dtype(x))
    kept = None
    if valid is not None and _waits(x.device):
        x, targets = torch.where(valid.unsqueeze(-1), x, 0.0), torch.where(valid, targets, LEFT_OUT)
    rows, wanted = x.reshape(-1, x.shape[-1]), targets.reshape(-1).contiguous()
    if valid is not None and not _waits(x.device):
        kept = valid.reshape(-1).nonzero().squeeze(1)
        rows, wanted = rows.index_select(0, kept), wanted.index_select(0, kept)
    tracked = torch.is_grad_enabled()
    apply: Any = _LinearCrossEntropy.apply  # torch has no types here
    loss, nll = apply(rows, weight, bias, wanted, smoothing, tracked)
    if kept is not None:
        nll = nll.new_zeros(targets.numel()).index_copy_(0, kept, nll)
    return loss, nll.view(targets.shape)


def logits_cross_entropy(
    logits: Tensor, targets: Tensor, *, valid: Tensor | None = None, smoothing: float = 0.0
) -> tuple[Tensor, Tensor]:
    """What `linear_cross_entropy` returns, of logits (..., V) that are there already."""
    if valid is not None:
        logits = torch.where(valid.unsqueeze(-1), logits, 0.0)
        targets = torch.where(valid, targets, 0)
    log_p = torch.log_softmax(logits.to(accumulation_dtype(logits.dtype)), dim=-1)  # 1
    nll = -log_p.gather(-1, targets.unsqueeze(-1)).squeeze(-1)  # 2
    spread = -log_p.sum(-1)
    if valid is not None:
        nll, spread = torch.where(valid, nll, 0.0), torch.where(valid, spread, 0.0)
    loss = (1.0 - smoothing) * nll.sum() + smoothing / logits.shape[-1] * spread.sum()  # 3
    return loss, nll.detach()


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        smoothing: float,
        tracked: bool,
    ) -> tuple[Tensor, Tensor]:
        product = _product_dtype(x)
        wanted = [tracked and needed for needed in ctx.needs_input_grad[:3]]
        with torch.autocast(x.device.type, enabled=False):
            loss, nll, gradients = _by_blocks(
                x.to(product), weight.to(product), bias, targets, smoothing, wanted
            )
        inputs = (x, weight, bias)
        ctx.gradients = [None if g is None or t is None else g.to(t.dtype) for g, t in zip(gradients, inputs)]
        ctx.mark_non_differentiable(nll)
        ctx.save_for_backward(*inputs, targets)
        ctx.smoothing, ctx.product = smoothing, product
        return loss, nll

    @staticmethod
    def backward(ctx: Any, grad_loss: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled() or ctx.gradients is None:  # with create_graph, or for the second time
            return _gradients_again(ctx, grad_loss)
        scaled = [None if g is None else g.mul_(grad_loss) for g in ctx.gradients]
        ctx.gradients = None  # so that autograd may keep these tensors as .grad without a copy
        return (*scaled, None, None, None)


def _product_dtype(x: Tensor) -> torch.dtype:
    """Return the type that the products run in: that of ``torch.autocast``, or that of x."""
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype


def _separately(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    valid: Tensor | None,
    smoothing: float,
    product: torch.dtype,
) -> tuple[Tensor, Tensor]:
    """Return loss and nll by torch's operators one after the other: what defines them."""
    if valid is not None:  # before any arithmetic: NaN there reaches no gradient
        x = torch.where(valid.unsqueeze(-1), x, 0.0)
    sums = accumulation_dtype(product)
    with torch.autocast(x.device.type, enabled=False):
        z = functional.linear(x.to(product), weight.to(product)).to(sums)
        z = z if bias is None else z + bias.to(sums)
        return logits_cross_entropy(z, targets, valid=valid, smoothing=smoothing)


def _gradients_again(ctx: Any, grad_loss: Tensor) -> tuple[Tensor | None, ...]:
    """Return the gradients of x, the weight and the bias, themselves differentiable where this is wanted."""
    x: Any
    weight: Any
    x, weight, bias, targets = ctx.saved_tensors
    further = torch.is_grad_enabled()
    with torch.enable_grad():
        # New names: one may have been computed from another, and is no path to it here.
        x, weight, bias = (None if t is None else t.view_as(t) for t in (x, weight, bias))
        valid = targets != LEFT_OUT
        loss, _ = _separately(x, weight, bias, targets, valid, ctx.smoothing, ctx.product)
        wanted = [t for t in (x, weight, bias) if t is not None and t.requires_grad]
        found = iter(torch.autograd.grad(loss, wanted, grad_loss, create_graph=further))
    gradients = [None if t is None or not t.requires_grad else next(found) for t in (x, weight, bias)]
    return (*gradients, None, None, None)


def _by_blocks(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    smoothing: float,
    wanted: list[bool],
) -> tuple[Tensor, Tensor, tuple[Tensor | None, Tensor | None, Tensor | None]]:
    """Loss, nll and the wanted gradients for x (N, E) and weight in the type of the products."""
    (rows, width), vocabulary = x.shape, weight.shape[0]
    sums = accumulation_dtype(x.dtype)
    softmax, column_sums = _softmax_for(x)
    bias = None if bias is None else bias.to(sums).contiguous()
    nll: list[Tensor] = []
    spread: list[Tensor] = []
    wants_x, wants_weight, wants_bias = wanted
    grad_x = x.new_empty(rows, width) if wants_x else None
    grad_weight: Tensor | None = None
    grad_bias: Tensor | None = None
    block = max(1, _block(x) // vocabulary)
    for start in range(0, max(rows, 1), block):
        rows_here = slice(start, start + block)
        part = x[rows_here]  # (n, E)
        logits = linear(part, weight).contiguous()  # (n, V)
        found = softmax(logits, bias, targets[rows_here], smoothing, any(wanted))
        nll.append(found[0])
        spread.append(found[1])
        if grad_x is not None:
            torch.mm(logits, weight, out=grad_x[rows_here])
        if wants_weight:
            grad_weight = _sum(grad_weight, (logits.t() @ part).to(sums))
        if wants_bias:
            grad_bias = _sum(grad_bias, column_sums(logits))
    each = _joined(nll)
    loss = each.sum()  # 3
    if smoothing:
        loss = (1.0 - smoothing) * loss + smoothing / vocabulary * _joined(spread).sum()
    return loss, each, (grad_x, grad_weight, grad_bias)


def _waits(device: torch.device) -> bool:
    """Say whether counting the rows that are not left out would wait for the device."""
    return device.type != "cpu"


def _block(x: Tensor) -> int:
    """Logits in a block of products of that type and on that device."""
    return BLOCK if x.device.type == "cpu" else GPU_BLOCK // x.element_size()


def _joined(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _sum(so_far: Tensor | None, more: Tensor) -> Tensor:
    return more if so_far is None else so_far.add_(more)


def _softmax_for(x: Tensor) -> tuple[Softmax, Callable[[Tensor], Tensor]]:
    """The functions for the softmax and for sums of columns: compiled where nobody watches, else torch's."""
    if x.device.type == "cpu" and x.dtype != torch.float16 and not watched(x):
        cpu = backend_module("cpu", x.device)
        return cpu.softmax_cross_entropy, cpu.column_sums
    # A model without scans trains on a GPU without numba-cuda too, with more launches.
    if x.device.type == "cuda" and not watched(x) and importlib.util.find_spec("numba_cuda") is not None:
        from seqsru.ops.cuda_loss import softmax_cross_entropy

        return softmax_cross_entropy, _column_sums
    return _softmax_in_place, _column_sums


def _column_sums(table: Tensor) -> Tensor:
    return table.sum(0, dtype=accumulation_dtype(table.dtype))


def _softmax_in_place(
    logits: Tensor, bias: Tensor | None, targets: Tensor, smoothing: float, gradient: bool
) -> tuple[Tensor, Tensor]:
    """Return nll and Σ_v(−log p_v) of each row, and put the loss's gradient in the place of the logits."""
    rows, vocabulary = logits.shape
    sums = accumulation_dtype(logits.dtype)
    nll, spread = logits.new_empty(rows, dtype=sums), logits.new_zeros(rows, dtype=sums)
    chunk = max(1, CHUNK // vocabulary) if logits.device.type == "cpu" else max(rows, 1)
    for start in range(0, rows, chunk):
        here = slice(start, start + chunk)
        z = logits[here].to(sums)
        log_p = torch.log_softmax(z if bias is None else z + bias, dim=1)  # 1
        kept = (targets[here] != LEFT_OUT).unsqueeze(1)
        wanted = torch.where(kept, targets[here, None], 0)
        nll[here] = torch.where(kept, -log_p.gather(1, wanted), 0.0).squeeze(1)  # 2
        if smoothing:
            spread[here] = torch.where(kept.squeeze(1), -log_p.sum(1), 0.0)
        if gradient:
            grad = log_p.exp_()
            if smoothing:
                grad -= smoothing / vocabulary
            grad[torch.arange(len(grad), device=grad.device), wanted.squeeze(1)] -= 1.0 - smoothing  # 4
            logits[here] = torch.where(kept, grad, 0.0)
    return nll, spread
