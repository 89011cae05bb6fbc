"""The output product and its cross entropy as one operation that never holds two tables of rows × vocabulary.

Separate operations write the logits, their logarithmic softmax and its gradient to memory one after the
other. Here a block of rows is finished at once: logits, loss, the gradient of the logits in their place, and
its products with the weights and the features. Peak memory is one block.
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
# the peak memory, whatever the number of rows.
BLOCK = 1 << 23
# On a GPU every block costs up to seven launches. So a block has at least so many bytes of logits, and half
# of all rows where these are more, but no more than a share of the device's memory: blocks as large take far
# longer than their launches.
GPU_BLOCK, GPU_SHARE = 1 << 28, 16
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
    kept, wanted = None, targets
    if valid is not None and _waits(x.device):
        wanted = _where(valid, targets, LEFT_OUT)
    elif valid is not None:
        kept, valid = valid.reshape(-1).nonzero().squeeze(1), None
        x = x.reshape(-1, x.shape[-1]).index_select(0, kept)
        wanted = targets.reshape(-1).index_select(0, kept)
    tracked = torch.is_grad_enabled()
    apply: Any = _LinearCrossEntropy.apply  # torch has no types here
    loss, nll = apply(x, weight, bias, wanted.contiguous(), valid, smoothing, tracked)
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
        valid: Tensor | None,
        smoothing: float,
        tracked: bool,
    ) -> tuple[Tensor, Tensor]:
        product = _product_dtype(x)
        wanted = [tracked and needed for needed in ctx.needs_input_grad[:3]]
        # A row left out has the gradient 0 of its logits, and so of x; NaN in it would reach the weight's.
        rows = x if valid is None else _where(valid.unsqueeze(-1), x, 0.0)
        rows = rows.reshape(targets.numel(), x.shape[-1]).to(product)
        with torch.autocast(x.device.type, enabled=False):
            loss, nll, gradients = _by_blocks(
                rows, weight.to(product), bias, targets.view(-1), smoothing, wanted
            )
        inputs = (x, weight, bias)
        # The weight's is no view: autograd adds to a tied weight's in place only where nobody else holds it.
        ctx.gradients = [
            None if g is None or t is None else (g if g.shape == t.shape else g.view(t.shape)).to(t.dtype)
            for g, t in zip(gradients, inputs)
        ]
        ctx.mark_non_differentiable(nll)
        ctx.set_materialize_grads(False)  # nll's would be zeros, and a launch
        ctx.save_for_backward(*inputs, targets)
        ctx.smoothing, ctx.product = smoothing, product
        return loss, nll

    @staticmethod
    def backward(ctx: Any, grad_loss: Tensor | None, _: None) -> tuple[Tensor | None, ...]:
        if grad_loss is None:
            return (None,) * 7
        if torch.is_grad_enabled() or ctx.gradients is None:  # with create_graph, or for the second time
            return _gradients_again(ctx, grad_loss)
        scaled = ctx.gradients
        # One is what `loss.backward()` gives; on another device it would be waited for.
        if grad_loss.device.type != "cpu" or watched(grad_loss) or grad_loss.item() != 1.0:
            scaled = [None if g is None else g.mul_(grad_loss) for g in scaled]
        ctx.gradients = None  # so that autograd may keep these tensors as .grad without a copy
        return (*scaled, None, None, None, None)


def _where(condition: Tensor, x: Tensor, otherwise: float) -> Tensor:
    """Return `torch.where`, contiguous whatever x is."""
    out = torch.empty_like(x, memory_format=torch.contiguous_format)
    return torch.where(condition, x, x.new_full((), otherwise), out=out)


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
    return (*gradients, None, None, None, None)


def _by_blocks(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    smoothing: float,
    wanted: list[bool],
) -> tuple[Tensor, Tensor, tuple[Tensor | None, Tensor | None, Tensor | None]]:
    """Loss, nll and the wanted gradients for x (N, E) and weight in the type of the products."""
    rows, width = x.shape
    sums = accumulation_dtype(x.dtype)
    softmax, column_sums = _softmax_for(x)
    bias = None if bias is None else bias.to(sums).contiguous()
    nll: list[Tensor] = []
    spread: list[Tensor] = []
    wants_x, wants_weight, wants_bias = wanted
    grad_x = x.new_empty(rows, width) if wants_x else None
    grad_weight: Tensor | None = None
    grad_bias: Tensor | None = None
    block = _rows_at_once(x, weight.shape[0])
    for start in range(0, max(rows, 1), block):
        rows_here = slice(start, start + block)
        part = x[rows_here]  # (n, E)
        logits = linear(part, weight).contiguous()  # (n, V)
        found = softmax(logits, bias, targets[rows_here], smoothing, any(wanted))
        nll.append(found[0])
        spread.append(found[1])
        if grad_x is not None:
            torch.mm(logits, weight, out=grad_x[rows_here])
        if wants_weight and grad_weight is not None and sums is x.dtype and _waits(x.device):
            grad_weight.addmm_(
                logits.t(), part
            )  # on a CPU this would change the last bit of what was trained
        elif wants_weight:
            grad_weight = _sum(grad_weight, logits.t() @ part, sums)
        if wants_bias:
            grad_bias = _sum(grad_bias, column_sums(logits), sums)
    each, around = (nll[0], spread[0]) if len(nll) == 1 else torch.cat(nll + spread).chunk(2)
    loss = each.sum()  # 3
    if smoothing and _waits(x.device):
        loss = torch.add((1.0 - smoothing) * loss, around.sum(), alpha=smoothing / weight.shape[0])
    elif smoothing:
        loss = (1.0 - smoothing) * loss + smoothing / weight.shape[0] * around.sum()
    return loss, each, (grad_x, grad_weight, grad_bias)


def _waits(device: torch.device) -> bool:
    """Say whether counting the rows that are not left out would wait for the device."""
    return device.type != "cpu"


def _rows_at_once(x: Tensor, vocabulary: int) -> int:
    """Rows of x (N, E) in a block, for its type and its device."""
    if x.device.type == "cpu":
        return max(1, BLOCK // vocabulary)
    row = vocabulary * x.element_size()
    few = max(1, GPU_BLOCK // row)
    if recorded():
        return few  # launches are the compiler's, and N may be a symbol
    half = -(-x.shape[0] // 2)
    if x.device.type == "cuda":
        half = min(half, torch.cuda.get_device_properties(x.device).total_memory // GPU_SHARE // row)
    return max(few, half)


def _sum(so_far: Tensor | None, more: Tensor, dtype: torch.dtype) -> Tensor:
    return more.to(dtype) if so_far is None else so_far.add_(more)


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
